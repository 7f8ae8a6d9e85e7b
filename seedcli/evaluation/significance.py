"""Significance: whether the mean difference of two runs is more than chance gives."""

import numpy as np
from numpy.typing import NDArray

SIGNS_AT_ONCE = 1 << 21


def every_sign(queries: int, permutations: int) -> bool:
    """Whether there are so few queries that the test tries all 2^Q signs rather than draw some."""
    return 1 << queries <= permutations


def permutation_test(differences: NDArray[np.float64], permutations: int, seed: int) -> NDArray[np.float64]:
    """Paired sign-flip permutation test of each column's mean against 0, two-sided: [Q, M] -> p-values [M].

    p = (1 + #{|T*| >= |T|}) / (permutations + 1), or with every sign #{...} / 2^Q. All columns see the same signs.
    """
    queries, complete = len(differences), every_sign(len(differences), permutations)
    trials = 1 << queries if complete else permutations
    # Sums stand for means; the factor lets permutations that equal the data but for rounding count as equal.
    bound = np.abs(differences.sum(axis=0)) * (1 - 1e-12)  # [M]
    rng = np.random.default_rng(seed)
    reached = np.zeros(differences.shape[1], np.int64)
    step = max(1, SIGNS_AT_ONCE // queries)
    for start in range(0, trials, step):
        rows = np.arange(start, min(start + step, trials))
        negative = (rows[:, None] >> np.arange(queries)) & 1 if complete else rng.random((len(rows), queries)) < 0.5
        reached += (np.abs((1.0 - 2.0 * negative) @ differences) >= bound).sum(axis=0)
    return reached / trials if complete else (1 + reached) / (1 + trials)


def bootstrap_intervals(
    values: NDArray[np.float64], resamples: int, seed: int, level: float = 0.95
) -> NDArray[np.float64]:
    """Percentile bootstrap intervals of each column's mean over queries: [Q, M] -> [M, 2], low and high.

    All columns see the same resamples (Efron & Tibshirani 1993, chapter 13).
    """
    queries = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    step = max(1, SIGNS_AT_ONCE // queries)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, queries, (size, queries)) + np.arange(size)[:, None] * queries
        counts = np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries)
        means[start : start + size] = counts @ values / queries
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T
