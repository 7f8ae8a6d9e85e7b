"""Rows of unequal length, however they are handed over."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedcli.data import ragged
from seedcli.data.ragged import Ragged, RaggedWriter, mapped

ROWS = [[], [1, 2, 3], [], [], [65_535], [4, 5], []]


def one_by_one(writer: RaggedWriter, rows: Sequence[Any]) -> None:
    for row in rows:
        writer.append(row)


def in_parts(writer: RaggedWriter, rows: Sequence[Any]) -> None:
    writer.extend(rows[:2])
    writer.extend([])
    writer.extend(iter(rows[2:]))


def flat(writer: RaggedWriter, rows: Sequence[Any]) -> None:
    for part in (rows[:3], rows[3:4], [], rows[4:]):  # the second is one empty row
        values = np.array([value for row in part for value in row], dtype=np.int64)
        writer.extend_flat(values, [len(row) for row in part])


@pytest.mark.parametrize("hand_over", [one_by_one, in_parts, flat])
@pytest.mark.parametrize("dtype", ["uint16", "int64"])
def test_rows_come_back_however_they_were_handed_over(
    tmp_path: Path, hand_over: Callable[[RaggedWriter, Any], None], dtype: str
) -> None:
    with RaggedWriter(tmp_path, "rows", dtype) as writer:
        hand_over(writer, ROWS)
        assert writer.rows == len(ROWS)
    opened = Ragged.open(tmp_path, "rows")
    assert [row.tolist() for row in opened] == [opened[row].tolist() for row in range(len(opened))] == ROWS
    assert opened.values.dtype == dtype
    assert opened.offsets.tolist() == Ragged.of(ROWS, dtype).offsets.tolist() == [0, 0, 3, 3, 3, 4, 6, 6]


@pytest.mark.parametrize("rows", [[], [[]], [[], [], []]])
def test_a_file_without_values_opens(tmp_path: Path, rows: list[list[int]]) -> None:
    with RaggedWriter(tmp_path, "rows", "uint16") as writer:
        flat(writer, rows)
    for made in (Ragged.open(tmp_path, "rows"), Ragged.of(rows, "uint16")):
        assert [row.tolist() for row in made] == rows
        assert len(made.values) == 0


def test_an_empty_file_is_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    assert mapped(tmp_path / "none", np.int64).tolist() == []


def test_two_of_them_share_a_folder(tmp_path: Path) -> None:
    with RaggedWriter(tmp_path, "a", "int64") as first, RaggedWriter(tmp_path, "b", "uint32") as second:
        first.extend([[1, 2]])
        second.extend([[3], [4]])
        first.append([-5])
    assert [row.tolist() for row in Ragged.open(tmp_path, "a")] == [[1, 2], [-5]]
    assert [row.tolist() for row in Ragged.open(tmp_path, "b")] == [[3], [4]]


@pytest.mark.parametrize("part", [1, 2, 3, 1 << 20])
def test_empty_rows_are_counted_a_part_at_a_time(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "PART", part)
    assert Ragged.of(ROWS, np.int64).empty == 4
    assert Ragged.of([], np.int64).empty == 0
    assert Ragged.of([[1]], np.int64).empty == 0
