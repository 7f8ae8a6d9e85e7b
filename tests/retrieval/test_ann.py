"""Indexes of faiss: what exact search finds where all is looked at, and the same file however the work is cut."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Silent
from seedcli.retrieval import ann, exact
from seedcli.retrieval.ann import Ann, Rows, built, empty, own_design, read_index, write_index
from seedcli.retrieval.design import KINDS, Asked, Design, design
from seedcli.retrieval.exact import Hits
from seedcli.retrieval.matrix import Matrix
from seedcli.retrieval.vectors import open_shards, shard_path, write_shard

faiss = pytest.importorskip("faiss", reason='pip install "seedcli[cpu]"')

Floats = np.ndarray[Any, np.dtype[np.float32]]
CPU = torch.device("cpu")
N, D = 600, 16
NAMES = [f"{'é zZ'[row % 4]}{row}" for row in np.random.default_rng(5).permutation(N)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    faiss.omp_set_num_threads(1)


def vectors_of(seed: int = 0, count: int = N) -> Floats:
    """Of all lengths and directions; some of them twice, so that scores tie."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, D)) * rng.uniform(0.5, 2, (count, 1))
    vectors[count // 2 : count // 2 + 50] = vectors[: min(50, count - count // 2)]
    return vectors.astype(np.float32)


def rows_of(folder: Path, vectors: Floats, size: int = 250, names: list[str] = NAMES, unit: bool = False) -> Rows:
    for number, begin in enumerate(range(0, len(vectors), size)):
        write_shard(shard_path(folder, number), names[begin : begin + size], vectors[begin : begin + size])
    return Rows(open_shards(folder), unit)


def made(folder: Path, rows: Rows, of: Design, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.faiss"
    built(path, folder / "parts", of, rows, seed, CPU, Silent())
    return path


def opened(path: Path, rows: Rows, setting: int | None = None) -> Ann:
    documents = len({name for shard in rows.shards for name in shard.names().at().tolist()})
    index = Ann(path, rows, rows.size / documents, CPU)
    if setting is not None and index.knob:
        index.turn(setting)
    return index


def exactly(rows: Rows, queries: Floats, depth: int, each: float = 1.0) -> list[Hits]:
    matrix = Matrix(rows.shards, CPU, unit=rows.unit)
    found = exact.nearest(rows.of_length(queries), matrix, depth, lambda _, *__: None, each)
    return [hits for batch in found for hits in batch]


def told(found: list[Hits]) -> list[list[tuple[bytes, float]]]:
    return [list(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)) for hits in found]


@pytest.mark.parametrize("kind", [*KINDS, "IVF8,SQ8", "PCA8,IVF8,Flat"])
@pytest.mark.parametrize("unit", [False, True])
def test_where_all_is_looked_at_it_finds_what_exact_search_does(kind: str, unit: bool, tmp_path: Path) -> None:
    """To the bit, ties included, wherever they are cut; by inner product and by cosine."""
    if kind == "opq" and unit:
        pytest.skip("as ivfpq, and slow to train")
    rows = rows_of(tmp_path / "vectors", vectors_of(), unit=unit)
    of = design(kind, N, D, Asked()) if kind in KINDS else own_design(kind, N, D, Asked())
    index = opened(made(tmp_path, rows, of), rows, N)
    queries = vectors_of(1, 9)
    queries[4] = 0
    for depth in (1, 7, 300):
        refine = -(-N // depth)
        assert told(index.search(queries, depth, refine)) == told(exactly(rows, queries, depth))


def test_ties_are_ordered_by_id_without_refining_too(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).integers(-2, 3, (N, D)).astype(np.float32)
    rows = rows_of(tmp_path / "vectors", vectors)
    for kind in ("hnsw", "ivf"):
        index = opened(made(tmp_path / kind, rows, design(kind, N, D, Asked())), rows, N)
        assert told(index.search(vectors[:5], N)) == told(exactly(rows, vectors[:5], N))


@pytest.mark.parametrize("refine", [0, 1, 40])
def test_a_document_of_several_vectors_stands_once_at_its_best(refine: int, tmp_path: Path) -> None:
    """As in exact search: ten documents are found although the nearest 300 vectors all belong to one."""
    rng = np.random.default_rng(0)
    vectors = rng.integers(-3, 4, (N, D)).astype(np.float32)
    query = np.full((1, D), 2, np.float32)
    vectors[100:400] = 3
    vectors[100:400, 0] = rng.integers(1, 4, 300)
    names = [f"d{row // 2}" for row in range(100)] + ["many"] * 300 + [f"e{row // 2}" for row in range(200)]
    rows = rows_of(tmp_path / "vectors", vectors, names=names)
    index = opened(made(tmp_path, rows, design("ivf", N, D, Asked())), rows, N)
    (found,) = index.search(query, 10, refine)
    (right,) = exactly(rows, query, 10, index.each)
    assert found.scores.tolist() == right.scores.tolist()
    assert found.ids[0] == b"many"
    assert len({*found.ids.tolist()}) == 10
    best = {id_: max(vectors[[name == id_.decode() for name in names]] @ query[0]) for id_ in found.ids.tolist()}
    assert [best[id_] for id_ in found.ids.tolist()] == found.scores.tolist()
    if refine == 40:  # all candidates: the ties with the last hit, too
        assert found.ids.tolist() == right.ids.tolist()


def test_a_graph_is_searched_for_as_many_as_are_asked_for(tmp_path: Path) -> None:
    """Else a search 300 deep with ef_search 1 would find few of them."""
    rows = rows_of(tmp_path / "vectors", vectors_of())
    index = opened(made(tmp_path, rows, design("hnsw", N, D, Asked())), rows)
    queries = vectors_of(1, 9)
    found = {}
    for setting in (1, 300, 600):
        index.turn(setting)
        found[setting] = told(index.search(queries, 300))
    assert found[1] == found[300]
    assert {len(hits) for hits in found[1]} == {300}
    for one, other in zip(found[1], told(exactly(rows, queries, 300)), strict=True):
        assert len({id_ for id_, _ in one} & {id_ for id_, _ in other}) > 0.9 * 300
    assert (index.least(10, 0), index.least(10, 4), index.least(1000, 4)) == (10, 40, N)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq", "opq", "sq"])
def test_neither_shards_nor_threads_change_a_byte_of_an_index(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann, "BATCH", 100)
    files = {}
    for size, threads, unit in product((7, 1000), (1, 2), (False, True)):
        torch.set_num_threads(threads)
        rows = rows_of(tmp_path / f"{size}", vectors_of(), size, unit=unit)
        folder = tmp_path / f"{size}-{threads}-{unit}"
        files[size, threads, unit] = made(folder, rows, design(kind, N, D, Asked(train=None))).read_bytes()
    for unit in (False, True):
        assert len({content for (*_, own), content in files.items() if own is unit}) == 1
    assert len({*files.values()}) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from seedcli.base.progress import Silent
from seedcli.retrieval import ann
from seedcli.retrieval.design import Asked, design
from seedcli.retrieval.vectors import open_shards

folder, kind, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ann.BATCH, ann.SAVE, ann.COST = 64, 0.0, 0
add = ann.preset_levels, ann.write_index

def write(path, index):
    global left
    left -= 1
    if not left:
        path.with_name(f".{path.name}.1.part").write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    add[1](path, index)

ann.write_index = write
torch.set_num_threads(1)
rows = ann.Rows(open_shards(folder / "vectors"))
ann.built(folder / "index.faiss", folder / "parts", design(kind, rows.size, rows.width, Asked()), rows, 0,
          torch.device("cpu"), Silent())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_killed_filling_goes_on_to_the_same_bytes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(tmp_path / "vectors", vectors_of())
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, kind, "5"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    begun = read_index(tmp_path / "parts" / "filled.faiss")
    assert begun.ntotal == 3 * 64  # one save after training, and three of batches before the fifth
    monkeypatch.setattr(ann, "BATCH", 64)
    added: list[int] = []
    monkeypatch.setattr(ann, "fill", lambda index, *_, own=ann.fill: (added.append(index.ntotal), own(index, *_)))
    whole = made(tmp_path / "whole", rows, design(kind, N, D, Asked()))
    assert made(tmp_path, rows, design(kind, N, D, Asked())).read_bytes() == whole.read_bytes()
    assert added == [0, 3 * 64]


def test_an_index_is_what_faiss_makes_of_the_seeded_sample(tmp_path: Path) -> None:
    vectors = vectors_of()
    rows = rows_of(tmp_path / "vectors", vectors)
    of = design("ivf", N, D, Asked(train=320))
    sample = rows.sample(320, 3, 0)
    index = faiss.index_factory(D, "IVF8,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[sample])
    index.add(vectors)
    assert of.factory == "IVF8,Flat"
    assert made(tmp_path / "3", rows, of, 3).read_bytes() == faiss.serialize_index(index).tobytes()
    assert made(tmp_path / "4", rows, of, 4).read_bytes() != faiss.serialize_index(index).tobytes()


def test_a_sample_is_drawn_by_its_key_and_not_by_shards(tmp_path: Path) -> None:
    one, other = (rows_of(tmp_path / str(size), vectors_of(), size) for size in (7, 1000))
    sample = one.sample(100, 1, 2)
    assert sample.tolist() == other.sample(100, 1, 2).tolist() == sorted({*sample.tolist()})
    assert len(sample) == 100
    assert sample.tolist() != one.sample(100, 2, 2).tolist()
    assert one.sample(N + 5, 0).tolist() == list(range(N))
    assert (one.at(sample) == vectors_of()[sample]).all()
    thirds = np.histogram(np.concatenate([one.sample(100, seed) for seed in range(20)]), 3, (0, N))[0]
    assert (abs(thirds - 2000 / 3) < 80).all()


def test_cosine_is_the_inner_product_of_vectors_of_length_one(tmp_path: Path) -> None:
    vectors, queries = vectors_of(), vectors_of(1, 5)
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(1, keepdims=True)).astype(np.float32)
    of = design("ivf", N, D, Asked())
    rows, units = rows_of(tmp_path / "a", vectors, unit=True), rows_of(tmp_path / "b", vectors / lengths)
    cosine, product_ = made(tmp_path / "cosine", rows, of), made(tmp_path / "ip", units, of)
    assert cosine.read_bytes() == product_.read_bytes()
    index = opened(cosine, rows, N)
    scores = [hits.scores for hits in index.search(queries, N)]
    cosines = queries @ vectors.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
    assert np.stack(scores) == pytest.approx(-np.sort(-cosines, axis=1), abs=1e-5)
    assert told(index.search(queries * 1024, 50)) == told(index.search(queries, 50))


def test_levels_of_a_graph_are_those_that_chance_gives(tmp_path: Path) -> None:
    """Each next one a sixteenth of those below, and searches begin at one of the first vectors added."""
    names = [str(row) for row in range(8_000)]
    rows = rows_of(tmp_path / "vectors", vectors_of(0, 8_000)[:, :2].copy(), 8_000, names)
    index = read_index(made(tmp_path, rows, design("hnsw", 8_000, 2, Asked(ef_construction=4))))
    levels = faiss.vector_to_array(index.hnsw.levels)
    assert levels[0] == levels[index.hnsw.entry_point] == levels.max() == 4
    assert (levels > 1).mean() == pytest.approx(1 / 16, rel=0.15)


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "sq", "ivfpq"])
def test_an_opened_index_is_mapped_from_its_file(kind: str, tmp_path: Path) -> None:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("told by Linux alone")
    rows = rows_of(tmp_path / "vectors", vectors_of())
    path = made(tmp_path, rows, design(kind, N, D, Asked()))
    index = opened(path, rows)
    assert str(path) in maps.read_text()
    del index
    assert str(path) not in maps.read_text()


