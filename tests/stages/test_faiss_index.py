"""seed index and seed search with faiss: what is measured, kept and searched; mistakes and broken files in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from seedcli.base.manifest import finished, identify, open_folder, read_manifest
from seedcli.cli import app
from seedcli.configs.encode import EncodeConfig
from seedcli.retrieval import ann, recall
from seedcli.retrieval.run_files import read_run
from seedcli.retrieval.vectors import shard_path, write_shard

pytest.importorskip("faiss", reason='pip install "seedcli[cpu]"')

N, D, Q = 1_200, 12, 40
Floats = np.ndarray[Any, np.dtype[np.float32]]


def encoded(folder: Path, vectors: Floats, names: list[str], role: str = "passage", size: int = 500) -> Path:
    """A folder as seed encode would have left it; the model and the texts are one file that says nothing."""
    texts = folder.parent / "texts"
    texts.mkdir(exist_ok=True)
    (texts / "model.json").write_text("{}")
    inputs = {name: identify(texts) for name in ("model", "collection")}
    with open_folder(folder, "encode", EncodeConfig(folder, str(texts), str(texts)), inputs, False) as made:
        shards = []
        for begin in range(0, len(vectors), size):
            shards.append(shard_path(folder, begin // size))
            write_shard(shards[-1], names[begin : begin + size], vectors[begin : begin + size])
        made.finish(shards, {"role": role, "passages": len(set(names))})
    return folder


def vectors_of(seed: int, count: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of passages, v, those of documents of three chunks, c, and of queries, q."""
    root = tmp_path_factory.mktemp("given")
    encoded(root / "v", vectors_of(0, N), [f"d{row}" for row in range(N)])
    encoded(root / "c", vectors_of(0, N), [f"d{row // 3}" for row in range(N)])
    encoded(root / "q", vectors_of(1, Q), [f"q{row}" for row in range(Q)], "query")
    return root


@pytest.fixture
def index(given: Path, tmp_path: Path, perform: Callable[..., Any]) -> Callable[..., Path]:
    def made(name: str, vectors: str = "v", **flags: Any) -> Path:
        flags = {"kind": "ivf", **flags}
        if flags["kind"] != "flat":
            flags = {"queries": given / "q", **flags}
        perform("index", out=tmp_path / name, vectors=given / vectors, **flags)
        return tmp_path / name

    return made


@pytest.fixture
def found(given: Path, tmp_path: Path, perform: Callable[..., Any]) -> Callable[..., bytes]:
    def run(folder: Path, **flags: Any) -> bytes:
        out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        perform("search", out=out, index=[str(folder)], queries=given / "q", **{"depth": 20, **flags})
        return (out / "run.trec").read_bytes()

    return run


def seed(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})


@pytest.mark.parametrize("vectors", ["v", "c"])
def test_with_full_probes_and_refining_a_run_is_that_of_exact_search(vectors, index, found):
    """Of documents of several chunks, too."""
    right = found(index("flat", vectors, kind="flat"))
    folder = index("ivf", vectors, **{"faiss.measure": False, "faiss.probes": 30, "faiss.refine": 2})
    assert found(folder) == right
    assert found(folder, probes=1) != right
    assert right.count(b"\n") == 20 * Q
    graph = index("hnsw", vectors, kind="hnsw", **{"faiss.measure": False})
    assert found(graph, refine=30, ef_search=N) == right


def test_what_is_told_is_what_searches_find(index, found, tmp_path):
    folder = index("ivf", **{"faiss.probes": 3})
    told = finished(folder, "index").metrics
    exact_run = index("flat", kind="flat")
    runs = []
    for each in (folder, exact_run):
        runs_before = {*tmp_path.iterdir()}
        found(each, depth=100)
        (made,) = {*tmp_path.iterdir()} - runs_before
        runs.append(read_run(made / "run.trec"))
    for depth in (10, 100):
        shared = [
            len({*runs[0].ranking(name)[0][:depth].tolist()} & {*runs[1].ranking(name)[0][:depth].tolist()}) / depth
            for name in runs[1].queries
        ]
        assert told[f"recall@{depth}"] == pytest.approx(np.mean(shared), abs=1e-12)
    measured = told["measured"]
    assert (measured["queries"], measured["of"]) == (Q, "queries")
    assert measured["disk"] == (folder / "index.faiss").stat().st_size
    assert [point["setting"] for point in measured["points"]] == [1, 2, 3, 4, 8, 16, 30]
    assert (told["probes"], told["factory"], told["vectors"], told["width"]) == (3, "IVF30,Flat", N, D)


