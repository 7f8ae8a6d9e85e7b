"""seed run: a recipe's stages in order; what is done stays, what changed is made anew, what began goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from seedcli.base.config import parse_assignments, read_recipe
from seedcli.base.manifest import finished
from seedcli.base.progress import Silent
from seedcli.cli import app
from seedcli.stages.run import read_steps, verdicts

RECIPE = """
about: a chain over ${ANIMALS}
out: not used here
stages:
  pretrain:
    text: ${ANIMALS}
    words: {tokenizer: train, vocabulary: 300, length: 32}
    model: {size: tiny}
    optimize: &few {steps: 4, batch_size: 8, lr: 1e-3, warmup: 1}
    machine: &machine {threads: 1}
  retriever:
    verb: finetune
    model: ${pretrain}
    data: ${ANIMALS}
    negatives: {hard: 0}
    optimize: *few
    machine: *machine
  encode: {model: "${retriever}", corpus: "${ANIMALS}", shard_size: 16, machine: *machine}
  index: {vectors: "${encode}"}
  search: {index: "${index}", queries: "${ANIMALS}", split: test, depth: 20, machine: *machine}
  evaluate: {runs: "dense=${search}", qrels: "${ANIMALS}"}
"""
STAGES = ["pretrain", "retriever", "encode", "index", "search", "evaluate"]


@pytest.fixture(autouse=True)
def animals(beir, monkeypatch) -> None:
    monkeypatch.setenv("ANIMALS", str(beir))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "chain.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def made(recipe, beir, tmp_path_factory) -> Path:
    """The recipe's folders, made once."""
    out = tmp_path_factory.mktemp("made") / "out"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ANIMALS", str(beir))
        answer = run(recipe, "--out", out)
    assert answer.exit_code == 0, answer.stderr
    return out


@pytest.fixture
def out(made, tmp_path) -> Path:
    """A copy of them to change."""
    return Path(shutil.copytree(made, tmp_path / "out"))


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["run", *map(str, arguments)], env={"COLUMNS": "200"})


def refused(*arguments: Any) -> str:
    answer = run(*arguments)
    assert answer.exit_code == 2
    assert len(answer.stderr.splitlines()) <= 6
    return " ".join(answer.stderr.split())


def judged(recipe: Path, out: Path, *assignments: str) -> list[str]:
    steps = read_steps(read_recipe(recipe), out, parse_assignments(assignments), "r.yaml")
    assert [step.name for step in steps] == STAGES
    return [verdict.state for _, verdict in verdicts(steps, Silent())]


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_recipe_runs_to_its_report(made):
    for stage, verb in zip(STAGES, ["pretrain", "finetune", *STAGES[2:]], strict=True):
        finished(made / stage, verb)
    assert json.loads((made / "evaluate" / "report.json").read_text())["queries"] == 20
    assert sorted(path.name for path in made.iterdir()) == sorted(STAGES)


def test_run_again_it_does_nothing_and_shows_the_table(recipe, made):
    before = times(made)
    assert judged(recipe, made) == ["done"] * 6
    answer = run(recipe, "--out", made)
    assert answer.exit_code == 0
    assert "dense" in answer.stdout
    assert times(made) == before


def test_a_dry_run_tells_and_touches_nothing(recipe, made, tmp_path):
    before = times(made)
    for folder in (made, tmp_path / "new"):
        answer = run(recipe, "--out", folder, "--dry-run")
        assert answer.exit_code == 0
        assert all(stage in answer.stdout for stage in STAGES)
    assert times(made) == before
    assert not (tmp_path / "new").exists()
    assert judged(recipe, tmp_path / "new") == ["new"] * 6


def test_a_changed_option_remakes_its_stage_and_those_after_it_alone(recipe, out, listing):
    before, early = listing(out), {stage: times(out / stage) for stage in STAGES[:4]}
    assert judged(recipe, out, "search.depth=5") == ["done"] * 4 + ["remake", "waits"]
    assert run(recipe, "--out", out, "--set", "search.depth=5").exit_code == 0
    assert {stage: times(out / stage) for stage in STAGES[:4]} == early
    assert finished(out / "search").config["depth"] == 5
    assert judged(recipe, out, "search.depth=5") == ["done"] * 6
    after = listing(out)
    for stage in ("search", "evaluate"):
        old = {name: sum_ for name, sum_ in before.items() if name.startswith(f"{stage}/")}
        assert {name: after[name.replace(stage, f"{stage}.old-1", 1)] for name in old} == old
    assert run(recipe, "--out", out).exit_code == 0
    assert (out / "search" / "run.trec").read_bytes() == (out / "search.old-1" / "run.trec").read_bytes()
    assert (out / "search.old-2").is_dir()


