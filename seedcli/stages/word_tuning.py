"""What BM25 scores by, chosen on dev queries: the best of a small grid."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Progress, Silent
from seedcli.configs.index import Tuning
from seedcli.data.collections import Collection
from seedcli.data.records import Qrels, Query
from seedcli.evaluation.metrics import evaluate, parse_measures
from seedcli.retrieval.lucene import Rm3, Scoring, WordSearcher
from seedcli.retrieval.runs import run_of

DEPTH = 1_000  # hits that a measure without a cut-off is over


class Tried(NamedTuple):
    """A way to score, and what a measure is with it."""

    scoring: Scoring
    value: float


class Tuned(NamedTuple):
    """All that was tried, k1 and b first, and then RM3 with the best of them if the index allows it."""

    queries: int
    words: list[Tried]
    rm3: list[Tried]

    @property
    def scoring(self) -> Scoring:
        """The best; with the settings of RM3 that were best for it, though these may do harm."""
        return best(self.rm3 or self.words).scoring

    def plain(self, tuning: Tuning) -> dict[str, Any]:
        """For a manifest: rows of k1, b, and of documents, terms and weight, each with what they gave."""
        return {
            "measure": tuning.tune_measure, "split": tuning.tune_split, "queries": self.queries,
            "words": [[k1, b, value] for (k1, b, _), value in self.words],
            "rm3": [[*(scoring.rm3 or ()), value] for scoring, value in self.rm3],
        }  # fmt: skip

    def told(self, measure: str) -> str:
        """A line for the screen."""
        first, found = self.words[0], best(self.words)
        line = (
            f"k1 {found.scoring.k1:g}, b {found.scoring.b:g}: {measure} {found.value:.4f} over {self.queries:,} queries"
        )
        line += f" (k1 {first.scoring.k1:g}, b {first.scoring.b:g}: {first.value:.4f})"
        if self.rm3:
            rm3, value = best(self.rm3)
            documents, terms, weight = rm3.rm3 or Rm3()
            line += f"; with RM3 {value:.4f} (documents {documents}, terms {terms}, weight {weight:g})"
        return line


def best(tried: Sequence[Tried]) -> Tried:
    """The first with the highest value."""
    return max(tried, key=lambda one: one.value)


def check(tuning: Tuning, collection: Collection) -> None:
    """Raises ConfigError or DataError for what can't be tuned on."""
    parse_measures([tuning.tune_measure])
    if not all((tuning.try_k1, tuning.try_b, tuning.try_documents, tuning.try_terms, tuning.try_weight)):
        raise ConfigError("--tune: one of the lists of values to try is empty")
    if not collection.judges(tuning.tune_split):
        raise DataError(
            f"{tuning.tune}: no qrels {tuning.tune_split!r} to tune on; --set tuning.tune_split names others"
        )


def tune(
    searcher: WordSearcher, collection: Collection, tuning: Tuning, given: Scoring, rm3: bool, progress: Progress
) -> Tuned:
    """Search for the dev queries with each k1 and b, and with each setting of RM3; what is `given` comes first."""
    queries, qrels = drawn(collection, tuning.tune_split, tuning.tune_queries, tuning.tune_seed)
    pairs = [(given.k1, given.b), *product(tuning.try_k1, tuning.try_b)]
    grid = [Scoring(k1, b) for k1, b in dict.fromkeys(pairs)]
    settings = (
        [Rm3(*each) for each in product(tuning.try_documents, tuning.try_terms, tuning.try_weight)] if rm3 else []
    )
    depth = int(tuning.tune_measure.partition("@")[2] or DEPTH)
    with progress.track("tune", (len(grid) + len(settings)) * len(queries), "queries") as advance:

        def tried(scoring: Scoring) -> Tried:
            run = run_of(searcher.search(queries, depth, Silent(), scoring=scoring))
            (values,) = evaluate(run, qrels, [tuning.tune_measure]).values()
            advance(len(queries), f"{tuning.tune_measure} {values.mean():.4f}")
            return Tried(scoring, round(float(values.mean()), 6))

        words = [tried(scoring) for scoring in grid]
        scoring, value = best(words)
        if not value:
            told = f"{tuning.tune_measure} is 0 for all {len(queries):,} queries of {tuning.tune}, whatever k1 and b"
            raise DataError(f"--tune: {told}; give the queries and judgements of this corpus")
        return Tuned(len(queries), words, [tried(scoring._replace(rm3=each)) for each in settings])


def drawn(collection: Collection, split: str, most: int, seed: int) -> tuple[list[Query], Qrels]:
    """The queries to tune on, in their order, and their judgements."""
    qrels = collection.qrels(split)
    queries = [query for query in collection.queries(split) if qrels.get(query.id)]
    if not queries:
        raise DataError(f"{collection.source}: no queries judged in {split!r}")
    chosen = np.random.default_rng(seed).permutation(len(queries))[:most]
    some = [queries[row] for row in np.sort(chosen).tolist()]
    return some, {query.id: qrels[query.id] for query in some}
