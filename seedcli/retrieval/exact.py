"""Exact search: a fast pass over all vectors picks candidates, a slow one in float64 decides their order.

A document is all vectors under one id, and scores as the best of them does. The fast pass is right up to a bound on
float32 sums; where that can't exclude that another vector would bring a document among the first k, the query passes
over all vectors once more, and every one that may is scored slowly. Where rough copies of the vectors are kept, a
still quicker pass over these picks the candidates, in the same way. So the result doesn't depend on shards, blocks,
batches, threads, processes or the device.
Letters: Q queries, N vectors, D their width, k depth, c candidates a query, P pairs of a query and a row.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedcli.base.errors import DataError
from seedcli.base.progress import Advance, Progress
from seedcli.base.runtime import Runtime
from seedcli.data.ragged import Ragged
from seedcli.retrieval.fast import Best, error_bound, exact_scores
from seedcli.retrieval.matrix import Matrix, Place
from seedcli.retrieval.runs import Ranking, ordered_once
from seedcli.retrieval.vectors import Shard

SPARE = 32  # documents beyond k in the fast pass
MORE = 1.5  # times as many candidates where rough scores pick them
PRODUCTS = 1 << 18  # in float64 at a time, so that they stay in a core's cache


class Hits(NamedTuple):
    """What was found for a query: rows of the documents' best vectors, ids as UTF-8, scores."""

    rows: NDArray[np.int64]
    ids: NDArray[np.bytes_]
    scores: NDArray[np.float32]

    def at(self, places: slice | NDArray[np.intp]) -> "Hits":
        return Hits(self.rows[places], self.ids[places], self.scores[places])

    def first(self, depth: int | None) -> "Hits":
        """The best `depth` in order, of each document the best vector."""
        return self.at(ordered_once(self.ids, self.scores)[:depth])

    def ranking(self, query: str) -> Ranking:
        return Ranking(query, [id_.decode() for id_ in self.ids.tolist()], self.scores)


Search = Callable[[NDArray[np.float32]], list[Hits]]  # what is found for queries [Q, D]

NOTHING = Hits(np.empty(0, np.int64), np.empty(0, "S1"), np.empty(0, np.float32))


def search(
    queries: Sequence[str],
    vectors: NDArray[np.float32],
    matrix: Matrix,
    depth: int,
    progress: Progress,
    each: float = 1.0,
    runtime: Runtime | None = None,
) -> Iterator[Ranking]:
    """The `depth` nearest documents by inner product for each query id and its vector [Q, D].

    A document has about `each` vectors. With a runtime of several processes, each has some of the shards in its
    matrix; all must call this alike, and the first one gets the rankings.
    """
    at_once = matrix.queries_a_pass(room_of(depth, each))
    passes = range(0, len(queries), at_once)
    with progress.track("search", len(passes) * matrix.size, "vectors") as advance:
        for begin in passes:
            own = nearest(vectors[begin : begin + at_once], matrix, depth, advance, each)
            found = chain.from_iterable(own if runtime is None or runtime.world == 1 else merged(own, depth, runtime))
            for hits, query in zip(
                found, queries[begin : begin + at_once], strict=False
            ):  # to the end of what is found
                yield hits.ranking(query)


def merged(own: Iterator[list[Hits]], depth: int, runtime: Runtime) -> Iterator[list[Hits]]:
    """The hits of all processes in the first one, batch by batch; in the others none."""
    while any(parts := runtime.gather(lambda: next(own, []))):
        if runtime.first:
            yield [joined(*of_query).first(depth) for of_query in zip(*parts, strict=True)]


def count_of(depth: int, each: float) -> int:
    """Candidates of a query by float32 scores, where documents have about `each` vectors."""
    return math.ceil((depth + SPARE) * each)


def room_of(depth: int, each: float) -> int:
    """Candidates of a query at most. How queries are batched follows from it, the same in all processes."""
    return math.ceil(MORE * count_of(depth, each))


def check_finite(queries: Tensor) -> None:
    """Raises DataError for a query that holds no numbers."""
    if not queries.isfinite().all():
        raise DataError("a query's vector holds NaN or an infinite number; look for it in the model's weights")


