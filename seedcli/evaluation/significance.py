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


class Errors(NamedTuple):
    """The standard error of a mean difference, and its degrees of freedom."""

    error: NDArray[np.float64]  # [M]
    freedom: NDArray[np.float64]  # [M]


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
    """Of the mean difference of two systems of one or more runs each, [S, Q, M], [S', Q, M] -> [M].

    Queries are drawn at random, and so are the seeds of a system that has several. The variance of the difference is
    then that of the queries' differences, averaged over seeds, over Q, plus for each such system the variance of its
    seeds' means over S, less what of the latter is seed by query and so is in the former already. The degrees of
    freedom are Satterthwaite's: the t-test becomes a quasi-F test of two crossed random factors (Clark 1973). Seeds
    are few: two leave about one degree of freedom. A system of one run is taken as it is.
    """
    queries = one.shape[1]
    differences = one.mean(axis=0) - other.mean(axis=0)  # [Q, M]
    variance = differences.var(axis=0, ddof=1) / queries if queries > 1 else np.full(differences.shape[1], np.nan)
    parts = variance**2 / max(1, queries - 1)
    for runs in (one, other):
        seeds = len(runs)
        if seeds == 1 or queries == 1:
            continue
        means = runs.mean(axis=1)  # [S, M]
        rest = runs - means[:, None] - runs.mean(axis=0) + means.mean(axis=0)
        within = (rest**2).sum(axis=(0, 1)) / ((seeds - 1) * (queries - 1)) / (seeds * queries)
        between = means.var(axis=0, ddof=1) / seeds
        variance = variance + np.maximum(0, between - within)
        parts = parts + np.where(between > within, between**2 / (seeds - 1), 0)
    freedom = np.divide(variance**2, parts, out=np.ones_like(variance), where=parts > 0)
    return Errors(np.sqrt(variance), freedom)


def t_test(means: NDArray[np.float64], spread: Errors) -> NDArray[np.float64]:
    """p-values of mean differences, two-sided; 1 where a single query gives no error. [M] -> [M]"""
    from scipy.special import stdtr

    sure = np.where((means != 0) & (spread.error == 0), np.inf, 0)
    t = np.divide(means, spread.error, out=sure, where=spread.error > 0)
    p: NDArray[np.float64] = 2 * stdtr(spread.freedom, -np.abs(t))
    return p


def t_interval(means: NDArray[np.float64], spread: Errors) -> NDArray[np.float64]:
    """[M] -> [M, 2]"""
    from scipy.special import stdtrit

    half = stdtrit(spread.freedom, 1 - LEVEL / 2) * spread.error
    return np.stack([means - half, means + half], axis=-1)


def detectable(spread: Errors) -> NDArray[np.float64]:
    """The smallest true difference that such a t-test, at LEVEL and two-sided, finds with a chance of POWER; [M]."""
    from scipy.special import stdtrit

    found: NDArray[np.float64] = spread.error * (
        stdtrit(spread.freedom, 1 - LEVEL / 2) + stdtrit(spread.freedom, POWER)
    )
    return found


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
