"""Ids by row, on disk: which row an id has, without a table of strings in memory.

An id stands for itself by 63 bits of a cryptographic hash. Of ten million ids, two share them with a chance of 1 in
180,000. Letters: N ids.
"""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def fingerprint(text: str) -> int:
    """63 bits of a text's BLAKE2b, the same on every machine; never negative."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Ids(NamedTuple):
    """N ids, mapped from disk."""

    fingerprints: NDArray[np.int64]  # [N], ascending
    places: NDArray[np.int64]  # [N], the row of each

    def __len__(self) -> int:
        return len(self.fingerprints)

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


class IdWriter:
    """Takes ids in the order of their rows; holds eight bytes of each until it is closed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.fingerprints = array("q")

    def extend(self, ids: Iterable[str]) -> None:
        self.fingerprints.extend(map(fingerprint, ids))

    def close(self) -> None:
        given = np.array(self.fingerprints, dtype=np.int64)
        order = np.argsort(given, kind="stable")
        for name, values in zip(Ids._fields, (given[order], order), strict=True):
            np.save(self.folder / f"ids.{name}.npy", values)
