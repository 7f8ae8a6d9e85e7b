"""kill -9 or SIGTERM in the middle of a stage, then the same command: the bytes of a run that nothing interrupted."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seedcli.base.manifest import read_manifest
from seedcli.retrieval.run_files import read_run
from seedcli.training.checkpoint import checkpoints
from seedcli.training.log import NEVER_THE_SAME

pytestmark = pytest.mark.slow
SEED = Path(sys.executable).with_name("seed")
TRAINING = {"optimize.batch_size": 8, "optimize.warmup": 2, "saving.save_every": 3, "saving.log_every": 2}


def command(verb: str, options: dict[str, Any]) -> list[str]:
    return [str(SEED), verb, *(part for key, value in options.items() for part in ("--set", f"{key}={value}"))]


def wait_for(sign: str, folder: Path, process: subprocess.Popen[Any]) -> None:
    while not any(folder.glob(sign)) and process.poll() is None:
        time.sleep(0.001)


def killed(verb: str, options: dict[str, Any], sign: str) -> bool:
    """Start a command and kill it as soon as a file like `sign` is in its folder; False when it ended before that."""
    with subprocess.Popen(command(verb, options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for(sign, options["out"], process)
        process.kill()
        _, errors = process.communicate()
    assert process.returncode in {0, -signal.SIGKILL}, errors.decode()
    manifest = read_manifest(options["out"])
    return manifest is not None and manifest.status == "running"


def interrupted(
    verb: str, options: dict[str, Any], sign: str, longer: Callable[[int], dict[str, Any]]
) -> dict[str, Any]:
    """Leave an unfinished folder: the options of the command that was killed in it, made longer until that succeeds."""
    for attempt in range(1, 5):
        given = options | longer(attempt) | {"out": options["out"].with_name(f"killed-{attempt}")}
        if killed(verb, given, sign):
            return given
    pytest.fail(f"seed {verb} always ended before it could be killed")


def losses(folder: Path) -> list[dict[str, float]]:
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in record.items() if k == "step" or k not in NEVER_THE_SAME} for record in records]


@pytest.mark.parametrize("kind", ["pretrain", "finetune", "finetune with all there is"])
def test_killed_training_goes_on_to_the_same_bytes(kind, chain, tmp_path, perform):
    verb = kind.split()[0]
    options: dict[str, Any] = {"out": tmp_path / "out", "machine.threads": 1, **TRAINING}
    if verb == "pretrain":
        options |= {"text": chain.beir, "words.tokenizer": chain.encoder, "words.length": 32, "model.size": "tiny"}
    else:
        negatives = chain.retriever / "bm25.trec"
        options |= {"model": chain.encoder, "data": chain.beir, "negatives.negatives": negatives}
    if kind.endswith("is"):
        options |= {"tower.untied": "true", "tower.head": "linear", "tower.dimensions": [8], "loss.loss": "triplet"}
        options |= {"negatives.hard": 3, "optimize.optimizer": "lamb", "optimize.chunk": 3, "fraction": 0.9}
        options |= {"watch.dev": "test", "watch.watch_every": 7, "watch.dev_passages": 30}
    sign = "checkpoints/0*.safetensors"
    given = interrupted(verb, options, sign, lambda attempt: {"optimize.steps": 20 * 2**attempt})
    ((step, _),) = checkpoints(given["out"] / "checkpoints")
    assert 0 < step < given["optimize.steps"]
    if verb == "pretrain":
        done = subprocess.run(command(verb, given), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    else:
        perform(verb, **given)
    perform(verb, **{**given, "out": tmp_path / "whole"})
    made, whole = (
        {path.relative_to(folder): path for path in folder.rglob("*")} for folder in (given["out"], tmp_path / "whole")
    )
    assert made.keys() == whole.keys()
    weights = [name for name in made if name.suffix == ".safetensors"]
    assert len(weights) == (1 if verb == kind else 12 if Path("last") in made else 6)  # of a tower with its head, 3
    assert all(made[name].read_bytes() == whole[name].read_bytes() for name in weights)
    assert losses(given["out"]) == losses(tmp_path / "whole")


def test_sigterm_saves_the_step_under_way_and_the_command_goes_on_to_the_same_bytes(chain, tmp_path, perform):
    options: dict[str, Any] = {"text": chain.beir, "words.tokenizer": chain.encoder, "words.length": 32}
    options |= {"model.size": "tiny", "machine.threads": 1, **TRAINING, "optimize.steps": 60, "saving.save_every": 59}
    out = tmp_path / "stopped"
    with subprocess.Popen(command("pretrain", {**options, "out": out}), stderr=subprocess.PIPE, text=True) as process:
        wait_for("log.jsonl", out, process)
        process.terminate()
        _, told = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    ((step, _),) = checkpoints(out / "checkpoints")
    assert 2 <= step < 59
    assert told.splitlines()[-1] == f"stopped after step {step}, which is saved; repeat the command to go on"
    assert not {"Traceback", "error", "interrupted"} & set(told.split())
    for folder in (out, tmp_path / "whole"):
        perform("pretrain", **{**options, "out": folder})
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert losses(out)[-1]["step"] == 60
    assert not (out / "checkpoints").exists()


def test_killed_encoding_goes_on_to_the_same_bytes(chain, tmp_path, perform, listing):
    options = {"out": tmp_path / "out", "machine.threads": 1, "model": chain.retriever}
    shards = 60

    def longer(attempt: int) -> dict[str, Any]:
        """The collection, again and again."""
        folder = tmp_path / f"longer-{attempt}"
        folder.mkdir()
        records = [json.loads(line) for line in (chain.beir / "corpus.jsonl").read_text().splitlines()]
        rows = [{**record, "_id": f"{record['_id']}-{copy}"} for copy in range(4**attempt) for record in records]
        (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"corpus": folder, "shard_size": len(rows) // shards}

    given = interrupted("encode", options, "vectors-00000.safetensors", longer)
    before = listing(given["out"])
    made = [name for name in before if name.startswith("vectors-")]
    assert 0 < len(made) < shards
    perform("encode", **given)
    after = listing(given["out"])
    assert all(after[name] == before[name] for name in made)
    perform("encode", **{**given, "out": tmp_path / "whole"})
    whole = listing(tmp_path / "whole")
    assert after.keys() == whole.keys()
    shards_of = [
        {name: sum_ for name, sum_ in files.items() if name.startswith("vectors-")} for files in (after, whole)
    ]
    assert shards_of[0] == shards_of[1]
    assert len(shards_of[1]) == shards


@pytest.mark.parametrize("run_format", ["trec", "parquet"])
def test_a_killed_search_goes_on_after_its_last_part(run_format, chain, tmp_path, perform):
    """Of 4,096 queries each; what is there already isn't searched for again."""
    asked = tmp_path / "asked.jsonl"
    with asked.open("w") as file:
        file.writelines(
            json.dumps({"_id": f"q{row}", "text": f"what does animal {row} eat"}) + "\n" for row in range(9_000)
        )
    options = {
        "index": f"[{chain.flat}]",
        "queries": asked,
        "depth": 20,
        "run_format": run_format,
        "machine.threads": 1,
    }
    given = interrupted("search", options | {"out": tmp_path / "out"}, "parts-of-4096/00000.*", lambda _: {})
    (first,) = (given["out"] / "parts-of-4096").glob("00000.*")
    written = first.stat().st_mtime_ns, first.stat().st_ino
    again = subprocess.Popen(command("search", given), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    states = set()
    while again.poll() is None:
        states |= {(path.stat().st_mtime_ns, path.stat().st_ino) for path in [first] if path.exists()}
        time.sleep(0.005)
    assert again.returncode == 0
    assert states == {written}
    perform("search", out=tmp_path / "whole", **options | {"index": [str(chain.flat)]})
    names = {path.name for path in given["out"].iterdir()}
    assert names == {path.name for path in (tmp_path / "whole").iterdir()}
    one, other = (read_run(folder / f"run.{run_format}") for folder in (given["out"], tmp_path / "whole"))
    assert one.queries == other.queries
    assert (one.documents == other.documents).all()
    assert (one.scores == other.scores).all()
