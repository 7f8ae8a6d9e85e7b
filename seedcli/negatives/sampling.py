"""Hard negatives: every source gives a run; pools are what a run leaves a query, and batches draw from them.

All positives of a query are excluded, and passages whose text equals one of them. Letters: Q queries, P passages.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.data.batches import global_batch, padded
from seedcli.data.ragged import Ragged
from seedcli.data.records import Passage, Qrels, Query
from seedcli.data.templates import render
from seedcli.data.tokenizer import Tokenizer
from seedcli.retrieval.runs import Run
from seedcli.training.objectives import ContrastiveBatch


class Texts(NamedTuple):
    """Tokenised texts by row: the row of each id, and the number of each row's text, which equal texts share."""

    rows: dict[str, int]
    tokens: Ragged
    numbers: NDArray[np.int64]


class TrainingSet(NamedTuple):
    """Rows of the queries that can be trained on, with rows of their positives and of their negatives."""

    queries: Texts
    passages: Texts
    trained: list[int]  # [Q] rows of queries
    positives: Ragged  # [Q] rows of passages
    negatives: Ragged  # [Q] rows of passages, in the order of the run


def positive_ids(grades: dict[str, int]) -> list[str]:
    return [passage for passage, grade in grades.items() if grade > 0]


def wanted_passages(qrels: Qrels, run: Run, depth: int) -> set[str]:
    """The ids that training can touch: positives, and the first `depth` of each ranking."""
    wanted = {passage for grades in qrels.values() for passage in positive_ids(grades)}
    for query in qrels:
        wanted.update(id_.decode() for id_ in run.ranking(query)[0][:depth].tolist())
    return wanted


def tokenise(records: Iterable[Passage] | Iterable[Query], template: str, tokenizer: Tokenizer, length: int) -> Texts:
    """The texts of `records`, tokenised."""
    rows: dict[str, int] = {}
    fingerprints: list[int] = []

    def texts() -> Iterator[str]:
        for record in records:
            if record.id not in rows:
                rows[record.id] = len(rows)
                text = render(template, record)
                fingerprints.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))
                yield text

    tokens = Ragged.of(tokenizer.encode_stream(texts(), length), tokenizer.dtype)
    numbers = np.unique(np.array(fingerprints, dtype=np.uint64), return_inverse=True)[1]
    return Texts(rows, tokens, numbers.astype(np.int64))


def training_set(
    queries: Texts, passages: Texts, qrels: Qrels, run: Run, depth: int
) -> tuple[TrainingSet, dict[str, Any]]:
    """Pools for every query that has a text and a positive, and a report of what was dropped."""
    trained, positives, negatives = [], [], []
    dropped = dict.fromkeys(("positive", "text of a positive", "not in the corpus"), 0)
    without = {"text": 0, "positive": 0, "negative": 0}
    for query, grades in qrels.items():
        right = [passages.rows[id_] for id_ in positive_ids(grades) if id_ in passages.rows]
        if query not in queries.rows or not right:
            without["positive" if query in queries.rows else "text"] += 1
            continue
        equal = set(passages.numbers[right].tolist())
        pool = []
        for id_ in (found.decode() for found in run.ranking(query)[0][:depth].tolist()):
            row = passages.rows.get(id_)
            if row is None:
                dropped["not in the corpus"] += 1
            elif row in right:
                dropped["positive"] += 1
            elif int(passages.numbers[row]) in equal:
                dropped["text of a positive"] += 1
            else:
                pool.append(row)
        without["negative"] += not pool
        trained.append(queries.rows[query])
        positives.append(right)
        negatives.append(pool)
    report = {"queries": len(trained), "queries without": without, "candidates dropped": dropped}
    pools = Ragged.of(positives, np.int64), Ragged.of(negatives, np.int64)
    return TrainingSet(queries, passages, trained, *pools), report


class ContrastiveBatches:
    """Queries in the order of a keyed permutation; positive and negatives drawn by (seed, step) alone."""

    def __init__(self, data: TrainingSet, pad: int, size: int, negatives: int, seed: int):
        self.data, self.pad, self.size, self.hard, self.seed = data, pad, size, negatives, seed

    def __call__(self, step: int, rank: int, world: int) -> Iterator[ContrastiveBatch]:
        """This rank's share of a step, in one micro-batch: a contrastive batch can't be accumulated."""
        data = self.data
        rng = np.random.default_rng([self.seed, step])
        drawn = [
            (row, int(rng.choice(data.positives[row])), self._wrong(row, rng))
            for _, row in global_batch(len(data.trained), self.size, step, self.seed)
        ][rank::world]
        passages = [right for _, right, _ in drawn] + [row for _, _, wrong in drawn for row in wrong]
        known = [data.passages.numbers[data.positives[row]] for row, _, _ in drawn]
        yield ContrastiveBatch(
            padded([data.queries.tokens[data.trained[row]] for row, _, _ in drawn], self.pad),
            padded([data.passages.tokens[row] for row in passages], self.pad),
            torch.from_numpy(data.passages.numbers[passages]),
            padded(known, -1).tokens,
            torch.tensor([len(drawn)], dtype=torch.float64),
        )

    def _wrong(self, row: int, rng: np.random.Generator) -> list[int]:
        """Rows of different negatives; where the pool holds too few, the rest are random passages but no positives."""
        pool, right = self.data.negatives[row], self.data.positives[row]
        if len(pool) >= self.hard:
            return rng.choice(pool, self.hard, replace=False).tolist()  # type: ignore[no-any-return]
        numbers, found = self.data.passages.numbers, pool.tolist()
        drawn = min(len(numbers), 4 * (self.hard + len(found) + len(right)))
        others = map(int, rng.choice(len(numbers), drawn, replace=False))
        allowed = (row for row in others if row not in found and numbers[row] not in numbers[right])
        return [*found, *islice(allowed, self.hard - len(found))]
