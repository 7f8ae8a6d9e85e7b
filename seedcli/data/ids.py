"""Ids by row, on disk: which row an id has, without a table of strings in memory.

An id stands for itself by 63 bits of a cryptographic hash. Of ten million ids, two share them with a chance of 1 in
180,000. Letters: N ids.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.files import Closing
from seedcli.data.ragged import mapped

PART = 1 << 21  # ids sorted at a time


def fingerprint(text: str) -> int:
    """63 bits of a text's BLAKE2b, the same on every machine; never negative."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Ids(NamedTuple):
    """N ids, mapped from disk."""

    fingerprints: NDArray[np.int64]  # [N], ascending
    places: NDArray[np.int64]  # [N], the row of each

    def __len__(self) -> int:
        return len(self.fingerprints)

    def candidates(self, id_: str) -> list[int]:
        """The rows that an id may have, ascending: two ids may share a fingerprint, and an id may stand twice."""
        wanted = np.int64(fingerprint(id_))
        begin, end = (int(np.searchsorted(self.fingerprints, wanted, side)) for side in ("left", "right"))
        rows: list[int] = self.places[begin:end].tolist()
        return rows

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id, -1 for unknown ones; of an id that stands twice, the first."""
        wanted = np.array([fingerprint(id_) for id_ in ids], dtype=np.int64)
        if not len(self):
            return np.full(len(ids), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.fingerprints, wanted), len(self) - 1)
        return np.where(self.fingerprints[found] == wanted, self.places[found], -1)


def open_ids(folder: Path) -> Ids:
    """What an IdWriter left."""
    return Ids(*(np.load(folder / f"ids.{name}.npy", mmap_mode="r", allow_pickle=False) for name in Ids._fields))


class IdWriter(Closing):
    """Takes ids in the order of their rows; holds a part of their fingerprints at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.given = (folder / "ids.given").open("wb")

    def extend(self, ids: Iterable[str]) -> None:
        self.given.write(array("q", map(fingerprint, ids)).tobytes())

    def close(self) -> None:
        self.given.close()
        path = Path(self.given.name)
        given = mapped(path, np.int64)
        with ExitStack() as stack:
            files = [stack.enter_context((self.folder / f"ids.{name}.npy").open("wb")) for name in Ids._fields]
            for file in files:
                header = {"descr": given.dtype.str, "fortran_order": False, "shape": given.shape}
                np.lib.format.write_array_header_1_0(file, header)
            for values, rows in _sorted(given):
                for file, part in zip(files, (values, rows), strict=True):
                    file.write(part.tobytes())
        path.unlink()


def _sorted(given: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Fingerprints in ascending order with their rows, those of equal ones ascending too, in parts of like size."""
    parts = -(-len(given) // PART)
    for part in range(parts):
        low, high = ((number << 63) // parts for number in (part, part + 1))
        rows = np.concatenate(
            [
                begin + np.flatnonzero((some >= low) & (some <= high - 1))
                for begin in range(0, len(given), PART)
                for some in [given[begin : begin + PART]]
            ]
        )
        rows = rows[np.argsort(given[rows], kind="stable")]
        yield given[rows], rows
