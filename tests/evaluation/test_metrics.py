import math

import numpy as np
import pytest

from seedcli.base.errors import ConfigError
from seedcli.data.records import Qrels
from seedcli.evaluation.metrics import evaluate, measure, parse_measures
from seedcli.retrieval.runs import Ranking, Run, run_of

MEASURES = ["mrr@10", "mrr", "recall@5", "recall", "ndcg@10", "ndcg", "map@10", "map"]
MEASURES += ["precision@5", "precision", "hit_rate@3", "r-precision"]


def slow(measure: str, ranking: list[str], grades: dict[str, int]) -> float:
    """The measure as its definition says."""
    name, _, cutoff = measure.partition("@")
    relevant = {document for document, grade in grades.items() if grade > 0}
    if not relevant or not ranking:
        return 0.0
    depth = len(relevant) if name == "r-precision" else int(cutoff or len(ranking))
    hits = [rank for rank, document in enumerate(ranking[:depth], 1) if document in relevant]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[: int(cutoff or len(grades))]
    gains = sum(grades[ranking[rank - 1]] / math.log2(rank + 1) for rank in hits)
    return {
        "mrr": 1 / min(hits, default=math.inf),
        "recall": len(hits) / len(relevant),
        "precision": len(hits) / depth,
        "r-precision": len(hits) / depth,
        "hit_rate": float(bool(hits)),
        "map": sum(number / rank for number, rank in enumerate(hits, 1)) / len(relevant),
        "ndcg": gains / sum(grade / math.log2(rank + 1) for rank, grade in enumerate(ideal, 1)),
    }[name]


def random_case(seed: int) -> tuple[Run, Qrels]:
    """Ties, repeated and unjudged documents, negative grades, queries with nothing relevant or nothing found."""
    rng = np.random.default_rng(seed)
    pool = np.array([f"d{number}" for number in range(40)])
    qrels = {
        f"q{query}": {str(document): int(rng.integers(-2, 4)) for document in rng.choice(pool, rng.integers(1, 20))}
        for query in range(12)
    }
    qrels["hopeless"] = {"d1": 0, "d2": -1}
    rankings = [
        Ranking(query, list(rng.choice(pool, 30)), rng.integers(0, 5, 30).astype(np.float32))
        for query in [*qrels, "unjudged"]
        if rng.random() < 0.8
    ]
    return run_of([*rankings, Ranking("q0", [], np.empty(0, np.float32))]), qrels


@pytest.mark.parametrize("seed", range(5))
def test_measures_equal_their_definitions(seed):
    run, qrels = random_case(seed)
    values = evaluate(run, qrels, MEASURES)
    assert list(values) == MEASURES
    for name in MEASURES:
        rankings = [[document.decode() for document in run.ranking(query)[0]] for query in qrels]
        expected = [slow(name, *pair) for pair in zip(rankings, qrels.values(), strict=True)]
        np.testing.assert_allclose(values[name], expected, rtol=1e-12, err_msg=name)
        assert values[name].max() <= 1


def test_two_queries_by_hand():
    run = run_of([Ranking("q1", ["a", "b", "c"], np.array([3, 2, 1], np.float32))])
    qrels = {"q1": {"b": 1, "x": 3}, "q2": {"a": 1}}
    values = evaluate(run, qrels, ["mrr", "recall", "ndcg"])
    assert values["mrr"].tolist() == [1 / 2, 0]
    assert values["recall"].tolist() == [1 / 2, 0]
    assert values["ndcg"].tolist() == pytest.approx([(1 / math.log2(3)) / (3 + 1 / math.log2(3)), 0])


def test_a_tie_is_ranked_by_descending_id():
    run = run_of([Ranking("q", ["a", "b"], np.ones(2, np.float32))])
    assert evaluate(run, {"q": {"a": 1}}, ["mrr"])["mrr"].tolist() == [1 / 2]


