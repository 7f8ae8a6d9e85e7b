"""seed encode as a whole: what computes, in which width, and that nothing that stops it loses a shard."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError, DataError, SeedError
from seedcli.base.files import read_json
from seedcli.base.manifest import Manifest, read_manifest
from seedcli.base.progress import Silent
from seedcli.configs import VERBS
from seedcli.models import graphs
from seedcli.retrieval import encoding
from seedcli.retrieval.vectors import open_shards
from seedcli.stages import encode_runtime, stage

SEED = Path(sys.executable).with_name("seed")


def command(**options: Any) -> list[str]:
    return [str(SEED), "encode", *(part for name, value in options.items() for part in ("--set", f"{name}={value}"))]


def write_corpus(folder: Path, beir: Path, copies: int, far: str = "") -> Path:
    """The collection again and again; ids of its second half end in `far`."""
    folder.mkdir()
    records = [json.loads(line) for line in (beir / "corpus.jsonl").read_text().splitlines()] * copies
    names = (f"{record['_id']}-{row}{far * (2 * row >= len(records))}" for row, record in enumerate(records))
    lines = (json.dumps({**record, "_id": name}) + "\n" for record, name in zip(records, names, strict=True))
    (folder / "corpus.jsonl").write_text("".join(lines))
    return folder


def vectors(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("vectors-*.safetensors")}


@pytest.mark.slow
def test_a_full_disk_ends_with_a_line_and_loses_no_shard(chain, tmp_path, perform):
    """The process may write files of 200 kB; a shard has 31 kB of vectors, and a long id takes 10 kB."""
    corpus = write_corpus(tmp_path / "corpus", chain.beir, 4, far="x" * 10_000)
    options = {"model": chain.retriever, "corpus": corpus, "shard_size": 60, "machine.threads": 1}

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    out = tmp_path / "out"
    environment = os.environ | {"SEED_CACHE": str(tmp_path / "cache")}
    full = subprocess.run(
        command(out=out, **options), capture_output=True, text=True, check=False, preexec_fn=small_disk, env=environment
    )
    assert full.returncode == 2
    last = full.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith("vectors-00002.safetensors: File too large; finished shards stay, repeat the command to go on")
    assert "Traceback" not in full.stderr
    made = vectors(out)
    assert sorted(made) == ["vectors-00000.safetensors", "vectors-00001.safetensors"]
    assert not list(out.glob(".*.part"))
    perform("encode", out=out, **options)
    perform("encode", out=tmp_path / "whole", **options)
    assert vectors(out) == vectors(tmp_path / "whole")
    assert {name: vectors(out)[name] for name in made} == made


def as_in_a_terminal() -> None:
    """What starts in the background may be told to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_an_interruption_ends_encoding_at_once_and_leaves_whole_shards(chain, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", chain.beir, 1_000)
    options = {"model": chain.retriever, "corpus": corpus, "shard_size": 500, "machine.threads": 2}
    out = tmp_path / "out"
    with subprocess.Popen(
        command(out=out, **options), stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal
    ) as process:
        while not list(out.glob("vectors-*")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "error: interrupted; repeat the command to go on"
    assert "Traceback" not in told
    assert 0 < len(vectors(out)) < 120
    assert not list(out.glob(".*.part"))


@pytest.mark.slow
def test_kills_at_any_time_repeat_no_finished_shard(chain, tmp_path, perform):
    """Killed again and again, at random moments after something new was finished."""
    corpus = write_corpus(tmp_path / "corpus", chain.beir, 200)
    options = {"model": chain.retriever, "corpus": corpus, "shard_size": 150, "machine.threads": 1}
    out, draw = tmp_path / "out", random.Random(0)
    kept: dict[Path, int] = {}
    kills = 0
    for _ in range(3):
        with subprocess.Popen(command(out=out, **options), stderr=subprocess.DEVNULL) as process:
            while len(list(out.glob("vectors-*"))) <= len(kept) and process.poll() is None:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.2))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
        found = {path: path.stat().st_mtime_ns for path in out.glob("vectors-*")}
        assert kept.items() <= found.items()
        kept = found
    assert kills
    assert read_manifest(out).status == "running"
    perform("encode", out=out, **options)
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in out.glob("vectors-*")}.items()
    perform("encode", out=tmp_path / "whole", **options)
    assert vectors(out) == vectors(tmp_path / "whole")
    assert len(vectors(out)) == 80


