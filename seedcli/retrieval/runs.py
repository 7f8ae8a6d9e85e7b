"""Runs: for each query a ranking, held in columns; one rule decides the order.

Letters: Q queries, N ranked documents of all queries together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 1 << 17  # rows, or a query's if it has more: what a processor's cache holds

Rows = NDArray[np.intp] | slice  # a slice copies nothing


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

    def at(self, rows: Rows) -> "Columns":
        return Columns(self.owners[rows], self.documents[rows], self.scores[rows])


def columns(owners: Sequence[int], documents: Sequence[str], scores: Sequence[float] | NDArray[np.float32]) -> Columns:
    return Columns(np.array(owners, np.int64), utf8(documents), np.asarray(scores, np.float32))


def utf8(words: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([word.encode() for word in words], np.bytes_)


def collected(numbers: dict[str, int], parts: Iterable[Columns]) -> Run:
    """The run of all rows in `parts`; `numbers` holds every query once these are read."""
    given = Columns(*map(np.concatenate, zip(columns([], [], []), *parts, strict=True)))
    if (given.owners[1:] < given.owners[:-1]).any():
        given = given.at(np.argsort(given.owners, kind="stable"))
    begins = np.searchsorted(given.owners, np.arange(len(numbers) + 1))  # [Q + 1]
    cuts = begins[np.unique(begins // AT_ONCE, return_index=True)[1]].tolist()
    some = [given.at(slice(*cut)) for cut in pairwise([*cuts, len(given.owners)])]
    kept = Columns(*map(np.concatenate, zip(*(part.at(ranked(*part)) for part in some), strict=True)))
    return Run(list(numbers), np.searchsorted(kept.owners, np.arange(len(numbers) + 1)), *kept[1:])


def without_own(run: Run) -> Run:
    """The run without hits whose id is their query's own."""
    owners = np.repeat(np.arange(len(run.queries)), np.diff(run.offsets))
    kept = utf8(run.queries)[owners] != run.documents
    offsets = np.searchsorted(owners[kept], np.arange(len(run.queries) + 1))
    return Run(run.queries, offsets, run.documents[kept], run.scores[kept])


def ranked(owners: NDArray[np.int64], documents: NDArray[np.bytes_], scores: NDArray[np.float32]) -> Rows:
    """All rows query by query, each query's in order and each of its documents once."""
    keys = owners.astype(np.uint64) << np.uint64(32) | _descending(scores)
    rows: Rows = slice(None)
    if (keys[1:] < keys[:-1]).any():
        rows = np.argsort(keys, kind="stable")
        keys = keys[rows]
    equal = keys[1:] == keys[:-1]
    if equal.any():  # ids alone tell these apart, and take longer
        tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
        every = np.arange(len(keys))[rows]
        order = np.lexsort([*~_words(documents[every[tied]])[::-1], keys[tied]])
        every[tied] = every[tied][order]
        rows = every
    firsts = _firsts(owners[rows], documents[rows])
    return rows if isinstance(firsts, slice) else np.arange(len(keys))[rows][firsts]


def _firsts(owners: NDArray[np.int64], documents: NDArray[np.bytes_]) -> Rows:
    """The rows whose document their owner has not had before: found by hashes, and made sure of where these repeat."""
    hashes = np.zeros(len(owners), np.uint64)
    for word in (owners.astype(np.uint64), *_words(documents)):
        hashes = (hashes ^ word) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    in_order = np.sort(hashes)
    again = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(again):
        return slice(None)
    suspects = np.flatnonzero(np.isin(hashes, again))
    names = np.array(list(zip(owners[suspects].tolist(), documents[suspects].tolist(), strict=True)),
                     [("owner", np.int64), ("document", documents.dtype)])  # fmt: skip
    kept = np.ones(len(owners), bool)
    kept[suspects] = False
    kept[suspects[np.unique(names, return_index=True)[1]]] = True
    return np.flatnonzero(kept)


def _descending(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Numbers that grow as the scores fall."""
    bits = (scores.astype(np.float32, copy=False) + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    return np.where(bits >> 31, bits, ~bits & np.uint32((1 << 31) - 1))


def _words(documents: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Ids as numbers of eight bytes that order as the bytes do: [N] -> [words of the longest, N]."""
    count = -(-documents.itemsize // 8)
    padded = documents.astype(f"S{8 * count}", copy=False)
    return np.ascontiguousarray(padded.view(">u8").reshape(len(documents), count).T).astype(np.uint64)


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
