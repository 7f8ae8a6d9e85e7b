"""Blocks set aside: evenly, never all the others too, and none of them ever drawn."""

import numpy as np
import pytest

from seedcli.data.batches import PretrainingBatches
from seedcli.data.heldout import Rest, spread, taken
from seedcli.data.masking import Masking
from seedcli.data.ragged import Ragged


def test_a_choice_is_the_middle_of_equal_parts() -> None:
    assert spread(10, 2).tolist() == [2, 7]
    assert spread(9, 3).tolist() == [1, 4, 7]
    assert spread(7, 4).tolist() == [0, 2, 4, 6]
    assert spread(3, 5).tolist() == [0, 1, 2]
    assert spread(5, 0).tolist() == spread(0, 5).tolist() == []


@pytest.mark.parametrize(("total", "count"), [(40_000_003, 400_001), (1000, 999), (1000, 333)])
def test_a_choice_is_distinct_and_evenly_far_apart(total: int, count: int) -> None:
    apart = np.diff(spread(total, count))
    assert set(apart.tolist()) <= {total // count, -(-total // count)}
    assert apart.min() >= 1


@pytest.mark.parametrize("aside", [[], [0], [19], [3, 4, 5], [0, 1, 18, 19], [*range(0, 20, 2)]])
def test_the_rest_is_all_others_in_their_order(aside: list[int]) -> None:
    rows = Ragged.of([[row] * (row + 1) for row in range(20)], np.uint16)
    rest = Rest(rows, np.array(aside, dtype=np.int64))
    assert [int(rest[row][0]) for row in range(len(rest))] == [row for row in range(20) if row not in aside]
    assert [len(row) for row in taken(rows, np.array(aside, dtype=np.int64))] == [row + 1 for row in aside]


def test_no_block_set_aside_is_ever_drawn() -> None:
    blocks = Ragged.of([[2, 5 + row, 3] for row in range(50)], np.uint16)
    aside = spread(50, 7)
    masking = Masking(mask=4, special=np.arange(5), vocabulary=60)
    batches = PretrainingBatches(Rest(blocks, aside), masking, 0, size=6, micro=4, seed=3)
    drawn = [
        int(tokens[1]) - 5 for step in range(30) for batch in batches(step, 0, 1) for tokens in batch.original.tokens
    ]
    assert len(drawn) == 180  # more than four epochs
    assert {*drawn} == {*range(50)} - {*aside.tolist()}