class Lines(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        if line.split()[0] not in {"reads", "holds", "writes"}:
            self.lines.append(line)


def encoded(out: Path, **options: Any) -> tuple[Manifest, list[str]]:
    """What the stage leaves, and the lines it told beside its estimates."""
    lines = Lines()
    given = {"out": out, "machine.threads": 1, **options}
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    return stage.perform("encode", resolve(VERBS["encode"], {}, plain, "a test"), lines), lines.lines


def matrix(folder: Path) -> Any:
    return np.concatenate([shard.vectors for shard in open_shards(folder)])


@pytest.fixture
def asked(chain):
    return {"model": chain.retriever, "corpus": chain.beir}


def test_vectors_are_cut_to_a_width_and_scaled_anew(chain, tmp_path, asked):
    manifest, lines = encoded(tmp_path / "out", dim=16, **asked)
    cut = matrix(chain.vectors)[:, :16]
    np.testing.assert_allclose(matrix(tmp_path / "out"), cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    assert manifest.metrics["width"] == 16
    assert lines == [
        "this model isn't trained for vectors of 16 numbers (its model.json names none): they may find less"
    ]
    dot = encoded(tmp_path / "dot", dim=16, model=chain.encoder, corpus=chain.beir)[0]
    encoded(tmp_path / "whole", model=chain.encoder, corpus=chain.beir)
    assert np.array_equal(matrix(tmp_path / "dot"), matrix(tmp_path / "whole")[:, :16])
    assert dot.metrics["width"] == 16


def test_widths_that_a_model_is_trained_for_go_without_a_word(chain, tmp_path, asked, perform):
    perform("finetune", out=tmp_path / "model", model=chain.retriever, data=chain.beir,
            **{"optimize.steps": 1, "tower.dimensions": [16, 32]})  # fmt: skip
    trained = asked | {"model": tmp_path / "model"}
    assert encoded(tmp_path / "out", dim=32, **trained)[1] == []
    assert encoded(tmp_path / "whole", dim=128, **trained)[1] == []
    assert "(its model.json names 16, 32)" in encoded(tmp_path / "other", dim=8, **trained)[1][0]
    with pytest.raises(ConfigError, match="--dim 129: the vectors of this model have 128 numbers"):
        encoded(tmp_path / "wide", dim=129, **trained)
    assert not (tmp_path / "wide").exists()


def test_queries_are_cut_as_the_index_they_search(chain, tmp_path, asked, perform):
    for name, dim in (("short", 16), ("whole", None)):
        encoded(tmp_path / name, dim=dim, **asked)
        encoded(tmp_path / f"{name}-queries", dim=dim, model=chain.retriever, queries=chain.beir, split="test")
        perform("index", out=tmp_path / f"{name}-flat", vectors=tmp_path / name)
    index = [str(tmp_path / "short-flat")]
    perform("search", out=tmp_path / "texts", index=index, queries=chain.beir, split="test", depth=5)
    perform("search", out=tmp_path / "vectors", index=index, queries=tmp_path / "short-queries", depth=5)
    texts, given = ((tmp_path / name / "run.trec").read_text() for name in ("texts", "vectors"))
    assert texts == given
    scores = matrix(tmp_path / "short-queries") @ matrix(tmp_path / "short").T
    first = [float(line.split()[4]) for line in texts.splitlines() if line.split()[3] == "1"]
    np.testing.assert_allclose(first, scores.max(1), atol=1e-5)
    told = "short: vectors of 16 numbers, and those of the queries have 128; encode the queries with --dim 16"
    with pytest.raises(DataError, match=told):
        perform("search", out=tmp_path / "wrong", index=index, queries=tmp_path / "whole-queries")


CONFLICTS = {
    "int8 by torch": (
        {"machine.precision": "int8", "machine.runtime": "torch"},
        "--precision int8 is computed by ONNX Runtime: leave out --runtime torch",
    ),
    "onnx in bf16": (
        {"machine.precision": "bf16", "machine.runtime": "onnx"},
        "--runtime onnx computes in fp32 or int8: leave it out with --precision bf16",
    ),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_options_that_exclude_each_other_are_refused(case, tmp_path, asked):
    options, told = CONFLICTS[case]
    with pytest.raises(ConfigError, match=told):
        encoded(tmp_path / "out", **asked, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["precision", "runtime"])
def test_a_missing_onnx_runtime_is_told_with_its_cure(option, tmp_path, asked, monkeypatch):
    monkeypatch.setattr("seedcli.models.onnx.PACKAGES", ("onnx", "not_there"))
    value = {"precision": "int8", "runtime": "onnx"}[option]
    with pytest.raises(ConfigError, match=rf'--{option} {value} needs not_there: pip install "seedcli\[onnx\]"'):
        encoded(tmp_path / "out", **asked, **{f"machine.{option}": value})
    monkeypatch.setattr(encode_runtime, "WORTH", 0)
    manifest, lines = encoded(tmp_path / "auto", **asked)
    assert (manifest.metrics["runtime"], lines) == ("torch", [])


def test_a_model_of_several_vectors_is_computed_by_torch(chain, tmp_path, asked, perform, monkeypatch):
    monkeypatch.setattr(encode_runtime, "WORTH", 0)
    perform("finetune", out=tmp_path / "model", model=chain.encoder, data=chain.beir,
            **{"optimize.steps": 1, "tower.token_vectors": 2})  # fmt: skip
    several = asked | {"model": tmp_path / "model"}
    manifest, lines = encoded(tmp_path / "auto", **several)
    assert (manifest.metrics["runtime"], lines) == ("torch", [])
    pytest.importorskip("onnxscript")
    with pytest.raises(ConfigError, match="--runtime onnx: this model keeps the vectors of 2 tokens"):
        encoded(tmp_path / "onnx", **several, **{"machine.runtime": "onnx"})
    assert not (tmp_path / "onnx").exists()


@pytest.fixture
def both():
    pytest.importorskip("onnxscript", reason='needs pip install "seedcli[onnx]"')


@pytest.mark.slow
def test_onnx_runtime_gives_the_vectors_of_torch(chain, tmp_path, asked, both):  # noqa: ARG001
    manifest, _ = encoded(tmp_path / "onnx", **asked, **{"machine.runtime": "onnx"})
    assert manifest.metrics["runtime"] == "onnx"
    found, expected = matrix(tmp_path / "onnx"), matrix(chain.vectors)
    assert 0 < np.abs(found - expected).max() < 1e-5
    encoded(tmp_path / "two", **asked, shard_size=20, batch_tokens=50, **{"machine.runtime": "onnx"})
    np.testing.assert_allclose(matrix(tmp_path / "two"), expected, atol=1e-5)
    assert not (tmp_path / "onnx" / "begun").exists()
    again, lines = encoded(tmp_path / "onnx", **asked, **{"machine.runtime": "torch"})  # done: it is the same work
    assert (again, lines) == (manifest, [])


CHOICES = {
    "onnx is quicker": (
        1.0,
        0.5,
        "onnx",
        "ONNX Runtime, which is 2.00 times as fast here as torch; its vectors are the",
    ),
    "torch is quicker": (1.0, 1.25, "torch", "computes with torch, which is 1.25 times as fast here as ONNX Runtime"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CHOICES)
def test_the_quicker_one_computes_and_a_line_says_why(case, tmp_path, asked, both, monkeypatch):  # noqa: ARG001
    torch_seconds, onnx_seconds, name, told = CHOICES[case]
    measured = encode_runtime.timed

    def timed(model: Any, *rest: Any) -> Any:
        return (torch_seconds if model.graph is None else onnx_seconds), measured(model, *rest)[1]

    monkeypatch.setattr(encode_runtime, "timed", timed)
    monkeypatch.setattr(encode_runtime, "WORTH", 0)
    manifest, lines = encoded(tmp_path / "out", dim=16, **asked)
    assert manifest.metrics["runtime"] == name
    assert told in lines[-1]


@pytest.mark.slow
def test_int8_vectors_are_cut_to_a_width(tmp_path, asked, both):  # noqa: ARG001
    manifest, lines = encoded(tmp_path / "out", dim=16, **asked, **{"machine.precision": "int8"})
    assert (manifest.metrics["width"], manifest.metrics["runtime"]) == (16, "onnx")
    assert any(line.startswith("int8 vectors have a cosine of ") for line in lines)


@pytest.mark.slow
def test_little_work_and_wrong_vectors_leave_torch(tmp_path, asked, both, monkeypatch):  # noqa: ARG001
    def failing(*_: Any) -> Any:
        raise SeedError("ONNX Runtime can't compute this model (why)")

    monkeypatch.setattr(encode_runtime, "kept_graph", failing)
    assert encoded(tmp_path / "little", **asked)[1] == []
    monkeypatch.setattr(encode_runtime, "WORTH", 0)
    assert encoded(tmp_path / "failing", **asked)[1][-1] == (
        "computes with torch: ONNX Runtime can't compute this model (why)"
    )
    monkeypatch.setattr(encode_runtime, "kept_graph", graphs.kept_graph)
    opened = graphs.open_graph
    monkeypatch.setattr(encode_runtime, "open_graph", lambda folder: lambda batch: opened(folder)(batch) + 0.001)
    manifest, lines = encoded(tmp_path / "wrong", **asked)
    assert lines[-1] == "computes with torch: ONNX Runtime's vectors are 1e-03 from its own"
    assert manifest.metrics["runtime"] == "torch"


@pytest.mark.slow
def test_what_was_chosen_at_first_goes_on_computing(tmp_path, asked, both, monkeypatch):  # noqa: ARG001
    """Stopped after the first shard; repeated where a comparison would come out otherwise."""
    monkeypatch.setattr(encode_runtime, "quicker", lambda *_: "onnx")
    made = encoding.write_encoded

    def stopped(parts: Any, model: Any, role: Any, path: Path, *rest: Any) -> None:
        if path.name == "vectors-00001.safetensors":
            raise KeyboardInterrupt
        made(parts, model, role, path, *rest)

    monkeypatch.setattr(encoding, "write_encoded", stopped)
    options = asked | {"shard_size": 20}
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path / "out", **options)
    assert read_json(tmp_path / "out" / "begun" / "runtime.json") == "onnx"
    monkeypatch.setattr(encoding, "write_encoded", made)
    monkeypatch.setattr(encode_runtime, "quicker", lambda *_: pytest.fail("compared again"))
    assert encoded(tmp_path / "out", **options)[0].metrics["runtime"] == "onnx"
    encoded(tmp_path / "whole", **options, **{"machine.runtime": "onnx"})
    assert vectors(tmp_path / "out") == vectors(tmp_path / "whole")


@pytest.mark.slow
def test_int8_finds_nearly_what_full_weights_find(chain, tmp_path, perform, both):  # noqa: ARG001
    """A model that was trained until it finds what it is asked for: nDCG@10 changes by little, and is told apart."""
    steps = {"optimize.steps": 120, "optimize.batch_size": 16, "optimize.lr": 1e-3, "optimize.warmup": 5}
    tower = {"tower.similarity": "cosine", "loss.temperature": 0.05}
    perform("finetune", out=tmp_path / "model", model=chain.encoder, data=chain.beir, **steps, **tower)
    runs = []
    for precision in ("fp32", "int8"):
        out = tmp_path / precision
        options = {"model": tmp_path / "model", "corpus": chain.beir, "machine.precision": precision}
        manifest, lines = encoded(out, **options)
        assert manifest.metrics["runtime"] == {"fp32": "torch", "int8": "onnx"}[precision]
        perform("index", out=tmp_path / f"{precision}-flat", vectors=out)
        index = [str(tmp_path / f"{precision}-flat")]
        perform("search", out=tmp_path / f"{precision}-run", index=index, queries=chain.beir, split="train")
        runs.append(f"{precision}={tmp_path / f'{precision}-run'}")
    assert lines[-1].startswith("int8 vectors have a cosine of ")
    full, small = matrix(tmp_path / "fp32"), matrix(tmp_path / "int8")
    assert 1e-4 < np.abs(full - small).max() < 0.05
    out = tmp_path / "report"
    perform("evaluate", out=out, runs=runs, qrels=chain.beir, split="train", measures=["ndcg@10"])
    means = {name: run["means"]["ndcg@10"] for name, run in read_json(out / "report.json")["runs"].items()}
    assert means["fp32"] > 0.4  # at random it would be 0.08
    assert abs(means["int8"] - means["fp32"]) < 0.02
