"""MIND's measures: impressions with two clicks by pencil, any others against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from seedcli.data.records import Qrels
from seedcli.evaluation.impressions import is_impressions, measure_impressions
from seedcli.retrieval.runs import Ranking, Run, run_of

MEASURES = ["auc", "mind-mrr", "mind-ndcg@5", "mind-ndcg@10"]


def run(**scores: dict[str, float]) -> Run:
    return run_of(Ranking(query, list(own), np.array([*own.values()], np.float32)) for query, own in scores.items())


def measured(scores: dict[str, float], grades: dict[str, int]) -> list[float]:
    return [*measure_impressions({"r": run(i=scores)}, {"i": grades}, MEASURES).values[0, :, 0]]


def log2(value: float) -> float:
    return math.log2(value)


def test_two_clicks_by_pencil():
    """Clicked: first and fourth of five. Of 2 x 3 pairs, the first click leads three, the second one."""
    scores = {"a": 5, "b": 4, "c": 3, "d": 2, "e": 1}
    ideal = 1 + 1 / log2(3)
    expected = [4 / 6, (1 / 1 + 1 / 4) / 2, (1 + 1 / log2(5)) / ideal, (1 + 1 / log2(5)) / ideal]
    assert measured(scores, {"a": 1, "b": 0, "c": 0, "d": 1, "e": 0}) == pytest.approx(expected, abs=1e-15)


def test_a_second_click_behind_the_cut_counts_in_the_ideal_alone():
    scores = {letter: 10.0 - place for place, letter in enumerate("abcdefgh")}
    grades = dict.fromkeys("abcdefgh", 0) | {"b": 1, "g": 1}
    first, second = 1 / log2(3), 1 / log2(8)
    ideal = 1 + 1 / log2(3)
    expected = [(5 + 1) / 12, (1 / 2 + 1 / 7) / 2, first / ideal, (first + second) / ideal]
    assert measured(scores, grades) == pytest.approx(expected, abs=1e-15)


def test_ties_count_by_half_and_rank_in_the_runs_order():
    """a and b tie, and b comes first, the higher id. Of 2 x 2 pairs a has a half and a whole one, c leads d."""
    ideal = 1 + 1 / log2(3)
    ndcg = (1 / log2(3) + 1 / log2(4)) / ideal
    expected = [(0.5 + 1 + 0 + 1) / 4, (1 / 2 + 1 / 3) / 2, ndcg, ndcg]
    scores, grades = {"a": 2.0, "b": 2.0, "c": 1.5, "d": 1.0}, {"a": 1, "b": 0, "c": 1, "d": 0}
    assert measured(scores, grades) == pytest.approx(expected, abs=1e-15)


def test_what_has_no_score_is_a_tie_behind_the_rest_and_ranks_nowhere():
    grades = {"a": 0, "b": 1, "c": 1, "d": 0}  # c and d lack scores
    ideal = 1 + 1 / log2(3)
    expected = [(1 + 1 + 0 + 0.5) / 4, (1 / 1) / 2, 1 / ideal, 1 / ideal]
    assert measured({"b": 2.0, "a": 1.0}, grades) == pytest.approx(expected, abs=1e-15)


def test_news_that_were_not_shown_count_for_nothing():
    grades = {"a": 0, "b": 1, "c": 1}
    alone, among = {"b": 3.0, "a": 2.0, "c": 1.0}, {"x": 9.0, "b": 3.0, "y": 2.5, "a": 2.0, "c": 1.0}
    assert measured(alone, grades) == measured(among, grades)


def test_an_impression_that_a_run_lacks_is_zero_and_one_of_one_kind_has_the_area_of_chance():
    qrels: Qrels = {"i": {"a": 1, "b": 0}, "all": {"a": 1, "b": 1}, "none": {"a": 0, "b": 0}, "left out": {}}
    scores = {"a": 2.0, "b": 1.0}
    values = measure_impressions({"r": run(all=scores, none=scores), "s": run(i=scores)}, qrels, MEASURES)
    assert values.queries == ["i", "all", "none"]
    assert values.lacking == [1, 2]
    assert values.values[0].T.tolist() == [[0, 0, 0, 0], [0.5, 0.75, 1, 1], [0.5, 0, 0, 0]]
    assert values.values[1].T.tolist() == [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


def slow_mrr(grades: list[int]) -> float:
    return sum(grade / rank for rank, grade in enumerate(grades, 1)) / sum(grades)


@pytest.mark.parametrize("seed", range(20))
def test_any_impression_is_as_scikit_learn_has_it(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 40))
    grades = rng.permutation([1, 0, *rng.integers(0, 2, size - 2)])
    names = [f"N{row}" for row in range(size)]
    tied = rng.integers(0, 8, size).astype(np.float32)  # the area knows ties, the ranks have an order
    given = dict(zip(names, grades.tolist(), strict=True))
    (found,) = [measured(dict(zip(names, tied.tolist(), strict=True)), given)]
    assert found[0] == pytest.approx(roc_auc_score(grades, tied), abs=1e-12)
    scores = rng.permutation(size).astype(np.float32)
    found = measured(dict(zip(names, scores.tolist(), strict=True)), given)
    ordered = grades[np.argsort(-scores)].tolist()
    expected = [roc_auc_score(grades, scores), slow_mrr(ordered)]
    expected += [ndcg_score([grades], [scores], k=cut) for cut in (5, 10)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_grades_beyond_a_click_gain_by_powers_of_two():
    ideal = 3 + 1 / log2(3)
    (value,) = measure_impressions(
        {"r": run(i={"a": 2.0, "b": 1.0})}, {"i": {"a": 1, "b": 2}}, ["mind-ndcg@5"]
    ).values.flat
    assert value == pytest.approx((1 + 3 / log2(3)) / ideal, abs=1e-15)


def test_names_of_the_measures():
    assert all(map(is_impressions, MEASURES))
    assert not any(map(is_impressions, ["mind-ndcg", "auc@5", "mind-mrr@10", "mind-ndcg@0", "ndcg@5", "AUC"]))
