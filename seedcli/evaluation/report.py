"""Reports: what runs score, side by side, and whether they differ. Tables of it are made elsewhere.

Letters: R systems, M measures, Q judged queries, S seeds of a system, P pairs of systems.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError
from seedcli.data.records import Qrels, Query
from seedcli.evaluation import significance as tests
from seedcli.evaluation.metrics import Values
from seedcli.retrieval.runs import Run

SAME = 1e-9  # values of a query that differ by less are a tie


class Significance(NamedTuple):
    """The differences of pairs of systems, the first less the second, and how to get them again.

    A pair with several seeds is tested by t over queries and seeds, whatever the test of the others.
    """

    baseline: str | None  # None: all pairs
    test: tests.Test
    correction: tests.Correction  # over all P * M tests
    permutations: int
    seed: int
    every_sign: bool
    pairs: list[tuple[int, int]]  # [P], of rows of the report
    differences: NDArray[np.float64]  # [P, M], of means
    intervals: NDArray[np.float64]  # [P, M, 2], at 95 %
    p_values: NDArray[np.float64]  # [P, M]
    effects: NDArray[
        np.float64
    ]  # [P, M], d_z: in standard deviations of the queries' differences; nan where these are 0
    detectable: NDArray[np.float64]  # [P, M], the smallest difference found with a chance of 80 %; nan as well
    counts: NDArray[np.int64]  # [P, M, 3], queries won, tied and lost
    corrected: NDArray[np.float64]  # [P, M], the p-values

    @property
    def significant(self) -> NDArray[np.bool_]:
        return self.corrected < tests.LEVEL  # [P, M]


@dataclass(frozen=True, eq=False)
class Report(Values):
    """Values with what can be concluded from them. A system's are the means over its runs, if it has several."""

    intervals: NDArray[np.float64]  # [R, M, 2], of the means over queries, at 95 %
    deviations: NDArray[np.float64]  # [R, M], of the means of a system's runs; nan where there is one
    runs: Values  # that the systems were made of; those of one system have one name
    significance: Significance | None

    @property
    def means(self) -> NDArray[np.float64]:
        means: NDArray[np.float64] = self.values.mean(axis=2)  # [R, M]
        return means

    @property
    def seeds(self) -> list[int]:
        """How many runs each system has; [R]"""
        return [self.runs.names.count(name) for name in self.names]


class Example(NamedTuple):
    """A query, the ids of its relevant documents, and what each run has first: (run, ids)."""

    query: Query
    relevant: set[str]
    hits: list[tuple[str, list[str]]]


def compare(
    values: Values, baseline: str | None, permutations: int, seed: int, test: tests.Test = "permutation",
    correction: tests.Correction = "holm", all_pairs: bool = False,
) -> Report:  # fmt: skip
    """Test each system against the one that `baseline` names, or all against each other. Equal names: one's seeds."""
    names = list(dict.fromkeys(values.names))
    if baseline is not None and baseline not in names:
        near = difflib.get_close_matches(baseline, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"baseline {baseline!r}: no such run; {hint}there are {', '.join(names)}")
    rows = [[row for row, name in enumerate(values.names) if name == one] for one in names]
    each = np.stack([values.values[own].mean(axis=0) for own in rows])  # [R, M, Q]
    shape, queries = each.shape[:2], len(values.queries)
    single = values.values.mean(axis=2)
    spread = [single[own].std(axis=0, ddof=1) if len(own) > 1 else np.full(shape[1], np.nan) for own in rows]
    means = tests.resampled_means(each.reshape(-1, queries).T, permutations, seed).reshape(-1, *shape)
    pairs = [(row, other) for row in range(len(names)) for other in range(row)] if all_pairs else []
    if baseline is not None:
        pairs = [(row, names.index(baseline)) for row, name in enumerate(names) if name != baseline]
    significance = None
    if baseline is not None or all_pairs:
        found = _differences([values.values[own] for own in rows], pairs, means, test, permutations, seed)
        complete = tests.every_sign(queries, permutations)
        significance = Significance(
            baseline, test, correction, permutations, seed, complete, pairs, *found,
            corrected=tests.corrected(found.p_values, correction),
        )  # fmt: skip
    intervals = tests.percentiles(means.reshape(len(means), -1)).reshape(*shape, 2)
    lacking = [max(values.lacking[row] for row in own) for own in rows]
    return Report(
        names, values.measures, values.queries, each, lacking, intervals, np.array(spread), values, significance
    )


class _Found(NamedTuple):
    """The fields of Significance that are found pair by pair."""

    differences: NDArray[np.float64]
    intervals: NDArray[np.float64]
    p_values: NDArray[np.float64]
    effects: NDArray[np.float64]
    detectable: NDArray[np.float64]
    counts: NDArray[np.int64]


def _differences(
    systems: list[NDArray[np.float64]], pairs: list[tuple[int, int]], resampled: NDArray[np.float64], test: tests.Test,
    permutations: int, seed: int,
) -> _Found:  # fmt: skip
    """Of systems [R] of [S, M, Q]; `resampled` are their means [resamples, R, M]."""
    _, measures, queries = systems[0].shape
    each = np.zeros((len(pairs), measures, queries))
    for row, (one, other) in enumerate(pairs):
        each[row] = systems[one].mean(axis=0) - systems[other].mean(axis=0)
    each = tests.exact(each.reshape(-1, queries).T).T.reshape(each.shape)
    means, deviations = each.mean(axis=2), each.std(axis=2, ddof=min(1, queries - 1))
    smallest, intervals, p_values = np.zeros(means.shape), np.zeros((*means.shape, 2)), np.zeros(means.shape)
    if test == "permutation" and pairs:
        p_values = tests.permutation_test(each.reshape(-1, queries).T, permutations, seed).reshape(means.shape)
    for row, (one, other) in enumerate(pairs):
        spread = tests.errors(systems[one].transpose(0, 2, 1), systems[other].transpose(0, 2, 1))
        smallest[row] = tests.detectable(spread)
        intervals[row] = tests.percentiles(resampled[:, one] - resampled[:, other])
        if test == "t" or len(systems[one]) + len(systems[other]) > 2:
            intervals[row], p_values[row] = tests.t_interval(means[row], spread), tests.t_test(means[row], spread)
    smallest[deviations <= SAME] = np.nan
    effects = np.divide(means, deviations, out=np.full_like(means, np.nan), where=deviations > SAME)
    counts = np.stack([(each > SAME).sum(axis=2), (np.abs(each) <= SAME).sum(axis=2), (each < -SAME).sum(axis=2)], -1)
    return _Found(means, intervals, p_values, effects, smallest, counts)


def pick_examples(
    qrels: Qrels, queries: Iterable[Query], runs: Mapping[str, Run], count: int, depth: int = 3, seed: int = 0
) -> list[Example]:
    """Some `count` queries with a relevant document, drawn by the seed, in the order of `queries`."""
    relevant = {query: {document for document, grade in grades.items() if grade > 0} for query, grades in qrels.items()}
    candidates = [query for query in queries if relevant.get(query.id)]
    drawn = np.random.default_rng(seed).permutation(len(candidates))[:count]
    return [
        Example(query, relevant[query.id], [(name, _first(run, query.id, depth)) for name, run in runs.items()])
        for query in (candidates[number] for number in sorted(drawn))
    ]


def _first(run: Run, query: str, depth: int) -> list[str]:
    return [document.decode() for document in run.ranking(query)[0][:depth].tolist()]
