"""The command as its users meet it: help, recipes, mistakes, and what stays as it was."""

import json
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import seedcli
from seedcli.base.config import ARGUMENT, RARE, options
from seedcli.cli import app
from seedcli.configs import EXAMPLES, VERBS

GIVEN = {
    "pretrain": "--text a.txt --text b.txt --tokenizer train --size tiny --steps 5 --lr 2e-5 --no-pack --out o",
    "finetune": "--model m --data d --hard 3 --similarity cosine --set optimize.beta2=.98 --out o",
    "encode": "--model m --corpus c --precision bf16 --set shard_size=7 --out o",
    "index": "--kind bm25 --corpus c --set k1=1.2 --out o",
    "search": "--index a --index b --queries q --split test --depth 5 --out o",
    "evaluate": "--runs x=a --runs y=b --qrels q --measures mrr@10 --baseline x --out o",
}


def seed(*arguments: Any) -> Any:
    """What the command answers, in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def words(text: str) -> str:
    """The text of a screen without its frames, on one line."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_the_version_is_the_packages():
    assert seed("--version").stdout == f"seed {seedcli.__version__}\n"


def test_without_a_verb_the_verbs_are_named():
    text = words(seed().output)
    for verb in [*VERBS, "run"]:
        assert f" {verb} " in text


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_option_and_an_example_that_resolves(verb):
    answer = seed(verb, "--help")
    assert answer.exit_code == 0
    text = words(answer.stdout)
    assert f"Example: {EXAMPLES[verb]}" in text
    for flag in ("--recipe", "--set", "--show", "--overwrite"):
        assert f" {flag} " in text
    for option in options(VERBS[verb]):
        flag = "[QUESTION]" if ARGUMENT in option.marks else option.key if RARE in option.marks else option.flag[2:]
        assert f"{flag} " in text or f"{flag}," in text, option.key
    assert seed(*EXAMPLES[verb].split()[1:], "--show").exit_code == 0


