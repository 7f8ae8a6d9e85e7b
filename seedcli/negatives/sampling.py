"""Contrastive batches: queries, a positive of each and hard negatives, drawn from a training set by the seed alone.

Letters: Q queries, P passages, h hard negatives of a query.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.data.batches import global_batch, grouped, padded
from seedcli.data.segments import WHOLE, Segmentation, grouped_passages, vector_counts
from seedcli.negatives.examples import TrainingSet
from seedcli.training.objectives import TAUGHT, TRIPLES, ContrastiveBatch, LossName


class Draw(NamedTuple):
    """An item of a batch: a query, its positive and its hard negatives."""

    query: int  # among the trained ones
    positive: int  # row of a passage
    negatives: list[int]  # rows of passages [h]
    taught: list[float]  # the teacher's scores of both [1 + h], NaN where it gave none; none without a teacher


class Grouping(NamedTuple):
    """How texts are put together: `budget` tokens with their padding at most, and `most` texts."""

    budget: int
    most: int | None = None
    cut: Segmentation = WHOLE  # of passages, before


class ContrastiveBatches:
    """Queries in the order of a keyed permutation, each with a positive and `hard` negatives.

    Where the loss is one of triples, an item is a query with one of its `hard` negatives, and an epoch passes all.
    """

    unit = "queries"

    def __init__(
        self, data: TrainingSet, pad: int, size: int, hard: int, seed: int, loss: LossName, grouping: Grouping,
        take: Literal["random", "first"] = "random", fills: bool = True,
    ):  # fmt: skip
        self.take, self.fills = take, fills
        self.data, self.pad, self.size, self.hard, self.seed = data, pad, size, hard, seed
        self.triples, self.taught, self.grouping = loss in TRIPLES, loss in TAUGHT, grouping

    @property
    def items(self) -> int:
        """Of an epoch."""
        return len(self.data.trained) * (self.hard if self.triples else 1)

    def __call__(self, step: int, rank: int, world: int) -> Iterator[ContrastiveBatch]:
        """This rank's share of a step, in one micro-batch: a contrastive batch can't be accumulated."""
        data, (budget, most, cut) = self.data, self.grouping
        everything = self._triples(step) if self.triples else self._lists(step)
        drawn = everything[rank::world]
        wrong = [row for draw in drawn for row in draw.negatives]
        passages = [draw.positive for draw in drawn] + wrong
        right = [self._right(draw.query) for draw in drawn]
        texts, hard = data.passages.numbers[passages], len(drawn[0].negatives)
        taught = np.array([draw.taught for draw in drawn], np.float32)
        wrong_texts = texts[len(drawn) :].reshape(len(drawn), hard)
        usable = [~np.isin(numbers, known) for numbers, known in zip(wrong_texts, right, strict=True)]
        mask = np.array(usable, dtype=bool).reshape(len(drawn), hard)
        if self.taught:
            mask &= np.isfinite(taught[:, 1:] + taught[:, :1])
        items = mask.sum() if self.triples else mask.any(1).sum() if self.taught else len(drawn)
        counts = [items, len(drawn), len(drawn)]
        yield ContrastiveBatch(
            grouped([data.queries.tokens[data.trained[draw.query]] for draw in drawn], self.pad, budget, most),
            grouped_passages(
                [data.passages.tokens[row] for row in passages], cut, self._width(everything), self.pad, budget, most
            ),
            torch.from_numpy(texts),
            padded(right, -1).tokens,
            torch.from_numpy(mask),
            torch.from_numpy(taught) if self.taught else None,
            torch.tensor(counts, dtype=torch.float64),
        )

    def rows(self, step: int) -> list[tuple[int, int]]:
        """The (epoch, query) pairs of a step's global batch; the trained queries count from 0."""
        each = self.hard if self.triples else 1
        return [(epoch, item // each) for epoch, item in self._items(step)]

    def _items(self, step: int) -> list[tuple[int, int]]:
        return global_batch(self.items, self.size, step, self.seed)

    def _width(self, drawn: list[Draw]) -> int:
        """The most vectors of a passage in a global batch, so that all ranks agree."""
        cut, offsets = self.grouping.cut, self.data.passages.tokens.offsets
        if cut.segments == cut.vectors == 1:
            return 1
        rows = np.array([row for draw in drawn for row in (draw.positive, *draw.negatives)])
        return int(vector_counts(offsets[rows + 1] - offsets[rows], cut).max())

    def _lists(self, step: int) -> list[Draw]:
        rng = np.random.default_rng([self.seed, step])
        return [self._draw(row, rng) for _, row in self._items(step)]

    def _triples(self, step: int) -> list[Draw]:
        """The draws of a query in an epoch are the same in all its triples, so that its negatives differ."""
        drawn = []
        for epoch, item in self._items(step):
            query, number = divmod(item, self.hard)
            whole = self._draw(query, np.random.default_rng([self.seed, epoch, query]))
            taught = [whole.taught[0], whole.taught[1 + number]] if self.taught else []
            drawn.append(whole._replace(negatives=[whole.negatives[number]], taught=taught))
        return drawn

    def _draw(self, query: int, rng: np.random.Generator) -> Draw:
        data = self.data
        positive = int(rng.choice(len(data.positives[query])))
        wrong, places = self._wrong(query, rng)
        taught: list[float] = []
        if self.taught and data.scores is not None:
            given = data.scores.negatives[query]
            taught = [float(data.scores.positives[query][positive])]
            taught += [float(given[place]) if place >= 0 else np.nan for place in places]
        return Draw(query, int(data.positives[query][positive]), wrong, taught)

    def _right(self, row: int) -> NDArray[np.int64]:
        """The numbers of all texts that are right for a query."""
        return self.data.right.of(int(self.data.queries.numbers[self.data.trained[row]]))

    def _wrong(self, row: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Rows of `hard` different negatives, and where they stand among those of the query.

        Where these are too few the rest are random passages but no positives, at place -1; a collection that lacks so
        many gives some twice, and one without any the positive, which doesn't count. Where places
        aren't to be filled (`fills`), the positive takes all that are left.
        """
        numbers, right = self.data.passages.numbers, self._right(row)
        pool = self.data.negatives[row]
        places = np.flatnonzero(~np.isin(numbers[pool], right))
        if len(places) >= self.hard:
            drawn = self.take == "random" and self.hard
            chosen = rng.choice(places, self.hard, replace=False) if drawn else places[: self.hard]
            return pool[chosen].tolist(), chosen.tolist()
        found = pool[places].tolist()
        if not self.fills:
            rest = self.hard - len(found)
            return [*found, *[int(self.data.positives[row][0])] * rest], [*places.tolist(), *[-1] * rest]
        size = min(len(numbers), 4 * (self.hard + len(found) + len(right)))
        others = map(int, rng.choice(len(numbers), size, replace=False))
        allowed = (other for other in others if other not in found and numbers[other] not in right)
        filled = [*found, *islice(allowed, self.hard - len(found))] or self.data.positives[row].tolist()
        where = [*places.tolist(), *[-1] * self.hard][: len(filled)]
        return np.resize(filled, self.hard).tolist(), np.resize(where, self.hard).tolist()
