"""Fusion: by pencil, by exact fractions, and as ranx fuses generated runs."""

from fractions import Fraction

import numpy as np
import pytest

from seedcli.base.errors import DataError
from seedcli.retrieval.fusion import Method, fuse, pools, run_of_pools
from seedcli.retrieval.runs import Ranking, Run, run_of

ONES = (1.0, 1.0)


def run(**rankings: str) -> Run:
    """Rankings of one-letter documents, best first."""
    return run_of(Ranking(q, list(d), np.arange(len(d), 0, -1, dtype=np.float32)) for q, d in rankings.items())


def scored(**scores: float) -> Run:
    return run_of([Ranking("q", list(scores), np.array([*scores.values()], np.float32))])


def test_two_rankings_fuse_as_by_hand():
    (fused,) = fuse([run(q="abc"), run(q="cb")], "rrf", ONES, depth=10, k=60)
    expected = {"c": 1 / 63 + 1 / 61, "b": 1 / 62 + 1 / 62, "a": 1 / 61}
    assert fused.documents == list(expected)
    assert fused.scores.tolist() == np.array([*expected.values()], np.float32).tolist()


def test_every_query_of_any_run_is_answered():
    fused = list(fuse([run(q2="a"), run(q1="b", q2="c")], "rrf", ONES, depth=10))
    assert [(ranking.query, ranking.documents) for ranking in fused] == [("q2", ["c", "a"]), ("q1", ["b"])]


def test_depth_cuts_what_is_kept_not_what_is_counted():
    (fused,) = fuse([run(q="abx"), run(q="cdx")], "rrf", ONES, depth=1)
    assert fused.documents == ["x"]


@pytest.mark.parametrize("k", [0, 1, 60])
def test_fusion_equals_exact_sums_of_fractions(k):
    rng = np.random.default_rng(k)
    letters = np.array([*"abcdefghijklmnop"])
    orders = ["".join(rng.permutation(letters)[: rng.integers(1, 16)]) for _ in range(4)]
    (fused,) = fuse([run(q=letters) for letters in orders], "rrf", [1, 1, 1, 1], depth=5, k=k)
    sums = {d: sum(Fraction(1, k + 1 + letters.index(d)) for letters in orders if d in letters) for d in letters}
    best = sorted(sums, key=lambda document: (sums[document], document), reverse=True)[:5]
    assert fused.documents == best
    np.testing.assert_allclose(fused.scores, [float(sums[document]) for document in best], rtol=1e-7)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("min-max", {"a": 2 * 1, "b": 2 * 0.5 + 3 * 1, "c": 2 * 0, "d": 3 * 0}),
        ("sum", {"a": 2 * 2 / 3, "b": 2 * 1 / 3 + 3 * 1, "c": 0, "d": 0}),
        # a and c stand one deviation of sqrt(2/3) * 2 from b; what a run lacks has its lowest: c's, and d's -1
        ("z-score", {"a": 2 * 1.5**0.5 - 3, "b": 0 + 3, "c": -2 * 1.5**0.5 - 3, "d": -2 * 1.5**0.5 - 3}),
    ],
)
def test_weighted_scores_by_pencil(method, expected):
    (fused,) = fuse([scored(a=7, b=5, c=3), scored(b=-1, d=-5)], method, [2, 3], depth=10)
    found = dict(zip(fused.documents, fused.scores.tolist(), strict=True))
    assert found == pytest.approx(expected, abs=1e-6)
    assert fused.documents == sorted(expected, key=lambda id_: (round(expected[id_], 9), id_), reverse=True)


@pytest.mark.parametrize(("method", "alike"), [("min-max", 1), ("sum", 1 / 3), ("z-score", 0)])
def test_hits_that_all_score_the_same_count_alike(method, alike):
    (pool,) = pools([scored(a=4, b=4, c=4), scored(d=2)], method)
    one = {"min-max": 1, "sum": 1, "z-score": 0}[method]
    assert pool.parts.tolist() == [[alike, alike, alike, 0], [0, 0, 0, one]]


@pytest.mark.parametrize("method", ["rrf", "min-max", "sum", "z-score"])
def test_scale_and_offset_of_a_runs_scores_change_nothing(method: Method):
    first, second = scored(a=7, b=5, c=3), scored(b=4, a=2, d=1)
    (plain,) = fuse([first, second], method, ONES, 10)
    (moved,) = fuse([scored(a=780, b=580, c=380), second], method, ONES, 10)
    assert moved.documents == plain.documents
    np.testing.assert_allclose(moved.scores, plain.scores, atol=1e-6)


def test_an_infinite_score_has_a_rank_alone():
    runs = [scored(a=np.inf, b=1), scored(b=1)]
    assert next(fuse(runs, "rrf", ONES, 10)).documents == ["b", "a"]
    with pytest.raises(DataError, match="query q: a score is infinite, which min-max can't compare; fuse by rrf"):
        next(fuse(runs, "min-max", ONES, 10))


def generated(seed: int, whole: bool = False) -> list[Run]:
    """Three runs of 30 queries; each has some of 40 documents for a query, or all of them."""
    rng = np.random.default_rng(seed)
    names = np.array([f"d{row}" for row in range(40)])
    sizes = rng.integers(2, 40, (3, 30)) if not whole else np.full((3, 30), 40)
    return [
        run_of(
            Ranking(f"q{query}", rng.permutation(names)[:size].tolist(), rng.normal(5, 9, size).astype(np.float32))
            for query, size in enumerate(own)
        )
        for own in sizes
    ]


@pytest.mark.parametrize(
    ("method", "norm", "whole"),
    [("rrf", None, False), ("min-max", "min-max", False), ("sum", "sum", False), ("z-score", "zmuv", True)],
)
def test_generated_runs_fuse_as_ranx_has_it(method, norm, whole):
    """But for z-scores of what a run lacks: ranx takes 0 there, which is the mean of what it has found."""
    import ranx

    runs, weights = generated(0, whole), [0.2, 0.5, 0.3]
    theirs = [
        ranx.Run({one.query: dict(zip(one.documents, map(float, one.scores), strict=True)) for one in each.rankings()})
        for each in runs
    ]
    if method == "rrf":
        weights = [1, 1, 1]
        expected = ranx.fuse(theirs, norm=norm, method="rrf", params={"k": 60})
    else:
        expected = ranx.fuse(theirs, norm=norm, method="wsum", params={"weights": weights})
    fused = {ranking.query: ranking for ranking in fuse(runs, method, weights, 100)}
    assert fused.keys() == expected.run.keys()
    for query, ranking in fused.items():
        wanted = dict(expected.run[query])
        assert dict(zip(ranking.documents, ranking.scores.tolist(), strict=True)) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("method", ["rrf", "min-max"])
def test_a_fused_run_in_memory_is_the_one_that_is_written(method: Method):
    runs, weights = generated(1), (0.1, 0.6, 0.3)
    whole, pooled = run_of(fuse(runs, method, weights, 7)), run_of_pools(pools(runs, method), weights, 7)
    assert pooled.queries == whole.queries
    assert pooled.offsets.tolist() == whole.offsets.tolist()
    assert pooled.documents.tolist() == whole.documents.tolist()
    assert pooled.scores.tolist() == whole.scores.tolist()
