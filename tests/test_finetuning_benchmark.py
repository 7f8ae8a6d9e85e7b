"""benchmarks/finetuning.py: what it will run, and that a line serves its settings alone."""

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def finetuning(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # it imports its neighbour
    return importlib.import_module("finetuning")


@pytest.fixture
def options(finetuning: ModuleType, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["finetuning.py", "--work", "work", "--plan"])
    read: argparse.Namespace = finetuning.read_options()
    return read


def test_every_method_runs_with_a_head_and_without_and_the_baseline_first(finetuning: ModuleType) -> None:
    whole = [run for run in finetuning.RUNS if run.method in finetuning.METHODS and run.fraction == 1]
    assert sorted(whole) == sorted(
        finetuning.Run(method, head) for method in finetuning.METHODS for head in (False, True)
    )
    assert whole[0] == finetuning.Run(finetuning.BASELINE)
    assert len(finetuning.RUNS) == len(set(finetuning.RUNS)) == 12
    parts = {run.fraction for run in finetuning.RUNS if run.method == "dpr-bm25" and not run.head}
    assert parts == set(finetuning.FRACTIONS)


def test_a_line_serves_only_runs_of_its_settings(finetuning: ModuleType) -> None:
    run = finetuning.Run("triplet", True)
    lines = [json.loads(json.dumps({**run._asdict(), "settings": {"steps": 10}}))]
    assert finetuning.find(lines, {"steps": 10}, run) is lines[0]
    assert finetuning.find(lines, {"steps": 20}, run) is None
    assert finetuning.find(lines, {"steps": 10}, run._replace(head=False)) is None


def test_the_command_of_a_line_gives_its_settings_again(
    finetuning: ModuleType, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: value for name, value in vars(options).items() if name not in finetuning.INCIDENTAL} | {"steps": 7}
    plain = "SEED_DATA=FOLDER python benchmarks/"
    command = finetuning.command(given)
    assert command.startswith(f"{plain}finetuning.py --work finetuning ")
    monkeypatch.setattr(sys, "argv", [*command.removeprefix(plain).split(), "--plan"])
    read = finetuning.read_options()
    assert {name: value for name, value in vars(read).items() if name not in finetuning.INCIDENTAL} == given


def test_what_a_log_says_goes_into_a_line(
    finetuning: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"loss": 2.123456, "negatives": 127.0, "accuracy": 0.5, "steps_per_second": 1.0}
    records = [{"step": 0, "dev_mrr@10": 0.1}, {"step": 10, **figures}, {"step": 20, **figures, "dev_mrr@10": 0.25}]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))

    done = SimpleNamespace(metrics={"queries": 40, "best_step": 20})
    monkeypatch.setattr(finetuning, "finished", lambda _: done)
    told = finetuning.training(tmp_path)
    assert told["looks"] == [{"step": 0, "dev_mrr@10": 0.1}, {"step": 20, "dev_mrr@10": 0.25}]
    assert [record["loss"] for record in told["curve"]] == [2.1235, 2.1235]
    assert (told["trained"], told["best_step"]) == (40, 20)
