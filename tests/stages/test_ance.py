"""seed finetune --negatives ance: in turn, asynchronous, in roles of their own, and through any kill."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedcli.base.errors import ConfigError, FolderError, Interrupted
from seedcli.base.manifest import read_manifest
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.data.ragged import Ragged
from seedcli.negatives import renewal
from seedcli.negatives.ance import NegativeSet, write_set
from seedcli.negatives.examples import Scores
from seedcli.negatives.renewal import Beside
from seedcli.training.log import NEVER_THE_SAME

SEED = Path(sys.executable).with_name("seed")
FEW = {"optimize.steps": 7, "optimize.batch_size": 8, "optimize.warmup": 1, "optimize.lr": 1e-3, "saving.log_every": 1}
ANCE = {"negatives.negatives": "ance", "negatives.refresh": 3, "negatives.negative_depth": "20"}


@pytest.fixture
def tune(chain, perform, tmp_path):
    """Fine-tunes the chain's encoder on the collection, with negatives of its own."""

    def tuned(name: str = "out", **flags: Any) -> Path:
        out = tmp_path / name
        perform("finetune", out=out, **{"model": chain.encoder, "data": chain.beir} | FEW | ANCE | flags)
        return out

    return tuned


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def sets(folder: Path) -> list[dict[str, Any]]:
    """What the log has of sets of negatives."""
    return [record for record in log(folder) if "negatives_step" in record]


def test_in_turn_each_set_is_of_the_weights_of_its_step(tune):
    out = tune()
    told = sets(out)
    assert [(record["step"], record["negatives_step"]) for record in told] == [(0, 0), (3, 3), (6, 6)]
    assert "negatives_overlap" not in told[0]
    for record in told[1:]:
        assert 0 < record["negatives_overlap"] <= 1
        assert record["training_seconds"] > 0
    for record in told:
        assert 0 <= record["negatives_above_positive"] < 1
        assert record["negatives_refresh_seconds"] > 0
    assert not (out / "ance").exists()
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize("loss", ["in-batch", "pairwise"])
def test_negatives_are_the_first_of_the_ranking(loss, tune, monkeypatch):
    drawn: list[tuple[list[int], list[int]]] = []
    wrong = renewal.ContrastiveBatches._wrong

    def recorded(self: Any, row: int, rng: Any) -> Any:
        rows, places = wrong(self, row, rng)
        drawn.append((rows, self.data.negatives[row].tolist()))
        return rows, places

    monkeypatch.setattr(renewal.ContrastiveBatches, "_wrong", recorded)
    tune(**{"negatives.take": "first", "negatives.hard": 2, "loss.loss": loss})
    assert len(drawn) >= 7 * 8
    assert all(rows == pool[:2] for rows, pool in drawn)


