"""Global batches as functions of (seed, step): ranks and micro-batches only slice them, so no loader state is kept.

Letters: B sequences, n tokens of the longest, M masked tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedcli.data.heldout import Rest
from seedcli.data.masking import Masking, mask_tokens
from seedcli.data.ragged import Ragged

ROUNDS = 4  # of the Feistel network


class Sequences(NamedTuple):
    """Token ids [B, n], padded on the right, and where they are real [B, n]."""

    tokens: Tensor
    attention: Tensor

    def to(self, device: torch.device, non_blocking: bool = True) -> "Sequences":
        return Sequences(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


class Groups(NamedTuple):
    """B texts in groups of like length, so that little of them is padding."""

    parts: list[Sequences]
    places: Tensor  # [B] the row of each text when the parts stand one after the other; of passages [B, m] of vectors
    real: Tensor | None = None  # [B, m] which of these count; None: all

    @property
    def tokens(self) -> int:
        """Real ones."""
        return sum(int(part.attention.sum()) for part in self.parts)

    def to(self, device: torch.device) -> "Groups":
        placed = (part if part is None else part.to(device, non_blocking=True) for part in self[1:])
        return Groups([part.to(device) for part in self.parts], *placed)  # type: ignore[arg-type]


class PretrainingBatch(NamedTuple):
    """A micro-batch. Places count through [B, n] row by row, so that no device is asked how many there are."""

    original: Sequences  # as written
    masked: Tensor  # [B, n], as the encoder reads it
    chosen: Tensor  # [M] places of the masked words
    real: Tensor | None  # places that are no padding in all columns but the first, [B, n - 1]; None where all are
    counts: Tensor  # [2]: masked words, words that the decoder predicts

    @property
    def tokens(self) -> int:
        """Real ones, as the encoder reads them."""
        return int(self.counts[1]) + len(self.masked)

    def to(self, device: torch.device) -> "PretrainingBatch":
        placed = (part if part is None else part.to(device, non_blocking=True) for part in self)
        return PretrainingBatch(*placed)  # type: ignore[arg-type]


class PretrainingBatches:
    """Blocks in the order of a keyed permutation an epoch, masked anew each time by (seed, epoch, block)."""

    unit = "blocks"

    def __init__(self, blocks: Ragged | Rest, masking: Masking, pad: int, size: int, micro: int, seed: int):
        self.blocks, self.masking, self.pad = blocks, masking, pad
        self.size, self.micro, self.seed = size, micro, seed

    def __call__(self, step: int, rank: int, world: int) -> Iterator[PretrainingBatch]:
        """This rank's micro-batches of a step. Sorted by length before slicing, so that little is padding."""
        mine = sorted(self.rows(step), key=lambda pair: len(self.blocks[pair[1]]))[rank::world]
        for begin in range(0, len(mine), self.micro):
            yield self.batch(mine[begin : begin + self.micro])

    def rows(self, step: int) -> list[tuple[int, int]]:
        """The (epoch, block) pairs of a step's global batch; blocks count from 0."""
        return global_batch(len(self.blocks), self.size, step, self.seed)

    def batch(self, rows: Sequence[tuple[int, int]]) -> PretrainingBatch:
        """Some (epoch, block) pairs as a micro-batch."""
        originals = [np.asarray(self.blocks[row]) for _, row in rows]
        drawn = [
            mask_tokens(tokens, self.masking, np.random.default_rng([self.seed, epoch, row]))
            for tokens, (epoch, row) in zip(originals, rows, strict=True)
        ]
        original = padded(originals, self.pad)
        chosen = padded([where for _, where in drawn], 0).tokens.flatten().nonzero().squeeze(1)
        later = original.attention[:, 1:]
        counts = torch.tensor([len(chosen), int(later.sum())], dtype=torch.float64)
        real = None if later.all() else later.flatten().nonzero().squeeze(1)
        masked = padded([tokens for tokens, _ in drawn], self.pad).tokens
        return PretrainingBatch(original, masked, chosen, real, counts)


def padded(rows: Sequence[NDArray[Any]], pad: int) -> Sequences:
    """Rows of ids as one tensor, filled up on the right."""
    tokens = np.full((len(rows), max(map(len, rows), default=0)), pad, dtype=np.int64)
    attention = np.zeros(tokens.shape, dtype=bool)
    for row, values in enumerate(rows):
        tokens[row, : len(values)] = values
        attention[row, : len(values)] = True
    return Sequences(torch.from_numpy(tokens), torch.from_numpy(attention))


def grouped(rows: Sequence[NDArray[Any]], pad: int, budget: int, most: int | None = None) -> Groups:
    """Texts in groups of at most `budget` tokens, padding included, and of at most `most` texts."""
    batches = list(token_batches([len(row) for row in rows], budget, most))
    parts = [padded([rows[row] for row in batch], pad) for batch in batches]
    order = np.concatenate(batches) if batches else np.empty(0, np.int64)
    places = np.empty(len(rows), np.int64)
    places[order] = np.arange(len(rows))
    return Groups(parts, torch.from_numpy(places))


def token_batches(lengths: Sequence[int], budget: int, most: int | None = None) -> Iterator[NDArray[np.intp]]:
    """Rows in batches of like length, the longest first, each of at most `budget` tokens with its padding."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    begin = 0
    while begin < len(order):
        size = max(1, budget // max(1, lengths[order[begin]]))
        size = size if most is None else min(size, most)
        yield order[begin : begin + size]
        begin += size


def global_batch(total: int, size: int, step: int, seed: int) -> list[tuple[int, int]]:
    """The (epoch, row) pairs of a step: rows 0 ... total - 1 pass in a new order each epoch, without a gap between."""
    drawn = np.arange(step * size, (step + 1) * size, dtype=np.int64)
    epochs = drawn // total
    rows = [permuted(drawn[epochs == epoch] % total, total, seed, int(epoch)) for epoch in np.unique(epochs)]
    return list(zip(epochs.tolist(), np.concatenate(rows).tolist(), strict=True))


def permuted(positions: NDArray[np.int64], total: int, *key: int) -> NDArray[np.int64]:
    """Where a keyed permutation of 0 ... total - 1 sends `positions`: a Feistel network, walked until inside.

    Black and Rogaway, Ciphers with Arbitrary Finite Domains (2002), the cycle-walking cipher.
    """
    half = max(1, (max(total - 1, 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    keys = np.random.default_rng(list(key)).integers(0, 2**63, ROUNDS, dtype=np.uint64)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> np.uint64(half), values[outside] & np.uint64(low)
        for number in keys:
            left, right = right, left ^ (_mixed(right + number) & np.uint64(low))
        values[outside] = (left << np.uint64(half)) | right
        outside = values >= total
    return values.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of the input in every bit of the output (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
