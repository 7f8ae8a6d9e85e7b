"""Shards of vectors: what is written reads back, and what is broken is told by name."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from seedcli.base.errors import DataError
from seedcli.retrieval.vectors import open_shards, read_ids, shard_path, write_shard

IDS = ["a", "", "日本", "é 1", "10"]


def vectors(count: int = 5, width: int = 3) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(count).normal(size=(count, width)).astype(np.float32)


def test_shards_read_back_to_the_bit_in_their_order(tmp_path: Path) -> None:
    parts = {number: vectors(number % 4 + 1) for number in (0, 1, 2, 11, 100_000)}
    ids = {number: [f"{number}/{row}" for row in range(len(part))] for number, part in parts.items()}
    for number in reversed(parts):
        write_shard(shard_path(tmp_path, number), ids[number], parts[number])
    shards = open_shards(tmp_path)
    assert [shard.size for shard in shards] == [1, 2, 3, 4, 1]
    assert {shard.width for shard in shards} == {3}
    for shard, part in zip(shards, parts.values(), strict=True):
        assert shard.vectors.tobytes() == part.tobytes()
    assert list(read_ids(shards)) == list(chain.from_iterable(ids.values()))


def test_vectors_stay_on_the_disk_and_are_not_written_to(tmp_path: Path) -> None:
    write_shard(shard_path(tmp_path, 0), IDS, vectors())
    (shard,) = open_shards(tmp_path)
    mapped = shard.vectors
    assert isinstance(mapped.base, np.memmap)
    before = mapped.copy()
    mapped[:] = 0
    assert (shard.vectors == before).all()
    assert list(read_ids([shard])) == IDS
    assert [path.name for path in tmp_path.iterdir()] == ["vectors-00000.safetensors"]


def test_a_view_is_written_as_it_reads(tmp_path: Path) -> None:
    whole = vectors(6, 8)
    write_shard(shard_path(tmp_path, 0), ["a", "b", "c"], whole[::2, ::-2])
    assert open_shards(tmp_path)[0].vectors.tolist() == whole[::2, ::-2].tolist()


@pytest.mark.parametrize("kept", [0, 4, 8, 60, 200, -60, -4, -1])
def test_a_truncated_shard_is_told_by_name(tmp_path: Path, kept: int) -> None:
    for number in range(2):
        write_shard(shard_path(tmp_path, number), IDS, vectors())
    path = shard_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"vectors-00001\.safetensors: not a shard of vectors"):
        open_shards(tmp_path)


def broken_header(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + b"\xff" * 20 + whole[40:])


@pytest.mark.parametrize(
    "damage",
    [
        broken_header,
        lambda path: path.write_bytes(b"\0" * 400),
        lambda path: path.write_text("not a shard"),
        lambda path: save_file({"weights": vectors()}, path),
        lambda path: save_file({"vectors": vectors()}, path),
        lambda path: save_file({"vectors": vectors().astype(np.float64), **no_ids(5)}, path),
        lambda path: save_file({"vectors": vectors()[0], **no_ids(5)}, path),
        lambda path: save_file({"vectors": vectors(), **no_ids(4)}, path),
        lambda path: save_file({"vectors": vectors().astype(np.int8), **no_ids(5)}, path),
        lambda path: save_file({"vectors": vectors(), **no_ids(5), "id_offsets": np.arange(6) - 3}, path),
        lambda path: save_file({"vectors": vectors(), **no_ids(5), "id_offsets": np.arange(6) * 9}, path),
    ],
)
def test_what_is_no_shard_is_told_by_name(tmp_path: Path, damage: Any) -> None:
    path = shard_path(tmp_path, 0)
    write_shard(path, IDS, vectors())
    damage(path)
    with pytest.raises(DataError, match=r"vectors-00000\.safetensors: (not a shard of vectors|its ids are broken)"):
        list(read_ids(open_shards(tmp_path)))


def no_ids(count: int) -> dict[str, Any]:
    return {"id_bytes": np.zeros(0, np.uint8), "id_offsets": np.zeros(count + 1, np.int64)}


def test_a_folder_without_vectors_and_one_of_unequal_widths_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no vectors in it"):
        open_shards(tmp_path)
    write_shard(shard_path(tmp_path, 0), IDS, vectors(5, 3))
    write_shard(shard_path(tmp_path, 1), IDS, vectors(5, 4))
    with pytest.raises(DataError, match="vectors of different widths"):
        open_shards(tmp_path)
    write_shard(shard_path(tmp_path, 1), IDS, vectors(5, 3), "float16")
    with pytest.raises(DataError, match="different widths or kinds"):
        open_shards(tmp_path)


def test_half_precision_and_codes_read_back_as_near_as_they_can_be(tmp_path: Path) -> None:
    """float16 has 11 bits; a code is within half a step of 1/127 of its vector's largest number."""
    given = vectors(200, 30) * np.float32(10.0) ** np.arange(-100, 100)[:, None].clip(-6, 3).astype(np.float32)
    given[7] = 0
    ids = [f"{row}" for row in range(200)]
    for number, kind in enumerate(("float16", "int8")):
        write_shard(shard_path(tmp_path / kind, number), ids, given, kind)  # type: ignore[arg-type]
    (half,), (codes,) = open_shards(tmp_path / "float16"), open_shards(tmp_path / "int8")
    assert (half.bytes, codes.bytes) == (200 * 30 * 2, 200 * (30 + 4))
    assert (half.vectors == given.astype(np.float16)).all()
    step = np.abs(given).max(axis=1, keepdims=True) / 127
    assert (np.abs(codes.vectors - given) <= 0.501 * step).all()
    assert codes.stored().values.dtype == np.int8
    for shard in (half, codes):
        assert (shard.stored(20, 50).floats(np.array([3, 29])) == shard.vectors[[23, 49]]).all()
        assert shard.names().at(np.array([2, 150])).tolist() == [b"2", b"150"]


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_what_a_kind_cannot_hold_is_refused(tmp_path: Path, kind: Any) -> None:
    given = vectors()
    given[2, 1] = np.nan
    with pytest.raises(DataError, match="a vector holds NaN"):
        write_shard(shard_path(tmp_path, 0), IDS, given, kind)
    given[2, 1] = 70_000
    if kind == "float16":
        with pytest.raises(DataError, match="a vector holds 70000, too large for float16; store float32 or int8"):
            write_shard(shard_path(tmp_path, 0), IDS, given, kind)
    assert not list(tmp_path.iterdir())


def test_a_shard_that_was_not_finished_is_not_seen(tmp_path: Path) -> None:
    write_shard(shard_path(tmp_path, 0), IDS, vectors())
    (tmp_path / ".vectors-00001.safetensors.77.part").write_bytes(b"half")
    assert [shard.size for shard in open_shards(tmp_path)] == [5]
    header = json.loads(shard_path(tmp_path, 0).read_bytes()[8:].split(b"}}")[0] + b"}}")
    assert header.keys() == {"vectors", "id_bytes", "id_offsets"}