def test_each_step_trains_on_the_set_of_its_turn(tune, monkeypatch):
    """Sets that name themselves: all candidates of the n-th are passage n."""
    drawn: dict[int, set[int]] = {}
    read, call = renewal.read_set, renewal.ContrastiveBatches.__call__

    def named(folder: Path, number: int) -> NegativeSet:
        found = read(folder, number)
        return found._replace(negatives=Ragged(np.full_like(found.negatives.values, number), found.negatives.offsets))

    def recorded(self: Any, step: int, *rest: Any) -> Any:
        drawn[step] = set(np.unique(self.data.negatives.values).tolist())
        return call(self, step, *rest)

    monkeypatch.setattr(renewal, "read_set", named)
    monkeypatch.setattr(renewal.ContrastiveBatches, "__call__", recorded)
    tune()
    assert {step: drawn[step] for step in range(7)} == {step: {step // 3} for step in range(7)}


def test_a_set_is_of_the_weights_of_its_step(tune, monkeypatch):
    """Searched for again from the checkpoint of that step, it comes out the same."""
    made: dict[int, list[int]] = {}
    write = renewal.write_set

    def kept(folder: Path, new: NegativeSet) -> None:
        made[new.step] = new.negatives.values.tolist()
        write(folder, new)

    monkeypatch.setattr(renewal, "write_set", kept)
    tune("whole")
    short = tune("short", **{"optimize.steps": 3, "optimize.schedule_steps": 7})
    whole = made.copy()
    tune("again", model=short, **{"optimize.steps": 1})
    assert made[0] == whole[3] != whole[0]


def test_a_share_of_the_queries_is_covered_at_a_time(tune, monkeypatch):
    trained = []
    of = NegativeSet.of

    def counted(self: NegativeSet, data: Any) -> Any:
        trained.append(self.examples.tolist())
        return of(self, data)

    monkeypatch.setattr(NegativeSet, "of", counted)
    out = tune(**{"negatives.refresh_share": 0.5, "optimize.batch_size": 4})
    trained = trained[1::2]  # each set is looked at once when it is made, and once when it is taken
    assert [len(examples) for examples in trained] == [20, 20, 20]
    assert sorted(trained[0] + trained[1]) == list(range(40))
    assert trained[2] == trained[0]
    assert ["negatives_overlap" in record for record in sets(out)] == [False, False, True]  # of the same queries


def test_the_release_may_take_what_is_right_for_a_negative(tune, chain, tmp_path):
    judged = tmp_path / "judged"
    judged.mkdir()
    for name in ("corpus.jsonl", "queries.jsonl"):
        (judged / name).write_bytes((chain.beir / name).read_bytes())
    (judged / "qrels").mkdir()
    ids = [json.loads(line)["_id"] for line in (judged / "corpus.jsonl").read_text().splitlines()]
    lines = [f"q:{ids[0]}\t{id_}\t1\n" for id_ in ids[:20]]
    (judged / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    dropped = {}
    for compat in (False, True):
        out = tune(
            f"{compat}",
            data=judged,
            **{"negatives.ance_compat": compat, "negatives.negative_depth": "60", "optimize.steps": 1},
        )
        (told,) = json.loads((out / "negatives.json").read_text())["sets"]
        dropped[compat] = told["dropped"]["right"]
    assert dropped == {False: 20, True: 1}


def test_margins_and_answers_filter_each_set(tune):
    free, kept = tune("free"), tune("kept", **{"negatives.absolute_margin": 0.0})
    assert sets(free)[0]["negatives_above_positive"] > 0
    assert sets(kept)[0]["negatives_above_positive"] == 0
    first = [json.loads((out / "negatives.json").read_text())["sets"][0] for out in (free, kept)]
    assert first[0]["dropped"] == {"right": first[1]["dropped"]["right"]}
    assert first[0]["candidates"] - first[1]["candidates"] == first[1]["dropped"]["absolute margin"] > 0


def test_long_passages_are_found_by_their_best_segment(tune):
    out = tune(**{"tower.segments": 3, "tower.passage_length": 8, "negatives.hard": 2})
    assert len(sets(out)) == 3
    told = json.loads((out / "negatives.json").read_text())["sets"]
    assert [(each["number"], each["step"], each["queries"]) for each in told] == [(0, 0, 40), (1, 3, 40), (2, 6, 40)]
    for each in told:
        assert each["candidates"] == 40 * 20 - each["dropped"]["right"]  # distinct ones


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"negatives.hard": 0}, "--hard 1"),
        ({"negatives.role": "refresher"}, "--role and negatives.staleness: are for --negatives ance --ance async"),
        ({"negatives.refresh_share": 0.4}, "give one in so many, such as 0.5, 0.25 or 0.2"),
        ({"negatives.staleness": 5}, "are for --negatives ance --ance async"),
        ({"negatives.negatives": "bm25"}, "negatives.refresh: is for --negatives ance"),
        ({"negatives.negatives": "bm25", "negatives.ance_compat": True}, "is for --negatives ance"),
        ({"loss.loss": "kl"}, "needs a teacher's scores"),
    ],
)
def test_options_that_do_not_go_together_are_refused(flags, message, tune, tmp_path):
    with pytest.raises(ConfigError, match=re.escape(message)):
        tune(**flags)
    assert not (tmp_path / "out").exists()


def a_set(number: int, step: int) -> NegativeSet:
    rows = Ragged.of([[number]], np.int64)
    scores = Scores(Ragged.of([[1.0]], np.float32), Ragged.of([[0.0]], np.float32))
    return NegativeSet(number, step, np.array([0]), rows, scores, {"refresh_seconds": 1.0})


class Batches:
    data: Any = None


class Data:
    """Stands for a training set, of which a set takes its part."""


@pytest.fixture
def follower(tmp_path, monkeypatch) -> Callable[[int | None], Beside]:
    monkeypatch.setattr(NegativeSet, "of", lambda self, _: self.number)
    monkeypatch.setattr(renewal, "WAIT", 0.01)
    (tmp_path / "negatives.json").write_text("{}")

    def made(staleness: int | None) -> Beside:
        return Beside(tmp_path, Data(), Batches(), staleness, Runtime(), Silent(), lambda: None, tmp_path)  # type: ignore[arg-type]

    return made