def test_a_run_of_nothing_scores_zero_everywhere():
    qrels = {"q1": {"a": 1}, "q2": {"a": 2}}
    assert all(value.tolist() == [0, 0] for value in evaluate(run_of([]), qrels, MEASURES).values())


def test_queries_without_a_judgement_are_not_counted():
    run = run_of([Ranking("q2", ["a"], np.ones(1, np.float32))])
    values = measure({"run": run}, {"q1": {"a": 0}, "q2": {}}, ["mrr"])
    assert (values.queries, values.values.tolist(), values.lacking) == (["q1"], [[[0]]], [1])
    assert measure({"run": run}, {"q2": {}}, ["mrr"]).values.shape == (1, 1, 0)


def test_measures_are_named_once_each():
    assert parse_measures(["mrr@10", "ndcg", "mrr@10", "r-precision"]) == ["mrr@10", "ndcg", "r-precision"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ndgc@10", "no measure 'ndgc@10': did you mean ndcg@10? expected mrr, recall"),
        ("MRR@10", "did you mean mrr@10?"),
        ("recall@1k", "no measure 'recall@1k': did you mean recall? expected"),
        ("mrr@0", "with or without a cut-off (mrr@10)"),
        ("r-precision@5", "did you mean r-precision?"),
        ("recal@10-l2", "did you mean recall@10-l2?"),
        ("ndcg@10-l2", "no measure 'ndcg@10-l2': did you mean ndcg? expected"),
        ("judged-l1", "did you mean judged?"),
        ("mrr-l0", "did you mean mrr?"),
        ("bleu", "no measure 'bleu': expected"),
        ("", "no measure '': expected"),
    ],
)
def test_an_unknown_measure_is_answered_with_what_there_is(name, message):
    with pytest.raises(ConfigError) as error:
        parse_measures([name])
    assert message in str(error.value)


def test_no_measures_are_a_mistake():
    with pytest.raises(ConfigError, match="no measures given"):
        parse_measures([])


def test_a_level_says_from_which_grade_on_a_document_is_relevant():
    run = run_of([Ranking("q", ["a", "b", "c", "d"], np.array([4, 3, 2, 1], np.float32))])
    qrels = {"q": {"a": 1, "b": 2, "d": 3, "x": 2}, "low": {"a": 1}}
    names = ["mrr", "recall@3-l2", "map-l2", "precision@2-l3", "hit_rate@3-l3", "r-precision-l2", "mrr-l10"]
    values = evaluate(run, qrels, names)
    assert {name: value[0] for name, value in values.items()} == pytest.approx(
        dict(zip(names, [1, 1 / 3, (1 / 2 + 2 / 4) / 3, 0, 0, 1 / 3, 0], strict=True))
    )
    assert [value[1] for value in values.values()] == [0] * len(names)


def test_judged_is_the_share_of_the_first_hits_with_a_judgement():
    run = run_of([Ranking("q1", ["a", "b", "c"], np.array([3, 2, 1], np.float32))])
    qrels = {"q1": {"a": 0, "c": -1, "x": 1}, "lacking": {"b": 1}}
    values = evaluate(run, qrels, ["judged@1", "judged@2", "judged@10", "judged"])
    assert [value.tolist() for value in values.values()] == [[1, 0], [1 / 2, 0], [2 / 3, 0], [2 / 3, 0]]


def test_ids_of_other_lengths_and_queries_in_another_order():
    """A judged id longer than all of a run's, and one that begins with one of them."""
    run = run_of([Ranking("q2", ["a", "b"], np.array([2, 1], np.float32)), Ranking("q1", ["b"], np.ones(1))])
    qrels = {"q1": {"bb" * 40: 2, "b": 1}, "q2": {"a" * 9: 1, "b": 1}}
    assert evaluate(run, qrels, ["recall", "mrr"])["recall"].tolist() == [1 / 2, 1 / 2]
    assert evaluate(run, qrels, ["mrr"])["mrr"].tolist() == [1, 1 / 2]
