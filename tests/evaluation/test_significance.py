import numpy as np
import pytest
from scipy import stats

from seedcli.evaluation import significance
from seedcli.evaluation.significance import (
    Errors,
    bootstrap_intervals,
    corrected,
    detectable,
    errors,
    exact,
    permutation_test,
    t_interval,
    t_test,
)


def column(*differences: float) -> np.ndarray:
    return np.array(differences, float)[:, None]


def test_few_queries_are_enumerated_as_by_hand():
    # Of the eight sign patterns of (1, 2, 3) two reach |sum| 6; for (1, 2, -3) all eight reach 0.
    assert permutation_test(np.array([[1, 1], [2, 2], [3, -3.0]]), 100, seed=0).tolist() == [2 / 8, 1]


def test_no_difference_is_never_significant():
    assert permutation_test(np.zeros((50, 2)), 99, seed=0).tolist() == [1, 1]


def test_a_constant_difference_has_the_smallest_p():
    assert permutation_test(column(*[0.1] * 100), 999, seed=0).tolist() == [1 / 1000]


@pytest.mark.parametrize("seed", range(4))
def test_enumeration_equals_scipy(seed):
    differences = np.random.default_rng(seed).integers(-4, 7, 10) / 10
    expected = stats.permutation_test(
        (differences,), lambda d: abs(np.mean(d)), permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert permutation_test(differences[:, None], 1024, seed=0).tolist() == pytest.approx([expected.pvalue])


def test_drawn_signs_agree_with_scipy_within_sampling_error():
    differences = np.random.default_rng(1).normal(0.3, 1, 60)
    expected = stats.permutation_test(
        (differences,),
        lambda d, axis: abs(np.mean(d, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=20_000,
        vectorized=True,
        random_state=2,
    )
    (p,) = permutation_test(differences[:, None], 20_000, seed=3)
    assert p == pytest.approx(expected.pvalue, abs=5 * np.sqrt(2 * p * (1 - p) / 20_000))


def test_p_is_uniform_under_the_null():
    differences = np.random.default_rng(0).normal(size=(40, 1000))
    assert stats.kstest(permutation_test(differences, 1999, seed=1), "uniform").pvalue > 0.01


def test_all_columns_see_the_same_signs_however_they_are_cut(monkeypatch):
    differences = np.random.default_rng(0).normal(size=(30, 3))
    together = permutation_test(differences, 500, seed=7)
    monkeypatch.setattr(significance, "AT_ONCE", 100)
    assert [permutation_test(differences[:, [c]], 500, seed=7)[0] for c in range(3)] == together.tolist()
    assert permutation_test(differences, 500, seed=8).tolist() != together.tolist()


def test_bootstrap_intervals_are_scipys():
    values = np.random.default_rng(1).random((40, 2)) ** 2
    found = bootstrap_intervals(values, 20_000, seed=0)
    for column, interval in zip(values.T, found, strict=True):
        other = stats.bootstrap((column,), np.mean, n_resamples=20_000, method="percentile", rng=0)
        assert interval == pytest.approx(list(other.confidence_interval), abs=0.003)


def test_a_bootstrap_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    samples = rng.exponential(1.0, (60, 400))  # 400 sets of 60 queries whose true mean is 1
    low, high = bootstrap_intervals(samples, 1_000, seed=0).T
    assert ((low <= 1) & (high >= 1)).mean() == pytest.approx(0.93, abs=0.04)


def test_what_is_drawn_is_the_same_on_every_machine():
    differences = (np.arange(40) * 7 % 11 - 4.2)[:, None] / 8
    assert permutation_test(differences, 5_000, seed=1).tolist() == [0.10377924415116976]
    assert bootstrap_intervals(differences, 1_000, seed=1).round(9).tolist() == [[-0.015625, 0.2375]]


def test_intervals_are_the_same_however_the_samples_are_cut(monkeypatch):
    values = np.random.default_rng(0).random((31, 2))
    whole = bootstrap_intervals(values, 300, seed=3)
    monkeypatch.setattr(significance, "AT_ONCE", 100)
    np.testing.assert_array_equal(bootstrap_intervals(values, 300, seed=3), whole)


@pytest.mark.parametrize("queries", [5, 6_980, 100_000])
def test_sums_are_exact_in_any_order(queries):
    rng = np.random.default_rng(0)
    values = exact(rng.normal(size=(queries, 2)))
    assert values.sum(axis=0).tolist() == values[rng.permutation(queries)].cumsum(axis=0)[-1].tolist()
    np.testing.assert_allclose(values, np.random.default_rng(0).normal(size=(queries, 2)), atol=1e-9)


def test_t_test_and_interval_are_scipys():
    rng = np.random.default_rng(2)
    one, other = rng.random((30, 4)), rng.random((30, 4)) + np.array([0, 0.1, 0.3, -0.2])
    expected = stats.ttest_rel(one, other)
    spread, means = errors(one[None], other[None]), (one - other).mean(axis=0)
    np.testing.assert_allclose(t_test(means, spread), expected.pvalue, rtol=1e-9)
    np.testing.assert_allclose(t_interval(means, spread).T, expected.confidence_interval(), rtol=1e-9)


def test_no_spread_is_no_difference_or_a_sure_one():
    none = Errors(np.zeros((1, 2)), np.ones((1, 1)))
    assert t_test(np.array([0, 0.1]), none).tolist() == [1, 0]


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_corrections_are_those_of_statsmodels(count):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(count).random(count) ** 3
    p[: count // 3] = p[0]  # ties
    for ours, theirs in (("holm", "holm"), ("bonferroni", "bonferroni"), ("bh", "fdr_bh")):
        np.testing.assert_allclose(corrected(p, ours), multitest.multipletests(p, method=theirs)[1], rtol=1e-12)
    assert corrected(p, "none").tolist() == p.tolist()
    assert corrected(p.reshape(1, -1), "holm").shape == (1, count)


def test_corrections_by_hand():
    p = np.array([[0.04, 0.01], [0.03, 0.5]])
    np.testing.assert_allclose(corrected(p, "holm"), [[0.09, 0.04], [0.09, 0.5]])
    np.testing.assert_allclose(corrected(p, "bonferroni"), [[0.16, 0.04], [0.12, 1]])
    np.testing.assert_allclose(corrected(p, "bh"), [[0.04 * 4 / 3, 0.04], [0.04 * 4 / 3, 0.5]])


@pytest.mark.parametrize("queries", [20, 200])
def test_a_detectable_difference_is_found_four_times_in_five(queries):
    """By the t-test's power, from the noncentral t distribution."""
    spread = Errors(np.array([[1 / queries]]), np.array([[queries - 1.0]]))
    (noncentral,) = detectable(spread) * np.sqrt(queries)
    bound = stats.t.ppf(0.975, queries - 1)
    assert stats.nct.sf(bound, queries - 1, noncentral) == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize(("seeds", "others"), [(2, 1), (3, 1), (5, 1), (2, 2), (3, 3), (2, 5)])
@pytest.mark.parametrize("effect", [0.0, 0.02, 0.1])
def test_a_test_with_seeds_is_no_more_often_wrong_than_it_says(seeds, others, effect):
    """4,000 pairs of equal systems; each seed of the first moves all queries alike by so much."""
    rng, queries, pairs = np.random.default_rng([seeds, others]), 100, 4_000
    texts = rng.normal(0, 0.3, (queries, pairs))

    def system(count, effect):
        values = texts + rng.normal(0, 0.1, texts.shape)
        if count == 1:
            return values[None]
        return values + rng.normal(0, effect, (count, 1, pairs)) + rng.normal(0, 0.1, (count, *texts.shape))

    one, other = system(seeds, effect), system(others, 0)
    means = one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))
    p = t_test(means, errors(one, other))
    for level in (0.05, 0.01, 0.001):
        assert (p < level).mean() <= level + 2.6 * np.sqrt(level / pairs)
    alone = t_test(means, errors(one.mean(axis=0)[None], other.mean(axis=0)[None]))
    assert ((alone < 0.05).mean() > 0.3) == (effect == 0.1)  # what a test of the queries alone would say


def test_several_seeds_find_what_is_there():
    """A gain of three times the seeds' deviation, by five seeds on either side."""
    rng = np.random.default_rng(0)
    one, other = (gain + rng.normal(0, 0.02, (5, 1, 500)) + rng.normal(0, 0.1, (5, 200, 500)) for gain in (0.06, 0))
    found = t_test(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1)), errors(one, other)) < 0.05
    assert found.mean() > 0.9


