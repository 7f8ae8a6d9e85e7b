"""Answer coverage of open-domain QA: whether one of the first k passages holds an answer (answers@k; DPR's top-k).

Letters: R runs, M measures, Q queries, H hits of all runs, D passages among them, P pairs of a passage and a query.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import DataError
from seedcli.base.progress import Progress
from seedcli.data.answers import Found, Kind, answer_pattern
from seedcli.data.lookup import Find
from seedcli.data.records import Query
from seedcli.data.workers import answers
from seedcli.evaluation.metrics import Values
from seedcli.retrieval.runs import Run

NAME = re.compile("answers@([1-9][0-9]{0,8})")
BATCH = 1_000  # passages looked up at a time


class Hits(NamedTuple):
    """The first passages of all runs, each passage once: [H] unless told."""

    documents: list[str]  # [D]
    passages: NDArray[np.int64]  # rows of `documents`
    queries: NDArray[np.int64]  # rows of the queries
    runs: NDArray[np.int64]
    ranks: NDArray[np.int64]  # from 0


def is_coverage(measure: str) -> bool:
    return NAME.fullmatch(measure) is not None


def measure_coverage(
    runs: Mapping[str, Run], queries: Sequence[Query], measures: Sequence[str], find: Find, kind: Kind,
    progress: Progress, workers: int | None = None,
) -> Values:  # fmt: skip
    """For each query 1 where a passage of its first k holds an answer, else 0; only the text of a passage counts.

    Raises DataError when the corpus has none of the passages.
    """
    cuts = [int(measure.partition("@")[2]) for measure in measures]
    hits = first_hits(runs, queries, max(cuts))
    holds = judged(hits, queries, find, kind, progress, workers)
    first = np.full((len(runs), len(queries)), np.iinfo(np.int64).max)  # [R, Q], the rank of the first that holds one
    np.minimum.at(first, (hits.runs[holds], hits.queries[holds]), hits.ranks[holds])
    values = np.stack([first < cut for cut in cuts], axis=1).astype(np.float64)  # [R, M, Q]
    lacking = [sum(len(run.ranking(query.id)[0]) == 0 for query in queries) for run in runs.values()]
    return Values(list(runs), list(measures), [query.id for query in queries], values, lacking)


def first_hits(runs: Mapping[str, Run], queries: Sequence[Query], depth: int) -> Hits:
    rankings = [run.ranking(query.id)[0][:depth] for run in runs.values() for query in queries]
    counts = np.array([len(ranking) for ranking in rankings], np.int64)  # [R * Q]
    found, passages = np.unique(np.concatenate(rankings), return_inverse=True)
    near = np.lexsort(
        (found, np.strings.str_len(found))
    )  # numbers as they are counted: near each other in most corpora
    owners = np.repeat(np.arange(len(rankings)), counts)
    return Hits(
        documents=[document.decode() for document in found[near].tolist()],
        passages=np.argsort(near)[passages],
        queries=owners % len(queries),
        runs=owners // len(queries),
        ranks=np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts),
    )


def judged(
    hits: Hits, queries: Sequence[Query], find: Find, kind: Kind, progress: Progress, workers: int | None
) -> NDArray[np.bool_]:
    """Which hits hold an answer to their query [H]; a passage is read once, whatever number of hits it is."""
    pairs, places = np.unique(hits.passages * len(queries) + hits.queries, return_inverse=True)  # [P], [H]
    passages, rows = np.divmod(pairs, len(queries))
    ends = np.searchsorted(passages, np.arange(len(hits.documents)), side="right").tolist()
    wanted = [list(query.answers) for query in queries]
    if kind == "regex":
        tell_broken(queries, progress)
    lacking: list[str] = []
    with progress.track("answers", len(hits.documents), "passages") as advance:

        def lines() -> Iterator[str]:
            begin, documents = 0, zip(hits.documents, ends, strict=True)
            while batch := list(islice(documents, BATCH)):
                texts = {id_: passage.text for id_, passage in find(id_ for id_, _ in batch).items()}
                lacking.extend(id_ for id_, _ in batch if id_ not in texts)
                for id_, end in batch:
                    yield f"{','.join(map(str, rows[begin:end].tolist()))}\t{texts.get(id_, '')}"
                    begin = end
                advance(len(batch))

        parts = [part for (part,) in answers(lines(), None, workers, task="match", answers=wanted, kind=kind)]
    found = np.frombuffer(b"".join(parts), np.uint8)
    tell_lacking(lacking, len(hits.documents), progress)
    tell_slow([queries[row] for row in np.unique(rows[found == Found.SLOW]).tolist()], progress)
    holds: NDArray[np.bool_] = (found == Found.ONE)[places]
    return holds


def tell_broken(queries: Sequence[Query], progress: Progress) -> None:
    broken = [(query.id, answer) for query in queries for answer in query.answers if answer_pattern(answer) is None]
    if broken:
        id_, answer = broken[0]
        told = f"such as {answer!r:.60} of query {id_}"
        progress.say(f"{len(broken):,} answers are no regular expressions and never match, {told}")


def tell_slow(queries: Sequence[Query], progress: Progress) -> None:
    if queries:
        told = f"such as {queries[0].id} ({queries[0].answers[0]!r:.60})"
        count = f"{len(queries):,} queries have answers that take too long to look for in some passages"
        progress.say(f"{count}, {told}; no match there")


def tell_lacking(lacking: Sequence[str], total: int, progress: Progress) -> None:
    """Raises DataError when nothing is there."""
    if len(lacking) == total > 0:
        raise DataError(
            f"none of the {total:,} passages that the runs name is in the corpus, such as {lacking[0]!r:.40}"
        )
    if lacking:
        told = f"{len(lacking):,} of {total:,} passages that the runs name are not in the corpus"
        progress.say(f"{told}, such as {lacking[0]!r:.40}; they count as without an answer")
