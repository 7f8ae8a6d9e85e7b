"""Fine-tuning by what names right and wrong passages: runs, triples of ids or of texts, DPR's files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import plan_of
from seedcli.base.progress import Silent
from seedcli.configs.finetune import FinetuneConfig
from seedcli.stages import finetune, stage
from seedcli.stages.training_set import holds_examples

FEW = {"optimize.steps": 3, "optimize.batch_size": 8, "optimize.warmup": 1, "optimize.lr": 1e-3}


class Judged(NamedTuple):
    """A query with a right and a wrong passage, their ids first."""

    query: str
    right: str
    wrong: str
    texts: tuple[str, str, str]


@pytest.fixture(scope="module")
def judged(beir: Path) -> list[Judged]:
    """The 40 queries of train, each with its passage as right, and the next animal's as wrong."""
    read = [
        {row["_id"]: row["text"] for row in map(json.loads, (beir / f"{name}.jsonl").read_text().splitlines())}
        for name in ("queries", "corpus")
    ]
    lines = (beir / "qrels" / "train.tsv").read_text().splitlines()[1:]
    pairs = [(query, right) for query, right, _ in (line.split("\t") for line in lines)]
    return [
        Judged(query, right, wrong, (read[0][query], read[1][right], read[1][wrong]))
        for (query, right), (_, wrong) in zip(pairs, pairs[4:] + pairs[:4], strict=True)
    ]


