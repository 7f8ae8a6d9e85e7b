"""Runs: for each query a ranking, held in columns; one rule decides the order.

Letters: Q queries, N ranked documents of all queries together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ranking(NamedTuple):
    """What was found for a query, in any order; `run_of` and `write_run` put it in order."""

    query: str
    documents: Sequence[str]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Run:
    """Rankings in the order of `order`, no document twice in one: `run_of` and `read_run` see to both."""

    queries: list[str]  # [Q], in order of first appearance
    offsets: NDArray[np.int64]  # [Q + 1], where each query's ranking begins, and the end
    documents: NDArray[np.bytes_]  # [N], ids as UTF-8
    scores: NDArray[np.float32]  # [N]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {query: number for number, query in enumerate(self.queries)}

    def ranking(self, query: str) -> tuple[NDArray[np.bytes_], NDArray[np.float32]]:
        """The documents and scores of a query, best first; none when the run lacks it."""
        number = self._numbers.get(query)
        rows = slice(0, 0) if number is None else slice(*self.offsets[number : number + 2])
        return self.documents[rows], self.scores[rows]

    def rankings(self) -> Iterator[Ranking]:
        for query in self.queries:
            documents, scores = self.ranking(query)
            yield Ranking(query, [document.decode() for document in documents.tolist()], scores)


def order(documents: NDArray[np.bytes_], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """The rows by score descending, as float32, then by id descending, as bytes (trec_eval's rule); [N], [N] -> [N]."""
    return np.lexsort((documents, scores.astype(np.float32, copy=False)))[::-1]


def run_of(rankings: Iterable[Ranking]) -> Run:
    """A run of rankings in any order. A document that a query has twice counts once, at its best place."""
    numbers: dict[str, int] = {}
    return collected(
        numbers,
        (
            columns([numbers.setdefault(query, len(numbers))] * len(documents), documents, scores)
            for query, documents, scores in rankings
        ),
    )


class Columns(NamedTuple):
    """Ranked documents in any order."""

    owners: NDArray[np.int64]  # the number of each row's query
    documents: NDArray[np.bytes_]
    scores: NDArray[np.float32]


def columns(owners: Sequence[int], documents: Sequence[str], scores: Sequence[float] | NDArray[np.float32]) -> Columns:
    return Columns(np.array(owners, np.int64), utf8(documents), np.asarray(scores, np.float32))


def utf8(words: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([word.encode() for word in words], np.bytes_)


def collected(numbers: dict[str, int], parts: Iterable[Columns]) -> Run:
    """The run of all rows in `parts`; `numbers` holds every query once these are read."""
    owners, documents, scores = map(np.concatenate, zip(columns([], [], []), *parts, strict=True))
    ends = np.cumsum(np.bincount(owners, minlength=len(numbers)))
    groups = np.split(np.argsort(owners, kind="stable"), ends)  # one more than queries, the last empty
    groups = [rows[ordered_once(documents[rows], scores[rows])] for rows in groups]
    offsets = np.cumsum([0, *map(len, groups[:-1])])
    rows = np.concatenate(groups)
    return Run(list(numbers), offsets, documents[rows], scores[rows])


def ordered_once(documents: NDArray[np.bytes_], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """The rows in order, of each document the best alone."""
    scores = scores.astype(np.float32, copy=False)
    rows = np.argsort(scores, kind="stable")[::-1]
    if (scores[rows[1:]] == scores[rows[:-1]]).any():  # ids alone tell these apart, and take longer
        rows = order(documents, scores)
    documents = documents[rows]
    if len(set(documents.tolist())) < len(rows):
        _, firsts = np.unique(documents, return_index=True)
        rows = rows[np.sort(firsts)]
    return rows
