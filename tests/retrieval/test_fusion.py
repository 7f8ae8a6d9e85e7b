from fractions import Fraction

import numpy as np
import pytest

from seedcli.retrieval.fusion import reciprocal_rank
from seedcli.retrieval.runs import Ranking, Run, run_of


def run(**rankings: str) -> Run:
    """Rankings of one-letter documents, best first."""
    return run_of(Ranking(q, list(d), np.arange(len(d), 0, -1, dtype=np.float32)) for q, d in rankings.items())


def test_two_rankings_fuse_as_by_hand():
    (fused,) = reciprocal_rank([run(q="abc"), run(q="cb")], depth=10, k=60)
    expected = {"c": 1 / 63 + 1 / 61, "b": 1 / 62 + 1 / 62, "a": 1 / 61}
    assert fused.documents == list(expected)
    assert fused.scores.tolist() == np.array([*expected.values()], np.float32).tolist()


def test_every_query_of_any_run_is_answered():
    fused = list(reciprocal_rank([run(q2="a"), run(q1="b", q2="c")], depth=10))
    assert [(ranking.query, ranking.documents) for ranking in fused] == [("q2", ["c", "a"]), ("q1", ["b"])]


def test_depth_cuts_what_is_kept_not_what_is_counted():
    (fused,) = reciprocal_rank([run(q="abx"), run(q="cdx")], depth=1)
    assert fused.documents == ["x"]


@pytest.mark.parametrize("k", [0, 1, 60])
def test_fusion_equals_exact_sums_of_fractions(k):
    rng = np.random.default_rng(k)
    letters = np.array([*"abcdefghijklmnop"])
    orders = ["".join(rng.permutation(letters)[: rng.integers(1, 16)]) for _ in range(4)]
    (fused,) = reciprocal_rank([run(q=letters) for letters in orders], depth=5, k=k)
    sums = {d: sum(Fraction(1, k + 1 + letters.index(d)) for letters in orders if d in letters) for d in letters}
    best = sorted(sums, key=lambda document: (sums[document], document), reverse=True)[:5]
    assert fused.documents == best
    np.testing.assert_allclose(fused.scores, [float(sums[document]) for document in best], rtol=1e-7)