@pytest.fixture(scope="module")
def marco(beir: Path, judged: list[Judged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection as a folder of MS MARCO, with triples of ids."""
    folder = tmp_path_factory.mktemp("marco")
    passages = [json.loads(line) for line in (beir / "corpus.jsonl").read_text().splitlines()]
    for name, lines in {
        "collection.tsv": [(passage["_id"], passage["text"]) for passage in passages],
        "queries.train.tsv": [(row.query, row.texts[0]) for row in judged],
        "qrels.train.tsv": [(row.query, "0", row.right, "1") for row in judged],
        "qidpidtriples.train.small.tsv": [row[:3] for row in judged],
    }.items():
        (folder / name).write_text("".join("\t".join(line) + "\n" for line in lines))
    return folder


def write_run(path: Path, judged: list[Judged]) -> Path:
    path.write_text("".join(f"{row.query} Q0 {row.wrong} 1 9.5 hand\n" for row in judged))
    return path


def write_texts(path: Path, judged: list[Judged]) -> Path:
    path.write_text("".join("\t".join(row.texts) + "\n" for row in judged))
    return path


def write_dpr(path: Path, judged: list[Judged]) -> Path:
    records = [
        {
            "question": query,
            "answers": [],
            "positive_ctxs": [{"title": "", "text": right}],
            "negative_ctxs": [],
            "hard_negative_ctxs": [{"title": "", "text": wrong}],
        }
        for query, right, wrong in (row.texts for row in judged)
    ]
    path.write_text(json.dumps(records, indent=1))
    return path


Tune = Callable[..., Path]


@pytest.fixture(scope="module")
def tune(chain, perform, tmp_path_factory) -> Tune:
    """Fine-tunes the chain's encoder into a new folder."""

    def tuned(data: Path, negatives: Any, **flags: Any) -> Path:
        out = tmp_path_factory.mktemp("tuned") / "out"
        given = FEW | {"model": chain.encoder, "data": data, "negatives.negatives": negatives} | flags
        perform("finetune", out=out, **given)
        return out

    return tuned


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def report(folder: Path) -> Any:
    return json.loads((folder / "negatives.json").read_text())


@pytest.fixture(scope="module")
def by_run(tune, marco, judged, tmp_path_factory) -> Path:
    """What qrels and a run train."""
    return tune(marco, write_run(tmp_path_factory.mktemp("run") / "hand.trec", judged))


@pytest.mark.parametrize(
    "told", ["triples of ids", "triples of ids beside", "triples of texts", "triples of texts beside", "dpr"]
)
def test_what_says_the_same_as_qrels_and_a_run_trains_the_same(told, tune, marco, judged, by_run, tmp_path):
    match told:
        case "triples of ids":
            data, negatives = marco, "file"
        case "triples of ids beside":
            data, negatives = marco, shutil.copy(marco / "qidpidtriples.train.small.tsv", tmp_path / "triples.tsv")
        case "triples of texts":
            data, negatives = write_texts(tmp_path / "texts.tsv", judged), "file"
        case "triples of texts beside":
            data, negatives = marco, write_texts(tmp_path / "texts.tsv", judged)
        case "dpr":
            data, negatives = write_dpr(tmp_path / "biencoder.json", judged), "file"
    out = tune(data, negatives)
    assert weights(out) == weights(by_run)
    dropped = {"right for the query": 0}
    told = {
        "queries": 40,
        "queries without": {"negative": 0},
        "candidates dropped": dropped,
        "scores": {},
        "problems": {},
    }
    assert report(out) == told
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in by_run.iterdir())


def test_other_negatives_train_another_model(tune, marco, judged, by_run, tmp_path):
    moved = [row._replace(wrong=judged[number - 9].right) for number, row in enumerate(judged)]
    other = tune(marco, write_run(tmp_path / "run", moved))
    assert weights(other) != weights(by_run)
    assert report(other) | {"scores": "as below"} == {
        "queries": 40,
        "queries without": {"text": 0, "positive": 0, "negative": 0},
        "candidates dropped": {"positive": 0, "text of a positive": 0, "not in the corpus": 0},
        "scores": "as below",
        "problems": {},
    }


@pytest.fixture
def faulty(marco, judged, tmp_path) -> Path:
    """The folder of MS MARCO, whose triples and qrels name what is not there."""
    folder = Path(shutil.copytree(marco, tmp_path / "faulty"))
    first, second = judged[:2]
    with (folder / "qidpidtriples.train.small.tsv").open("a") as triples:
        triples.write(f"q:yeti\t{first.right}\t{first.wrong}\n")
        triples.write(f"{first.query}\tyeti\t{first.wrong}\n")
        triples.write(f"{second.query}\t{second.right}\tyeti\n")
    with (folder / "qrels.train.tsv").open("a") as qrels:
        qrels.write(f"q:yeti\t0\t{first.right}\t1\n{first.query}\t0\tyeti\t1\n")
    return folder


def test_what_triples_name_and_the_collection_lacks_is_left_out_and_told(tune, faulty, judged):
    assert report(tune(faulty, "file")) == {
        "queries": 41,
        "queries without": {"negative": 1},
        "candidates dropped": {"right for the query": 0},
        "scores": {},
        "problems": {
            "queries of examples without a text": {"count": 1, "names": ["q:yeti"]},
            "passages of examples that the corpus lacks": {"count": 2, "names": ["yeti"]},
            "queries without a positive": {"count": 1, "names": [judged[0].query]},
        },
    }


def test_what_qrels_and_a_run_name_and_the_collection_lacks_is_left_out(tune, faulty, judged, by_run, tmp_path):
    run = write_run(tmp_path / "run", judged)
    with run.open("a") as file:
        file.write(f"{judged[0].query} Q0 yeti 2 1 hand\n")
    out = tune(faulty, run)
    assert weights(out) == weights(by_run)
    assert report(out) | {"scores": "as below"} == {
        "queries": 40,
        "scores": "as below",
        "queries without": {"text": 1, "positive": 0, "negative": 0},
        "candidates dropped": {"positive": 0, "text of a positive": 0, "not in the corpus": 1},
        "problems": {
            "positives of the qrels that the corpus lacks": {"count": 1, "names": ["yeti"]},
            "queries of the qrels without a text": {"count": 1, "names": ["q:yeti"]},
            "negatives that the corpus lacks": {"count": 1, "names": ["yeti"]},
        },
    }


@pytest.mark.parametrize("negatives", ["file", "run"])
def test_stop_refuses_what_report_leaves_out_and_leaves_no_folder(negatives, chain, perform, faulty, judged, tmp_path):
    source = negatives if negatives == "file" else write_run(tmp_path / "run", judged)
    given = {"model": chain.encoder, "data": faulty, "negatives.negatives": source, **FEW}
    with pytest.raises(DataError, match="yeti") as stopped:
        perform("finetune", out=tmp_path / "out", problems="stop", **given)
    assert str(stopped.value).startswith(f"{faulty}: ")
    assert str(stopped.value).endswith("\n--problems report tells of them and goes on")
    assert not (tmp_path / "out").exists()


def test_stop_lets_sound_data_pass_also_without_negatives(tune, marco, judged, tmp_path):
    lone = write_dpr(tmp_path / "lone.json", judged)
    lone.write_text(lone.read_text().replace('"hard_negative_ctxs"', '"elsewhere"', 1))
    assert report(tune(lone, "file", problems="stop"))["queries without"] == {"negative": 1}
    tune(marco, "file", problems="stop")


def test_a_faulty_corpus_is_told_before_any_text_is_tokenised(chain, perform, faulty, tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "cache"))
    with (faulty / "collection.tsv").open("a") as file:
        file.write("otter-diet\tonce more\nblank\t \n")
    given = {"model": chain.encoder, "data": faulty, "negatives.negatives": "file", **FEW}
    message = r"1 passage with an empty text \(blank\); 1 id of passages that stand twice or more \(otter-diet\)"
    with pytest.raises(DataError, match=message):
        perform("finetune", out=tmp_path / "out", problems="stop", **given)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").glob("texts-*"))


