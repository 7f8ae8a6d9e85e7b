import numpy as np
import pytest
from scipy import stats

from seedcli.evaluation import significance
from seedcli.evaluation.significance import bootstrap_intervals, permutation_test


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
    monkeypatch.setattr(significance, "SIGNS_AT_ONCE", 100)
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
