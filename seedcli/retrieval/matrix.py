"""The vectors of all shards as one matrix on a device, read in blocks; kept in memory where that has been granted.

Where there is room for more, and a processor that multiplies bfloat16, rough copies are kept beside them.

Letters: N vectors, D their width, n of a block, P pairs of a query and a vector.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.machine import memory as machine_memory
from seedcli.base.machine import multiplies_bfloat16, resident, size
from seedcli.retrieval.rough import Copies
from seedcli.retrieval.vectors import Names, Shard, Stored

FLOATS = {"cpu": 1 << 23, "cuda": 1 << 26}  # of a block of vectors, and of scores, at most
LEAST = 1 << 19
HELD = 24  # bytes for each of these: both, vectors that are converted, and pairs that are scored slowly
STEP, TALLEST = 1 << 6, 1 << 16  # vectors of a block: a multiple, and at most
MOST, PASS = 1 << 9, 1 << 12  # queries whose scores of a block are held together, and of one pass over all, at most
CANDIDATE, PAIR = 14, 1 << 4  # bytes of a candidate; floats that a pair has the room of
WORTH, MANY = 32, 64  # vectors a candidate, and queries of all searches, from which on rough copies save time
LARGE = 1e30  # a query's number from which on products may overflow
ROUGH, SAMPLE = 2, 1_000  # bytes of a number in a rough copy; vectors whose mean is their centre


class Place(NamedTuple):
    """A block: vectors `begin` to `end` of a shard, the first of which is row `row` of the matrix."""

    shard: Shard
    begin: int
    end: int
    row: int

    @property
    def size(self) -> int:
        return self.end - self.begin


class Matrix:
    """Blocks of the shards' vectors on a device, `floats` at a time; `keep`: those that were read stay in memory.

    `rough`: copies of them may stay there, too. Of several processes one may have no shard: `width` is that of the
    others' then, so that all work in equal batches. `unit`: vectors count as if they had length 1. `mapped`: files stay
    mapped, for rows that are read time and again.
    """

    def __init__(
        self, shards: Sequence[Shard], device: torch.device, floats: int = FLOATS["cpu"], keep: bool = False,
        rough: bool = False, width: int | None = None, unit: bool = False, mapped: bool = False,
    ):  # fmt: skip
        self.shards, self.device, self.floats, self.keep, self.rough = shards, device, floats, keep, rough
        self.unit, self.mapped = unit, mapped
        self.width = width or (shards[0].width if shards else 1)
        self.size = sum(shard.size for shard in shards)
        self.block = min(TALLEST, max(STEP, floats // self.width // STEP * STEP))
        firsts = accumulate((shard.size for shard in shards), initial=0)
        self.places = [
            Place(shard, begin, min(begin + self.block, shard.size), first + begin)
            for shard, first in zip(shards, firsts, strict=False)
            for begin in range(0, shard.size, self.block)
        ]
        self.ends = np.array([place.row + place.size for place in self.places], np.int64)
        self._kept: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._names: dict[Path, Names] = {}  # of shards whose vectors are kept
        self._maps: dict[int, Stored] = {}
        self._longest = [-1.0] * len(self.places)  # norms, once they are known
        self._room = torch.empty(0)
        self.asked = 0  # queries, of all searches

    def goes_rough(self, queries: Tensor, candidates: int) -> bool:
        """Whether a search for queries [Q, D] is better over rough copies, which only many queries are worth making."""
        self.asked += len(queries)
        return (
            self.rough and self.asked >= MANY and self.size > WORTH * candidates and bool(queries.abs().max() < LARGE)
        )

    def drop_copies(self) -> None:
        """Make no more rough copies."""
        self.rough = False
        del self.copies

    @property
    def pairs(self) -> int:
        """Pairs of a query and a vector that there is room for at a time."""
        return self.floats // PAIR

    def queries_a_block(self, candidates: int) -> int:
        """Queries, of so many candidates each, whose scores of a block are held together."""
        return max(1, min(MOST, self.floats // self.block, self.pairs // candidates))

    def queries_a_pass(self, candidates: int) -> int:
        """Queries for which all vectors are read once; a multiple of those of a block."""
        several = self.queries_a_block(candidates)
        return max(1, min(PASS, 8 * self.floats // (CANDIDATE * candidates)) // several) * several

    def room(self, queries: int, kind: torch.dtype = torch.float32) -> Tensor:
        """Place for scores of so many queries: all, or `floats` of them, but those of a block at least."""
        count = min(max(self.floats, queries * self.block), queries * self.size)
        return torch.empty(count, dtype=kind, device=self.device)

    @property
    def longest(self) -> float:
        """The norm of the longest vector that was read, as float32 has it."""
        return max(self._longest, default=0.0)

    def blocks(self) -> Iterator[tuple[Place, Tensor]]:
        """All vectors as float32, a block [n, D] at a time; each is overwritten by the next.

        Raises DataError for a vector that holds no numbers.
        """
        for number, place in enumerate(self.places):
            yield place, self._checked(number)

    def rough_blocks(self) -> Iterator[tuple[Place, Tensor]]:
        """The rough copies of all vectors, a block [n, D] at a time, which stay in memory.

        Raises DataError for a vector that holds no numbers.
        """
        for number, place in enumerate(self.places):
            yield place, self.copies.of(number, partial(self._checked, number))

    @cached_property
    def copies(self) -> Copies:
        rows = np.unique(np.linspace(0, self.size - 1, min(SAMPLE, self.size)).astype(np.int64))
        parts = [part.double().sum(0) for _, part in self.vectors(rows, SAMPLE)]
        return Copies((torch.stack(parts).sum(0) / len(rows)).float())

    def vectors(self, rows: NDArray[np.int64], most: int) -> Iterator[tuple[slice, Tensor]]:
        """The vectors of ascending rows as float32, at most so many at a time [n, D], and which of the rows' they are.

        Of each block that holds some, these alone are read.
        """
        begin, waiting = 0, list[Tensor]()
        for number, first, last in self._parted(rows):
            floats_of = self._reader(number)
            for start in range(first, last, most):
                end = min(start + most, last)
                if end - begin > most:
                    yield slice(begin, start), torch.cat(waiting)
                    begin, waiting = start, []
                waiting.append(floats_of(rows[start:end] - self.places[number].row))
        if waiting:
            yield slice(begin, len(rows)), torch.cat(waiting)

    def ids(self, rows: NDArray[np.int64]) -> NDArray[np.bytes_]:
        """The ids of ascending rows."""
        parts = [np.empty(0, "S1")]
        for number, begin, end in self._parted(rows):
            place = self.places[number]
            names = self._names.get(place.shard.path) or place.shard.names()
            if self.keep or self.mapped:
                self._names[place.shard.path] = names
            parts.append(names.at(rows[begin:end] - place.row + place.begin))
        return np.concatenate(parts)

    def _parted(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
        """Ascending rows by the number of their block: where those of each begin and end."""
        begin = 0
        for number in np.unique(np.searchsorted(self.ends, rows, "right")).tolist():
            end = int(np.searchsorted(rows, self.ends[number]))
            yield number, begin, end
            begin = end

    def _checked(self, number: int) -> Tensor:
        """A block as float32, of which the norm of the longest vector is known."""
        values = self._floats(number)
        if self._longest[number] < 0:
            longest = float(torch.linalg.vector_norm(values, dim=1).max())
            if not np.isfinite(longest):
                path = self.places[number].shard.path
                raise DataError(f"{path}: a vector holds NaN or numbers too large; encode anew")
            self._longest[number] = longest
        return values

    def _floats(self, number: int) -> Tensor:
        """A block as float32, in a place that it shares with others unless it is stored so."""
        return self._of_length(self._as_stored(number))

    def _as_stored(self, number: int) -> Tensor:
        values, scales = self._block(number)
        if values.dtype == torch.float32:
            return values
        if self._room.numel() < values.numel():
            self._room = torch.empty(self.block * self.width, device=self.device)
        floats = self._room[: values.numel()].view(values.shape)
        return floats.copy_(values) if scales is None else torch.mul(values, scales[:, None], out=floats)

    def _reader(self, number: int) -> Callable[[NDArray[np.int64]], Tensor]:
        """What reads some rows of a block as float32, from the device if it is kept there."""
        place = self.places[number]
        if number not in self._kept:
            stored = self._maps.get(number) or place.shard.stored(place.begin, place.end)
            if self.mapped:
                self._maps[number] = stored
            return lambda rows: self._of_length(torch.from_numpy(stored.floats(rows)).to(self.device))
        values, scales = self._kept[number]

        def read(rows: NDArray[np.int64]) -> Tensor:
            own = torch.from_numpy(rows).to(self.device)
            floats = values[own].float()
            return self._of_length(floats if scales is None else floats.mul_(scales[own, None]))

        return read

    def _of_length(self, vectors: Tensor) -> Tensor:
        return unit_rows(vectors) if self.unit else vectors

    def _block(self, number: int) -> tuple[Tensor, Tensor | None]:
        """A block as it is stored, on the device."""
        if number in self._kept:
            return self._kept[number]
        place = self.places[number]
        values, scales = _on_device(place.shard.stored(place.begin, place.end), self.device)
        if self.keep:
            if values.device.type == "cpu":
                values = values.clone()  # out of the file's mapping: its small pages are read a quarter slower
            self._kept[number] = values, scales
        return values, scales


def unit_rows(vectors: Tensor) -> Tensor:
    """Vectors [n, D] brought to length 1; one of zeros stays one."""
    lengths = vectors.double().square().sum(1, keepdim=True).sqrt()
    return vectors / torch.where(lengths > 0, lengths, 1.0).float()


def _on_device(stored: Stored, device: torch.device) -> tuple[Tensor, Tensor | None]:
    scales = None if stored.scales is None else torch.from_numpy(stored.scales).to(device)
    return torch.from_numpy(stored.values).to(device), scales


class Room(NamedTuple):
    """What a matrix may hold: `floats` at a time, and whether it keeps all vectors, and rough copies of them."""

    floats: int
    keep: bool
    rough: bool


def room_for(shards: Sequence[Shard], device: torch.device, memory: int | None = None, processes: int = 1) -> Room:
    """What fits into `memory` bytes of this process, what it holds now included; left out: half of what is free.

    The shards are shared by the processes. Raises ConfigError when it is too little to search with.
    """
    used = resident()
    granted = machine_memory()[1] // 2 // processes if memory is None else memory - used
    floats = FLOATS[device.type]
    while floats > LEAST and HELD * floats > granted:
        floats //= 2
    if HELD * floats > granted and memory is not None:
        raise ConfigError(f"--memory {size(memory)}: too little; give {size(1.1 * (used + HELD * LEAST))} or more")
    room = granted - HELD * floats
    if device.type == "cuda":
        room = int(0.8 * torch.cuda.mem_get_info(device)[0]) - HELD * floats
    shares = [shards[rank::processes] for rank in range(processes)]
    kept = max(sum(shard.bytes + shard.id_bytes for shard in share) for share in shares)
    copies = max(sum(shard.size * shard.width * ROUGH for shard in share) for share in shares)
    rough = device.type == "cpu" and multiplies_bfloat16() and kept + copies <= room
    return Room(floats, kept <= room, rough)


def open_matrix(shards: Sequence[Shard], device: torch.device) -> Matrix:
    """The vectors of all shards, with the room that there is by default."""
    return Matrix(shards, device, *room_for(shards, device))
