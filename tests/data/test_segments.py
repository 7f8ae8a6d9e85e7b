"""Segments by pencil and against plain loops."""

from typing import Any

import numpy as np
import pytest
import torch

from seedcli.data.segments import (
    WHOLE,
    Segmentation,
    cut_rows,
    grouped_passages,
    lengths_of,
    own_counts,
    segment_counts,
    segments_of,
    vector_counts,
)

CLS, SEP = 2, 3


def row(words: int, cut: Segmentation | None = None) -> Any:
    """[CLS] 10 11 12 ... [SEP], cut to what all segments of `cut` need."""
    ids = [CLS, *range(10, 10 + words), SEP]
    return np.array(ids if cut is None else [*ids[:-1][: cut.longest - 1], SEP], dtype=np.uint16)


def texts(words: int, cut: Segmentation) -> list[list[int]]:
    return [part.tolist() for part in segments_of(row(words, cut), cut)]


def test_segments_stand_between_special_tokens() -> None:
    cut = Segmentation(segments=3, length=6, before=1, after=1)
    assert cut.longest == 14  # 3 times 4 words, [CLS] and [SEP]
    assert texts(4, cut) == [[2, 10, 11, 12, 13, 3]]
    assert texts(5, cut) == [[2, 10, 11, 12, 13, 3], [2, 14, 3]]
    assert texts(9, cut) == [[2, 10, 11, 12, 13, 3], [2, 14, 15, 16, 17, 3], [2, 18, 3]]
    assert texts(99, cut) == [[2, 10, 11, 12, 13, 3], [2, 14, 15, 16, 17, 3], [2, 18, 19, 20, 21, 3]]


def test_neighbours_share_the_overlap_and_the_last_has_a_word_of_its_own() -> None:
    cut = Segmentation(segments=3, length=6, overlap=3, before=1, after=1)
    assert cut.longest == 8
    assert texts(1, cut) == [[2, 10, 3]]
    assert texts(4, cut) == [[2, 10, 11, 12, 13, 3]]
    assert texts(5, cut) == [[2, 10, 11, 12, 13, 3], [2, 11, 12, 13, 14, 3]]
    wide = Segmentation(segments=4, length=7, overlap=2, before=1, after=1)
    assert texts(6, wide) == [[2, 10, 11, 12, 13, 14, 3], [2, 13, 14, 15, 3]]
    assert texts(8, wide) == [[2, 10, 11, 12, 13, 14, 3], [2, 13, 14, 15, 16, 17, 3]]


def test_one_segment_is_the_row_itself() -> None:
    rows = [row(3), row(90)]
    assert cut_rows(rows, WHOLE) is rows
    assert segments_of(rows[1], Segmentation(length=7, before=1, after=1))[0] is rows[1]
    assert Segmentation(length=7, before=1, after=1).longest == 7


def test_tokens_without_a_frame_are_cut_too() -> None:
    cut = Segmentation(segments=2, length=3, overlap=1)
    assert [part.tolist() for part in segments_of(np.arange(5), cut)] == [[0, 1, 2], [2, 3, 4]]


@pytest.mark.parametrize("overlap", [0, 1, 3])
@pytest.mark.parametrize("vectors", [1, 2, 5])
def test_counts_are_those_of_the_segments(overlap: int, vectors: int) -> None:
    cut = Segmentation(4, 7, overlap, 1, 1, vectors)
    rows = [row(words, cut) for words in range(30)]
    parts = [segments_of(each, cut) for each in rows]
    assert segment_counts(lengths_of(rows), cut).tolist() == [len(part) for part in parts]
    slow = [sum(min(len(piece), vectors) for piece in part) for part in parts]
    assert vector_counts(lengths_of(rows), cut).tolist() == slow
    assert max(len(part) for part in parts) == 4
    assert own_counts(cut_rows(rows, cut), cut).tolist() == [min(len(p), vectors) for part in parts for p in part]
    alone = cut._replace(segments=1)
    assert vector_counts(lengths_of(rows), alone).tolist() == [min(len(each), vectors) for each in rows]


def marked(group: Any, most: int) -> Any:
    """A stand-in for an encoder: the vector of a token is its id and the first id after [CLS] of its text."""
    tokens = group.tokens[:, :most]
    return torch.stack([tokens, group.tokens[:, 1:2].expand_as(tokens)], -1).flatten(0, 1)


@pytest.mark.parametrize(("vectors", "overlap"), [(1, 0), (1, 2), (3, 0), (3, 1)])
@pytest.mark.parametrize("budget", [1, 15, 1_000])
def test_grouped_passages_find_their_vectors_again(vectors: int, overlap: int, budget: int) -> None:
    cut = Segmentation(3, 7, overlap, 1, 1, vectors)
    rows = [row(words, cut) for words in (1, 30, 5, 6, 2, 13, 0)]
    width = int(vector_counts(lengths_of(rows), cut).max()) + 1  # another rank has a longer one
    groups = grouped_passages(rows, cut, width, 0, budget)
    found = torch.cat([marked(part, vectors) for part in groups.parts])[groups.places]
    assert groups.real is not None
    assert found.shape == (7, width, 2)
    for each, vectors_of, real in zip(rows, found, groups.real, strict=True):
        slow = [[int(id_), int(part[1])] for part in segments_of(each, cut) for id_ in part[:vectors]]
        assert vectors_of[real].tolist() == slow
        assert real.tolist() == [place < len(slow) for place in range(width)]


def test_plain_passages_are_grouped_as_texts_are() -> None:
    groups = grouped_passages([row(words) for words in (4, 2, 9)], WHOLE, 1, 0, 20)
    assert groups.real is None
    found = torch.cat([marked(part, 1) for part in groups.parts])[groups.places]
    assert found.shape == (3, 1, 2)
    assert groups.tokens == 4 + 2 + 9 + 6