def test_help_says_what_is_required_and_what_the_default_is():
    text = words(seed("finetune", "--help").stdout)
    assert "--model TEXT The model to start from: a folder, or a name of the Hugging Face hub. [required]" in text
    assert "[default: 0.05" not in text
    assert "--lr FLOAT Peak rate of AdamW; it falls linearly to zero. [default: 2e-05]" in text
    assert "--pack --no-pack" in words(seed("pretrain", "--help").stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_what_show_prints_is_a_recipe_that_resolves_to_the_same(tmp_path, verb):
    shown = seed(verb, *GIVEN[verb].split(), "--show")
    assert shown.exit_code == 0, shown.stderr
    (tmp_path / "r.yaml").write_text(shown.stdout)
    again = seed(verb, "--recipe", tmp_path / "r.yaml", "--show")
    assert again.stdout == shown.stdout
    keys = {option.key.split(".")[0] for option in options(VERBS[verb])}
    assert yaml.safe_load(shown.stdout).keys() == keys


@pytest.mark.parametrize("verb", VERBS)
def test_show_without_what_is_required_is_a_recipe_to_fill(tmp_path, verb):
    shown = seed(verb, "--show")
    assert shown.exit_code == 0, shown.stderr
    (tmp_path / "r.yaml").write_text(shown.stdout)
    filled = seed(verb, "--recipe", tmp_path / "r.yaml", *GIVEN[verb].split(), "--show")
    assert filled.stdout == seed(verb, *GIVEN[verb].split(), "--show").stdout


def test_flags_win_over_a_recipe_and_set_over_flags(tmp_path):
    (tmp_path / "r.yaml").write_text("model: m\ndata: d\nout: o\noptimize: {lr: 1e-3, clip: 9, steps: 3}\n")
    recipe = ["finetune", "--recipe", tmp_path / "r.yaml", "--show"]
    shown = yaml.safe_load(seed(*recipe, "--lr", "5e-4", "--steps", "4", "--set", "optimize.steps=5").stdout)
    assert (shown["optimize"]["lr"], shown["optimize"]["clip"], shown["optimize"]["steps"]) == (5e-4, 9.0, 5)


STAGES = "stages:\n  index: {vectors: vectors}\n"
MISTAKES: dict[str, tuple[str, str]] = {
    "no such verb": ("encoed", "No such command 'encoed'"),
    "no such option": ("encode --modle x --corpus animals --out new", "No such option: --modle"),
    "option without value": ("encode --corpus animals --out", "requires an argument"),
    "word for a number": (
        "encode --model retriever --corpus animals --out new --batch-tokens many",
        "--batch-tokens: got 'many'; it should be a valid integer",
    ),
    "number out of range": (
        "encode --model retriever --corpus animals --out new --batch-tokens 0",
        "--batch-tokens: got 0; it should be greater than or equal to 1",
    ),
    "no such choice": ("index --kind flt --vectors vectors --out new", "--kind: got 'flt'; it should be 'flat' or"),
    "required option": ("encode --corpus animals --out new", "--model is missing (in a recipe: model): The encoder"),
    "set without value": ("encode --set batch_tokens", "--set batch_tokens: expected KEY=VALUE"),
    "set of no option": ("finetune --set optimize.lrr=1", "--set: no option optimize.lrr: did you mean lr?"),
    "recipe key": ("encode --recipe key.yaml", "key.yaml: no option modle: did you mean model?"),
    "recipe value": ("encode --recipe value.yaml", "value.yaml: batch_tokens: got True; it should be a valid integer"),
    "recipe syntax": ("encode --recipe syntax.yaml", "syntax.yaml:2: not YAML"),
    "no recipe": ("encode --recipe absent.yaml", "absent.yaml: no such recipe"),
    "recipe is a folder": ("encode --recipe animals", "animals: not a recipe"),
    "recipe of stages": ("index --recipe stages.yaml", "stages.yaml: a recipe of stages; run it with seed run"),
    "no such text": ("pretrain --text absent.txt --tokenizer train --out new", "absent.txt: no such file or folder"),
    "no such model": ("encode --model absent --corpus animals --out new", "absent: no such "),
    "no such model of the hub": ("encode --model no/such --corpus animals --out new", "no/such: no such folder, and"),
    "no such collection": ("encode --model retriever --corpus absent --out new", "absent: not a collection"),
    "no such split": (
        "finetune --model encoder --data animals --split dev --out new",
        "dev.tsv: no such split; animals has test, train",
    ),
    "no such run": ("evaluate --runs absent --qrels animals --out new", "absent: no such file or folder"),
    "no such baseline": (
        "evaluate --runs a=found --qrels animals --baseline b --out new",
        "--baseline b: no such run; there are a",
    ),
    "no such measure": ("evaluate --runs found --qrels animals --measures mrrr@10 --out new", "mrrr@10"),
    "unfinished model": ("encode --model unfinished --corpus animals --out new", "unfinished: unfinished; repeat the"),
    "unfinished vectors": ("index --vectors begun --out new", "begun: unfinished; repeat the seed encode command"),
    "cut shard": ("index --vectors cut --out new", "cut/vectors-00001.safetensors: missing or not as seed encode"),
    "index over a cut shard": ("search --index over-cut --queries animals --out new", "cut/vectors-00001.safetensors"),
    "model for vectors": (
        "index --vectors retriever --out new",
        "retriever: a folder of seed finetune, where one of seed encode was expected",
    ),
    "vectors for an index": ("search --index vectors --queries animals --out new", "where one of seed index was"),
    "index for a model": ("encode --model flat --corpus animals --out new", "flat: no model in it (config.json)"),
    "collection for an index": ("search --index animals --queries animals --out new", "animals: no manifest.json"),
    "vectors for a run": ("evaluate --runs vectors --qrels animals --out new", "vectors"),
    "queries for an index": ("index --vectors asked --out new", "asked: holds query vectors"),
    "encoded queries for bm25": ("search --index words --queries asked --out new", "bm25 needs the queries' words"),
    "passages for queries": ("search --index flat --queries vectors --out new", "holds passage vectors"),
    "split of encoded queries": ("search --index flat --queries asked --split test --out new", "give encoded queries"),
    "neither question nor queries": ("search --index flat", "give a QUESTION, or --queries and --out"),
    "question and queries": ("search --index flat --queries animals --out new what", "it goes without --queries"),
    "corpus and queries": ("encode --model retriever --corpus animals --queries animals --out new", "give either"),
    "vectors for bm25": ("index --kind bm25 --vectors vectors --out new", "--kind bm25 is built over --corpus"),
    "folder not ours": ("index --vectors vectors --out animals", "animals: not empty and not made by seed"),
    "folder not ours, overwritten": ("index --vectors vectors --out animals --overwrite", "not made by seed"),
    "folder of another verb": ("index --vectors vectors --out retriever", "retriever: holds a seed finetune"),
    "folder of another plan": (
        "encode --model retriever --corpus animals --out vectors",
        "vectors: holds a finished seed encode of another plan (shard_size was 16, now 20000)",
    ),
    "folder inside a file": ("index --vectors vectors --out key.yaml/new", "key.yaml/new: can't be made inside a file"),
    "folder that is a file": ("index --vectors vectors --out key.yaml", "key.yaml: a file; --out names a folder"),
    "folder inside the collection": ("encode --model retriever --corpus animals --out animals/new", "lies in animals"),
    "overwriting its input": (
        "pretrain --init encoder --text animals --length 32 --out encoder --overwrite",
        "--overwrite would lose it",
    ),
    "broken manifest": ("index --vectors broken --out new", "broken/manifest.json:1: not JSON"),
    "broken line": ("encode --model retriever --corpus torn --out new", "torn/corpus.jsonl:2: not JSON"),
    "missing field": ("pretrain --text torn.jsonl --tokenizer train --out new", "torn.jsonl:1: no field 'text'"),
    "half precision without a GPU": (
        "encode --model retriever --corpus animals --out new --device cpu --precision fp16",
        "--precision fp16 is for GPUs",
    ),
    "longer than the model reads": (
        "finetune --model encoder --data animals --out new --query-length 33",
        "--query-length 33: this model reads 4 to 32 tokens",
    ),
    "template": (
        "finetune --model encoder --data animals --out new --set tower.query_template={title}",
        "query_template",
    ),
    "tokenizer and init": ("pretrain --text animals --out new", "give either --init MODEL, or --tokenizer train"),
    "no such recipe to run": ("run absent.yaml", "absent.yaml: no such recipe"),
    "no stages to run": ("run key.yaml", "key.yaml: no key modle; a recipe of stages has about, out, stages"),
}


@pytest.fixture(scope="session")
def spoilt(chain, tmp_path_factory, perform) -> Path:
    """A copy of the chain, and beside it what a mistake needs."""
    root = tmp_path_factory.mktemp("spoilt") / "tree"
    shutil.copytree(chain.beir.parent, root)
    perform("encode", out=root / "asked", model=root / "retriever", queries=root / "animals", split="test")
    for name, source in [("unfinished", "retriever"), ("begun", "vectors"), ("broken", "vectors"), ("cut", "vectors")]:
        shutil.copytree(root / source, root / name)
    perform("index", out=root / "over-cut", vectors=root / "cut")
    for name in ("unfinished", "begun"):
        manifest = json.loads((root / name / "manifest.json").read_text())
        (root / name / "manifest.json").write_text(json.dumps(manifest | {"status": "running", "identity": None}))
    (root / "broken" / "manifest.json").write_text('{"verb": "enc')
    with (root / "cut" / "vectors-00001.safetensors").open("rb+") as shard:
        shard.truncate(1000)
    (root / "torn").mkdir()
    (root / "torn" / "corpus.jsonl").write_text('{"_id": "1", "text": "whole"}\n{"_id": "2", "te\n')
    (root / "torn.jsonl").write_text('{"body": "whole"}\n')
    (root / "key.yaml").write_text("modle: retriever\n")
    (root / "value.yaml").write_text("batch_tokens: true\n")
    (root / "syntax.yaml").write_text("model: [retriever\ncorpus: animals\n")
    (root / "stages.yaml").write_text(STAGES)
    return root


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_and_changes_nothing(mistake, spoilt, monkeypatch, listing):
    command, message = MISTAKES[mistake]
    monkeypatch.chdir(spoilt)
    before = listing(spoilt)
    answer = seed(*command.split())
    assert message in words(answer.stderr)
    assert answer.exit_code == 2
    assert len(answer.stderr.strip().splitlines()) <= 6
    assert "Traceback" not in answer.output
    assert listing(spoilt) == before


def test_a_shard_that_only_its_checksum_finds_is_refused(chain, tmp_path, listing):
    shutil.copytree(chain.beir.parent, tmp_path / "tree")
    path = tmp_path / "tree" / "vectors" / "vectors-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    before = listing(tmp_path)
    answer = seed("search", "--index", tmp_path / "tree" / "flat", "what does the otter eat")
    assert answer.exit_code == 2
    assert "vectors-00002.safetensors: missing or not as seed encode wrote it" in words(answer.stderr)
    assert listing(tmp_path) == before


def test_a_stage_of_one_process_refuses_torchrun(monkeypatch, spoilt):
    monkeypatch.chdir(spoilt)
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = seed("index", "--vectors", "vectors", "--out", "new")
    assert (answer.exit_code, answer.stderr) == (2, "error: seed index runs as one process: call it without torchrun\n")


def raised(error: BaseException) -> Callable[..., None]:
    def run(*_: Any) -> None:
        raise error

    return run


def test_a_bug_keeps_its_traceback(monkeypatch, spoilt, tmp_path):
    monkeypatch.setattr("seedcli.stages.index.run", raised(ZeroDivisionError("ours")))
    answer = seed("index", "--vectors", spoilt / "vectors", "--out", tmp_path / "new")
    assert isinstance(answer.exception, ZeroDivisionError)
    assert answer.exit_code == 1


def test_an_interruption_says_how_to_go_on(monkeypatch, spoilt, tmp_path):
    monkeypatch.setattr("seedcli.stages.index.run", raised(KeyboardInterrupt()))
    answer = seed("index", "--vectors", spoilt / "vectors", "--out", tmp_path / "new")
    assert (answer.exit_code, words(answer.stderr)) == (130, "error: interrupted; repeat the command to go on")


def test_a_disk_that_takes_no_more_is_no_bug_and_the_command_goes_on(chain, tmp_path):
    """Checkpoints are written by a library in Rust, whose errors are no OSError."""
    command = ["pretrain", "--text", chain.beir, "--tokenizer", chain.encoder, "--size", "tiny", "--length", 32]
    command += ["--steps", 4, "--batch-size", 8, "--save-every", 2, "--threads", 1, "--out", tmp_path / "new"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        answer = seed(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert answer.exit_code == 2
    assert words(answer.stderr).endswith("File too large; nothing finished is lost, repeat the command to go on")
    assert seed(*command).exit_code == 0
