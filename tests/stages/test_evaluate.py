"""seed evaluate, as it is called: seeds, hits dropped, what is said and refused."""

import re
from pathlib import Path

import pytest

from seedcli.base.errors import ConfigError
from seedcli.base.files import read_json
from seedcli.base.progress import Silent
from seedcli.configs.evaluate import Showing
from seedcli.stages import evaluate


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "qrels").write_text("q1 0 a 1\nq2 0 b 2\nq2 0 q2 1\n")
    (tmp_path / "one.trec").write_text("q1 Q0 q1 1 3 t\nq1 Q0 a 2 2 t\nq2 Q0 q2 1 3 t\nq2 Q0 b 2 1 t\n")
    (tmp_path / "two.trec").write_text("q1 Q0 a 1 3 t\nq2 Q0 c 1 3 t\nq2 Q0 b 2 1 t\n")
    return tmp_path


def test_one_name_for_two_runs_is_one_system(files, perform):
    runs = [f"dense={files}/one.trec", f"dense={files}/two.trec", f"other={files}/two.trec"]
    given = {"runs": runs, "qrels": files / "qrels", "measures": ["mrr", "mrr-l2"], "baseline": "other"}
    perform("evaluate", out=files / "out", **given)
    report = read_json(files / "out" / "report.json")["runs"]
    assert {name: run["seeds"] for name, run in report.items()} == {"dense": 2, "other": 1}
    assert report["dense"]["means"] == {"mrr": 0.75, "mrr-l2": 0.25}
    assert report["other"]["means"] == {"mrr": 0.75, "mrr-l2": 0.25}


def test_no_name_is_taken_for_another(files, perform):
    runs = [f"x [1]={files}/one.trec", f"x={files}/two.trec", f"x={files}/one.trec", f"2={files}/two.trec"]
    perform("evaluate", out=files / "out", runs=runs, qrels=files / "qrels", measures=["mrr"])
    report = read_json(files / "out" / "report.json")["runs"]
    assert {name: run["seeds"] for name, run in report.items()} == {"x [1]": 1, "x": 2, "2": 1}
    page = (files / "out" / "report.html").read_text()
    assert re.findall("<b>(.*?)</b> ", page.partition("Lineage")[2]) == ["x [1]", "x", "x", "2"]


def test_runs_may_be_called_by_numbers(files, perform):
    runs = [f"7={files}/one.trec", f"8@3={files}/two.trec", f"8@5={files}/one.trec"]
    given = {"qrels": files / "qrels", "measures": ["mrr"], "showing.curve": "steps"}
    made = perform("evaluate", out=files / "out", runs=runs[1:], **given)
    assert "curve-mrr.png" in made.outputs
    with pytest.raises(ConfigError, match="--curve steps: the run 7 was made without such an option"):
        perform("evaluate", out=files / "other", runs=runs, **given)


def test_an_axis_that_cannot_be_is_refused_before_any_work(files):
    showing = Showing(curve="steps", curve_scale="log")
    runs = [f"a@-1={files}/one.trec", f"a@2={files}/two.trec"]
    config = evaluate.EvaluateConfig(out=files / "out", qrels=str(files / "qrels"), runs=runs, showing=showing)
    with pytest.raises(ConfigError, match="curve_scale=log: -1 has no place on it"):
        evaluate.inputs(config, Silent())


def test_a_grade_that_no_judgement_has_is_told(files):
    heard = Heard()
    measures = ["mrr", "mrr-l2", "recall@10-l3", "answers@20"]
    config = evaluate.EvaluateConfig(out=files / "out", qrels="some", runs=["x"], measures=measures)
    evaluate.tell_unreached(config, {"q1": {"a": 1}, "q2": {"b": 2}}, heard)
    assert heard.said == ["some: no judgement has grade 3 or more, so recall@10-l3 is 0 for all"]


def test_hits_that_are_the_query_are_dropped_when_asked(files, perform):
    given = {"runs": [f"{files}/one.trec"], "qrels": files / "qrels", "measures": ["mrr", "recall@1"]}
    for drop, expected in ((False, {"mrr": 0.75, "recall@1": 0.25}), (True, {"mrr": 1, "recall@1": 0.75})):
        perform("evaluate", out=files / f"out-{drop}", drop_self=drop, **given)
        assert read_json(files / f"out-{drop}" / "report.json")["runs"]["one"]["means"] == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"runs": ["a=x", "a=x"]}, "--runs: a=x is given twice"),
        ({"runs": ["d/x.trec", "e/x.trec"]}, "two runs are called x; name them"),
        ({"runs": ["x"], "baseline": "x", "all_pairs": True}, "--baseline and --all-pairs"),
        ({"runs": ["x"], "baseline": "y"}, "no such run"),
    ],
)
def test_what_cannot_be_compared_is_refused(files, given, message):
    config = evaluate.EvaluateConfig(**{"out": files / "out", "qrels": str(files / "qrels"), **given})
    with pytest.raises(ConfigError, match=message):
        evaluate.inputs(config, Silent())


def test_the_first_evaluation_says_that_it_compiles(monkeypatch):
    heard = Heard()
    for missing in (True, False):
        monkeypatch.setattr(evaluate, "compiling", lambda _, missing=missing: missing)
        evaluate.tell_compiling(["mrr"], heard)
    assert heard.said == ["compiling ranx's measures, once: about 30 s"]
