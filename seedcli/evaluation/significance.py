"""Significance: whether the mean difference of two runs is more than chance gives.

What is drawn comes from a stream of bits that never changes, and sums are exact: a p-value is the same to the digit
on every machine. Letters: Q queries, M columns, S seeds.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Test = Literal["permutation", "t"]
Correction = Literal["holm", "bonferroni", "bh", "none"]

LEVEL = 0.05
POWER = 0.8
AT_ONCE = 1 << 18  # draws held at a time
LEAST, HALVINGS = -300.0, 60  # the logarithm of the smallest p of several seeds; steps to find one, to 1e-13 of it


class Errors(NamedTuple):
    """The variance of a mean difference in parts, one for each thing that was drawn at random, with their freedoms."""

    variances: NDArray[np.float64]  # [C, M]
    freedoms: NDArray[np.float64]  # [C, 1]


def every_sign(queries: int, permutations: int) -> bool:
    """Whether there are so few queries that the test tries all 2^Q signs rather than draw some."""
    return 1 << queries <= permutations


def permutation_test(differences: NDArray[np.float64], permutations: int, seed: int) -> NDArray[np.float64]:
    """Paired sign-flip permutation test of each column's mean against 0, two-sided: [Q, M] -> p-values [M].

    p = (1 + #{|T*| >= |T|}) / (permutations + 1), or with every sign #{...} / 2^Q. All columns see the same signs.
    """
    queries, complete = len(differences), every_sign(len(differences), permutations)
    trials = 1 << queries if complete else permutations
    differences = exact(differences)
    sums = differences.sum(axis=0)  # [M], which stand for means
    bound = np.abs(sums) * (1 - 1e-12)  # permutations that equal the data but for rounding count as equal
    reached = np.zeros(differences.shape[1], np.int64)
    for negative in _all_signs(queries) if complete else _signs(queries, trials, seed):
        reached += (np.abs(sums - 2 * (negative.astype(np.float64) @ differences)) >= bound).sum(axis=0)
    return reached / trials if complete else (1 + reached) / (1 + trials)


def resampled_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """The means of bootstrap samples of the queries, the same for all columns: [Q, M] -> [resamples, M]."""
    queries, values = len(values), exact(values)
    means = [counts @ values / queries for counts in _resamples(queries, resamples, seed)]
    return np.concatenate(means)


def percentiles(means: NDArray[np.float64], level: float = 1 - LEVEL) -> NDArray[np.float64]:
    """The interval that holds so much of each column, as much left out on both sides: [resamples, M] -> [M, 2].

    Of resampled means, the percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).
    """
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T


def bootstrap_intervals(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Percentile bootstrap intervals of each column's mean over queries: [Q, M] -> [M, 2], low and high."""
    return percentiles(resampled_means(values, resamples, seed))


def errors(one: NDArray[np.float64], other: NDArray[np.float64]) -> Errors:
    """Of the mean difference of two systems of one or more runs each, [S, Q, M], [S', Q, M].

    Queries are drawn at random, and so are the seeds of a system that has several: the parts are the variance of the
    queries' differences, averaged over seeds, over Q, and for each such system that of its seeds' means over S. A
    system of one run is taken as it is.
    """
    queries = one.shape[1]
    differences = one.mean(axis=0) - other.mean(axis=0)  # [Q, M]
    variances = [differences.var(axis=0, ddof=1) / queries if queries > 1 else np.full(differences.shape[1], np.nan)]
    freedoms = [max(1, queries - 1)]
    for runs in (one, other):
        if (seeds := len(runs)) > 1:
            variances.append(runs.mean(axis=1).var(axis=0, ddof=1) / seeds)
            freedoms.append(seeds - 1)
    return Errors(np.stack(variances), np.array(freedoms, np.float64)[:, None])


