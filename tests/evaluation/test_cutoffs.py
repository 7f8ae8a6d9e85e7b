"""Measures by cut-off are those that the report has at each of them."""

from itertools import chain

import numpy as np
import pytest

from seedcli.data.records import Qrels
from seedcli.evaluation.cutoffs import FAMILIES, by_cutoff, cutoffs, places
from seedcli.evaluation.judging import Judgements
from seedcli.evaluation.metrics import measure
from seedcli.retrieval.runs import Ranking, Run, run_of


def drawn(seed: int, depth: int) -> tuple[Run, Qrels]:
    """Forty queries with up to thirty graded documents; some rankings are short, one lacks."""
    rng = np.random.default_rng(seed)
    pool = [f"d{number}" for number in range(80)]
    qrels = {
        f"q{number}": {
            document: int(rng.integers(-1, 4)) for document in rng.choice(pool, rng.integers(1, 30), replace=False)
        }
        for number in range(40)
    }
    rankings = []
    for number in range(1, 40):
        documents = rng.permutation(pool)[: int(rng.integers(1, depth + 1))].tolist()
        rankings.append(Ranking(f"q{number}", documents, rng.random(len(documents), np.float32)))
    return run_of(rankings), qrels


@pytest.mark.parametrize("seed", range(3))
def test_each_point_is_the_measure_at_its_cut_off(seed):
    run, qrels = drawn(seed, 60)
    judgements, cuts = Judgements(qrels), cutoffs(60)
    found = places(judgements.find(run), judgements)
    curves = by_cutoff(found, judgements, cuts)
    assert list(curves) == list(FAMILIES)
    names = [f"{family}@{cut}" for family in FAMILIES for cut in cuts]
    means = measure({"a": run}, qrels, names).values.mean(axis=2)[0]
    for query, grades, rank in zip(judgements.queries, qrels.values(), found.first, strict=True):
        documents = [document.decode() for document in run.ranking(query)[0].tolist()]
        best = max(grades, key=lambda document: grades[document])
        assert rank == (documents.index(best) + 1 if best in documents and grades[best] > 0 else 0)
    assert [*chain.from_iterable(curves.values())] == pytest.approx(means.tolist(), abs=1e-12)


def test_cut_offs_grow_in_even_steps_and_end_with_the_depth():
    assert cutoffs(100) == [1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100]
    assert cutoffs(25) == [1, 2, 3, 5, 7, 10, 20, 25]
    assert cutoffs(1) == [1]
    assert cutoffs(0) == []


def test_nothing_found_and_nothing_relevant_are_zero():
    run = run_of([Ranking("q1", ["a", "b"], np.array([2, 1], np.float32))])
    judgements = Judgements({"q1": {"c": 1}, "q2": {"a": 0}})
    found = places(judgements.find(run), judgements)
    assert found.depth == 2
    assert all(points == [0, 0] for points in by_cutoff(found, judgements, [1, 2]).values())
    hopeless = Judgements({"q2": {"a": 0}})
    assert by_cutoff(places(hopeless.find(run), hopeless), hopeless, [1])["ndcg"] == [0]
