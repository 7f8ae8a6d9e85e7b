"""seed evaluate by answers and by impressions: what is asked of a collection, and what is told where it lacks."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import write_json
from seedcli.base.manifest import Input, Manifest
from seedcli.configs.evaluate import EvaluateConfig
from seedcli.data.sources import open_collection
from seedcli.stages.judging import shared, tell_tuned, tunings

PASSAGES = {"1": "Zoë lives in Paris.", "2": "Parisians.", "3": "In 1999 it rained.", "4": "Nothing."}
QUESTIONS = [("where does she live", ["Lyon", "paris"]), ("when did it rain", ["1999"]), ("who", ["Bo"])]
RUN = "0 Q0 2 1 3 t\n0 Q0 1 2 2 t\n1 Q0 3 1 9 t\n2 Q0 4 1 1 t\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """DPR's files, BEIR's, and a run."""
    (tmp_path / "run.trec").write_text(RUN)
    dpr, beir = tmp_path / "dpr", tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    dpr.mkdir()
    rows = [f"{id_}\t{text}\tTitle\n" for id_, text in PASSAGES.items()]
    (dpr / "psgs_w100.tsv").write_text("id\ttext\ttitle\n" + "".join(rows))
    (dpr / "nq-test.qas.csv").write_text("".join(f"{question}\t{answers}\n" for question, answers in QUESTIONS))
    lines = [json.dumps({"_id": id_, "title": "", "text": text}) + "\n" for id_, text in PASSAGES.items()]
    (beir / "corpus.jsonl").write_text("".join(lines))
    asked = [{"_id": str(row), "text": text, "answers": answers} for row, (text, answers) in enumerate(QUESTIONS)]
    asked[2].pop("answers")
    (beir / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n0\t1\t1\n1\t3\t1\n2\t1\t1\n")
    (beir / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n0\t1\t1\n1\t4\t1\n")
    return tmp_path


@pytest.fixture
def evaluate(folder, perform):
    def evaluated(qrels: str, *measures: str, **options: object) -> dict[str, float]:
        given = {"runs": f"r={folder / 'run.trec'}", "qrels": folder / qrels, "permutations": 100}
        made = perform("evaluate", overwrite=True, out=folder / "report", measures=list(measures), **given | options)
        return dict(made.metrics["r"])

    return evaluated


def test_dprs_folder_needs_no_judgements(evaluate):
    assert evaluate("dpr", "answers@1", "answers@2") == pytest.approx(
        {"answers@1": 1 / 3, "answers@2": 2 / 3}, abs=1e-6
    )


def test_a_file_of_questions_takes_its_passages_from_another_corpus(evaluate, folder):
    assert evaluate("dpr/nq-test.qas.csv", "answers@1", corpus=folder / "beir") == pytest.approx(
        {"answers@1": 1 / 3}, abs=1e-6
    )
    with pytest.raises(ConfigError, match=r"nq-test\.qas\.csv holds none; give them with --corpus"):
        evaluate("dpr/nq-test.qas.csv", "answers@1")
    with pytest.raises(DataError, match="holds no qrels"):
        evaluate("dpr", "answers@1", "mrr@10")


def test_queries_without_answers_are_left_out(evaluate):
    assert evaluate("beir", "answers@1", "answers@2") == {"answers@1": 0.5, "answers@2": 1}


def test_answers_and_judgements_are_over_the_same_queries(evaluate):
    found = evaluate("beir", "mrr@10", "answers@1", "hit_rate@1", split="dev")
    assert [*found.items()] == [("mrr@10", 0.25), ("answers@1", 0.5), ("hit_rate@1", 0)]
    with pytest.raises(
        DataError, match="1 of 3 judged queries come without answers, such as '2'; measure answers@k apart"
    ):
        evaluate("beir", "mrr@10", "answers@1")


def test_answers_may_be_patterns(evaluate, folder):
    file = folder / "curated.txt"
    file.write_text(json.dumps({"question": "when", "answer": [r"paris(ian)?s\b|19\d\d"]}) + "\n")
    assert evaluate("curated.txt", "answers@1", answers="regex", corpus=folder / "beir") == {"answers@1": 1}


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("answer@20", "no measure 'answer@20': did you mean answers@20?"),
        ("mind-mr", "no measure 'mind-mr': did you mean mind-mrr?"),
        ("mrrr@10", "did you mean mrr@10?"),
    ],
)
def test_a_measure_that_is_none_is_told(evaluate, measure, message):
    with pytest.raises(ConfigError) as error:
        evaluate("beir", measure)
    assert message in str(error.value)


def test_a_corpus_without_a_measure_of_answers_and_answers_nowhere_are_told(evaluate, folder):
    with pytest.raises(ConfigError, match="--corpus is where answers@k finds passages"):
        evaluate("beir", "mrr", corpus=folder / "dpr")
    (folder / "plain.jsonl").write_text('{"_id": "0", "text": "who"}\n')
    with pytest.raises(DataError, match="none of its queries comes with answers"):
        evaluate("plain.jsonl", "answers@1", corpus=folder / "dpr")


def test_impressions_stand_beside_other_measures(evaluate):
    """Query 0 has its one right passage second; the others' judged passages are unscored, or clicked alone."""
    found = evaluate("beir", "auc", "mrr@10", "mind-mrr")
    assert found == pytest.approx({"auc": 1 / 3, "mrr@10": 0.5, "mind-mrr": 2 / 3}, abs=1e-6)


def test_a_run_that_was_tuned_on_what_it_is_judged_by_is_told(folder):
    """As BM25's k1, or the weights of an index below a fusion: the way from a run to what was tuned is followed."""
    inputs = {"tune": Input("../beir", "same")}
    for name, made in (("index", inputs), ("found", {"index.0": Input("../index", "one")})):
        config = {"tuning": {"tune_split": "test"}} if name == "index" else {}
        manifest = Manifest(name, "finished", "", name, config, made, {}, {}, "", {}, {}, 0, 0)
        write_json(folder / name / "manifest.json", dataclasses.asdict(manifest))
    judged = open_collection(folder / "beir").qrels("test")
    assert [*tunings(folder / "found")] == [judged]
    assert [*tunings(folder / "run.trec")] == []
    query, grades = next(iter(judged.items()))
    assert shared(judged, {query: grades, "another": {"b": 1}})  # a file of the same judgements, or of some
    assert not shared(judged, {query: {"a passage of another collection": 1}})
    said: list[str] = []
    stage: Any = SimpleNamespace(progress=SimpleNamespace(say=said.append))
    config = EvaluateConfig(folder / "out", [], str(folder / "beir"), measures=["answers@1"])
    tell_tuned(config, stage, {"tuned": [folder / "found"], "other": [folder / "run.trec"]}, {query: {}})
    assert said == [f"tuned: tuned on {folder / 'beir'}, test: what follows flatters"]  # by its answers alone, too
    (folder / "beir").rename(folder / "gone")
    assert [*tunings(folder / "found")] == []
