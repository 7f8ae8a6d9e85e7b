"""What each index counts for in a fusion, chosen on dev queries, and what that choice is worth on others.

Letters: R indexes, W weightings that are tried, Q dev queries.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Progress
from seedcli.configs.search import FusionTuning
from seedcli.data.collections import Collection
from seedcli.data.records import Qrels, Query
from seedcli.evaluation.measures import covers, measure_judged, parse_all
from seedcli.retrieval.fusion import Pool, run_of_pools
from seedcli.stages.word_tuning import DEPTH, drawn

MOST = 100  # weightings to try, at most
FINEST = 20  # parts of the whole that weights are counted in


class Chosen(NamedTuple):
    """All that was tried, the even one first, with its mean over the dev queries; and what cross-validation gives."""

    queries: int
    tried: list[tuple[tuple[float, ...], float]]
    cross_validated: float

    @property
    def weights(self) -> tuple[float, ...]:
        """The first of the best."""
        return max(self.tried, key=lambda one: one[1])[0]

    def plain(self, tuning: FusionTuning) -> dict[str, Any]:
        """For a manifest."""
        return {
            "measure": tuning.tune_measure, "split": tuning.tune_split, "queries": self.queries,
            "weights": [*self.weights], "value": max(value for _, value in self.tried),
            "even": self.tried[0][1], "folds": tuning.folds, "cross_validated": self.cross_validated,
            "tried": [[*weights, value] for weights, value in self.tried],
        }  # fmt: skip

    def told(self, measure: str) -> str:
        """A line for the screen."""
        weights = ", ".join(f"{weight:g}" for weight in self.weights)
        value, even = max(value for _, value in self.tried), self.tried[0][1]
        line = f"weights {weights}: {measure} {value:.4f} over the {self.queries:,} queries that they are tuned on"
        return f"{line}, {self.cross_validated:.4f} cross-validated (weights of 1: {even:.4f})"


def check_tuning(tuning: FusionTuning, collection: Collection) -> None:
    """Raises ConfigError or DataError for what can't be tuned on."""
    if covers(parse_all([tuning.tune_measure])):
        raise ConfigError(f"--tune-measure {tuning.tune_measure}: weights are tuned by judgements, not by answers")
    if not collection.judges(tuning.tune_split):
        raise DataError(f"{tuning.tune}: no qrels {tuning.tune_split!r} to tune on; --tune-split names others")


def tuned_on(tuning: FusionTuning, collection: Collection, searched: Iterable[Query]) -> tuple[list[Query], Qrels]:
    """The dev queries with their judgements. Raises ConfigError where some of them are `searched`, too."""
    queries, qrels = drawn(collection, tuning.tune_split, tuning.tune_queries, tuning.tune_seed)
    if len(queries) < tuning.folds:
        raise DataError(
            f"{tuning.tune}: {len(queries)} judged queries in {tuning.tune_split!r}, for {tuning.folds} folds"
        )
    texts = {query.id: query.text for query in searched}  # encoded ones have none
    same = [query for query in queries if texts.get(query.id) == query.text or texts.get(query.id) == ""]
    if same:
        told = f"{len(same):,} of the queries to tune on are searched for, such as {same[0].id!r:.40}"
        raise ConfigError(f"--tune {tuning.tune}: {told}; what is tuned on tells nothing: search others, with --split")
    return queries, qrels


def tune(some: Sequence[Pool], qrels: Qrels, tuning: FusionTuning, progress: Progress) -> Chosen:
    """Try weightings of what the indexes have for the dev queries."""
    grid = weightings(len(some[0].parts))
    depth = int(tuning.tune_measure.partition("@")[2].partition("-")[0] or DEPTH)
    values = []
    with progress.track("tune", len(grid), "weightings") as advance:
        for weights in grid:
            run = run_of_pools(some, weights, depth)
            values.append(measure_judged({"fused": run}, qrels, [tuning.tune_measure]).values[0, 0])
            advance(1, f"{tuning.tune_measure} {values[-1].mean():.4f}")
    each = np.array(values)  # [W, Q]
    means = each.mean(axis=1).round(6).tolist()
    crossed = cross_validated(each, tuning.folds, tuning.tune_seed)
    return Chosen(each.shape[1], list(zip(grid, means, strict=True)), round(crossed, 6))


def cross_validated(values: NDArray[np.float64], folds: int, seed: int) -> float:
    """The mean over all queries, each by the weighting that is best without its fold; [W, Q] -> scalar."""
    own = np.random.default_rng([seed, 1]).permutation(values.shape[1]) % folds  # [Q]
    best = [values[:, own != fold].mean(axis=1).round(6).argmax() for fold in range(folds)]
    return float(values[np.array(best)[own], np.arange(values.shape[1])].mean())


def weightings(indexes: int) -> list[tuple[float, ...]]:
    """Weights that sum to 1, as fine as their number allows: the even ones first, then by how near to these."""
    parts = next(parts for parts in range(FINEST, 0, -1) if comb(parts + indexes - 1, parts) <= MOST or parts == 1)
    bars = combinations(range(parts + indexes - 1), indexes - 1)
    grid = [
        tuple((high - low - 1) / parts for low, high in pairwise([-1, *places, parts + indexes - 1])) for places in bars
    ]
    even = (1 / indexes,) * indexes
    return [even, *(weights for weights in sorted(grid, key=lambda own: sum(one**2 for one in own)) if weights != even)]
