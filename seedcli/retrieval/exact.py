"""Exact search: a fast pass over all vectors picks candidates, a slow one in float64 decides their order.

A document is what stands at neighbouring rows under one id, and scores as the best of its vectors does. The fast
pass is right up to a bound on float32 sums; candidates are added until the bound excludes that another vector could
bring a document among the first k. So the result doesn't depend on shards, batches, threads or the device.
Letters: Q queries, N vectors of an index or a block, D their width, k depth, c candidates a query, K names.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedcli.base.progress import Advance, Progress
from seedcli.data.ragged import Ragged
from seedcli.retrieval.runs import Ranking, order
from seedcli.retrieval.vectors import Shard, read_ids

BLOCK = 1 << 16  # vectors scored at a time
QUERIES = 1 << 10  # queries scored at a time
SPARE = 32  # documents beyond k in the first pass


def search(
    queries: Sequence[str],
    vectors: NDArray[np.float32],
    shards: Sequence[Shard],
    depth: int,
    device: torch.device,
    progress: Progress,
) -> Iterator[Ranking]:
    """The `depth` nearest documents by inner product for each query id and its vector [Q, D]."""
    ids = encoded_ids(shards)
    batches = range(0, len(queries), QUERIES)
    with progress.track("search", len(batches) * len(ids), "vectors") as advance:
        for begin in batches:
            batch = vectors[begin : begin + QUERIES]
            found = nearest(batch, shards, ids, depth, device, advance)
            for query, (rows, scores) in zip(queries[begin : begin + QUERIES], found, strict=True):
                yield Ranking(query, [id_.decode() for id_ in ids[rows].tolist()], scores)


def score(
    queries: Sequence[str],
    vectors: NDArray[np.float32],
    rows: Ragged,
    shards: Sequence[Shard],
    ids: NDArray[np.bytes_],
    depth: int | None,
    progress: Progress,
) -> Iterator[Ranking]:
    """What `search` would find for each query if its own `rows` [Q] of vectors were all; those alone are read."""
    owners = documents_of(ids)
    with progress.track("score", len(rows.values), "vectors") as advance:
        for query, vector, own in zip(queries, vectors, rows, strict=True):
            chosen = np.sort(own)
            scores = rescore(vector, shards, chosen)
            first = firsts(order(ids[chosen], scores), owners, chosen)[:depth]
            yield Ranking(query, [id_.decode() for id_ in ids[chosen[first]].tolist()], scores[first])
            advance(len(own))


def rows_of(names: NDArray[np.bytes_], ids: NDArray[np.bytes_]) -> Ragged:
    """The rows of each name [K] among ids [N]: none of one that is unknown, all of one that stands there twice."""
    ordered = np.argsort(ids, kind="stable")
    begins = np.searchsorted(ids, names, "left", ordered)
    counts = np.searchsorted(ids, names, "right", ordered) - begins
    offsets = np.append(0, np.cumsum(counts))
    return Ragged(ordered[np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], counts)], offsets)


def encoded_ids(shards: Sequence[Shard]) -> NDArray[np.bytes_]:
    return np.array([id_.encode() for id_ in read_ids(shards)], dtype=np.bytes_)


def opens(ids: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Whether a row is the first of its document [N]."""
    return np.append(np.ones(min(1, len(ids)), dtype=bool), ids[1:] != ids[:-1])


def documents_of(ids: NDArray[np.bytes_]) -> NDArray[np.int64] | None:
    """The number of each row's document [N], ascending; None where each has a row alone."""
    first = opens(ids)
    return None if first.all() else np.cumsum(first) - 1


def firsts(places: NDArray[np.intp], owners: NDArray[np.int64] | None, chosen: NDArray[np.int64]) -> NDArray[np.intp]:
    """Of ordered places among the `chosen` rows, the first of each document."""
    if owners is None:
        return places
    _, found = np.unique(owners[chosen[places]], return_index=True)
    return places[np.sort(found)]