def nearest(
    vectors: NDArray[np.float32], matrix: Matrix, depth: int, advance: Advance, each: float = 1.0
) -> Iterator[list[Hits]]:
    """The first `depth` documents for each query [Q, D], some queries at a time; all documents, where there are fewer.

    Raises DataError for a query that holds no numbers.
    """
    queries = torch.from_numpy(np.ascontiguousarray(vectors)).to(matrix.device)
    check_finite(queries)
    way = roughly if matrix.goes_rough(queries, room_of(depth, each)) else plainly
    return way(queries, matrix, depth, each, advance)


def plainly(queries: Tensor, matrix: Matrix, depth: int, each: float, advance: Advance) -> Iterator[list[Hits]]:
    """By float32 scores; queries that they don't settle pass over all vectors once more."""
    parts = list(parted(queries, matrix.queries_a_block(room_of(depth, each))))
    for part, best in zip(parts, bests(parts, matrix, count_of(depth, each), matrix.blocks(), advance), strict=True):
        errors = error_bound(part, matrix.longest)
        hits, unsure = settled(part, best, best.floor.double() + errors, matrix, depth)
        floors = np.array([hits[row].scores[-1] if len(hits[row].rows) == depth else -np.inf for row in unsure])
        for row, found in zip(unsure, sifted(part[unsure], floors, errors[unsure], matrix, depth), strict=True):
            hits[row] = found
        yield hits


def roughly(queries: Tensor, matrix: Matrix, depth: int, each: float, advance: Advance) -> Iterator[list[Hits]]:
    """By scores of rough copies; queries that they don't settle go plainly.

    Where that is every other one, the vectors are too much alike for copies to tell them apart: there will be no more.
    """
    parts, count = list(parted(queries, matrix.queries_a_block(room_of(depth, each)))), room_of(depth, each)
    found = bests([part.bfloat16() for part in parts], matrix, count, matrix.rough_blocks(), advance)
    unsettled = 0
    for part, best in zip(parts, found, strict=True):
        hits, unsure = settled(part, best, matrix.copies.most(part, best.floor), matrix, depth)
        if unsure:
            again = chain.from_iterable(plainly(part[unsure], matrix, depth, each, lambda *_: None))
            for row, better in zip(unsure, again, strict=True):
                hits[row] = better
        unsettled += len(unsure)
        yield hits
    if 2 * unsettled > len(queries):
        matrix.drop_copies()


def bests(
    parts: list[Tensor], matrix: Matrix, count: int, blocks: Iterator[tuple[Place, Tensor]], advance: Advance
) -> Iterator[Best]:
    """The best `count` vectors for parts of the queries, [Q, D] each, by one pass over the blocks."""
    room = matrix.room(max(map(len, parts), default=0), parts[0].dtype if parts else torch.float32)
    found = [Best(part, min(count, matrix.size), room) for part in parts]
    for place, block in blocks:
        for best in found:
            best.add(block)
            if len(found) > 1:
                best.take()
        advance(place.size)
    for best in found:
        best.finish()
        yield best


def settled(queries: Tensor, best: Best, most: Tensor, matrix: Matrix, depth: int) -> tuple[list[Hits], list[int]]:
    """The hits of queries [Q, D] among their candidates, and the queries for which others may be as good.

    `most` [Q]: the greatest inner product that a vector may have which is no candidate.
    """
    size, count = best.rows.shape
    if not count:
        return [NOTHING] * size, []
    rows = best.rows.flatten().cpu().numpy()
    owners = np.repeat(np.arange(size), count)
    hits = [found.first(None) for found in split(scored(queries, owners, rows, matrix), np.full(size, count))]
    bounds = upward(most.cpu().numpy())
    unsure = [
        place
        for place, (found, bound) in enumerate(zip(hits, bounds, strict=True))
        if count < matrix.size and not (len(found.rows) >= depth and found.scores[depth - 1] > bound)
    ]
    return [found.at(slice(depth)) for found in hits], unsure