def test_the_trainer_takes_the_newest_set_and_tells_how_old_it_is(follower, tmp_path):
    write_set(tmp_path, a_set(0, 0))
    beside = follower(None)
    assert beside(0, lambda: 0)["negatives_staleness"] == 0
    write_set(tmp_path, a_set(1, 4))
    write_set(tmp_path, a_set(2, 9))
    assert beside(14, lambda: 0) == {}  # it looks now and then
    told = beside(15, lambda: 0)
    assert (told["negatives_step"], told["negatives_staleness"]) == (9, 6)
    assert beside.batches.data == 2
    assert beside(20, lambda: 0) == {}


def test_the_trainer_waits_where_a_bound_is_set_and_only_there(follower, tmp_path):
    write_set(tmp_path, a_set(0, 0))
    free, bound = follower(None), follower(10)
    for beside in (free, bound):
        beside(0, lambda: 0)
    assert free(100, lambda: 0) == {}
    asked = itertools.chain([0, 0, 0], itertools.repeat(15))
    assert not bound.due(10)
    assert bound(10, lambda: 0) == {}
    assert bound.due(11)
    with pytest.raises(Interrupted, match="waiting for negatives"):
        bound(11, lambda: next(asked))
    bound.attend = lambda: write_set(tmp_path, a_set(1, 12))
    assert bound(11, lambda: 0)["negatives_staleness"] == -1


def test_a_wait_for_the_first_set_can_be_stopped(follower):
    asked = itertools.chain([0, 0], itertools.repeat(2))
    with pytest.raises(Interrupted, match="waiting for negatives") as stopped:
        follower(None)(0, lambda: next(asked))
    assert stopped.value.number == 2


def command(out: Path, chain: Any, *flags: Any, **options: Any) -> list[str]:
    given = {"model": chain.encoder, "data": chain.beir, **FEW, **ANCE, "negatives.ance": "async", **options}
    pairs = (part for key, value in given.items() for part in ("--set", f"{key}={value}"))
    return [str(SEED), "finetune", "--out", str(out), "--threads", "1", *pairs, *map(str, flags)]


def run(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "sign", ["ance/set-000000*", "checkpoints/0*", "ance/vectors/0000009/vectors*", "ance/set-000002*"]
)
def test_a_killed_run_in_turn_goes_on_to_the_same_bytes(sign, chain, tmp_path, perform):
    options = {"negatives.ance": "in-turn", "optimize.steps": 16, "saving.save_every": 4}
    out = tmp_path / "killed"
    with run(command(out, chain, **options)) as process:
        while process.poll() is None and not any(out.glob(sign)):
            time.sleep(0.001)
        process.kill()
        said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    given = {"model": chain.encoder, "data": chain.beir} | FEW | ANCE | options
    for folder in (out, tmp_path / "whole"):
        perform("finetune", out=folder, **given)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    logs = [
        [
            {key: value for key, value in record.items() if key == "step" or key not in NEVER_THE_SAME}
            for record in log(each)
        ]
        for each in (out, tmp_path / "whole")
    ]
    assert logs[0] == logs[1]
    assert read_manifest(out).metrics == read_manifest(tmp_path / "whole").metrics
    assert (out / "negatives.json").read_text() == (tmp_path / "whole" / "negatives.json").read_text()
    assert [record["negatives_step"] for record in sets(out)] == [0, 3, 6, 9, 12, 15]


@pytest.mark.slow
def test_one_command_starts_both_and_ends_both(chain, tmp_path):
    out = tmp_path / "out"
    with run(command(out, chain, **{"negatives.staleness": 4, "optimize.steps": 20})) as process:
        while process.poll() is None and not (out / "ance" / "refresher.json").is_file():
            time.sleep(0.01)
        refresher = json.loads((out / "ance" / "refresher.json").read_text())["process"]
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert not alive(refresher)
    told = sets(out)
    assert told[0]["step"] == 0
    assert len(told) >= 4
    steps = [record["negatives_step"] for record in told]
    assert steps == sorted(set(steps))
    of_step = {record["step"]: record["negatives_step"] for record in told}
    for step in range(20):
        newest = max(at for at in of_step if at <= step)
        assert step - of_step[newest] <= 4
    assert not (out / "ance").exists()
    assert "negatives of step 0: " in said


@pytest.mark.slow
def test_the_roles_find_each_other_in_any_order(chain, tmp_path):
    out = tmp_path / "out"
    with run(command(out, chain, "--role", "refresher")) as refresher:
        assert "waiting for a trainer" in refresher.stdout.readline()
        other = subprocess.run(
            command(out, chain, "--role", "trainer"), capture_output=True, text=True, check=False, timeout=120
        )
        said, _ = refresher.communicate(timeout=60)
    assert other.returncode == 0, other.stderr
    assert refresher.returncode == 0, said
    assert "candidates of 40 queries" in said
    assert read_manifest(out).status == "finished"
    assert not (out / "ance").exists()


