"""Pairs of numbers on disk, each once: which seconds a first has. Any number of them pass, a part held at a time.

Letters: K pairs.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seedcli.data.ragged import mapped

PARTS = 64  # by the first's highest bits, so that parts in their order are in order
SHIFT = 57  # of 63 bits


class Pairs(NamedTuple):
    """K pairs in ascending order, mapped from disk."""

    firsts: NDArray[np.int64]  # [K]
    seconds: NDArray[np.int64]  # [K]

    def of(self, first: int) -> NDArray[np.int64]:
        """The seconds of a first, ascending."""
        begin, end = np.searchsorted(self.firsts, first), np.searchsorted(self.firsts, first, side="right")
        return self.seconds[begin:end]


def open_pairs(folder: Path) -> Pairs:
    """What a PairWriter left."""
    return Pairs(*(mapped(folder / f"pairs.{name}", np.int64) for name in Pairs._fields))


class PairWriter:
    """Takes pairs of fingerprints in any order, repeated ones too."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.parts = [(folder / f"pairs.part-{number}").open("wb+") for number in range(PARTS)]

    def extend(self, firsts: ArrayLike, seconds: ArrayLike) -> None:
        pairs = np.stack([np.asarray(firsts, np.int64), np.asarray(seconds, np.int64)], axis=1)
        parts = pairs[:, 0] >> SHIFT
        for part in np.unique(parts).tolist():
            self.parts[part].write(pairs[parts == part].tobytes())

    def close(self) -> None:
        with (self.folder / "pairs.firsts").open("wb") as firsts, (self.folder / "pairs.seconds").open("wb") as seconds:
            for part in self.parts:
                part.seek(0)
                written = np.frombuffer(part.read(), np.int64).reshape(-1, 2)
                pairs = pairs_of(written[:, 0], written[:, 1])
                firsts.write(pairs.firsts.tobytes())
                seconds.write(pairs.seconds.tobytes())
                part.close()
                Path(part.name).unlink()


def pairs_of(firsts: NDArray[np.int64], seconds: NDArray[np.int64]) -> Pairs:
    """Pairs held in memory."""
    order = np.lexsort((seconds, firsts))  # twice as quick as np.unique(axis=0)
    firsts, seconds = firsts[order], seconds[order]
    new = np.append(True, (firsts[1:] != firsts[:-1]) | (seconds[1:] != seconds[:-1]))[: len(firsts)]
    return Pairs(firsts[new], seconds[new])