def nearest(
    queries: NDArray[np.float32],
    shards: Sequence[Shard],
    ids: NDArray[np.bytes_],
    k: int,
    device: torch.device,
    advance: Advance,
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Rows and scores of the best vectors of the first k documents for each query [Q, D], ties by descending id.

    All documents, where there are fewer.
    """
    owners = documents_of(ids)
    total = len(ids) if owners is None else int(owners[-1]) + 1
    k = min(k, total)
    result: list[tuple[NDArray[np.int64], NDArray[np.float32]] | None] = [None] * len(queries)
    open_queries = np.arange(len(queries))
    count = min(math.ceil((k + SPARE) * len(ids) / total), len(ids))
    while len(open_queries):
        rows, worst, longest = candidates(queries[open_queries], shards, count, device, advance)
        unsettled = []
        for place, query in enumerate(open_queries):
            chosen = np.sort(rows[place])
            scores = rescore(queries[query], shards, chosen)
            first = firsts(order(ids[chosen], scores), owners, chosen)[:k]
            bound = np.float32(worst[place] + error_bound(queries[query], longest))
            unsure = len(first) < k or scores[first[-1]] <= np.nextafter(bound, np.float32(np.inf))
            if count < len(ids) and unsure:
                unsettled.append(query)
            else:
                result[query] = (chosen[first], scores[first])
        open_queries = np.array(unsettled, dtype=np.int64)
        count, advance = min(4 * count, len(ids)), _ignore
    return [settled for settled in result if settled is not None]


def candidates(
    queries: NDArray[np.float32], shards: Sequence[Shard], count: int, device: torch.device, advance: Advance
) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
    """The fast pass: `count` rows a query [Q, c], the worst score among them [Q], and the longest vector's norm."""
    on_device = torch.from_numpy(np.ascontiguousarray(queries)).to(device)
    scores = torch.empty((len(queries), 0), device=device)
    rows = torch.empty((len(queries), 0), dtype=torch.int64, device=device)
    begin, longest = 0, 0.0
    for shard in shards:
        for start in range(0, shard.size, BLOCK):
            block = torch.from_numpy(np.array(shard.vectors[start : start + BLOCK])).to(device)  # [N, D]
            longest = max(longest, float(block.norm(dim=1).max()))
            scores, rows = merge(scores, rows, on_device @ block.T, begin, count)
            begin += len(block)
            advance(len(block))
    return rows.cpu().numpy(), scores.amin(1).cpu().numpy(), longest


def merge(scores: Tensor, rows: Tensor, block: Tensor, begin: int, count: int) -> tuple[Tensor, Tensor]:
    """The best `count` of what was kept [Q, c] and a block's scores [Q, N], whose first row is `begin`."""
    best, places = block.topk(min(count, block.shape[1]), dim=1)
    scores, rows = torch.cat([scores, best], 1), torch.cat([rows, places + begin], 1)
    kept, places = scores.topk(min(count, scores.shape[1]), dim=1)
    return kept, rows.gather(1, places)


def rescore(query: NDArray[np.float32], shards: Sequence[Shard], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Inner products of a query [D] with the vectors of ascending `rows`, summed in float64 in one fixed order."""
    ends = np.cumsum([shard.size for shard in shards])
    of_shard = np.searchsorted(ends, rows, side="right")
    parts = [
        shards[number].vectors[rows[of_shard == number] - (ends[number] - shards[number].size)]
        for number in np.unique(of_shard).tolist()
    ]
    products = np.concatenate(parts).astype(np.float64) * query.astype(np.float64)
    scores: NDArray[np.float32] = np.add.reduce(np.ascontiguousarray(products), axis=1).astype(np.float32)
    return scores


def error_bound(query: NDArray[np.float32], longest: float) -> float:
    """How far a float32 inner product of width D can be from the exact one (Higham 2002, section 3.1), doubled."""
    unit = 2.0**-24
    width = len(query) + 2
    return float(2 * width * unit / (1 - width * unit) * np.linalg.norm(query.astype(np.float64)) * longest)


def _ignore(_: int, /, *__: str) -> None:
    """A repeated pass is not counted again."""