def sifted(queries: Tensor, floors: NDArray[np.float64], errors: Tensor, matrix: Matrix, depth: int) -> list[Hits]:
    """The hits of queries [Q, D] by a slow score of every vector that may reach the floor [Q] of its query."""
    found = [NOTHING] * len(queries)
    if not len(queries):
        return found
    room = matrix.room(len(queries))
    for place, block in matrix.blocks():
        scores = torch.mm(queries, block.T, out=room[: len(queries) * len(block)].view(len(queries), -1))
        least = torch.from_numpy(floors).to(scores.device) - errors
        least = torch.nextafter(least.float(), torch.tensor(-torch.inf, device=scores.device))
        may = scores >= least[:, None]
        for query in may.any(1).nonzero()[:, 0].tolist():
            within = may[query].nonzero()[:, 0]
            exact = torch.cat([
                exact_scores(queries[query].expand(len(part), -1), block[part])
                for part in parted(within, max(1, PRODUCTS // matrix.width))
            ])  # fmt: skip
            reached = (exact >= floors[query]).cpu()
            if not reached.any():
                continue
            rows = within.cpu()[reached].numpy() + place.row
            more = Hits(rows, matrix.ids(rows), exact.cpu()[reached].numpy())
            found[query] = joined(found[query], more).first(depth)
            if len(found[query].rows) == depth:
                floors[query] = found[query].scores[-1]
    return found


def score(
    queries: Sequence[str],
    vectors: NDArray[np.float32],
    rows: Ragged,
    matrix: Matrix,
    depth: int | None,
    progress: Progress,
) -> Iterator[Ranking]:
    """What `search` would find for each query if its own `rows` [Q] of vectors were all; those alone are read."""
    with progress.track("score", len(rows.values), "vectors") as advance:
        begin = 0
        while begin < len(queries):
            end = int(np.searchsorted(rows.offsets, rows.offsets[begin] + matrix.pairs, "right")) - 1
            end = min(max(begin + 1, end), len(queries))
            own = rows.values[rows.offsets[begin] : rows.offsets[end]]
            counts = np.diff(rows.offsets[begin : end + 1])
            asked = torch.from_numpy(np.ascontiguousarray(vectors[begin:end])).to(matrix.device)
            found = split(scored(asked, np.repeat(np.arange(end - begin), counts), own, matrix), counts)
            for query, hits in zip(queries[begin:end], found, strict=True):
                yield hits.first(depth).ranking(query)
            advance(len(own))
            begin = end


def scored(queries: Tensor, owners: NDArray[np.int64], rows: NDArray[np.int64], matrix: Matrix) -> Hits:
    """Pairs of queries [Q, D] and vectors, by the numbers of either [P], with their ids and slow scores."""
    by = np.argsort(rows, kind="stable")
    ordered, ids = rows[by], matrix.ids(rows[by])
    scores = np.empty(len(rows), np.float32)
    for part, vectors in matrix.vectors(ordered, max(1, PRODUCTS // max(1, matrix.width))):
        asked = queries[torch.from_numpy(owners[by[part]]).to(queries.device)]
        scores[by[part]] = exact_scores(asked, vectors).cpu().numpy()
    back = np.empty_like(by)
    back[by] = np.arange(len(by))
    return Hits(rows, ids[back], scores)


def split(hits: Hits, counts: NDArray[np.int64]) -> Iterator[Hits]:
    """Hits that stand one after the other, so many of each query."""
    ends = np.cumsum(counts).tolist()
    for end, count in zip(ends, counts.tolist(), strict=True):
        yield hits.at(slice(end - count, end))


def rows_of(names: NDArray[np.bytes_], shards: Sequence[Shard]) -> Ragged:
    """The rows of each name [K] in the shards: none of one that is unknown, all of one that stands there twice."""
    known, numbers = np.unique(names, return_inverse=True)
    owners, rows, begin = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for shard in shards if len(known) else ():
        ids = shard.names().at()
        places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        there = np.flatnonzero(known[places] == ids)
        owners.append(places[there])
        rows.append(there + begin)
        begin += shard.size
    owner, row = np.concatenate(owners), np.concatenate(rows)
    by = np.argsort(owner, kind="stable")
    begins, counts = np.searchsorted(owner[by], np.arange(len(known))), np.bincount(owner, minlength=len(known))
    begins, counts = begins[numbers], counts[numbers]
    offsets = np.append(0, np.cumsum(counts))
    return Ragged(row[by][np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], counts)], offsets)


def joined(*parts: Hits) -> Hits:
    rows, ids, scores = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Hits(rows, ids, scores)


def parted(rows: Tensor, most: int) -> Iterator[Tensor]:
    """Rows of a tensor, at most so many at a time."""
    return (rows[begin : begin + most] for begin in range(0, len(rows), most))


def upward(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The next greater float32 of each."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))