@pytest.mark.slow
def test_a_refresher_of_other_options_is_refused(chain, tune):
    out = tune("out", **{"negatives.ance": "async", "optimize.steps": 3})
    wrong = subprocess.run(
        command(out, chain, "--role", "refresher", "--hard", 3), capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "negatives.hard was 1, now 3" in wrong.stderr
    assert FolderError.__name__ not in wrong.stderr


@pytest.mark.slow
def test_both_sides_are_killed_at_random_and_training_comes_to_its_end(chain, tmp_path):
    """Twenty kill -9, of the trainer or of the refresher that it started, at random moments."""
    rng, kills = random.Random(0), {"trainer": 0, "refresher": 0}
    options = {"optimize.steps": 100, "negatives.staleness": 6, "saving.save_every": 3, "negatives.refresh": 3}
    for number in itertools.count():
        out = tmp_path / str(number)
        beats = out / "ance" / "refresher.json"
        while not (manifest := read_manifest(out)) or manifest.status != "finished":
            with run(command(out, chain, **options)) as trainer:
                while trainer.poll() is None and sum(kills.values()) < 20:
                    begun = beats.read_bytes() if beats.is_file() else b""
                    while trainer.poll() is None and (not beats.is_file() or beats.read_bytes() == begun):
                        time.sleep(0.01)  # until a refresher is at work
                    time.sleep(rng.uniform(0, 1.5))
                    if trainer.poll() is None and rng.random() < 0.6:
                        with suppress(ProcessLookupError, FileNotFoundError):  # it ended by itself
                            os.kill(json.loads(beats.read_text())["process"], signal.SIGKILL)
                            kills["refresher"] += 1
                    elif trainer.poll() is None:
                        trainer.kill()
                        kills["trainer"] += 1
                said, _ = trainer.communicate(timeout=300)
            assert trainer.returncode in {0, -signal.SIGKILL}, said
        steps = [record["negatives_step"] for record in sets(out)]
        assert steps == sorted(steps)
        assert max(steps) > 80
        assert [record["step"] for record in log(out) if "loss" in record] == list(range(1, 101))
        assert not list(out.rglob("*.part"))
        assert not (out / "ance").exists()
        if sum(kills.values()) >= 20:
            break
    assert min(kills.values()) >= 3


def names(folder: Path, pattern: str) -> set[str]:
    """What is there, of folders that come and go meanwhile."""
    while True:
        with suppress(FileNotFoundError):
            return {path.name for path in folder.glob(pattern)}


@pytest.mark.slow
def test_roles_that_are_killed_while_they_write_go_on_when_they_are_started_again(chain, tmp_path):
    """Eight kill -9, each as soon as its victim has begun or ended a file; the other lives on."""
    out, roles = tmp_path / "out", ("trainer", "refresher")
    options = {"optimize.steps": 60, "negatives.staleness": 8, "saving.save_every": 4, "negatives.refresh": 4}
    signs = {"trainer": "checkpoints/*", "refresher": "ance/[vs.]*/**/*"}
    started = {role: run(command(out, chain, "--role", role, **options)) for role in roles}
    rng, kills = random.Random(1), 0
    while started["trainer"].poll() is None:
        victim = roles[kills % 2]
        before = names(out, signs[victim])
        while started["trainer"].poll() is None and not names(out, signs[victim]) - before:
            time.sleep(0.001)
        time.sleep(rng.choice([0, 0.01, 0.1]))
        if kills < 8 and started[victim].poll() is None:
            started[victim].kill()
            started[victim].communicate()
            started[victim] = run(command(out, chain, "--role", victim, **options))
            kills += 1
        elif kills == 8:
            started["trainer"].wait(120)
    told = {role: process.communicate(timeout=60)[0] for role, process in started.items()}
    assert kills == 8
    assert {role: process.returncode for role, process in started.items()} == {"trainer": 0, "refresher": 0}, told
    assert read_manifest(out).status == "finished"
    assert "Traceback" not in told["trainer"] + told["refresher"]
    numbers = [each["number"] for each in json.loads((out / "negatives.json").read_text())["sets"]]
    assert numbers == sorted(set(numbers))
    assert not list(out.rglob("*.part"))
    assert not (out / "ance").exists()
