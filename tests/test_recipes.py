"""The recipes that come along: each can be judged without its data, and the published ones say what was published."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from seedcli.cli import app

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
PUBLISHED = ["msmarco-passage", "msmarco-document", "nq"]


@pytest.fixture(autouse=True)
def nothing_there(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe in RECIPES:
        for name in re.findall(r"\$\{([A-Z_]+)\}", recipe.read_text(encoding="utf-8")):
            monkeypatch.delenv(name, raising=False)


def run(*arguments: Any) -> str:
    answer = CliRunner().invoke(app, ["run", *map(str, arguments)], env={"COLUMNS": "100"})
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def stages(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for variable in ("SEED_ENCODER", "WARMUP", "MSMARCO", "MSMARCO_DOCS", "NQ"):
        monkeypatch.setenv(variable, variable)
    shown: dict[str, Any] = yaml.safe_load(run(FOLDER / f"{name}.yaml", "--show"))["stages"]
    return shown


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_judged_without_environment_and_data(recipe, tmp_path):
    told = run(recipe, "--dry-run")
    unset = set(re.findall(r"\$\{([A-Z_]+)\}", recipe.read_text(encoding="utf-8")))
    assert {line.split()[0] for line in told.splitlines() if " is not set: " in line} == unset
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_stage_of_a_published_recipe_has_an_estimate(name):
    rows = json.loads(run(FOLDER / f"{name}.yaml", "--dry-run", "--json"))
    assert rows
    assert [row["stage"] for row in rows if row["estimate"]["unknown"]] == []
    assert all(row["estimate"]["parts"][0]["hours"] > 0 for row in rows if row["verb"] in {"finetune", "encode"})
    told = run(FOLDER / f"{name}.yaml", "--dry-run")
    assert "An estimate, for 8 devices of 312 TFLOP/s, of which 40 % is reached" in " ".join(told.split())
    assert all(len(line) <= 100 for line in told.splitlines() if " is not set: " not in line)


PAIRWISE, DPR = ("pairwise", "file", 1), ("in-batch", "file", 1)
ANCE, ANCE_NQ = ("pairwise", "ance", 20), ("pairwise", "ance", 100)


@pytest.mark.parametrize(
    ("name", "stage", "loss", "lengths", "batch", "optimizer", "lr", "warmup", "clip", "steps", "falls"),
    [
        (
            "msmarco-passage",
            "warmup",
            PAIRWISE,
            (128, 128),
            8 * 32,
            "lamb",
            2e-4,
            1_000,
            1.0,
            90_000,
            2 * (35_000_000 // 256),
        ),
        ("msmarco-passage", "ance", ANCE, (64, 512), 4 * 16, "lamb", 1e-6, 5_000, 1.0, 440_000, 1_000_000),
        ("msmarco-document", "firstp", ANCE, (64, 512), 4 * 4 * 4, "lamb", 5e-6, 3_000, 1.0, 800_000, 1_000_000),
        ("msmarco-document", "maxp", ANCE, (64, 512), 8 * 2 * 8, "lamb", 1e-5, 500, 1.0, 1_000_000, None),
        ("nq", "dpr", DPR, (256, 256), 8 * 16, "adamw", 2e-5, 1_237, 2.0, None, None),
        ("nq", "ance", ANCE_NQ, (256, 256), 8 * 32, "lamb", 1e-5, 1_000, 2.0, 300_000, None),
    ],
)
def test_the_settings_are_the_published_ones(
    name, stage, loss, lengths, batch, optimizer, lr, warmup, clip, steps, falls, monkeypatch
):
    config = stages(name, monkeypatch)[stage]
    options, tower, negatives = config["optimize"], config["tower"], config["negatives"]
    assert (config["loss"]["loss"], negatives["negatives"], negatives["hard"]) == loss
    assert (tower["query_length"], tower["passage_length"]) == lengths
    assert (options["batch_size"], options["optimizer"], options["lr"]) == (batch, optimizer, lr)
    assert (options["warmup"], options["clip"], options["steps"]) == (warmup, clip, steps)
    assert options["schedule_steps"] == falls
    assert (options["schedule"], options["weight_decay"], options["eps"]) == ("linear", 0, 1e-8)
    assert (tower["pooling"], tower["similarity"], tower["head"], tower["untied"]) == (
        ("cls", "dot", "none", True) if name == "nq" else ("cls", "dot", "linear", None)
    )
    if negatives["negatives"] == "ance":
        assert (negatives["negative_depth"], negatives["ance"], negatives["ance_compat"]) == ("200", "async", True)
        own = (5_000, 1.0, "first", True) if name == "nq" else (10_000, 0.2, "random", False)
        assert tuple(negatives[key] for key in ("refresh", "refresh_share", "take", "drop_answers")) == own
        assert config["saving"]["save_every"] == own[0]


def test_the_papers_bm25_negatives_are_one_option_away():
    paper = ("--set", "warmup.negatives.negatives=bm25")
    rows = json.loads(run(FOLDER / "msmarco-passage.yaml", "--dry-run", "--json", *paper))
    train, mined, _ = next(row["estimate"]["parts"] for row in rows if row["stage"] == "warmup")
    assert train["number"] == 90_000
    assert mined["disk"] == 48 * 502_939 * 100  # a run of the top 100
