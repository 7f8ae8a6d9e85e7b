"""The command as its users meet it: help, recipes, mistakes, and what stays as it was."""

import json
import re
import resource
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import seedcli
from seedcli.base.config import options
from seedcli.base.verbs import typed
from seedcli.cli import app
from seedcli.configs import EXAMPLES, VERBS

GIVEN = {
    "pretrain": "--text a.txt --text b.txt --tokenizer train --size tiny --steps 5 --lr 2e-5 --no-pack --out o",
    "finetune": "--model m --data d --hard 3 --similarity cosine --set optimize.beta2=.98 --out o",
    "encode": "--model m --corpus c --precision bf16 --set shard_size=7 --out o",
    "index": "--kind bm25 --corpus c --set words.k1=1.2 --out o",
    "search": "--index a --index b --queries q --split test --depth 5 --out o",
    "evaluate": "--runs x=a --runs y=b --qrels q --measures mrr@10 --baseline x --out o",
    "inspect": "a x=b --texts t --texts u --pooling mean --pairs 40 --set sample=80 --out o",
    "convert": "m.pt --vocabulary vocab.txt --heads 12 --out o",
}


def seed(*arguments: Any) -> Any:
    """What the command answers, in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def seed_verb(verb: str, *arguments: Any) -> Any:
    """What the command of a verb answers, wherever it stands."""
    return seed(*typed(verb).split()[1:], *arguments)


def words(text: str) -> str:
    """The text of a screen without its frames, on one line."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_the_version_is_the_packages():
    assert seed("--version").stdout == f"seed {seedcli.__version__}\n"


def test_without_a_verb_the_verbs_are_named():
    for verb in [*VERBS, "run"]:
        *group, last = typed(verb).split()[1:]
        assert f" {last} " in words(seed(*group).output)
    assert " model " in words(seed().output)


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_option_and_an_example_that_resolves(verb):
    answer = seed_verb(verb, "--help")
    assert answer.exit_code == 0
    text = words(answer.stdout)
    assert f"Example: {EXAMPLES[verb]}" in text
    for flag in ("--recipe", "--set", "--show", "--overwrite", "--json", "--quiet"):
        assert f" {flag} " in text
    for option in options(VERBS[verb]):
        flag = option.typed.removeprefix("--set ").removeprefix("--")
        assert f"{flag} " in text or f"{flag}," in text, option.key
    assert seed(*EXAMPLES[verb].split()[1:], "--show").exit_code == 0