def test_a_test_with_seeds_is_as_by_hand():
    """Seed means 0.5 and 0.7, the other system 0: queries vary by 0.01 / 3 (2 freedoms), seeds by 0.02 / 2 (1)."""
    base = np.array([0.4, 0.5, 0.6])
    one, means = np.stack([base, base + 0.2])[:, :, None], np.array([0.6])
    spread = errors(one, np.zeros((1, 3, 1)))
    np.testing.assert_allclose(spread.variances, [[0.01 / 3], [0.02 / 2]])
    assert spread.freedoms.tolist() == [[2], [1]]
    half = np.sqrt(stats.t.ppf(0.975, 2) ** 2 * 0.01 / 3 + stats.t.ppf(0.975, 1) ** 2 * 0.01)
    np.testing.assert_allclose(t_interval(means, spread), [[0.6 - half, 0.6 + half]])
    (p,) = t_test(means, spread)
    edge = np.sqrt(stats.t.ppf(1 - p / 2, 2) ** 2 * 0.01 / 3 + stats.t.ppf(1 - p / 2, 1) ** 2 * 0.01)
    assert edge == pytest.approx(0.6, rel=1e-9)


def test_seeds_that_agree_to_the_digit_leave_the_test_of_the_queries():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.1, 1, (40, 3)), rng.normal(0, 1, (40, 3))
    means = (one - other).mean(axis=0)
    several = t_test(means, errors(np.stack([one, one, one]), other[None]))
    np.testing.assert_allclose(several, stats.ttest_rel(one, other).pvalue, rtol=1e-9)
    assert t_test(np.array([0, 0.1, 0]), errors(np.ones((2, 4, 3)), np.ones((2, 4, 3)))).tolist() == [1, 0, 1]
