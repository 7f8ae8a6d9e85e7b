import json

import numpy as np
import pytest

from seedcli.base.errors import ConfigError
from seedcli.data.records import Query
from seedcli.evaluation.metrics import evaluate, measure
from seedcli.evaluation.report import compare, markdown, pick_examples, write_report
from seedcli.retrieval.runs import Ranking, Run, run_of

QRELS = {f"q{number}": {"good": 1, "bad": 0} for number in range(8)}


def run_with(place: int, queries: int = 8) -> Run:
    """A run that has the relevant document at `place` for the first so many queries."""
    documents = [f"d{number}" for number in range(5)]
    documents.insert(place - 1, "good")
    scores = np.arange(6, 0, -1, dtype=np.float32)
    return run_of(Ranking(f"q{number}", documents, scores) for number in range(queries))


RUNS = {"a|b": run_with(2), "dense": run_with(1), "short": run_with(2, queries=7)}


def test_means_and_p_values_are_as_by_hand():
    report = compare(measure(RUNS, QRELS, ["mrr", "recall@1"]), "a|b", 1000, seed=0)
    assert report.means.tolist() == [[0.5, 0], [1, 1], [3.5 / 8, 0]]
    assert report.significance is not None
    # All eight queries differ alike: 2 of the 256 signs reach it. One query alone differs: every sign does.
    assert report.significance.p_values.tolist() == [[1, 1], [2 / 256, 2 / 256], [1, 1]]
    assert report.lacking == [0, 0, 1]


def test_values_are_those_of_each_run_alone():
    report = compare(measure(RUNS, QRELS, ["mrr", "recall@1"]), None, 1000, seed=0)
    assert report.significance is None
    for name, values in zip(report.names, report.values, strict=True):
        np.testing.assert_array_equal(values, [*evaluate(RUNS[name], QRELS, report.measures).values()])


def test_the_table_marks_significant_differences_and_says_how_they_were_found():
    text = markdown(compare(measure(RUNS, QRELS, ["mrr", "recall@1"]), "a|b", 1000, seed=0))
    assert text.splitlines() == [
        "| run | mrr | recall@1 |",
        "| :-- | --: | --: |",
        r"| a\|b | 0.5000 [0.5000, 0.5000] | 0.0000 [0.0000, 0.0000] |",
        "| dense | 1.0000† [1.0000, 1.0000] | 1.0000† [1.0000, 1.0000] |",
        "| short | 0.4375 [0.3125, 0.5000] | 0.0000 [0.0000, 0.0000] |",
        "",
        "Means over 8 judged queries; one that a run lacks counts as 0 (short lacks 1); "
        "in brackets their 95 % bootstrap intervals over queries.",
        "",
        "† p < 0.05 against a|b, better or worse: paired sign-flip permutation test of the mean difference, two-sided "
        "(all 256 signs; not corrected for several tests).",
        "",
        r"| p against a\|b | mrr | recall@1 |",
        "| :-- | --: | --: |",
        "| dense | 0.0078 | 0.0078 |",
        "| short | 1.0000 | 1.0000 |",
    ]
    sampled = markdown(compare(measure(RUNS, QRELS, ["mrr"]), "dense", 200, seed=5))
    assert "(200 permutations, seed 5; not corrected for several tests)" in sampled
    assert "†" not in markdown(compare(measure(RUNS, QRELS, ["mrr"]), None, 200, seed=5))


def test_the_files_hold_all_of_it_and_are_the_same_each_time(tmp_path):
    for folder in [tmp_path / "one", tmp_path / "two"]:
        write_report(compare(measure(RUNS, QRELS, ["mrr", "recall@1"]), "dense", 200, seed=5), folder)
    names = ["per_query.tsv", "report.json", "report.md"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    written = json.loads((tmp_path / "one" / "report.json").read_text())
    assert written["queries"] == 8
    assert written["runs"]["short"]["means"] == {"mrr": 0.4375, "recall@1": 0}
    assert written["runs"]["dense"]["intervals"] == {"mrr": [1, 1], "recall@1": [1, 1]}
    assert list(written["runs"]["short"]["p_values"]) == ["mrr", "recall@1"]
    assert "p_values" not in written["runs"]["dense"]
    assert written["significance"]["baseline"] == "dense"
    assert (written["significance"]["permutations"], written["significance"]["seed"]) == (200, 5)
    lines = (tmp_path / "one" / "per_query.tsv").read_text().splitlines()
    assert lines[0].split("\t") == [
        "query",
        *(f"{name} {measure}" for name in RUNS for measure in ["mrr", "recall@1"]),
    ]
    assert lines[8].split("\t") == ["q7", "0.500000", "0.000000", "1.000000", "1.000000", "0.000000", "0.000000"]


def test_an_unknown_baseline_is_answered_with_the_runs():
    with pytest.raises(ConfigError, match=r"'dens': no such run; did you mean dense\? there are a|b, dense, short"):
        compare(measure(RUNS, QRELS, ["mrr"]), "dens", 100, seed=0)


def test_examples_are_drawn_by_seed_from_queries_with_a_relevant_document():
    qrels = {**QRELS, "hopeless": {"good": 0}}
    queries = [Query(query, f"what is {query}") for query in ["unjudged", "hopeless", *QRELS]]
    examples = pick_examples(qrels, iter(queries), RUNS, count=3, depth=2, seed=1)
    assert examples == pick_examples(qrels, iter(queries), RUNS, count=3, depth=2, seed=1)
    assert [example.query for example in examples] == sorted({example.query for example in examples})
    assert len(examples) == 3
    assert all(example.relevant == {"good"} for example in examples)
    assert examples[0].hits[:2] == [("a|b", ["d0", "good"]), ("dense", ["good", "d0"])]
    everything = pick_examples(qrels, queries, RUNS, count=99)
    assert [example.query.id for example in everything] == list(QRELS)
    assert everything[-1].hits[-1] == ("short", [])
