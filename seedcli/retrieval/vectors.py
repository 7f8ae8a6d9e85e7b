"""Vectors on disk: shards of a matrix with their ids, each one safetensors file written whole.

A vector is stored as float32, as float16, or as int8 codes with a scale of its own; it is always read as float32.
Letters: N vectors of a shard, D their width, n some of them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from seedcli.base.errors import DataError
from seedcli.base.files import written_whole
from seedcli.data.ragged import Ragged, padded_bytes

Kind = Literal["float32", "float16", "int8"]
CALLED: dict[str, Kind] = {"F32": "float32", "F16": "float16", "I8": "int8"}  # by safetensors
LARGEST = 127  # int8 code
LARGEST_HALF = float(np.finfo(np.float16).max)


class Stored(NamedTuple):
    """Vectors as they lie on the disk, mapped: [n, D], and the scale of each [n] where they are codes."""

    values: NDArray[Any]
    scales: NDArray[np.float32] | None = None

    def floats(self, rows: Any = slice(None)) -> NDArray[np.float32]:
        """Some of them, as they are meant."""
        values = np.asarray(self.values[rows], np.float32)
        return values if self.scales is None else values * self.scales[rows, None]


class Names(NamedTuple):
    """The ids of a shard as they lie on the disk."""

    path: Path
    offsets: NDArray[np.int64]  # [N + 1]
    letters: NDArray[np.uint8]

    def at(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.bytes_]:
        """Those of some rows [n], or all [N], as UTF-8. Raises DataError when they are broken."""
        chosen = (slice(None, -1), slice(1, None)) if rows is None else (rows, rows + 1)
        begins, ends = (np.asarray(self.offsets[own]) for own in chosen)
        if len(begins) and ((ends < begins).any() or begins.min() < 0 or ends.max() > len(self.letters)):
            raise DataError(f"{self.path}: its ids are broken; encode anew")
        return padded_bytes(self.letters, begins, ends)


class Shard(NamedTuple):
    """A shard on the disk. What it holds is mapped when it is asked for, and let go with the arrays that came."""

    path: Path
    size: int  # N
    width: int  # D
    kind: Kind
    letters: int  # bytes of all ids together
    begins: Mapping[str, int]  # the byte of the file where each tensor begins

    @property
    def bytes(self) -> int:
        """Of the vectors."""
        return self.size * (self.width * np.dtype(self.kind).itemsize + 4 * (self.kind == "int8"))

    @property
    def id_bytes(self) -> int:
        return self.letters + 8 * (self.size + 1)

    def stored(self, begin: int = 0, end: int | None = None) -> Stored:
        """The vectors of some rows; writing to them changes no file."""
        end = self.size if end is None else end
        values = self._mapped("vectors", self.kind, begin * self.width, (end - begin) * self.width)
        scales = self._mapped("scales", "float32", begin, end - begin) if self.kind == "int8" else None
        return Stored(values.reshape(-1, self.width), scales)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """[N, D]; of float32, mapped from the disk."""
        return self.stored().floats()

    def names(self) -> "Names":
        """The ids, mapped."""
        offsets = self._mapped("id_offsets", "int64", 0, self.size + 1)
        return Names(self.path, offsets, self._mapped("id_bytes", "uint8", 0, self.letters))

    def _mapped(self, name: str, kind: str, begin: int, count: int) -> NDArray[Any]:
        if not count:
            return np.empty(0, kind)
        return np.memmap(self.path, kind, "c", self.begins[name] + begin * np.dtype(kind).itemsize, count)


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"vectors-{number:05d}.safetensors"


def write_shard(path: Path, ids: Sequence[str], vectors: NDArray[np.float32], kind: Kind = "float32") -> None:
    """Leave a shard. Raises DataError for a vector that `kind` can't hold."""
    encoded = Ragged.of((np.frombuffer(id_.encode(), dtype=np.uint8) for id_ in ids), np.uint8)
    tensors = {"id_bytes": encoded.values, "id_offsets": encoded.offsets, **_as_stored(path, vectors, kind)}
    with written_whole(path) as aside:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, aside)


def _as_stored(path: Path, vectors: NDArray[np.float32], kind: Kind) -> dict[str, NDArray[Any]]:
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    if kind != "float32" and not np.isfinite(largest).all():
        raise DataError(f"{path}: a vector holds NaN or an infinite number; look for it in the model's weights")
    if kind == "int8":
        scales = np.maximum(largest / LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
        return {"vectors": np.rint(vectors / scales[:, None]).astype(np.int8), "scales": scales}
    if kind == "float16" and largest.max(initial=0.0) > LARGEST_HALF:
        raise DataError(f"{path}: a vector holds {largest.max():.0f}, too large for float16; store float32 or int8")
    return {"vectors": vectors.astype(kind, copy=False)}


def open_shards(folder: Path) -> list[Shard]:
    """The shards of a folder in order. Raises DataError when there are none, one is broken, or they differ in kind."""
    shards = [_open(path) for path in sorted(folder.glob("vectors-*.safetensors"))]
    if not shards:
        raise DataError(f"{folder}: no vectors in it")
    if len({(shard.width, shard.kind) for shard in shards}) > 1:
        raise DataError(f"{folder}: its shards hold vectors of different widths or kinds")
    return shards


def names_of(shards: Sequence[Shard]) -> Names:
    """The ids of all shards, one after the other, in memory."""
    parts = [shard.names() for shard in shards]
    firsts = np.cumsum([0, *(len(part.letters) for part in parts)])
    offsets = [np.asarray(part.offsets[:-1]) + first for part, first in zip(parts, firsts, strict=False)]
    letters = np.concatenate([np.asarray(part.letters) for part in parts])
    return Names(shards[0].path.parent, np.append(np.concatenate(offsets), firsts[-1]), letters)


def ids_of(shards: Sequence[Shard]) -> Callable[[NDArray[np.int64]], NDArray[np.bytes_]]:
    """What gives the ids of rows of any shape, quickly: from memory, in which ids of like length lie side by side."""
    names = names_of(shards)
    longest = int(np.diff(names.offsets).max(initial=0))
    if longest * len(names.offsets) <= names.offsets.nbytes + len(names.letters):
        return names.at().__getitem__
    return lambda rows: names.at(rows.ravel()).reshape(rows.shape)


def read_ids(shards: Sequence[Shard]) -> Iterator[str]:
    for shard in shards:
        yield from (id_.decode() for id_ in shard.names().at().tolist())


def _open(path: Path) -> Shard:
    try:
        with safe_open(path, framework="np") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            told = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path}: not a shard of vectors ({error})") from None
    kind, shape = told.get("vectors", ("nothing", []))
    expected = {"id_offsets": ("I64", [shape[0] + 1 if shape else 0])}
    expected |= {"scales": ("F32", shape[:1])} if kind == "I8" else {}
    letters, count = told.get("id_bytes", ("", [0, 0]))
    fits = all(told.get(name) == part for name, part in expected.items()) and letters == "U8" and len(count) == 1
    if kind not in CALLED or len(shape) != 2 or not fits:
        raise DataError(f"{path}: not a shard of vectors: {kind} of shape {shape} with {told.get('id_offsets')} ids")
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    begins = {name: 8 + size + header[name]["data_offsets"][0] for name in told}
    return Shard(path, shape[0], shape[1], CALLED[kind], count[0], begins)
