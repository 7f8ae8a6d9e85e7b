"""Segments: the tokens of a passage in parts that are read each as a text of its own (MaxP, Dai and Callan 2019).

Letters: N passages, S segments of all of them, m vectors of a passage at most.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedcli.data.batches import Groups, grouped

Rows = Sequence[NDArray[Any]]  # of token ids
Counts = NDArray[np.int64]


class Segmentation(NamedTuple):
    """How a passage is read: in segments, and of each segment the vectors of its first tokens."""

    segments: int = 1  # at most
    length: int = 0  # tokens of a segment, special ones included
    overlap: int = 0  # tokens that neighbours share, special ones aside
    before: int = 0  # special tokens at the beginning of each segment
    after: int = 0  # and at its end
    vectors: int = 1  # of a segment, at most

    @property
    def stride(self) -> int:
        """Tokens from the beginning of a segment to that of the next."""
        return self.length - self.before - self.after - self.overlap

    @property
    def longest(self) -> int:
        """Tokens of a passage that has all segments, each token counted once."""
        return self.length + (self.segments - 1) * self.stride


WHOLE = Segmentation()


def segments_of(row: NDArray[Any], cut: Segmentation) -> list[NDArray[Any]]:
    """The segments of a passage, each between special tokens; the last may be short, but holds a token of its own."""
    if cut.segments == 1 or len(row) <= cut.length:
        return [row]
    begin, end = cut.before, len(row) - cut.after
    starts = range(begin, end - cut.overlap, cut.stride)
    words = (row[start : min(start + cut.stride + cut.overlap, end)] for start in starts)
    return [np.concatenate([row[:begin], part, row[end:]]) for part in words]


def cut_rows(rows: Rows, cut: Segmentation) -> Rows:
    """The segments of all passages, one passage's after the other's [S]."""
    return rows if cut.segments == 1 else [part for row in rows for part in segments_of(row, cut)]


def segment_counts(lengths: Counts, cut: Segmentation) -> Counts:
    """How many segments passages of so many tokens have, [N] -> [N]."""
    if cut.segments == 1:
        return np.ones_like(lengths)
    return 1 + np.maximum(0, -(-(lengths - cut.length) // cut.stride))


def vector_counts(lengths: Counts, cut: Segmentation) -> Counts:
    """How many vectors passages of so many tokens have, [N] -> [N]."""
    full = segment_counts(lengths, cut) - 1
    counts: Counts = full * cut.vectors + np.clip(lengths - full * cut.stride, 1, cut.vectors)
    return counts


def own_counts(parts: Rows, cut: Segmentation) -> Counts:
    """How many vectors each segment has [S]: no more than tokens."""
    return np.clip(lengths_of(parts), 1, cut.vectors)


def lengths_of(rows: Rows) -> Counts:
    return np.array([len(row) for row in rows], dtype=np.int64)


def places_of(starts: Counts, sizes: Counts, counts: Counts, width: int) -> tuple[Tensor, Tensor | None]:
    """Where the vectors of each passage stand, and which are real, [S], [S], [N] -> [N, m], [N, m]; None: all are.

    Those of a segment stand from its `starts` on, `sizes` of them; a passage has `counts`, and `width` is m.
    """
    real = np.arange(width) < counts[:, None]
    places = np.zeros(real.shape, dtype=np.int64)
    places[real] = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    return torch.from_numpy(places), torch.from_numpy(real) if width > 1 else None


def grouped_passages(
    rows: Rows, cut: Segmentation, width: int, pad: int, budget: int, most: int | None = None
) -> Groups:
    """Passages as `grouped` has texts, their segments in groups of like length; `width` is m of the whole batch."""
    parts = cut_rows(rows, cut)
    groups = grouped(parts, pad, budget, most)
    each = [min(cut.vectors, group.tokens.shape[1]) for group in groups.parts]  # vectors of a text, padding's too
    every = np.repeat(np.array(each, dtype=np.int64), [len(group.tokens) for group in groups.parts])
    starts = (np.cumsum(every) - every)[groups.places.numpy()]
    counts = vector_counts(lengths_of(rows), cut)
    return Groups(groups.parts, *places_of(starts, own_counts(parts, cut), counts, width))