@pytest.mark.parametrize(("kind", "message"), [
    ("IVF0,Flat", "a number in it is too small"),
    ("HNSW1", "a number in it is too small"),
    ("PQ8x0", "a number in it is too small"),
    ("IVF601,Flat", "601 lists, and 600 vectors to train them on"),
    ("PQ7", "faiss can't make that for vectors of 16 numbers (The dimension of the vector (d) should be a multiple"),
    ("Nonsense", "faiss can't make that for vectors of 16 numbers (could not parse index string Nonsense)"),
    ("HNSW8_PQ8", "faiss compares it by distances alone, not by inner products"),
])  # fmt: skip
def test_a_description_that_is_none_is_refused(kind: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        own_design(kind, N, D, Asked())
    assert str(error.value).startswith(f"--kind {kind}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kind", "asked", "message"), [
    ("HNSW8", Asked(probes=3), "--probes: HNSW8 has none"),
    ("IVF8,Flat", Asked(ef_search=3), "--ef-search: IVF8,Flat has none"),
    ("IVF8,Flat", Asked(ef_construction=9), "--set faiss.ef_construction: IVF8,Flat has none"),
    ("IVF8,Flat", Asked(nlist=9), "--set faiss.nlist: IVF8,Flat has none; it takes --set faiss.ef_construction, "),
])  # fmt: skip
def test_what_a_description_has_not_can_not_be_asked_of_it(kind: str, asked: Asked, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        empty(own_design(kind, N, D, asked), D)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("kind", "message"), [
    ("IDMap,Flat", "add does not make sense with IndexIDMap, use add_with_ids"),
    ("PCA17,Flat", "PCA matrix cannot output 17 dimensions from 16"),
    ("RCQ2x4", "serves to train others, and isn't an index of vectors"),
])  # fmt: skip
def test_what_faiss_refuses_to_fill_is_told_in_a_line(kind: str, message: str, tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "vectors", vectors_of())
    with pytest.raises(ConfigError, match=message) as error:
        made(tmp_path, rows, own_design(kind, N, D, Asked()))
    assert str(error.value).startswith(f"{kind}: ")
    assert "\n" not in str(error.value)


