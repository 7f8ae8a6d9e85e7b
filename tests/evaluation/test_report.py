import csv
import dataclasses
import json
from string import ascii_lowercase

import numpy as np
import pytest

from seedcli.base.errors import ConfigError
from seedcli.data.records import Query
from seedcli.evaluation.metrics import Values, evaluate, measure
from seedcli.evaluation.report import compare, pick_examples
from seedcli.evaluation.rows import highest, label, marks
from seedcli.evaluation.tables import latex, markdown, tex, write_report
from seedcli.retrieval.runs import Ranking, Run, run_of

QRELS = {f"q{number}": {"good": 1, "bad": 0} for number in range(8)}


def run_with(place: int, queries: int = 8) -> Run:
    """A run that has the relevant document at `place` for the first so many queries."""
    documents = [f"d{number}" for number in range(5)]
    documents.insert(place - 1, "good")
    scores = np.arange(6, 0, -1, dtype=np.float32)
    return run_of(Ranking(f"q{number}", documents, scores) for number in range(queries))


RUNS = {"a|b": run_with(2), "dense": run_with(1), "short": run_with(2, queries=7)}


def test_means_and_differences_are_as_by_hand():
    report = compare(measure(RUNS, QRELS, ["mrr", "recall@1"]), "a|b", 1000, seed=0)
    assert report.means.tolist() == [[0.5, 0], [1, 1], [3.5 / 8, 0]]
    assert report.seeds == [1, 1, 1]
    tested = report.significance
    assert tested is not None
    assert tested.pairs == [(1, 0), (2, 0)]
    # All eight queries differ alike: 2 of the 256 signs reach it. One query alone differs: every sign does.
    assert tested.p_values.tolist() == [[2 / 256, 2 / 256], [1, 1]]
    assert tested.corrected.tolist() == [[8 / 256, 8 / 256], [1, 1]]
    assert tested.differences.tolist() == [[0.5, 1], [-0.5 / 8, 0]]
    assert tested.counts.tolist() == [[[8, 0, 0], [8, 0, 0]], [[0, 7, 1], [0, 8, 0]]]
    assert np.isnan(tested.effects).tolist() == [[True, True], [False, True]]  # all queries differ alike
    one = np.array([-0.5, *[0] * 7])
    assert tested.effects[1, 0] == pytest.approx(one.mean() / one.std(ddof=1))
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
        r"† p < 0.05 against a\|b, better or worse: paired sign-flip permutation test of the mean difference, "
        "two-sided (all 256 signs); Holm's correction over 4 tests.",
        "",
        "d_z: the mean difference in standard deviations of the queries' differences. Detectable: the smallest true "
        "difference that this many queries show with a chance of about 80 % in one test at 0.05.",
        "",
        "| difference | measure | mean | p | corrected | d_z | won / tied / lost | detectable |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: |",
        r"| dense − a\|b | mrr | +0.5000 [+0.5000, +0.5000] | 0.0078 | 0.0312 | – | 8 / 0 / 0 | – |",
        r"| dense − a\|b | recall@1 | +1.0000 [+1.0000, +1.0000] | 0.0078 | 0.0312 | – | 8 / 0 / 0 | – |",
        r"| short − a\|b | mrr | -0.0625 [-0.1875, +0.0000] | 1.0000 | 1.0000 | -0.354 | 0 / 7 / 1 | 0.2038 |",
        r"| short − a\|b | recall@1 | +0.0000 [+0.0000, +0.0000] | 1.0000 | 1.0000 | – | 0 / 8 / 0 | – |",
    ]
    sampled = markdown(compare(measure(RUNS, QRELS, ["mrr"]), "dense", 200, seed=5, correction="none"))
    assert "(200 permutations, seed 5); not corrected for several tests." in sampled
    assert "†" not in markdown(compare(measure(RUNS, QRELS, ["mrr"]), None, 200, seed=5))


def test_of_all_pairs_the_better_has_the_letter_of_the_other():
    report = compare(measure(RUNS, QRELS, ["mrr"]), None, 1000, seed=0, all_pairs=True)
    assert report.significance is not None
    assert report.significance.pairs == [(1, 0), (2, 0), (2, 1)]
    lines = markdown(report).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == [r"| a a\|b", "| b dense", "| c short"]
    assert ["<sup>" in line for line in lines[2:5]] == [False, True, False]
    assert "1.0000<sup>ac</sup>" in lines[3]
    assert "Letters: better than the systems of these letters, p < 0.05" in lines[8]


def test_runs_of_one_name_are_one_system():
    values = measure({"s1": run_with(1), "s2": run_with(2, queries=6), "other": run_with(4)}, QRELS, ["mrr"])
    seeds = dataclasses.replace(values, names=["dense", "dense", "other"])
    report = compare(seeds, "other", 1000, seed=0)
    assert (report.names, report.seeds, report.lacking) == (["dense", "other"], [2, 1], [2, 0])
    np.testing.assert_array_equal(report.values[0], values.values[:2].mean(axis=0))
    assert report.deviations[0, 0] == pytest.approx(np.std([1, 3 / 8], ddof=1))
    assert np.isnan(report.deviations[1, 0])
    assert report.significance is not None
    # The two seeds differ so much, and are so few, that queries alone would say more than is known.
    alone = compare(Values(**{**vars(values), "names": ["x", "y", "other"]}), "other", 1000, seed=0).significance
    assert alone is not None
    assert alone.p_values.min() < 0.01
    assert report.significance.p_values[0, 0] > 0.1
    text = markdown(report)
    assert "±0.4419" in text
    assert "(seeds: dense 2)" in text
    assert "Banerjee" in text


