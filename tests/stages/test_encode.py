"""seed encode as a whole: what stops it loses nothing."""

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

import pytest

from seedcli.base.manifest import read_manifest

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