def test_an_option_without_effect_on_the_result_remakes_nothing(recipe, made):
    assert judged(recipe, made, "pretrain.saving.save_every=7", "encode.machine.threads=2") == ["done"] * 6


def test_changed_text_remakes_all_that_came_of_it(recipe, out, beir, tmp_path, monkeypatch):
    shutil.copytree(beir, tmp_path / "animals")
    monkeypatch.setenv("ANIMALS", str(tmp_path / "animals"))
    assert judged(recipe, out) == ["done"] * 6  # the same content elsewhere
    with (tmp_path / "animals" / "corpus.jsonl").open("a") as corpus:
        corpus.write('{"_id": "newt-diet", "title": "Newt", "text": "The newt lives on worms."}\n')
    assert judged(recipe, out) == ["remake"] + ["waits"] * 4 + ["waits"]
    assert run(recipe, "--out", out, "--until", "encode").exit_code == 0
    assert finished(out / "encode").metrics["vectors"] == 61


def test_an_output_that_was_changed_is_made_anew(recipe, out):
    with (out / "encode" / "vectors-00001.safetensors").open("rb+") as shard:
        shard.truncate(1000)
    assert judged(recipe, out)[:4] == ["done", "done", "remake", "waits"]
    assert run(recipe, "--out", out).exit_code == 0
    assert judged(recipe, out) == ["done"] * 6
    assert [path.name for path in out.glob("*.old-*")] == ["encode.old-1"]  # the same vectors again


def test_what_is_made_stays_when_its_input_is_out_of_reach(recipe, out, beir, tmp_path, monkeypatch, listing):
    before = listing(out)
    monkeypatch.setenv("ANIMALS", str(tmp_path / "unmounted"))
    assert judged(recipe, out)[0] == "blocked"
    assert "unmounted" in refused(recipe, "--out", out)
    monkeypatch.setenv("ANIMALS", str(beir))
    assert listing(out) == before
    assert judged(recipe, out) == ["done"] * 6


def test_set_may_refer_to_an_earlier_stage(recipe, made):
    assert judged(recipe, made, "index.vectors=${encode}") == ["done"] * 6


def test_an_unfinished_stage_goes_on(recipe, out):
    manifest = json.loads((out / "encode" / "manifest.json").read_text())
    unfinished = manifest | {"status": "running", "identity": None, "outputs": {}, "metrics": {}}
    (out / "encode" / "manifest.json").write_text(json.dumps(unfinished))
    (out / "encode" / "vectors-00002.safetensors").unlink()
    kept = (out / "encode" / "vectors-00001.safetensors").stat().st_mtime_ns
    assert judged(recipe, out)[:4] == ["done", "done", "resume", "waits"]
    assert run(recipe, "--out", out).exit_code == 0
    assert (out / "encode" / "vectors-00001.safetensors").stat().st_mtime_ns == kept
    assert finished(out / "encode").outputs == manifest["outputs"]
    assert not list(out.glob("*.old-*"))


def test_until_and_only_choose_stages(recipe, out, tmp_path):
    assert run(recipe, "--out", tmp_path / "new", "--until", "pretrain").exit_code == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pretrain"]
    shutil.rmtree(out / "index")
    shutil.rmtree(out / "evaluate")
    assert run(recipe, "--out", out, "--only", "index").exit_code == 0
    assert finished(out / "index")
    assert not (out / "evaluate").exists()


def test_a_stage_alone_without_what_it_reads_is_a_mistake(recipe, tmp_path):
    assert "pretrain" in refused(recipe, "--out", tmp_path / "new", "--only", "retriever")
    assert not (tmp_path / "new" / "retriever").exists()
    for flag in ("--only", "--until"):
        assert f"{flag} encod: no such stage; there are pretrain, " in refused(recipe, flag, "encod")


