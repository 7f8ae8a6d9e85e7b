"""Fusion: one ranking of several, by reciprocal ranks, or by scores that are made comparable.

What a run lacks counts as the last of its hits does, not better and not worse: 0 by min-max and by sum, the lowest
z-score of the query. By reciprocal ranks it counts 0, and so does all that a run says of a query without hits.

Letters: R runs, D documents that any of them has for a query, n hits of one of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import DataError
from seedcli.retrieval.runs import Ranking, Run

Method = Literal["rrf", "min-max", "z-score", "sum"]
Floats = NDArray[np.float64]


class Pool(NamedTuple):
    """What several runs have for a query, before it is weighed."""

    query: str
    documents: NDArray[np.bytes_]  # [D], in ascending order, each once
    parts: Floats  # [R, D], what each run gives


def fuse(runs: Sequence[Run], method: Method, weights: Sequence[float], depth: int, k: int = 60) -> Iterator[Ranking]:
    """For each query of any run the `depth` documents with the highest weighted sum of what the runs give them."""
    for pool in pools(runs, method, k):
        documents, scores = weighed(pool, weights, depth)
        yield Ranking(pool.query, [document.decode() for document in documents.tolist()], scores)


def pools(runs: Sequence[Run], method: Method, k: int = 60) -> Iterator[Pool]:
    """What each run gives each document: by rrf 1 / (k + rank), ranks from 1 on (Cormack, Clarke & Büttcher 2009).

    By the other methods its score, made comparable within the query. Raises DataError for one that is infinite.
    """
    for query in dict.fromkeys(query for run in runs for query in run.queries):
        found = [run.ranking(query) for run in runs]
        documents, places = np.unique(np.concatenate([own for own, _ in found]), return_inverse=True)
        parts, begin = np.zeros((len(runs), len(documents))), 0
        for row, (_, scores) in enumerate(found):
            if not len(scores):
                continue
            if method == "rrf":
                given = 1 / (k + np.arange(1, 1 + len(scores)))
            elif np.isfinite(scores).all():
                given = COMPARABLE[method](scores.astype(np.float64))
                parts[row] = min(0.0, given[-1])
            else:
                raise DataError(f"query {query}: a score is infinite, which {method} can't compare; fuse by rrf")
            parts[row, places[begin : begin + len(scores)]] = given
            begin += len(scores)
        yield Pool(query, documents, parts)


def weighed(pool: Pool, weights: Sequence[float], depth: int) -> tuple[NDArray[np.bytes_], NDArray[np.float32]]:
    """The first `depth` documents of a pool, and their scores; ties by id, descending, as everywhere."""
    scores = (np.array(weights)[:, None] * pool.parts).sum(axis=0).astype(np.float32)  # [D]
    best = np.argsort(scores, kind="stable")[::-1][:depth]
    return pool.documents[best], scores[best]


def run_of_pools(some: Iterable[Pool], weights: Sequence[float], depth: int) -> Run:
    """The fused run, in memory."""
    ranked = {pool.query: weighed(pool, weights, depth) for pool in some}
    documents, scores = zip(*ranked.values(), strict=True)
    offsets = np.cumsum([0, *map(len, documents)])
    return Run([*ranked], offsets, np.concatenate(documents), np.concatenate(scores))


def min_max(scores: Floats) -> Floats:
    """From 0 for the lowest to 1 for the highest; 1 for all where they are equal, as for a single hit."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones(len(scores))


def z_score(scores: Floats) -> Floats:
    """In standard deviations from the mean; 0 for all where they are equal."""
    spread = scores.std()
    return (scores - scores.mean()) / spread if scores.max() > scores.min() else np.zeros(len(scores))


def by_sum(scores: Floats) -> Floats:
    """From 0 for the lowest, so that all sum to 1."""
    above = scores - scores.min()
    total = above.sum()
    return above / total if total else np.full(len(scores), 1 / len(scores))


COMPARABLE: dict[str, Callable[[Floats], Floats]] = {"min-max": min_max, "z-score": z_score, "sum": by_sum}
