"""Vectors that a store holds, searched: what it finds is scored once more from the shards.

Letters: Q queries, D width, c candidates of a query.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.base.errors import DataError
from seedcli.retrieval import exact
from seedcli.retrieval.exact import NOTHING, Hits
from seedcli.retrieval.fast import error_bound
from seedcli.retrieval.matrix import LEAST, Matrix
from seedcli.retrieval.milvus import MOST, Mark, Store, index_of
from seedcli.retrieval.vectors import Shard

HITS, AT_ONCE = 1 << 18, 256  # of one request: hits of all its queries, and queries
WIDER = 4  # times as many candidates, where these don't settle a query


class Stored:
    """A collection and the vectors on the disk that it was made of, the longest of them of a norm of `longest`.

    A document has `each` vectors on average. Of a flat index, hits and scores are those of exact search.
    """

    def __init__(self, store: Store, mark: Mark, shards: Sequence[Shard], longest: float, each: float):
        self.store, self.mark, self.longest, self.each = store, mark, longest, each
        self.index, self.size = index_of(mark), mark.size
        self.matrix = Matrix(shards, torch.device("cpu"), LEAST)  # of which few vectors are read

    def candidates(self, depth: int) -> int:
        """Vectors to ask for, so that there are as many documents."""
        return min(exact.count_of(depth, self.each), self.size, MOST)

    def at_once(self, depth: int) -> int:
        """Queries of one request."""
        return max(1, min(AT_ONCE, HITS // max(1, self.candidates(depth))))

    def search(self, vectors: NDArray[np.float32], depth: int) -> list[Hits]:
        """The first `depth` documents for each query [Q, D]; more candidates are asked for where these settle none."""
        queries, hits = torch.from_numpy(np.ascontiguousarray(vectors)), [NOTHING] * len(vectors)
        left, wanted = np.arange(len(vectors)), self.candidates(depth)
        while len(left):
            answers = self.store.search(vectors[left], wanted, self.index)
            unsure = list[int]()
            for place, (scores, own) in zip(left.tolist(), self.scored(queries[left], answers), strict=True):
                hits[place] = own.first(depth)
                if len(scores) == wanted < self.size and not self.settled(
                    hits[place], scores[-1], queries[place], depth
                ):
                    unsure.append(place)
            if wanted == MOST:
                break
            left, wanted = np.array(unsure, np.int64), min(WIDER * wanted, self.size, MOST)
        return hits

    def scored(
        self, queries: torch.Tensor, answers: Sequence[tuple[list[int], list[float]]]
    ) -> Iterator[tuple[list[float], Hits]]:
        """The store's scores of each query [Q, D], and its hits with those of the vectors on the disk."""
        counts = np.array([len(rows) for rows, _ in answers], np.int64)
        rows = np.array([row for own, _ in answers for row in own], np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.size:
            raise DataError(f"{self.store}: {self.store.collection} holds rows that seed index didn't put there")
        owners = np.repeat(np.arange(len(answers)), counts)
        found = exact.split(exact.scored(queries, owners, rows, self.matrix), counts)
        return zip((scores for _, scores in answers), found, strict=True)

    def settled(self, hits: Hits, least: float, query: torch.Tensor, depth: int) -> bool:
        """Whether no vector below the `least` score that the store told may stand among the first `depth`.

        An approximate index may have passed over others; its hits are taken as they are, once they are enough.
        """
        if len(hits.rows) < depth:
            return False
        error = float(error_bound(query[None], self.longest)[0])
        return self.mark.kind != "flat" or float(hits.scores[-1]) > least + error
