"""Pairs on disk are what a dict of sets holds."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seedcli.data.pairs import Pairs, PairWriter, open_pairs, pairs_of

TOP = (1 << 63) - 1
Columns = tuple[NDArray[np.int64], NDArray[np.int64]]


def written(folder: Path, firsts: Any, seconds: Any, size: int) -> Pairs:
    """The pairs, handed over `size` at a time."""
    writer = PairWriter(folder)
    for begin in range(0, len(firsts), size):
        writer.extend(firsts[begin : begin + size], seconds[begin : begin + size])
    writer.close()
    return open_pairs(folder)


@pytest.fixture(scope="module")
def drawn() -> Columns:
    """9,000 pairs of numbers from all 63 bits, a third of them drawn again, with the ends of the range among them."""
    rng = np.random.default_rng(0)
    firsts = rng.choice([0, 1, TOP - 1, TOP, *rng.integers(0, TOP, 500, endpoint=True)], 6_000)
    seconds = rng.choice([0, TOP, *rng.integers(0, TOP, 300, endpoint=True)], 6_000)
    again = rng.integers(0, 6_000, 3_000)
    return np.concatenate([firsts, firsts[again]]), np.concatenate([seconds, seconds[again]])


@pytest.mark.parametrize("size", [1, 700, 10_000])
def test_pairs_are_a_dict_of_sets(drawn: Columns, tmp_path: Path, size: int) -> None:
    firsts, seconds = (column[:800] if size == 1 else column for column in drawn)
    expected: defaultdict[int, set[int]] = defaultdict(set)
    for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True):
        expected[first].add(second)
    for pairs in (written(tmp_path, firsts, seconds, size), pairs_of(firsts, seconds)):
        assert {first: pairs.of(first).tolist() for first in expected} == {
            first: sorted(found) for first, found in expected.items()
        }
        assert len(pairs.firsts) == len(pairs.seconds) == sum(map(len, expected.values()))


def test_pairs_on_disk_are_those_in_memory_in_the_same_order(drawn: Columns, tmp_path: Path) -> None:
    disk, memory = written(tmp_path, *drawn, 1_000), pairs_of(*drawn)
    assert np.array_equal(disk.firsts, memory.firsts)
    assert np.array_equal(disk.seconds, memory.seconds)
    assert (np.diff(disk.firsts) >= 0).all()


def test_a_pair_that_stands_twice_counts_once(tmp_path: Path) -> None:
    pairs = written(tmp_path, [TOP, 3, TOP, 3, 3], [TOP, 9, TOP, 8, 9], 2)
    assert list(zip(pairs.firsts.tolist(), pairs.seconds.tolist(), strict=True)) == [(3, 8), (3, 9), (TOP, TOP)]


def test_a_first_that_is_not_there_has_no_seconds(drawn: Columns, tmp_path: Path) -> None:
    pairs, there = written(tmp_path, *drawn, 1_000), set(drawn[0].tolist())
    for first in [2, 1 << 40, TOP // 2, TOP - 2, -1]:
        assert first not in there
        assert pairs.of(first).tolist() == []


def test_no_pairs_are_pairs(tmp_path: Path) -> None:
    none = np.empty(0, np.int64)
    for pairs in (written(tmp_path, [], [], 1), pairs_of(none, none)):
        assert pairs.of(0).tolist() == []
        assert pairs.of(TOP).tolist() == []


def test_the_two_columns_are_all_that_stays(drawn: Columns, tmp_path: Path) -> None:
    written(tmp_path, *drawn, 1_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.firsts", "pairs.seconds"]
