"""Contrastive batches: queries, a positive of each and hard negatives, drawn from a training set by (seed, step) alone.

Letters: Q queries, P passages.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.data.batches import global_batch, padded
from seedcli.negatives.examples import TrainingSet
from seedcli.training.objectives import ContrastiveBatch


class ContrastiveBatches:
    """Queries in the order of a keyed permutation; positive and negatives drawn by (seed, step) alone."""

    unit = "queries"

    def __init__(self, data: TrainingSet, pad: int, size: int, negatives: int, seed: int):
        self.data, self.pad, self.size, self.hard, self.seed = data, pad, size, negatives, seed

    def __call__(self, step: int, rank: int, world: int) -> Iterator[ContrastiveBatch]:
        """This rank's share of a step, in one micro-batch: a contrastive batch can't be accumulated."""
        data = self.data
        rng = np.random.default_rng([self.seed, step])
        drawn = [(row, int(rng.choice(data.positives[row])), self._wrong(row, rng)) for _, row in self.rows(step)][
            rank::world
        ]
        passages = [right for _, right, _ in drawn] + [row for _, _, wrong in drawn for row in wrong]
        known = [self._right(row) for row, _, _ in drawn]
        yield ContrastiveBatch(
            padded([data.queries.tokens[data.trained[row]] for row, _, _ in drawn], self.pad),
            padded([data.passages.tokens[row] for row in passages], self.pad),
            torch.from_numpy(data.passages.numbers[passages]),
            padded(known, -1).tokens,
            torch.tensor([len(drawn)], dtype=torch.float64),
        )

    def rows(self, step: int) -> list[tuple[int, int]]:
        """The (epoch, query) pairs of a step's global batch; the trained queries count from 0."""
        return global_batch(len(self.data.trained), self.size, step, self.seed)

    def _right(self, row: int) -> NDArray[np.int64]:
        """The numbers of all texts that are right for a query."""
        return self.data.right.of(int(self.data.queries.numbers[self.data.trained[row]]))

    def _wrong(self, row: int, rng: np.random.Generator) -> list[int]:
        """Rows of different negatives; where the pool holds too few, the rest are random passages but no positives."""
        numbers, right = self.data.passages.numbers, self._right(row)
        pool = self.data.negatives[row]
        pool = pool[~np.isin(numbers[pool], right)]
        if len(pool) >= self.hard:
            return rng.choice(pool, self.hard, replace=False).tolist()  # type: ignore[no-any-return]
        found = pool.tolist()
        drawn = min(len(numbers), 4 * (self.hard + len(found) + len(right)))
        others = map(int, rng.choice(len(numbers), drawn, replace=False))
        allowed = (row for row in others if row not in found and numbers[row] not in right)
        return [*found, *islice(allowed, self.hard - len(found))]
