"""benchmarks/objectives.py: what it will run, in which order, and with how much."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "objectives.py"


@pytest.fixture(scope="module")
def objectives() -> ModuleType:
    spec = importlib.util.spec_from_file_location("objectives", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def options(objectives: ModuleType, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["objectives.py", "--work", "work", "--plan"])
    read: argparse.Namespace = objectives.read_options()
    return read


def test_a_larger_share_of_the_questions_holds_the_smaller(objectives: ModuleType) -> None:
    questions = [f"q{number}" for number in range(1_000)]
    shares = [objectives.drawn(questions, fraction, seed=3) for fraction in (0.01, 0.1, 1.0)]
    assert [len(share) for share in shares] == [10, 100, 1_000]
    assert shares[0] < shares[1] < shares[2]
    assert shares[0] != objectives.drawn(questions, 0.01, seed=4)
    assert shares[0] == objectives.drawn(questions[::-1], 0.01, seed=3)


def test_masked_words_get_more_steps_until_they_cost_as_much_as_seed(
    objectives: ModuleType, options: argparse.Namespace
) -> None:
    def cost(model: str) -> float:
        return float(objectives.operations(options, objectives.Run(model, 0)))

    assert cost("mlm-equal-operations") == pytest.approx(cost("seed"), rel=1e-3)
    assert cost("mlm") < cost("seed") < cost("strong")
    tokens = {objectives.tokens(options, objectives.Run(model, 0)) for model in ("mlm", "seed", "strong")}
    assert tokens == {options.steps * options.batch_size * options.length}


def test_what_a_run_is_tested_against_comes_before_it_and_all_questions_come_last(
    objectives: ModuleType, options: argparse.Namespace
) -> None:
    runs = list(objectives.planned(options))
    assert len(runs) == len(set(runs)) == 4 + 5 * 4 + 1
    for fraction in objectives.FRACTIONS:
        models = [run.model for run in runs if run.fraction == fraction]
        assert models == list(objectives.DECODERS)
    assert all(run.fraction == 1.0 for run in runs[-5:])


def test_a_line_serves_only_runs_of_its_settings(objectives: ModuleType) -> None:
    run = objectives.Run("seed", 0, 0.1)
    lines = [json.loads(json.dumps({**run._asdict(), "settings": {"steps": 10, "tune_steps": [1, 2, 3]}}))]
    assert objectives.find(lines, {"steps": 10, "tune_steps": [1, 2, 3]}, run) is lines[0]
    assert objectives.find(lines, {"steps": 20, "tune_steps": [1, 2, 3]}, run) is None
    assert objectives.find(lines, {"steps": 10, "tune_steps": [1, 2, 3]}, run._replace(fraction=1.0)) is None


def test_losses_are_means_over_equal_spans(objectives: ModuleType, tmp_path: Path) -> None:
    records = [
        {"step": step, "loss": step, "mlm": float(step), "decoder": 0.0, "steps_per_second": 2.0}
        for step in range(1, 41)
    ]
    records = [{"step": 0, "held_out_mlm": 9.0}, *records[:-1], records[-1] | {"held_out_mlm": 1.23456}]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    told = objectives.training(tmp_path)
    assert told["curve"][0] == {"step": 2, "mlm": 1.5}
    assert told["losses"] == {"mlm": 39.5}
    assert told["looks"] == [{"step": 0, "held_out_mlm": 9.0}, {"step": 40, "held_out_mlm": 1.2346}]


def test_the_command_of_a_line_gives_its_settings_again(
    objectives: ModuleType, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(read: argparse.Namespace) -> dict[str, Any]:
        return {name: value for name, value in vars(read).items() if name not in objectives.INCIDENTAL}

    given = settings(options) | {"tune_steps": [1, 2, 3], "std": 0.02}
    plain = "SEED_DATA=FOLDER python benchmarks/"
    command = objectives.command(given, 5)
    assert command.startswith(f"{plain}objectives.py --work objectives --seed 5 ")
    monkeypatch.setattr(sys, "argv", [*command.removeprefix(plain).split(), "--plan"])
    assert settings(objectives.read_options()) == given
