"""Weights of a fusion: the grid, cross-validation spelled out, and never on what is searched."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from seedcli.base.errors import ConfigError, DataError
from seedcli.cli import app
from seedcli.retrieval.run_files import read_run, write_run
from seedcli.retrieval.runs import Ranking
from seedcli.stages.fusion_tuning import MOST, cross_validated, weightings

LETTERS = [*"abcdefgh"]


@pytest.mark.parametrize("indexes", [2, 3, 4, 5, 9, 120])
def test_weightings_sum_to_one_and_begin_with_the_even_one(indexes):
    grid = weightings(indexes)
    assert grid[0] == (1 / indexes,) * indexes
    assert len(set(grid)) == len(grid) <= max(MOST, indexes) + 1
    np.testing.assert_allclose(np.sum(grid, axis=1), 1)
    assert {tuple(row) for row in np.eye(indexes).tolist()} <= set(grid)  # each index alone
    assert np.min(grid) >= 0


def test_two_indexes_are_weighed_in_steps_of_a_twentieth():
    assert sorted(weightings(2)) == [(row / 20, (20 - row) / 20) for row in range(21)]


def test_a_query_counts_by_the_weighting_that_is_best_without_its_fold():
    values = np.random.default_rng(0).random((7, 40)).round(1)
    own = np.random.default_rng([3, 1]).permutation(40) % 4
    expected = []
    for query in range(40):
        others = [row for row in range(40) if own[row] != own[query]]
        means = [round(float(np.mean(weighting[others])), 6) for weighting in values]
        expected.append(values[means.index(max(means)), query])
    assert cross_validated(values, 4, 3) == pytest.approx(np.mean(expected), abs=1e-12)
    assert cross_validated(values, 4, 3) < values.mean(axis=1).max()


@pytest.fixture
def found(tmp_path) -> Path:
    """Two runs of dev and test queries: the first has the right document first, the second has it last."""
    corpus, qrels = tmp_path / "data", tmp_path / "data" / "qrels"
    qrels.mkdir(parents=True)
    (corpus / "corpus.jsonl").write_text("".join(f'{{"_id": "{id_}", "title": "", "text": "x"}}\n' for id_ in LETTERS))
    names = [f"{split}{row}" for split in ("dev", "test") for row in range(6)]
    (corpus / "queries.jsonl").write_text("".join(f'{{"_id": "{name}", "text": "{name}?"}}\n' for name in names))
    right = {name: LETTERS[row % 8] for row, name in enumerate(names)}
    for split in ("dev", "test"):
        lines = [f"{name}\t{right[name]}\t1\n" for name in names if name.startswith(split)]
        (qrels / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    for run, ascending in (("good", False), ("bad", True)):
        scores = np.arange(8, dtype=np.float32) * (1 if ascending else -1)
        rankings = [
            Ranking(name, [right[name], *(letter for letter in LETTERS if letter != right[name])], scores)
            for name in names
        ]
        write_run(tmp_path / f"{run}.trec", rankings, "seed")
    return tmp_path


def test_weights_are_tuned_on_dev_and_used_on_test(found, perform):
    given = {"index": [str(found / "bad.trec"), str(found / "good.trec")], "queries": found / "data", "split": "test"}
    tuned = {"tuning.tune": found / "data", "tuning.folds": 3, "fusion": "min-max"}
    made = perform("search", out=found / "fused", **given, **tuned)
    told = made.metrics["tuned"]
    assert (told["measure"], told["split"], told["queries"], told["folds"]) == ("mrr@10", "dev", 6, 3)
    assert (told["value"], told["cross_validated"]) == (1, 1)
    assert told["weights"] == [0.45, 0.55]  # the nearest to even of those that are best
    assert told["tried"][0] == [0.5, 0.5, told["even"]]
    assert told["even"] < 1
    run = read_run(found / "fused" / "run.trec")
    assert run.queries == [f"test{row}" for row in range(6)]
    by_hand = perform("search", out=found / "given", **given, fusion="min-max", weight=[0.45, 0.55])
    assert by_hand.outputs == made.outputs


def test_what_is_searched_is_never_tuned_on(found, perform):
    given = {
        "index": [str(found / "bad.trec"), str(found / "good.trec")],
        "tuning.tune": found / "data",
        "tuning.folds": 2,
    }
    for searched in ({"queries": found / "data", "split": "dev"}, {"queries": found / "data"}, {}):
        with pytest.raises(ConfigError, match="6 of the queries to tune on are searched for, such as 'dev0'"):
            perform("search", out=found / "fused", **given, **searched)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weight": [1.0]}, ConfigError, "--weight: 1 for 2 indexes; give one each"),
        ({"weight": [0.0, 0.0]}, ConfigError, "numbers from 0 on, not all 0"),
        ({"weight": [-1.0, 2.0]}, ConfigError, "numbers from 0 on, not all 0"),
        ({"tuning.tune": "DATA", "weight": [1.0, 1.0]}, ConfigError, "give the weights, or what to tune them on"),
        ({"tuning.tune": "DATA", "tuning.tune_split": "train"}, DataError, "no qrels 'train' to tune on"),
        ({"tuning.tune": "DATA", "tuning.tune_measure": "answers@5"}, ConfigError, "judgements, not by answers"),
        ({"tuning.tune": "DATA", "tuning.folds": 7, "split": "test"}, DataError, "6 judged queries in 'dev', for 7"),
    ],
)  # fmt: skip
def test_mistakes_are_told(found, perform, options, error, message):
    options = {key: found / "data" if value == "DATA" else value for key, value in options.items()}
    with pytest.raises(error, match=message):
        perform("search", index=[str(found / "bad.trec"), str(found / "good.trec")], queries=found / "data",
                out=found / "fused", **options)  # fmt: skip


def test_runs_are_fused_without_an_index_or_queries(found, perform):
    made = perform(
        "search", index=[str(found / "bad.trec"), str(found / "good.trec")], out=found / "fused", weight=[0.0, 1.0]
    )
    assert made.metrics["queries"] == 12
    fused, good = read_run(found / "fused" / "run.trec"), read_run(found / "good.trec")
    assert fused.documents.tolist() == good.documents.tolist()


def test_a_run_of_other_queries_and_a_question_to_a_run_are_refused(found, perform):
    write_run(found / "other.trec", [Ranking("x", ["a"], np.ones(1, np.float32))], "seed")
    with pytest.raises(
        DataError, match=r"a run of none of the 12 queries that are asked, such as 'dev0', where .* 'x'"
    ):
        perform(
            "search",
            index=[str(found / "good.trec"), str(found / "other.trec")],
            queries=found / "data",
            out=found / "f",
        )


def test_runs_of_other_queries_are_not_fused_and_lacking_ones_are_told(found, perform):
    """Without --queries all that the runs have is fused."""
    good = read_run(found / "good.trec")
    write_run(found / "other.trec", [Ranking("x", ["a"], np.ones(1, np.float32))], "seed")
    runs = [str(found / "good.trec"), str(found / "other.trec")]
    with pytest.raises(DataError, match="a run of other queries than the others, such as 'dev0', where they have 'x'"):
        perform("search", index=runs, out=found / "f")
    write_run(found / "some.trec", islice(good.rankings(), 5), "seed")
    out = ["--out", str(found / "some"), "--index", str(found / "good.trec"), "--index", str(found / "some.trec")]
    answer = CliRunner().invoke(app, ["search", *out], env={"COLUMNS": "400"})
    assert answer.exit_code == 0, answer.output
    assert f"some.trec: lacks 7 of the 12 queries that are asked, such as '{good.queries[5]}'" in answer.output
