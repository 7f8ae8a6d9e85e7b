"""What an evaluation leaves beside its table: the page with its lineage, the log, the leaderboard, the curves."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import identify, read_manifest
from seedcli.cli import app
from seedcli.evaluation.results_log import Line, append, read_log
from seedcli.evaluation.steps import flattened, walk
from seedcli.stages.lineage import lineage


@pytest.fixture
def tree(chain, tmp_path) -> Path:
    """A copy of the chain's folders to spoil."""
    return Path(shutil.copytree(chain.beir.parent, tmp_path / "tree"))


def seed(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


def held(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_holds_the_report_with_texts_and_lineage(chain):
    page = (chain.report / "report.html").read_text(encoding="utf-8")
    data = held(page)
    assert data["systems"] == ["bm25", "dense"]
    assert len(data["ids"]) == 20
    assert any("what does the" in text or "where does" in text or "how" in text for text in data["texts"])
    there = {data["documents"][int(number)]: texts for number, texts in data["passages"].items()}
    assert any("heron" in text for _, text in there.values())
    for verb in ("search", "index", "encode", "finetune", "pretrain"):
        assert f"seed {verb}" in page
    assert str(chain.beir.parent) not in page  # whose page may be passed on


def test_a_runs_lineage_goes_back_to_what_was_given(chain):
    step = lineage(chain.found, identify(chain.found).identity)
    assert [each.verb for each in walk(step) if each.verb] == ["search", "index", "encode", "finetune", "pretrain"]
    flat = flattened(step)
    assert flat["finetune.loss.temperature"] == 0.05
    assert flat["finetune.negatives.negatives"] == "bm25"  # searched there: an option, not an input
    assert flat["pretrain.model.size"] == "tiny"
    assert flat["encode.collection"].startswith("animals (")
    chosen = {key for each in walk(step) if each.verb == "finetune" for key in each.chosen}
    assert "tower.similarity" in chosen
    assert not chosen & {"data", "model", "out", "machine.threads"}


def test_a_run_as_a_file_has_the_lineage_of_its_folder(chain):
    path = chain.found / "run.trec"
    assert flattened(lineage(path, identify(path).identity)) == flattened(
        lineage(chain.found, identify(chain.found).identity)
    )


def test_what_is_gone_or_changed_is_said(tree):
    identity = identify(tree / "found").identity
    shutil.rmtree(tree / "vectors")
    (tree / "retriever" / "manifest.json").write_text("{")
    notes = {each.name: each.note for each in walk(lineage(tree / "found", identity))}
    assert notes["vectors"] == "no longer there"
    assert lineage(tree / "found", "0" * 64).note == "changed since; seed search wrote another"
    assert lineage(tree / "retriever", "0" * 64).note == "its manifest.json is broken"
    assert lineage(tree / "animals", "0" * 64) == ("run", "animals", None, "0" * 64, {}, {}, "", [])


def test_a_report_is_logged_once_whether_it_was_made_now_or_before(chain, perform, tmp_path):
    given = {"runs": [f"bm25={chain.found_words}", f"dense={chain.found}"], "qrels": chain.beir, "page": False}
    given = {("showing." if key == "page" else "") + key: value for key, value in given.items()}
    out, path = tmp_path / "report", tmp_path / "results.jsonl"
    perform("evaluate", out=out, **given)
    assert not (out / "report.html").exists()
    for _ in range(2):
        perform("evaluate", out=out, **given, **{"showing.log": path})
        lines = read_log(path)
        assert [line.name for line in lines] == ["bm25", "dense"]
    manifest, summary = read_manifest(out), json.loads((out / "report.json").read_text())
    assert manifest is not None
    assert lines[1].report == manifest.identity
    assert lines[1].run == identify(chain.found).identity
    assert lines[1].judgements == identify(chain.beir).identity
    assert lines[1].means == summary["runs"]["dense"]["means"]
    assert (lines[1].qrels, lines[1].split, lines[1].queries) == ("animals", "test", 20)
    assert lines[1].config["finetune.optimize.steps"] == 12
    assert shlex.split(lines[1].command)[:2] == ["seed", "evaluate"]
    assert "--no-page" in lines[1].command


def test_a_leaderboard_needs_no_runs(chain, perform, tmp_path):
    path, out = tmp_path / "results.jsonl", tmp_path / "board.md"
    runs = [f"bm25={chain.found_words}", f"dense={chain.found}"]
    perform("evaluate", out=tmp_path / "report", runs=runs, qrels=chain.beir, **{"showing.log": path})
    code, shown, _ = seed("evaluate", "--leaderboard", str(path), "--out", str(out), "--measures", "ndcg@10")
    assert code == 0
    assert "animals, split test: 20 judged queries, best ndcg@10 first" in shown
    assert "is not as 1: " in shown
    assert "| run |" in out.read_text()
    asked = f"--leaderboard {path} --qrels {chain.beir} --between 1,2 --json"
    code, shown, _ = seed("evaluate", *asked.split())
    assert code == 0
    (board,) = json.loads(shown)
    assert {line["name"] for line in board["lines"]} == {"bm25", "dense"}
    assert "finetune" in board["differences"][0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--leaderboard absent", "absent: no such file; seed evaluate --log makes one"),
        ("--leaderboard EMPTY", "EMPTY: no lines in it; seed evaluate --log adds some"),
        ("--leaderboard LOG --qrels BEIR --split train", "no line on BEIR, split 'train'"),
        ("--leaderboard LOG --measures map", "no line has map; there are mrr@10"),
        ("--leaderboard LOG --measures foo@10", "no measure 'foo@10': expected"),
        ("--leaderboard LOG --between 1,9", "--between 1,9: expected the numbers of two lines, of 1 to 1, such as 1,2"),
        ("--leaderboard LOG --out BEIR", "a folder; with --leaderboard alone it names a Markdown file"),
        ("--runs RUN --qrels BEIR --out NEW --log BROKEN", "BROKEN:1: not a line of seed evaluate --log"),
        ("--runs RUN --qrels BEIR --out NEW --between 1,2", "--between: is for --leaderboard"),
        ("--runs RUN --qrels BEIR --out NEW --curve-by depth", "--curve-by: is for --curve"),
        ("--runs RUN --qrels BEIR --out NEW --curve fractoin", "--curve fractoin: the run RUN-NAME was made without"),
    ],
)
def test_mistakes_are_told_in_a_line(chain, tmp_path, words, told):
    line = Line(
        "2030-01-02", "a", "animals", "test", identify(chain.beir).identity, 20, {"mrr@10": 0.5}, {}, "r", "r", {}, ""
    )
    places = {"LOG": tmp_path / "log", "BROKEN": tmp_path / "broken", "BEIR": chain.beir, "NEW": tmp_path / "new"}
    places |= {"EMPTY": tmp_path / "empty", "RUN-NAME": Path(chain.found.name), "RUN": chain.found}
    append(places["LOG"], [line])
    places["BROKEN"].write_text("{\n")
    places["EMPTY"].touch()

    def filled(text: str) -> str:
        return re.sub("|".join(places), lambda found: str(places[found[0]]), text)

    code, _, errors = seed("evaluate", *shlex.split(filled(words)))
    assert code == 2
    assert filled(told) in errors
    assert "Traceback" not in errors


def test_curves_are_drawn_over_what_runs_were_made_with(chain, perform, tmp_path):
    for depth in (5, 10):
        perform(
            "search",
            out=tmp_path / f"d{depth}",
            index=[str(chain.words)],
            queries=chain.beir,
            split="test",
            depth=depth,
        )
    runs = [str(tmp_path / f"d{depth}") for depth in (10, 5)]
    made = perform(
        "evaluate", out=tmp_path / "report", runs=runs, qrels=chain.beir, **{"showing.curve": "search.depth"}
    )
    assert {"curve-mrr@10.png", "curve-mrr@10.svg", "report.html"} <= set(made.outputs)


def test_a_page_of_qrels_alone_has_no_texts(chain, perform, tmp_path):
    qrels = tmp_path / "qrels.trec"
    rows = (chain.beir / "qrels" / "test.tsv").read_text().splitlines()[1:]
    qrels.write_text("".join("{} 0 {} {}\n".format(*row.split("\t")) for row in rows))
    perform("evaluate", out=tmp_path / "report", runs=[str(chain.found)], qrels=qrels)
    data = held((tmp_path / "report" / "report.html").read_text())
    assert data["texts"] is None
    assert data["passages"] == {}
    assert len(data["hits"][0]) == 20
    with pytest.raises(DataError, match="no such file"):
        perform("evaluate", out=tmp_path / "other", runs=[str(chain.found)], qrels=qrels,
                **{"showing.leaderboard": tmp_path / "absent"})  # fmt: skip
    with pytest.raises(ConfigError, match="--between"):
        perform("evaluate", out=tmp_path / "other", runs=[str(chain.found)], qrels=qrels, **{"showing.between": "1,2"})
