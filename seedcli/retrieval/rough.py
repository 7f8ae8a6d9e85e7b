"""Rough copies of vectors: less a centre, as bfloat16.

They are half of float32's bytes, and where a processor multiplies bfloat16 several times as quick; what they lose is
bounded by what was rounded off. The centre is there because vectors of one model often point the same way, and rounding
what they share would lose more than tells them apart.
Letters: Q queries, n vectors of a block, D their width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from seedcli.retrieval.fast import error_bound

UNIT = 2.0**-8  # of a rounding to bfloat16, at most, with a margin of two
SMALLEST = 2.0**-125  # what is smaller may be taken for nothing, likewise
FLOAT = 2.0**-23  # of a difference in float32, likewise
MARGIN, SQUARED = 1.001, 2.0**-60  # of norms in float32, and what is smaller there may be nothing when it is squared
AT_ONCE = 512  # vectors, which stay in a core's cache


class Copies:
    """The copies of a matrix's blocks, each made when it is asked for first."""

    def __init__(self, centre: Tensor):
        self.centre = centre
        self.longest = self.lost = 0.0  # norms: of a copy, and of what it lacks
        self._kept: dict[int, Tensor] = {}

    def of(self, number: int, values: Callable[[], Tensor]) -> Tensor:
        """The copy of a block [n, D], whose number says which one it is."""
        if number not in self._kept:
            vectors = values()
            copy = torch.empty_like(vectors, dtype=torch.bfloat16)
            for begin in range(0, len(vectors), AT_ONCE):
                some = slice(begin, begin + AT_ONCE)
                rest = vectors[some] - self.centre
                self.longest = max(self.longest, at_most(rest))
                rest -= copy[some].copy_(rest)
                self.lost = max(self.lost, at_most(rest))
            self._kept[number] = copy
        return self._kept[number]

    def most(self, queries: Tensor, scores: Tensor) -> Tensor:
        """The greatest inner product with queries [Q, D] of vectors whose rough scores are at most these [Q]."""
        whole, asked, given = queries.double(), queries.bfloat16().double(), scores.double()
        longest = self.longest + self.lost
        lost = norm(whole - asked) * longest + norm(whole) * (self.lost + FLOAT * longest)
        small = queries.shape[1] * SMALLEST * (1 + norm(asked) + longest)
        sums = error_bound(asked, longest) + UNIT * given.abs()
        return whole @ self.centre.double() + given + lost + small + sums


def norm(vectors: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return norms


def at_most(vectors: Tensor) -> float:
    """No vector [n, D] is longer."""
    return MARGIN * float(norm(vectors).max()) + SQUARED * vectors.shape[1]
