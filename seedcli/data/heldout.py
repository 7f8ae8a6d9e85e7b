"""Blocks set aside to be watched, spread evenly over the text, and the rest as if there were no others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedcli.data.ragged import Ragged


def spread(total: int, count: int) -> NDArray[np.int64]:
    """At most `count` of the rows 0 ... total - 1, ascending: the middle of each of as many equal parts."""
    count = min(total, count)
    return (2 * np.arange(count, dtype=np.int64) + 1) * total // (2 * count)


def taken(rows: Ragged, chosen: NDArray[np.int64]) -> Ragged:
    """Some of the rows, in memory."""
    return Ragged.of((rows[row] for row in chosen), rows.values.dtype)


class Rest:
    """The rows of a Ragged but for those set aside (ascending), numbered anew."""

    def __init__(self, rows: Ragged, aside: NDArray[np.int64]):
        self.rows = rows
        self.before = aside - np.arange(len(aside))  # rows of the rest that come before each

    def __len__(self) -> int:
        return len(self.rows) - len(self.before)

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.rows[row + int(np.searchsorted(self.before, row, side="right"))]