def test_a_target_is_stored_and_is_what_searches_begin_with(index, found):
    folder = index("ivf", **{"faiss.target_recall": 0.9})
    told = finished(folder, "index").metrics
    assert told["recall@100"] >= 0.9
    points = {point["setting"]: point["recall_100"][0] for point in told["measured"]["points"]}
    assert points[told["probes"]] == told["recall@100"]
    assert found(folder) == found(folder, probes=told["probes"]) != found(folder, probes=told["probes"] // 3)
    cheaper = index("cheaper", **{"faiss.probes": told["probes"] - 1})
    assert finished(cheaper, "index").metrics["recall@100"] < 0.9


def test_a_target_out_of_reach_is_told_with_what_else_can_be_done(given, tmp_path):
    done = seed("index", "--vectors", given / "v", "--queries", given / "q", "--kind", "IVF8,SQ4", "--target-recall", 1,
                "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "--target-recall 1: out of reach: probes 8 finds 0." in done.output
    assert "the most, and is kept; --refine 4 scores more candidates exactly" in done.output
    assert finished(tmp_path / "out", "index").metrics["probes"] == 8


def test_as_many_lists_are_searched_as_hold_what_is_asked_for(given, index, tmp_path):
    """30 lists hold 1,200 vectors, 5 of them 200; a number that is asked for is kept to, and what lacks is told."""
    folder = index("ivf", **{"faiss.measure": False})

    def run(name: str, *flags: Any) -> tuple[list[int], str]:
        out = ["--out", tmp_path / name, "--index", folder, "--queries", given / "q", "--depth", 400, *flags]
        done = seed("search", *out)
        assert done.exit_code == 0, done.output
        return np.diff(read_run(tmp_path / name / "run.trec").offsets).tolist(), " ".join(done.output.split())

    counts, told = run("usual")
    assert counts == [400] * Q
    assert "have fewer than" not in told
    counts, told = run("few", "--probes", 2)
    assert max(counts) < 400
    assert f"{Q} of {Q} queries have fewer than 400 hits; --probes above 2 finds more" in told


def test_refining_much_of_an_index_is_told_to_be_no_quicker_than_exact_search(given, index, tmp_path):
    folder = index("hnsw", kind="hnsw", **{"faiss.measure": False})
    done = seed("search", "--index", folder, "--queries", given / "q", "--refine", 3, "--out", tmp_path / "run")
    assert "--refine scores 1,200 candidates a query, of 1,200 vectors: a flat index would be as quick" in done.output


def test_without_queries_vectors_of_the_corpus_measure(index):
    told = finished(index("ivf", queries=None, **{"faiss.sample": 30}), "index").metrics["measured"]
    assert (told["queries"], told["of"]) == (30, "corpus")


def test_cosine_finds_by_direction_alone(given, tmp_path, perform):
    rng = np.random.default_rng(2)
    names = [f"d{row}" for row in range(N)]
    encoded(tmp_path / "long", vectors_of(0, N) * rng.choice([0.25, 1, 8], (N, 1)).astype(np.float32), names)
    runs = []
    for vectors in (tmp_path / "long", given / "v"):
        out = tmp_path / f"index-{len(runs)}"
        perform("index", out=out, vectors=vectors, kind="ivf", queries=str(given / "q"),
                **{"faiss.metric": "cosine", "faiss.probes": 30, "faiss.refine": 1})  # fmt: skip
        assert finished(out, "index").metrics["recall@100"] == 1.0
        encoded_queries = ["--index", out, "--queries", given / "q", "--depth", 20, "--out", tmp_path / f"r{len(runs)}"]
        assert seed("search", *encoded_queries).exit_code == 0
        runs.append((tmp_path / f"r{len(runs)}" / "run.trec").read_bytes())
    assert runs[0] == runs[1]


def test_interrupted_while_it_is_measured_it_goes_on_with_the_same_file(index, monkeypatch, tmp_path):
    whole = index("whole")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recall, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index("out")
    assert read_manifest(tmp_path / "out").status == "running"
    monkeypatch.undo()
    monkeypatch.setattr(ann, "fill", None)  # it isn't filled anew
    folder = index("out")
    assert (folder / "index.faiss").read_bytes() == (whole / "index.faiss").read_bytes()
    assert not (folder / "parts").exists()
    assert finished(folder).identity == finished(whole).identity


@pytest.mark.parametrize(("flags", "message"), [
    (["--kind", "hnws"], "--kind hnws: no such kind, did you mean hnsw?"),
    (["--kind", "IVF0,Flat"], "--kind IVF0,Flat: a number in it is too small"),
    (["--kind", "ivf", "--ef-search", "9"], "--ef-search: ivf has none; it takes"),
    (["--kind", "hnsw", "--probes", "9"], "--probes: hnsw has none; it takes"),
    (["--kind", "ivf", "--memory", "1k"], "--memory 1.0 KiB: an index of this kind takes 6"),
    (["--kind", "ivf", "--memory", "much"], "--memory much: expected a number with k, m or g"),
    (["--kind", "sq", "--target-recall", "0.9"], "--target-recall: sq has neither probes nor ef_search to turn"),
    (["--kind", "ivf", "--target-recall", "0.9", "--no-measure"], "--target-recall needs what --measure finds"),
    (["--kind", "ivf", "--target-recall", "1.5"], "1.5"),
    (["--kind", "flat", "--refine", "2"], "--refine: for approximate indexes, such as --kind hnsw; flat takes none"),
    (["--kind", "ivf", "--set", "faiss.nlist=1201"], "--set faiss.nlist=1201: more than the 1,200 vectors"),
    (["--kind", "IDMap,Flat"], "IDMap,Flat: faiss refuses these vectors or that index (add does not make sense"),
])  # fmt: skip
def test_options_that_can_not_be_are_told_in_a_line(flags, message, given, tmp_path):
    done = seed("index", "--vectors", given / "v", "--out", tmp_path / "out", *flags)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_an_index_that_is_broken_or_of_other_vectors_is_told_in_a_line(given, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(given, root)
    command = ["index", "--vectors", root / "v", "--kind", "ivf", "--no-measure", "--out", root / "index"]
    assert seed(*command).exit_code == 0
    search = ["search", "--index", root / "index", "--queries", root / "q"]
    path = root / "index" / "index.faiss"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    done = seed(*search, "--out", root / "one")
    assert done.exit_code == 2, done.output
    assert "index.faiss: missing or not as seed index wrote it" in done.output
    path.write_bytes(whole)
    shutil.rmtree(root / "v")
    encoded(root / "v", vectors_of(7, N), [f"d{row}" for row in range(N)])
    done = seed(*search, "--out", root / "two")
    assert done.exit_code == 2, done.output
    assert "which has changed since; make" in done.output
    for flag, value in (("--ef-search", 3), ("--memory", "2g")):
        done = seed(*search, "--out", root / "three", flag, value)
        assert done.exit_code == 2, done.output
    narrow = encoded(root / "narrow", vectors_of(1, Q)[:, :8].copy(), [f"q{row}" for row in range(Q)], "query")
    shutil.rmtree(root / "index")
    assert seed(*command).exit_code == 0
    done = seed("search", "--index", root / "index", "--queries", narrow, "--out", root / "four")
    assert done.exit_code == 2, done.output
    assert "vectors of 12 numbers, and those of the queries have 8" in done.output
