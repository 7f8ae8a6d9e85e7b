"""Vectors on disk: shards of a matrix with their ids, each one safetensors file written whole.

Letters: N vectors of a shard, D their width.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from seedcli.base.errors import DataError
from seedcli.base.files import written_whole
from seedcli.data.ragged import Ragged


class Shard(NamedTuple):
    """An open shard: the vectors stay on disk, mapped, until they are asked for."""

    path: Path
    vectors: NDArray[np.float32]  # [N, D]

    @property
    def size(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        return int(self.vectors.shape[1])

    def ids(self) -> list[str]:
        with safe_open(self.path, framework="np") as file:
            ids = Ragged(file.get_tensor("id_bytes"), file.get_tensor("id_offsets"))
        return [id_.tobytes().decode() for id_ in ids]


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"vectors-{number:05d}.safetensors"


def write_shard(path: Path, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
    encoded = Ragged.of((np.frombuffer(id_.encode(), dtype=np.uint8) for id_ in ids), np.uint8)
    tensors = {"vectors": np.ascontiguousarray(vectors), "id_bytes": encoded.values, "id_offsets": encoded.offsets}
    with written_whole(path) as aside:
        save_file(tensors, aside)


def open_shards(folder: Path) -> list[Shard]:
    """The shards of a folder in order. Raises DataError when there are none, one is broken, or widths differ."""
    shards = [_open(path) for path in sorted(folder.glob("vectors-*.safetensors"))]
    if not shards:
        raise DataError(f"{folder}: no vectors in it")
    if len({shard.width for shard in shards}) > 1:
        raise DataError(f"{folder}: its shards hold vectors of different widths")
    return shards


def read_ids(shards: Sequence[Shard]) -> Iterator[str]:
    for shard in shards:
        yield from shard.ids()


def _open(path: Path) -> Shard:
    try:
        with safe_open(path, framework="np") as file:
            shape, kind = file.get_slice("vectors").get_shape(), file.get_slice("vectors").get_dtype()
            ids = len(file.get_tensor("id_offsets")) - 1
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path}: not a shard of vectors ({error})") from None
    if kind != "F32" or len(shape) != 2 or ids != shape[0]:
        raise DataError(f"{path}: not a shard of vectors: {kind} of shape {shape} with {ids} ids")
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        begin = json.loads(file.read(size))["vectors"]["data_offsets"][0]
    return Shard(path, np.memmap(path, np.float32, "r", 8 + size + begin, tuple(shape)))