def test_texts_and_examples_are_tokenised_once(tune, marco, judged, tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "cache"))

    def kept() -> dict[str, tuple[int, int]]:
        files = [path for path in (tmp_path / "cache").rglob("*") if path.parent.name.startswith(("texts", "examples"))]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    tune(marco, "file")
    first = kept()
    assert len({Path(name).parent for name in first}) == 3  # queries, passages, examples
    tune(marco, "file", **{"optimize.lr": 3e-4, "optimize.seed": 7})
    assert kept() == first
    tune(marco, write_run(tmp_path / "run", judged))  # which reads the queries of one split, and the same passages
    assert first.items() < kept().items()
    assert len({Path(name).parent for name in kept()}) == 4
    tune(marco, "file", **{"tower.passage_length": 9})
    assert len({Path(name).parent for name in kept()}) == 6  # other passages, other examples


def test_every_source_of_negatives_is_a_plan_of_its_own(chain, marco, judged, tmp_path):
    run = write_run(tmp_path / "run", judged)
    triples = marco / "qidpidtriples.train.small.tsv"
    plans = set()
    for source in ("bm25", "file", run, triples):
        given = {"out": "out", "model": str(chain.encoder), "data": str(marco), "negatives.negatives": str(source)}
        config = resolve(FinetuneConfig, {}, given, "a test")
        plans.add(plan_of("finetune", config, stage.identified(finetune.inputs(config, Silent()))))
    assert len(plans) == 4


def test_examples_without_qrels_say_which_option_reads_them(chain, perform, judged, tmp_path):
    texts = write_texts(tmp_path / "texts.tsv", judged)
    with pytest.raises(ConfigError, match=r"texts\.tsv: training examples without qrels; give --negatives file"):
        perform("finetune", out=tmp_path / "out", model=chain.encoder, data=texts, **FEW)
    assert not (tmp_path / "out").exists()


def test_examples_that_are_not_there_are_missed_before_any_work(chain, perform, tmp_path):
    with pytest.raises(DataError, match="holds no training examples"):
        perform(
            "finetune",
            out=tmp_path / "out",
            model=chain.encoder,
            data=chain.beir,
            **FEW,
            **{"negatives.negatives": "file"},
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("q1 Q0 d1 1 9.5 tag", True),
        ("q1\tQ0\td1\t1\t9.5\ttag", True),
        ("q1 Q0 d1 0 -1e-3 a", True),
        ("q1\td1\td2", False),
        ("who eats\tthe otter\tthe bison", False),  # six words
        ("what the heron\teats\tgrass frogs", False),
        ('{"query": "who eats", "positive": "the otter"}', False),
    ],
)
@pytest.mark.parametrize("name", ["a", "a.tsv", "a.trec"])
def test_a_run_is_told_from_triples_by_its_first_line(tmp_path, name, line, run):
    (tmp_path / name).write_text(f"\n{line}\n")
    assert holds_examples("a", tmp_path / name) != run


def test_a_folder_holds_a_run_if_seed_search_left_it(chain, tmp_path):
    assert holds_examples("a", tmp_path)
    assert not holds_examples("a", chain.found)
    assert holds_examples("file", chain.beir)
