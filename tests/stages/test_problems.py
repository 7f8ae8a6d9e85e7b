"""Data with faults: --problems report tells of them and goes on, --problems stop refuses, before any work."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seedcli.base.config import resolve
from seedcli.base.errors import DataError
from seedcli.base.progress import Silent
from seedcli.cli import app
from seedcli.configs import VERBS
from seedcli.stages import stage

TWICE = "1 id of passages that stand twice or more (otter-diet)"
EMPTY = "2 passages with an empty text (blank, blanker)"
UNASKED = "1 query of the qrels without a text (q:yeti)"
UNFOUND = "1 passage of the qrels that the corpus lacks (yeti)"
HOPELESS = "1 query without a positive, scored 0 (q:otter-home)"


class Heard(Silent):
    """What was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def faulty(beir, tmp_path) -> Path:
    """The collection with an id that stands twice, empty texts, and judgements of what is not there."""
    folder = tmp_path / "faulty"
    (folder / "qrels").mkdir(parents=True)
    again = [
        {"_id": "otter-diet", "text": "once more"},
        {"_id": "blank", "text": ""},
        {"_id": "blanker", "text": " \n"},
    ]
    more = "".join(json.dumps(record) + "\n" for record in again)
    (folder / "corpus.jsonl").write_text((beir / "corpus.jsonl").read_text() + more)
    (folder / "queries.jsonl").write_text(
        (beir / "queries.jsonl").read_text() + '{"_id": "q:blank", "text": " "}\n{"_id": "q:otter-diet", "text": "?"}\n'
    )
    judged = "q:yeti\totter-diet\t1\nq:otter-diet\tyeti\t1\nq:otter-diet\totter-diet\t1\nq:otter-home\totter-home\t0\n"
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


@pytest.fixture
def found(tmp_path) -> Path:
    path = tmp_path / "run.trec"
    path.write_text("q:otter-diet Q0 otter-diet 1 3 t\nq:otter-home Q0 otter-home 1 3 t\n")
    return path


def heard(verb: str, **flags) -> list[str]:
    """What a stage says."""
    progress = Heard()
    given = {key: str(value) if isinstance(value, Path) else value for key, value in flags.items()}
    stage.perform(verb, resolve(VERBS[verb], {}, given, "a test"), progress)
    return progress.lines


@pytest.mark.parametrize(
    ("verb", "flags", "source", "problems"),
    [
        ("encode", {"model": "MODEL", "corpus": "FAULTY"}, "FAULTY", [EMPTY, TWICE]),
        (
            "encode", {"model": "MODEL", "queries": "FAULTY"}, "FAULTY",
            ["1 query with an empty text (q:blank)", "1 id of queries that stand twice or more (q:otter-diet)"],
        ),
        ("index", {"kind": "bm25", "corpus": "FAULTY"}, "FAULTY", [EMPTY, TWICE]),
        ("evaluate", {"runs": ["a=FOUND"], "qrels": "FAULTY"}, "FAULTY", [UNFOUND, UNASKED, HOPELESS]),
    ],
)  # fmt: skip
def test_stop_names_every_fault_at_once_and_leaves_nothing(
    chain, perform, faulty, found, tmp_path, verb, flags, source, problems
):
    def real(value):
        if isinstance(value, list):
            return [real(item) for item in value]
        return value.replace("MODEL", str(chain.retriever)).replace("FAULTY", str(faulty)).replace("FOUND", str(found))

    given = {key: real(value) for key, value in flags.items()}
    with pytest.raises(DataError) as stopped:
        perform(verb, out=tmp_path / "out", problems="stop", **given)
    told, advice = str(stopped.value).split("\n")
    assert told == f"{real(source)}: {'; '.join(problems)}"
    assert advice == "--problems report tells of them and goes on"
    assert not (tmp_path / "out").exists()


def test_the_command_ends_with_2_and_one_message(chain, faulty, tmp_path):
    words = ["encode", "--model", chain.retriever, "--corpus", faulty, "--out", tmp_path / "out", "--problems", "stop"]
    answer = CliRunner().invoke(app, [*map(str, words), "--set", "machine.threads=1"], env={"COLUMNS": "400"})
    assert answer.exit_code == 2
    assert f"{EMPTY}; {TWICE}" in answer.stderr
    assert not (tmp_path / "out").exists()


def test_report_says_the_faults_of_a_corpus_and_encodes_it_whole(chain, faulty, tmp_path):
    given = {"out": tmp_path / "out", "model": chain.retriever, "corpus": faulty, "machine.threads": 1}
    lines = heard("encode", **given)
    assert [line for line in lines if line.startswith(f"{faulty}: ")] == [f"{faulty}: {EMPTY}", f"{faulty}: {TWICE}"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["metrics"]["vectors"] == 63


def test_report_says_the_faults_of_judgements_and_scores_by_them(faulty, found, tmp_path):
    lines = heard("evaluate", out=tmp_path / "out", runs=[f"a={found}"], qrels=faulty, measures=["recall@10"])
    assert lines[:3] == [f"{faulty}: {problem}" for problem in (UNFOUND, UNASKED, HOPELESS)]
    means = json.loads((tmp_path / "out" / "report.json").read_text())["runs"]["a"]["means"]
    assert means["recall@10"] == pytest.approx((0 + 1 / 2 + 0) / 3, abs=1e-6)  # yeti, diet, home


def test_a_report_comes_after_a_stop_in_the_same_folder(faulty, found, tmp_path, perform):
    given = {"out": tmp_path / "out", "runs": [f"a={found}"], "qrels": faulty}
    with pytest.raises(DataError):
        perform("evaluate", problems="stop", **given)
    assert perform("evaluate", problems="report", **given).status == "finished"


def test_sound_data_passes_stop(chain, perform, tmp_path):
    perform("encode", out=tmp_path / "vectors", model=chain.retriever, corpus=chain.beir, problems="stop")
    perform("evaluate", out=tmp_path / "report", runs=[str(chain.found)], qrels=chain.beir, problems="stop")


def test_judgements_in_a_file_are_taken_as_they_are(found, tmp_path, perform):
    """There are no texts to hold them against."""
    (tmp_path / "qrels").write_text("q:otter-diet 0 otter-diet 1\nq:yeti 0 yeti 1\n")
    perform("evaluate", out=tmp_path / "out", runs=[f"a={found}"], qrels=tmp_path / "qrels", problems="stop")
