"""Rows of unequal length on disk: a flat array of values and one of offsets, memory-mapped."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from seedcli.base.files import Closing

PART = 1 << 20  # offsets looked at at a time
PIECES = 1 << 14  # copied at a time


class Ragged:
    """N rows; row i is values[offsets[i] : offsets[i + 1]]."""

    def __init__(self, values: NDArray[Any], offsets: NDArray[np.int64]):
        self.values = values
        self.offsets = offsets

    @classmethod
    def of(cls, rows: Iterable[Any], dtype: DTypeLike) -> "Ragged":
        """Rows held in memory."""
        values, offsets = bytearray(), [0]
        for row in rows:
            array = np.asarray(row, dtype=dtype)
            values += array.tobytes()
            offsets.append(offsets[-1] + len(array))
        return cls(np.frombuffer(values, dtype=dtype), np.array(offsets, dtype=np.int64))

    @classmethod
    def open(cls, folder: Path, name: str) -> "Ragged":
        """Rows that a RaggedWriter left."""
        dtype, *_ = (folder / f"{name}.dtype").read_text().split()
        return cls(mapped(folder / f"{name}.values", dtype), mapped(folder / f"{name}.offsets", np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def empty(self) -> int:
        """How many rows hold nothing; counted a part at a time."""
        begins = range(0, len(self), PART)
        return sum(int((np.diff(self.offsets[begin : begin + PART + 1]) == 0).sum()) for begin in begins)

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def after(self, row: int) -> "Ragged":
        """The rows from `row` on."""
        begin = self.offsets[row]
        return Ragged(self.values[begin:], self.offsets[row:] - begin)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))


class RaggedWriter(Closing):
    """Appends rows to `folder`/`name`.*, and holds none of them."""

    def __init__(self, folder: Path, name: str, dtype: DTypeLike):
        self.dtype = np.dtype(dtype)
        self.end = self.rows = 0
        (folder / f"{name}.dtype").write_text(f"{self.dtype.str}\n")
        self.values, self.offsets = ((folder / f"{name}.{part}").open("wb") for part in ("values", "offsets"))
        self.offsets.write(np.int64(0).tobytes())

    def append(self, row: Any) -> None:
        self.extend([row])

    def extend(self, rows: Iterable[Any]) -> None:
        arrays = [np.asarray(row, dtype=self.dtype) for row in rows]
        if arrays:
            self.extend_flat(np.concatenate(arrays), [len(row) for row in arrays])

    def extend_flat(self, values: NDArray[Any], counts: ArrayLike) -> None:
        """Rows that stand one after the other, so many values each."""
        ends = self.end + np.cumsum(counts, dtype=np.int64)
        self.values.write(values.astype(self.dtype, copy=False).tobytes())
        self.offsets.write(ends.tobytes())
        self.end, self.rows = self.end + len(values), self.rows + len(ends)

    def close(self) -> None:
        self.values.close()
        self.offsets.close()


def mapped(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    """The bare numbers of a file, memory-mapped; an empty file can't be."""
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)


def padded_bytes(letters: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """Pieces of `letters` as an array of byte strings [n], as wide as the longest."""
    width = max(1, int((ends - begins).max(initial=0)))
    padded = np.zeros((len(begins), width), np.uint8)
    for begin in range(0, len(begins), PIECES):
        some = slice(begin, begin + PIECES)
        within = np.arange(width) < (ends[some] - begins[some])[:, None]
        padded[some][within] = letters[(begins[some, None] + np.arange(width))[within]]
    return padded.view(f"S{width}")[:, 0]