def t_test(means: NDArray[np.float64], spread: Errors) -> NDArray[np.float64]:
    """p-values of mean differences, two-sided; 1 where a single query gives no error. [M] -> [M]

    With one part it is Student's. With several, p is where the mean lies on the edge of `half_width`, which never
    calls equal systems different more often than it says, whatever the parts' true variances are; few seeds cost power.
    """
    from scipy.special import stdtr

    total = spread.variances.sum(axis=0)
    if len(spread.variances) == 1:
        sure = np.where((means != 0) & (total == 0), np.inf, 0)
        t = np.divide(means, np.sqrt(total), out=sure, where=total > 0)
        p: NDArray[np.float64] = 2 * stdtr(spread.freedoms[0], -np.abs(t))
        return p
    low, high = np.full(len(means), LEAST), np.zeros(len(means))  # logarithms of p
    for _ in range(HALVINGS):
        between = (low + high) / 2
        outside = np.abs(means) > half_width(np.exp(between), spread)
        low, high = np.where(outside, low, between), np.where(outside, between, high)
    return np.where(total > 0, np.exp(high), np.where((means != 0) & (total == 0), 0, 1))


def half_width(level: float | NDArray[np.float64], spread: Errors) -> NDArray[np.float64]:
    """Half of the interval that leaves out a true difference with a chance of `level` at most; [M].

    Each part of the variance counts by the quantile of its own degrees of freedom (Banerjee 1960).
    """
    from scipy.special import stdtrit

    quantiles = stdtrit(spread.freedoms, np.asarray(level) / 2)  # [C, M], or [C, 1]
    width: NDArray[np.float64] = np.sqrt((quantiles**2 * spread.variances).sum(axis=0))
    return width


def t_interval(means: NDArray[np.float64], spread: Errors) -> NDArray[np.float64]:
    """[M] -> [M, 2]"""
    half = half_width(LEVEL, spread)
    return np.stack([means - half, means + half], axis=-1)


def detectable(spread: Errors) -> NDArray[np.float64]:
    """The smallest true difference that such a test, two-sided at LEVEL, finds with a chance of about POWER; [M]."""
    return half_width(LEVEL, spread) + half_width(2 * (1 - POWER), spread)


def corrected(p_values: NDArray[np.float64], correction: Correction) -> NDArray[np.float64]:
    """p-values of one family of tests, of any shape, so that they can be held against the level of a single one.

    Holm and Bonferroni: the chance of any false discovery in the family; bh (Benjamini & Hochberg 1995): the expected
    share of false discoveries among all.
    """
    flat, count = p_values.ravel(), p_values.size
    order = np.argsort(flat, kind="stable")
    ranked, ranks = flat[order], np.arange(1, count + 1)
    if correction == "holm":
        ranked = np.maximum.accumulate(ranked * (count + 1 - ranks))
    elif correction == "bonferroni":
        ranked = ranked * count
    elif correction == "bh":
        ranked = np.minimum.accumulate((ranked * count / ranks)[::-1])[::-1]
    found = np.empty(count)
    found[order] = np.minimum(1, ranked)
    return found.reshape(p_values.shape)


def exact(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values rounded, to about 12 digits, so far that sums of them are exact: the same in any order. [Q, M] -> same."""
    largest = float(np.abs(columns).max(initial=0)) or 1.0
    unit = 2.0 ** (int(np.ceil(np.log2(largest))) + len(columns).bit_length() - 52)
    rounded: NDArray[np.float64] = np.rint(columns / unit) * unit
    return rounded


def _all_signs(queries: int) -> Iterator[NDArray[np.int64]]:
    """Which values are negative, in every way: [some, Q] at a time."""
    step = max(1, AT_ONCE // queries)
    for start in range(0, 1 << queries, step):
        rows = np.arange(start, min(start + step, 1 << queries))
        yield (rows[:, None] >> np.arange(queries)) & 1


def _signs(queries: int, trials: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Which values are negative, each with a chance of a half: [some, Q] at a time."""
    for words in _words(-(-queries // 64), queries, trials, seed):
        yield np.unpackbits(words.view(np.uint8), axis=1, count=queries)


def _resamples(queries: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each query is drawn when Q are drawn with replacement: [some, Q] at a time."""
    for words in _words(-(-queries // 2), queries, resamples, seed):
        drawn = words.view("<u4")[:, :queries].astype(np.int64) * queries >> 32
        drawn += np.arange(len(words))[:, None] * queries
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)


def _words(count: int, queries: int, rows: int, seed: int) -> Iterator[NDArray[np.uint64]]:
    """Random bits, so many words of 64 in each of all rows. Bit generators, unlike generators, never change."""
    source, step = np.random.PCG64(seed), max(1, AT_ONCE // queries)
    for start in range(0, rows, step):
        some = min(step, rows - start)
        yield source.random_raw(some * count).astype("<u8").reshape(some, count)
