"""Hours on assumed devices, and what a recipe's stages would take, worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seedcli.base.errors import ConfigError
from seedcli.cli import app
from seedcli.stages.forecast import Part
from seedcli.stages.outlook import devices

RECIPE = """
expect:
  ${SOME_MODEL}: {about: a tiny encoder, size: tiny, vocabulary: 1000}
  ${SOME_DATA}: {passages: 1000, passage_tokens: 30, queries: {train: 100, test: 20}, query_tokens: 5}
stages:
  words: {verb: index, kind: bm25, corpus: "${SOME_DATA}"}
  ance:
    verb: finetune
    model: ${SOME_MODEL}
    data: ${SOME_DATA}
    negatives: {negatives: ance, ance: async, refresh: 10, refresh_share: 0.5, hard: 2}
    loss: {loss: pairwise}
    tower: {query_length: 8, passage_length: 10}
    optimize: {steps: 30, batch_size: 8}
  vectors: {verb: encode, model: "${ance}", corpus: "${SOME_DATA}"}
  asked: {verb: encode, model: "${ance}", queries: "${SOME_DATA}", split: test}
  flat: {verb: index, vectors: "${vectors}"}
  found: {verb: search, index: ["${flat}", "${words}"], queries: "${SOME_DATA}", split: test, depth: 5}
  found-again: {verb: search, index: "${flat}", queries: "${asked}", depth: 5}
  report: {verb: evaluate, runs: "${found}", qrels: "${SOME_DATA}"}
