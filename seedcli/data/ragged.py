"""Rows of unequal length on disk: a flat array of values and one of offsets, memory-mapped."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray


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
        offsets = np.load(folder / f"{name}.offsets.npy", mmap_mode="r", allow_pickle=False)
        dtype, *_ = (folder / f"{name}.dtype").read_text().split()
        path = folder / f"{name}.values"
        values = np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)
        return cls(values, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))


class RaggedWriter:
    """Appends rows to `folder`/`name`.*; nothing but the offsets is held in memory."""

    def __init__(self, folder: Path, name: str, dtype: DTypeLike):
        self.folder, self.name, self.dtype = folder, name, np.dtype(dtype)
        self.offsets = [0]
        self.file = (folder / f"{name}.values").open("wb")

    def append(self, row: Any) -> None:
        array = np.asarray(row, dtype=self.dtype)
        self.file.write(array.tobytes())
        self.offsets.append(self.offsets[-1] + len(array))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        np.save(self.folder / f"{self.name}.offsets.npy", np.array(self.offsets, dtype=np.int64))
        (self.folder / f"{self.name}.dtype").write_text(f"{self.dtype.str}\n")
