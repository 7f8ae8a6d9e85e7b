"""Measures by cut-off: what runs would score in the first 1, 2, 3, 5, ... of their hits.

Letters: Q judged queries, P relevant documents that are found, K cut-offs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.evaluation.judging import Found, Judgements

STEPS = (1, 2, 3, 5, 7)  # of each power of ten
FAMILIES = ("recall", "mrr", "ndcg", "hit_rate", "precision")


class Places(NamedTuple):
    """Where a run has the relevant documents."""

    owners: NDArray[np.int64]  # [P], the number of the query
    ranks: NDArray[np.int64]  # [P], from 1
    grades: NDArray[np.float64]  # [P]
    first: NDArray[np.int64]  # [Q], the rank of the document with the highest grade, 0 where it isn't found
    depth: int  # of the longest ranking


def places(found: Found, judgements: Judgements) -> Places:
    hits = np.flatnonzero(found.numbers >= 0)
    there = np.flatnonzero(found.ends > found.begins)
    there = there[np.argsort(found.begins[there])]
    owners = there[np.searchsorted(found.begins[there], hits, side="right") - 1] if len(hits) else hits
    starts = np.cumsum([0, *map(len, judgements.grades)])[:-1]
    grades = np.concatenate([*judgements.grades, []])[starts[owners] + found.numbers[hits]] if len(hits) else hits
    right, ranks = grades > 0, hits - found.begins[owners] + 1
    first = np.zeros(len(judgements.queries), np.int64)
    best = right & (found.numbers[hits] == 0)
    first[owners[best]] = ranks[best]
    depth = int((found.ends - found.begins).max(initial=0))
    return Places(owners[right], ranks[right], grades[right].astype(np.float64), first, depth)


def cutoffs(depth: int) -> list[int]:
    """1, 2, 3, 5, 7, 10, 20, ... up to a depth, which is the last."""
    powers = (10**power for power in range(len(str(depth))))
    return [cut for power in powers for step in STEPS if (cut := power * step) < depth] + [depth] * (depth > 0)


def by_cutoff(found: Places, judgements: Judgements, cuts: Sequence[int]) -> dict[str, list[float]]:
    """The means over queries at each cut-off, [K] a family; as metrics.measure gives them with @k."""
    count = len(judgements.queries)
    ideal = [grades[grades > 0].tolist() for grades in judgements.grades]
    relevant = np.array([max(1, len(grades)) for grades in ideal])  # [Q]
    best = np.full(count, np.inf)  # [Q], the rank of the first relevant document
    np.minimum.at(best, found.owners, found.ranks)
    discounted = found.grades / np.log2(found.ranks + 1)  # [P]
    longest = max(map(len, ideal), default=0)
    gains = np.array([grades + [0] * (longest - len(grades)) for grades in ideal], np.float64).reshape(count, longest)
    ideals = np.cumsum(gains / np.log2(np.arange(longest) + 2), axis=1)  # [Q, longest]
    curves: dict[str, list[float]] = {family: [] for family in FAMILIES}
    for cut in cuts:
        inside, reached = found.ranks <= cut, best <= cut
        hits = np.bincount(found.owners[inside], minlength=count)  # [Q]
        gain = np.bincount(found.owners[inside], discounted[inside], count)
        most = ideals[:, min(cut, longest) - 1] if longest else np.ones(count)
        curves["recall"].append(float((hits / relevant).mean()))
        curves["mrr"].append(float(np.where(reached, 1 / best, 0).mean()))
        curves["ndcg"].append(float((gain / np.where(most > 0, most, 1)).mean()))
        curves["hit_rate"].append(float(reached.mean()))
        curves["precision"].append(float((hits / cut).mean()))
    return curves