def test_what_is_unknown_in_a_reference_is_named_before_anything_runs(tmp_path):
    for reference in ("${NOWHERE}", "${search}"):
        path = tmp_path / "r.yaml"
        path.write_text(RECIPE.replace('"${retriever}"', f'"{reference}"'))
        message = f"encode: model: {reference} is neither an earlier stage (pretrain, retriever) nor in the environment"
        assert message in refused(path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_needs_no_environment_and_tells_what_to_set(recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("ANIMALS")
    answer = run(recipe, "--out", tmp_path / "out", "--dry-run")
    assert answer.exit_code == 0
    assert answer.stdout.splitlines()[-1] == "ANIMALS is not set: named by pretrain: text"
    assert "pretrain: text: ${ANIMALS} is neither an earlier stage" in refused(recipe, "--out", tmp_path / "out")
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace('"${retriever}"', '"${retreiver}"'))
    assert "encode: model: ${retreiver} is neither an earlier stage" in refused(path, "--dry-run")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("depth: 20", "dept: 20", "search: no option dept: did you mean depth?"),
        ("depth: 20", "depth: many", "search: depth: got 'many'; it should be a valid integer"),
        ("verb: finetune", "verb: finetun", "retriever: no verb 'finetun'; 'verb:' is one of pretrain, finetune"),
        ("  index: {vectors", "  flat: {vectors", "flat: no verb 'flat'"),
        ("about:", "abuot:", "no key abuot; a recipe of stages has about, expect, out, stages"),
        ("stages:", "stages: {}\nabout2:", "no key about2"),
        (
            '{vectors: "${encode}"}',
            "vectors",
            "index: a stage is a name of letters, digits, '-' and '_' with a mapping",
        ),
        ("  index:", "  a/b: {verb: index}\n  index:", "a/b: a stage is a name of letters"),
        ("  index:", "  ..: {verb: index}\n  index:", "..: a stage is a name of letters"),
        ("verb: finetune", "verb: [finetune]", "retriever: no verb \"['finetune']\""),
        ("about:", "7: x\nabuot:", "no key 7; a recipe of stages has"),
        ('corpus: "${ANIMALS}", ', "", ""),
    ],
)
def test_a_mistake_in_a_late_stage_is_told_before_the_first_runs(tmp_path, old, new, message):
    path = tmp_path / "r.yaml"
    assert old in RECIPE
    path.write_text(RECIPE.replace(old, new))
    if message:
        assert message in refused(path, "--out", tmp_path / "out")
    else:  # what only the stage itself can tell
        refused(path, "--out", tmp_path / "out", "--only", "encode")
    assert not (tmp_path / "out").exists()


def test_a_stage_with_a_folder_of_its_own_is_found_there(recipe, tmp_path):
    steps = read_steps(read_recipe(recipe), tmp_path, {"encode.out": str(tmp_path / "elsewhere")}, "r.yaml")
    assert steps[3].config.vectors == str(tmp_path / "elsewhere")
    assert "index: another stage has the folder" in refused(recipe, "--out", tmp_path, "--set", "index.out=${encode}")


def test_set_names_a_stage_and_its_option(recipe, tmp_path):
    for given, message in [
        ("serch.depth=5", "--set serch.depth: expected STAGE.KEY=VALUE; the stages are pretrain, "),
        ("search.dept=5", "--set: no option dept: did you mean depth?"),
        ("search", "--set search: expected KEY=VALUE"),
    ]:
        assert message in refused(recipe, "--out", tmp_path / "out", "--set", given)


def test_show_prints_a_recipe_that_runs_the_same(recipe, made, tmp_path):
    shown = run(recipe, "--out", made, "--show")
    (tmp_path / "shown.yaml").write_text(shown.stdout)
    assert list(yaml.safe_load(shown.stdout)["stages"]) == STAGES
    assert run(tmp_path / "shown.yaml", "--show").stdout == shown.stdout
    assert judged(tmp_path / "shown.yaml", made) == ["done"] * 6


def test_torchrun_is_refused(recipe, made, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "seed run is one process" in refused(recipe, "--out", made)