"""
QUERY, PASSAGE = 3_957_760, 7_966_720  # operations forward, as in test_forecast.py
TRAINED = 3 * 240 * (QUERY + 2 * PASSAGE)  # 14,321,664,000
REFRESHED = 3 * (1_000 * PASSAGE + 50 * QUERY + 2 * 50 * 1_000 * 128)  # 24,532,224,000
COMPARED = 2 * 20 * 1_000 * 128
ENCODED = 1_000 * PASSAGE + 20 * QUERY
REST = ENCODED + (20 * QUERY + COMPARED) + COMPARED  # the first search encodes its queries, the second has them


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch) -> Path:
    for name in ("SOME_MODEL", "SOME_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(RECIPE)
    return Path("r.yaml")


def dry_run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["run", *map(str, arguments), "--dry-run"], env={"COLUMNS": "100"})


def lines(*arguments: Any) -> dict[str, list[str]]:
    """The words of each line that is printed after its first."""
    answer = dry_run(*arguments)
    assert answer.exit_code == 0, answer.stderr
    words = [line.split() for line in answer.stdout.splitlines() if line]
    return {line[0]: line[1:] for line in words}


def shown(*arguments: Any) -> str:
    return " ".join(dry_run(*arguments).stdout.split())


def estimates(*arguments: Any) -> dict[str, Any]:
    answer = dry_run(*arguments, "--json")
    assert answer.exit_code == 0, answer.stderr
    return {row["stage"]: row.get("estimate") for row in json.loads(answer.stdout)}


def test_devices_are_named_or_given_by_their_speed():
    assert devices("8xA100@40%") == (8, 312e12, 0.4)
    assert devices("h100@35.5%") == (1, 989e12, 0.355)
    assert devices("2x0.5@100%") == (2, 0.5e12, 1.0)
    assert str(devices("8xA100@40%")) == "8 devices of 312 TFLOP/s, of which 40 % is reached"
    assert str(devices("1x20@30%")) == "1 device of 20 TFLOP/s, of which 30 % is reached"


@pytest.mark.parametrize("words", ["", "8xA100", "8xA1000@40%", "0xA100@40%", "8xA100@0%", "8x0@40%", "a100@140%"])
def test_other_words_are_refused_with_an_example(words):
    with pytest.raises(ConfigError, match=r"--assume .*: expected devices .*8xA100@40%.*known by name are T4, V100"):
        devices(words)


def test_hours_are_operations_by_what_is_reached():
    assert devices("2x100@50%").hours(Part("steps", 1, operations=3_600 * 1e14)) == 1


def test_each_stage_is_estimated_in_numbers(recipe):
    found = estimates(recipe, "--assume", "1x1@50%")
    train, refresh = found["ance"]["parts"]
    assert (train["unit"], train["number"], train["tokens"], train["disk"]) == ("steps", 30, 240 * 25, 2_347_008)
    assert train["operations"] == pytest.approx(TRAINED)
    assert train["hours"] == pytest.approx(TRAINED / 5e11 / 3_600)
    assert (refresh["unit"], refresh["number"], refresh["tokens"]) == ("refreshes", 3, 3 * 10_250)
    assert refresh["operations"] == pytest.approx(REFRESHED)
    assert refresh["beside"]
    assert found["ance"]["assumed"] == {"number": 1, "peak": 1e12, "share": 0.5}
    assert found["words"]["parts"][0]["disk"] == 75_000
    assert found["vectors"]["parts"][0]["disk"] == 536_000
    assert found["asked"]["parts"][0]["tokens"] == 100
    (fused,), (again,) = found["found"]["parts"], found["found-again"]["parts"]
    assert (fused["operations"], fused["tokens"], fused["disk"]) == (pytest.approx(20 * QUERY + COMPARED), 100, 4_800)
    assert (again["operations"], again["tokens"], again["disk"]) == (pytest.approx(COMPARED), 0, 4_800)
    assert found["flat"]["parts"] == found["report"]["parts"] == []


def test_the_total_leaves_out_the_hours_beside_the_training(recipe):
    """At 10 MFLOP/s: 14.3 + 8.1 billion operations, and 24.5 beside."""
    printed = lines(recipe, "--assume", "1x0.001@1%")
    assert printed["ance"] == ["30", "steps", "6,000", "trained", "1.4e10", "2.2", "MiB", "0.40"]
    assert printed["3"] == ["refreshes", "31,000", "encoded", "2.5e10", "(0.68)"]
    hours = (TRAINED + REST) / 1e7 / 3_600
    assert printed["total"][-1] == f"{hours:.2f}"
    assert "In brackets: at most so many" in shown(recipe)


def test_refreshes_in_turn_are_in_the_total(recipe):
    in_turn = ("--set", "ance.negatives.ance=in-turn")
    printed = lines(recipe, "--assume", "1x0.001@1%", *in_turn)
    assert printed["3"][-1] == "0.68"
    hours = (TRAINED + REFRESHED + REST) / 1e7 / 3_600
    assert printed["total"][-1] == f"{hours:.1f}"
    assert "In brackets" not in shown(recipe, *in_turn)


def test_what_is_not_set_is_told_as_the_recipe_describes_it(recipe, monkeypatch):
    told = dry_run(recipe).stdout.splitlines()
    assert "SOME_MODEL is not set: a tiny encoder" in told
    assert "SOME_DATA is not set: named by words: corpus" in told
    monkeypatch.setenv("SOME_MODEL", "models/tiny")
    told = dry_run(recipe).stdout.splitlines()
    assert not any(line.startswith("SOME_MODEL") for line in told)
    assert estimates(recipe)["ance"]["parts"]  # as expected, under its new name


def test_a_stage_of_unknown_size_leaves_the_others_estimated(recipe):
    elsewhere = ("--set", "vectors.corpus=elsewhere")
    unknown = "how many passages elsewhere has"
    assert f"no estimate of vectors, found, found-again: {unknown}" in shown(recipe, *elsewhere)
    found = estimates(recipe, *elsewhere)
    assert {stage: each["unknown"] for stage, each in found.items() if each["unknown"]} == dict.fromkeys(
        ["vectors", "found", "found-again"], unknown
    )
    assert found["ance"]["parts"]


def test_a_recipe_that_expects_nothing_is_estimated_when_asked(beir, monkeypatch):
    """What is there is counted."""
    monkeypatch.setenv("SOME_DATA", str(beir))
    Path("plain.yaml").write_text(RECIPE[RECIPE.index("stages:") :])
    assert "estimate" not in dry_run("plain.yaml").stdout
    assert estimates("plain.yaml") == dict.fromkeys(estimates("plain.yaml"))
    found = estimates("plain.yaml", "--assume", "1xT4@30%")
    assert found["words"]["parts"][0]["number"] == 60
    assert found["ance"]["unknown"] == "what size the model ${SOME_MODEL} has"


def test_assuming_is_for_dry_runs_alone(recipe):
    answer = CliRunner().invoke(app, ["run", str(recipe), "--assume", "8xA100@40%"])
    assert answer.exit_code == 2
    assert "--assume: is for --dry-run" in answer.stderr


def test_the_table_is_whole_in_a_hundred_columns_and_where_there_is_no_terminal(recipe):
    wide = dry_run(recipe).stdout.splitlines()
    assert all(len(line) <= 100 for line in wide)
    narrow = CliRunner().invoke(app, ["run", str(recipe), "--dry-run"], env={"COLUMNS": "40"}).stdout.splitlines()
    assert [line for line in narrow if "trained" in line] == [line for line in wide if "trained" in line] != []