def test_letters_stand_in_the_order_of_the_systems_however_many_there_are():
    runs = {f"s{number}": run_with(5) for number in range(28)} | {"best": run_with(1)}
    report = compare(measure(runs, QRELS, ["mrr"]), None, 1000, 0, "permutation", "none", all_pairs=True)
    assert marks(report, 28) == {"mrr": ascii_lowercase + "(27)(28)"}
    assert label(report, 28) == "(29) best"


def test_the_highest_are_bold_unless_all_are_alike():
    assert highest([0.5, None, 0.5, 0.1]) == [True, False, True, False]
    assert highest([0.0, 0.0]) == highest([None, 0.2]) == [False, False]
    runs = {"one": run_with(1), "two": run_with(1), "three": run_with(2)}
    text = latex(compare(measure(runs, QRELS, ["mrr", "recall@5"]), None, 100, seed=0))
    assert text.count(r"\textbf{1.0000} & 1.0000 \\") == 2
    assert text.count("textbf") == 2


def test_latex_reads_no_name_as_its_own():
    assert tex(r"50% & $x_1 \ {a}~^#|<>") == (
        r"50\% \& \$x\_1 \textbackslash{} \{a\}\textasciitilde{}\textasciicircum{}\#"
        r"\textbar{}\textless{}\textgreater{}"
    )
    assert tex('`a` "b"') == r"\`{}a\`{} ''b''"
    assert tex("[a]\n†") == r"{[}a{]} $^\dagger$"
    text = latex(compare(measure(RUNS, QRELS, ["mrr", "hit_rate@1"]), "a|b", 1000, seed=0))
    assert r"Run & mrr & hit\_rate@1 \\" in text
    assert r"a\textbar{}b & 0.5000 & 0.0000 \\" in text
    assert r"dense & \textbf{1.0000}$^{\dagger}$ & \textbf{1.0000}$^{\dagger}$ \\" in text
    assert r" & {\scriptsize [0.3125, 0.5000]} & {\scriptsize [0.0000, 0.0000]} \\" in text
    assert text.count("{") == text.count("}")
    assert text.isascii()


def test_the_files_hold_all_of_it_and_are_the_same_each_time(tmp_path):
    for folder in [tmp_path / "one", tmp_path / "two"]:
        report = compare(measure(RUNS, QRELS, ["mrr", "recall@1"]), "dense", 200, seed=5)
        files = write_report(report, folder)
    names = ["per_query.tsv", "report.csv", "report.json", "report.md", "report.tex"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names == sorted(path.name for path in files)
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    written = json.loads((tmp_path / "one" / "report.json").read_text())
    assert written["queries"] == 8
    assert written["runs"]["short"]["means"] == {"mrr": 0.4375, "recall@1": 0}
    assert written["runs"]["dense"]["intervals"] == {"mrr": [1, 1], "recall@1": [1, 1]}
    assert list(written["runs"]["short"]["p_values"]) == ["mrr", "recall@1"]
    assert "p_values" not in written["runs"]["dense"]
    assert written["significance"]["baseline"] == "dense"
    assert (written["significance"]["permutations"], written["significance"]["seed"]) == (200, 5)
    assert [(one["system"], one["measure"]) for one in written["tests"]][:2] == [("a|b", "mrr"), ("a|b", "recall@1")]
    rows = list(csv.DictReader((tmp_path / "one" / "report.csv").open()))
    assert [(row["system"], row["measure"], row["against"]) for row in rows] == [
        (name, measured, "" if name == "dense" else "dense") for name in RUNS for measured in ("mrr", "recall@1")
    ]
    assert (rows[0]["mean"], rows[0]["difference"], rows[0]["losses"]) == ("0.5", "-0.5", "8")
    assert float(rows[0]["p_corrected"]) >= float(rows[0]["p"]) > 0
    lines = (tmp_path / "one" / "per_query.tsv").read_text().splitlines()
    assert lines[0].split("\t") == [
        "query",
        *(f"{name} {measured}" for name in RUNS for measured in ["mrr", "recall@1"]),
    ]
    assert lines[8].split("\t") == ["q7", "0.500000", "0.000000", "1.000000", "1.000000", "0.000000", "0.000000"]


def test_values_of_a_systems_runs_are_kept_query_by_query(tmp_path):
    values = measure({"s1": run_with(1), "s2": run_with(2), "other": run_with(4)}, QRELS, ["mrr"])
    write_report(compare(dataclasses.replace(values, names=["x", "x", "y"]), None, 100, 0), tmp_path)
    first, second, *_ = (tmp_path / "per_query.tsv").read_text().splitlines()
    assert first.split("\t") == ["query", "x mrr", "y mrr", "x[1] mrr", "x[2] mrr"]
    assert second.split("\t") == ["q0", "0.750000", "0.250000", "1.000000", "0.500000"]


@pytest.mark.parametrize("test", ["permutation", "t"])
def test_one_query_shows_nothing(test, tmp_path):
    values = measure({"a": run_with(1), "b": run_with(2)}, {"q0": QRELS["q0"]}, ["mrr"])
    report = compare(values, "a", 100, 0, test)
    assert report.significance is not None
    assert report.significance.p_values.tolist() == [[1]]
    write_report(report, tmp_path)
    assert "NaN" not in (tmp_path / "report.json").read_text()


def test_a_baseline_alone_is_compared_with_nothing(tmp_path):
    report = compare(measure({"a": run_with(1)}, QRELS, ["mrr"]), "a", 100, 0)
    write_report(report, tmp_path)
    assert (tmp_path / "report.md").read_text().count("|") == 9


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