def test_a_broken_file_or_one_of_other_vectors_is_told(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "vectors", vectors_of())
    for kind in ("hnsw", "ivf", "sq"):
        path = made(tmp_path / kind, rows, design(kind, N, D, Asked()))
        whole = path.read_bytes()
        fewer = rows_of(tmp_path / f"fewer-{kind}", vectors_of()[:500])
        with pytest.raises(DataError, match=r"index\.faiss: holds 600 vectors of 16 numbers, made from 500 of 16"):
            opened(path, fewer)
        narrow = rows_of(tmp_path / f"narrow-{kind}", vectors_of()[:, :8].copy())
        with pytest.raises(DataError, match=r"index\.faiss: holds 600 vectors of 16 numbers, made from 600 of 8; make"):
            opened(path, narrow)
        for broken in (whole[: len(whole) // 2], whole[:-4000], whole[:3], b"", b"rubbish" * 100):
            path.write_bytes(broken)
            with pytest.raises(DataError, match=r"index\.faiss: not an index of faiss, or a broken one"):
                opened(path, rows)


def test_vectors_without_numbers_are_refused_by_their_shard(tmp_path: Path) -> None:
    vectors = vectors_of()
    vectors[300, 3] = np.nan
    rows = rows_of(tmp_path / "vectors", vectors)
    with pytest.raises(DataError, match=r"vectors-00001\.safetensors: a vector holds NaN"):
        made(tmp_path, rows, design("sq", N, D, Asked(train=10)))


def test_a_full_disk_leaves_no_part_of_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError(f"Error in write: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_index(tmp_path / "index.faiss", faiss.IndexFlatIP(2))
    assert error.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