def test_help_says_what_is_required_and_what_the_default_is():
    text = words(seed("finetune", "--help").stdout)
    assert "--model TEXT The model to start from: a folder, or a name of the Hugging Face hub. [required]" in text
    assert "[default: 0.05" not in text
    assert "--lr FLOAT Peak rate. [default: 2e-05]" in text
    assert "--pack --no-pack" in words(seed("pretrain", "--help").stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_what_show_prints_is_a_recipe_that_resolves_to_the_same(tmp_path, verb):
    shown = seed_verb(verb, *GIVEN[verb].split(), "--show")
    assert shown.exit_code == 0, shown.stderr
    (tmp_path / "r.yaml").write_text(shown.stdout)
    again = seed_verb(verb, "--recipe", tmp_path / "r.yaml", "--show")
    assert again.stdout == shown.stdout
    keys = {option.key.split(".")[0] for option in options(VERBS[verb])}
    assert yaml.safe_load(shown.stdout).keys() == keys


@pytest.mark.parametrize("verb", VERBS)
def test_show_without_what_is_required_is_a_recipe_to_fill(tmp_path, verb):
    shown = seed_verb(verb, "--show")
    assert shown.exit_code == 0, shown.stderr
    (tmp_path / "r.yaml").write_text(shown.stdout)
    filled = seed_verb(verb, "--recipe", tmp_path / "r.yaml", *GIVEN[verb].split(), "--show")
    assert filled.stdout == seed_verb(verb, *GIVEN[verb].split(), "--show").stdout


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
    "no such choice": (
        "encode --storage flt --corpus animals --out new",
        "--storage: got 'flt'; it should be 'float32'",
    ),
    "no such kind": ("index --kind hnws --vectors vectors --out new", "--kind hnws: no such kind, did you mean hnsw?"),
    "no such factory": ("index --kind IVX3 --vectors vectors --out new", "--kind IVX3: faiss can't make that for vec"),
    "probes of flat": ("index --vectors vectors --probes 3 --out new", "--probes: for approximate indexes, such as"),
    "rare option of flat": ("index --vectors vectors --set faiss.m=9 --out new", "--set faiss.m: for approximate"),
    "probes of hnsw": ("index --kind hnsw --vectors vectors --probes 3 --out new", "--probes: hnsw has none; it takes"),
    "queries for bm25": (
        "index --kind bm25 --corpus animals --queries animals --out new",
        "--queries: for approximate",
    ),
    "target of nothing": (
        "index --kind sq --vectors vectors --target-recall 0.9 --out new",
        "--target-recall: sq has neither probes nor ef_search",
    ),
    "memory for vectors": ("index --kind ivf --memory 1k --vectors vectors --out new", "--memory 1.0 KiB: an index of"),
    "comparing words": ("index --compare flat,bm25 --vectors vectors --out new", "--compare bm25: it compares indexes"),
    "comparing what none has": (
        "index --compare flat,sq --probes 3 --vectors vectors --out new",
        "--probes: none of flat, sq has that",
    ),
    "probes without lists": (
        "search --index flat --queries animals --probes 3 --out new",
        "--probes: none of the indexes takes that (flat)",
    ),
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
        "no such split of its qrels: 'dev'; it has test, train",
    ),
    "no such negatives": (
        "finetune --model encoder --data animals --negatives bm2 --out new",
        "--negatives bm2: no such file or folder; a run, triples, or the word bm25, ance or file",
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
    "question and candidates": ("search --index flat --candidates found what", "without --queries, --split, --candid"),
    "candidates for bm25": (
        "search --index words --queries animals --candidates found --out new",
        "--candidates are scored by the vectors of one index: give --index once, a flat one",
    ),
    "candidates for two indexes": (
        "search --index flat --index flat --queries animals --candidates found --out new",
        "--candidates are scored by the vectors of one index: give --index once, a flat one",
    ),
    "candidates without a split": (
        "search --index flat --queries animals --candidates animals --out new",
        "--candidates animals: name its qrels with --split: test, train",
    ),
    "candidates of no such split": (
        "search --index flat --queries animals --candidates animals --split dev --out new",
        "--candidates animals: name its qrels with --split: test, train",
    ),
    "candidates without judgements": (
        "search --index flat --queries animals --candidates animals/queries.jsonl --out new",
        "queries.jsonl: holds no qrels; give a run, or a collection with qrels",
    ),
    "no such candidates": (
        "search --index flat --queries animals --candidates absent --out new",
        "absent: not a collection: no such file or folder",
    ),
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
    "no model to inspect": (
        "model inspect --texts animals --out new",
        "MODEL is missing (in a recipe: model): A model",
    ),
    "no texts to inspect": ("model inspect encoder --out new", "--texts is missing (in a recipe: texts): Text files"),
    "no such model to inspect": ("model inspect encoder absent --texts animals --out new", "absent: no such "),
    "no model in the folder": ("model inspect flat --texts animals --out new", "flat: no model in it (config.json)"),
    "two models of one name": (
        "model inspect encoder encoder --texts animals --out new",
        "MODEL: two models are called encoder; name them, as in first=encoder",
    ),
    "name of no model": ("model inspect a= --texts animals --out new", "MODEL: got 'a='; expected NAME=SOURCE, or a"),
    "no such text to inspect": ("model inspect encoder --texts absent --out new", "absent: no such file or folder"),
    "too few texts to inspect": (
        "model inspect encoder --texts few.txt --out new",
        "few.txt: 1 of 2 texts have 16 tokens or more; to compare pairs of them takes 60",
    ),
    "no texts at all to inspect": ("model inspect encoder --texts empty.txt --out new", "empty.txt: no texts in it"),
    "too few pairs": (
        "model inspect encoder --texts animals --pairs 29 --out new",
        "--pairs: got 29; it should be greater",
    ),
    "option of inspect": ("model inspect encoder --texts animals --pars 40 --out new", "No such option: --pars"),
    "no such verb of model": ("model inspct encoder", "No such command 'inspct'"),
    "verb without its group": ("inspect encoder", "No such command 'inspect'"),
    "no such checkpoint": ("model convert absent.pt --out new", "absent.pt: no such"),
    "no such recipe to run": ("run absent.yaml", "absent.yaml: no such recipe"),
    "no stages to run": ("run key.yaml", "key.yaml: no key modle; a recipe of stages has about, expect, out, stages"),
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
    (root / "few.txt").write_text("too short\n\n" + "long enough " * 20)
    (root / "empty.txt").write_text("\n")
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
    assert len(answer.stderr.partition("error: ")[2].strip().splitlines()) <= 6
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
    assert answer.exit_code == 130
    assert answer.stderr.splitlines()[-1] == "error: interrupted; repeat the command to go on"


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


FOLDERS = {  # the chain's folders, and what is to be typed after each; R is where they lie
    "encoder": ["seed finetune --model R/encoder --data DATA --out R/retriever-2"],
    "retriever": ["seed encode --model R/retriever --corpus R/animals --out R/vectors-2"],
    "vectors": ["seed index --vectors R/vectors --out R/index"],
    "flat": [
        "seed search --index R/flat --queries R/animals --split test --out R/run",
        "seed search --index R/flat 'your question'",
    ],
    "words": [
        "seed search --index R/words --queries R/animals --split test --out R/run",
        "seed search --index R/words 'your question'",
    ],
    "found": ["seed evaluate --runs R/found --qrels R/animals --split test --out R/report-2"],
    "report": [],
}


@pytest.fixture
def again(tmp_path) -> Callable[..., Any]:
    """The command that made a folder of the chain, once more."""

    def repeated(folder: Path, *more: Any) -> Any:
        manifest = json.loads((folder / "manifest.json").read_text())
        (tmp_path / "again.yaml").write_text(yaml.safe_dump(manifest["config"]))
        return seed_verb(manifest["verb"], "--recipe", tmp_path / "again.yaml", *more)

    return repeated


@pytest.mark.parametrize("name", FOLDERS)
def test_json_is_the_manifest_and_alone_on_stdout(again, chain, name):
    folder = chain.beir.parent / name
    answer = again(folder, "--json")
    assert answer.exit_code == 0, answer.stderr
    given = json.loads(answer.stdout)
    assert (given.pop("folder"), given.pop("ran")) == (str(folder), False)
    assert given == json.loads((folder / "manifest.json").read_text())
    assert f"{given['verb']} done before" in answer.stderr


@pytest.mark.parametrize("name", FOLDERS)
def test_the_next_command_is_one_that_the_next_stage_takes(again, chain, name):
    answer = again(chain.beir.parent / name)
    lines = [line[6:] for line in answer.stderr.splitlines() if line[:6] in {"next: ", "  or: "}]
    assert lines == [line.replace("R/", f"{chain.beir.parent}/") for line in FOLDERS[name]]
    for line in lines:
        shown = seed(*shlex.split(line)[1:], "--show")
        assert shown.exit_code == 0, shown.stderr
    if name == "report":
        assert answer.stderr.splitlines()[-1] == f"read: {chain.report / 'report.md'}"


def test_encoded_queries_lead_to_a_search_and_on_to_their_qrels(chain, tmp_path):
    source = ["--queries", chain.beir, "--split", "test"]
    answer = seed("encode", "--model", chain.retriever, *source, "--out", tmp_path / "asked")
    search = f"seed search --index INDEX --queries {tmp_path}/asked --out {tmp_path}/run"
    assert answer.stderr.splitlines()[-1] == f"next: {search}"
    answer = seed(*shlex.split(search.replace("INDEX", str(chain.flat)))[1:])
    evaluate = f"seed evaluate --runs {tmp_path}/run --qrels {chain.beir} --split test --out {tmp_path}/report"
    assert answer.stderr.splitlines()[-1] == f"next: {evaluate}"
    assert seed(*shlex.split(evaluate)[1:]).exit_code == 0


def test_a_name_with_blanks_is_quoted_for_the_shell(chain, tmp_path):
    answer = seed("index", "--vectors", chain.vectors, "--out", tmp_path / "my index")
    assert answer.stderr.splitlines()[-1] == f"  or: seed search --index '{tmp_path}/my index' 'your question'"


@pytest.mark.parametrize("mistake", ["option without value", "no such model", "cut shard", "no such recipe to run"])
def test_a_mistake_leaves_nothing_for_scripts(mistake, spoilt, monkeypatch):
    monkeypatch.chdir(spoilt)
    answer = seed(*MISTAKES[mistake][0].split(), "--json")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr


def test_a_question_is_answered_in_json(chain):
    answer = seed("search", "--index", chain.words, "--depth", 2, "--json", "where does the otter live")
    hits = json.loads(answer.stdout)
    assert [hit["rank"] for hit in hits] == [1, 2]
    passages = [json.loads(line) for line in (chain.beir / "corpus.jsonl").read_text().splitlines()]
    assert {hit["title"] for hit in hits} == {"Otter"}
    assert all({"_id": hit["id"], "title": hit["title"], "text": hit["text"]} in passages for hit in hits)
    assert hits[0]["score"] > hits[1]["score"] > 0
    assert json.loads(seed("search", "--index", chain.words, "--json", "zzz").stdout) == []


RECIPE = """
stages:
  flat: {verb: index, vectors: VECTORS}
  test: {verb: search, index: "${flat}", queries: ANIMALS, split: test, depth: 5, machine: {threads: 1}}
  report: {verb: evaluate, runs: "dense=${test}", qrels: ANIMALS, measures: mrr@10}
"""


@pytest.fixture
def recipe(chain, tmp_path) -> Path:
    path = tmp_path / "short.yaml"
    path.write_text(RECIPE.replace("VECTORS", str(chain.vectors)).replace("ANIMALS", str(chain.beir)))
    return path


def test_a_recipe_gives_scripts_a_list_of_its_stages(recipe, tmp_path):
    command = ["run", recipe, "--out", tmp_path / "out", "--json"]
    planned = json.loads(seed(*command, "--dry-run").stdout)
    assert [(row["stage"], row["verb"], row["state"]) for row in planned] == [
        ("flat", "index", "new"),
        ("test", "search", "new"),
        ("report", "evaluate", "new"),
    ]
    for ran in (True, False):
        made = json.loads(seed(*command).stdout)
        assert [(row["stage"], row["ran"], row["status"]) for row in made] == [
            (name, ran, "finished") for name in ("flat", "test", "report")
        ]
    assert [row["folder"] for row in made] == [str(tmp_path / "out" / row["stage"]) for row in made]
    assert made[2]["metrics"]["dense"]["mrr@10"] > 0
    spoiled = seed(*command, "--set", "test.split=dev")
    assert (spoiled.exit_code, spoiled.stdout) == (2, "")


def test_a_recipe_titles_each_stage_once_and_ends_with_a_question_to_type(recipe, tmp_path):
    lines = seed("run", recipe, "--out", tmp_path / "out").stderr.splitlines()
    titles = [line for line in lines if "→" in line]
    assert titles == [
        f"[1/3] index → {tmp_path / 'out' / 'flat'}  (not made yet)",
        f"[2/3] search → {tmp_path / 'out' / 'test'}  (not made yet)",
        f"[3/3] evaluate → {tmp_path / 'out' / 'report'}  (not made yet)",
    ]
    assert [line for line in lines if line.startswith(("next: ", "  or: ", "read: "))] == [
        f"next: seed search --index {tmp_path / 'out' / 'flat'} 'your question'"
    ]
    assert lines[-1].startswith("next: ")


def test_show_stays_yaml(recipe):
    assert yaml.safe_load(seed("run", recipe, "--show", "--json").stdout)["stages"]
    assert yaml.safe_load(seed("finetune", "--show", "--json").stdout)["data"] is None


def test_quiet_tells_mistakes_alone(recipe, tmp_path):
    answer = seed("run", recipe, "--out", tmp_path / "out", "--quiet")
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert "dense" in answer.stdout
    answer = seed("index", "-q", "--vectors", tmp_path / "absent", "--out", tmp_path / "new")
    assert answer.exit_code == 2
    assert answer.stderr.startswith("error: ")


def test_what_is_not_a_terminal_gets_no_control_characters(recipe, tmp_path):
    answer = seed("run", recipe, "--out", tmp_path / "out")
    assert answer.exit_code == 0, answer.stderr
    assert "\x1b" not in answer.output
    assert "\r" not in answer.output


def test_of_several_processes_the_first_alone_prints(again, chain, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    for more in ([], ["--json"]):
        assert again(chain.flat, *more).stdout == ""
