"""What an approximate index finds of what exact search does, how fast, and the cheapest setting that finds enough.

Letters: Q queries, D width, k depth.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.base.progress import Progress
from seedcli.retrieval import exact
from seedcli.retrieval.ann import Ann
from seedcli.retrieval.exact import Hits, Search
from seedcli.retrieval.runs import Run

DEPTH = 100  # of a search that is measured
SHALLOW = 10  # the first of them, whose recall is told as well
BATCH = 64  # queries of a batch, and so many that are asked alone
ENOUGH = 0.99  # recall from which on no further setting is tried
LONG = 60.0  # seconds of a setting after which no slower one is tried
FINE = 64  # a setting is found to this part of it
WIDEST = 1 << 13  # ef_search that is tried at most


class Share(NamedTuple):
    """A mean over queries, and half the width of its 95 % interval."""

    mean: float
    error: float


class Point(NamedTuple):
    """What was measured at a setting of the knob; milliseconds of a query alone, and of a batch of 64."""

    setting: int | None
    recall_10: Share
    recall_100: Share
    single: float
    batch: float


class Sample(NamedTuple):
    """Queries to measure with [Q, D], and what exact search finds for them: a run by their names."""

    names: Sequence[str]
    vectors: NDArray[np.float32]
    truth: Run


class Searched(NamedTuple):
    """What was found for each query, and the milliseconds of a query alone and of a batch."""

    found: list[Hits]
    single: float
    batch: float


def points(ann: Ann, sample: Sample, first: Point, refine: int, target: float, progress: Progress) -> list[Point]:
    """What is measured at other settings than the first: from the least on, each twice the one before, until enough is
    found. In the order of the settings.
    """
    if first.setting is None:
        return [first]
    found = {first.setting: first}
    with progress.track("measure", None, "settings") as advance:
        for setting in doubled(ann.least(DEPTH, refine), furthest(ann, refine)):
            began = time.monotonic()
            point = found[setting] = found.get(setting) or measured(ann, sample, setting, refine)
            advance(1)
            if point.recall_100.mean >= max(target, ENOUGH) or time.monotonic() - began > LONG:
                break
    return [found[setting] for setting in sorted(found)]


def furthest(ann: Ann, refine: int) -> int:
    """The last setting that is tried."""
    return ann.lists if ann.knob == "probes" else max(ann.least(DEPTH, refine), min(WIDEST, ann.size))


def doubled(first: int, most: int) -> Iterator[int]:
    while first < most:
        yield first
        first *= 2
    yield most


def cheapest(
    ann: Ann, sample: Sample, points: Sequence[Point], refine: int, target: float, progress: Progress
) -> Point:
    """The lowest setting that reaches a recall of 100, by halving what lies between two points; else the best point."""
    reached = next((point for point in points if point.recall_100.mean >= target), None)
    if reached is None or reached.setting is None:
        return max(points, key=lambda point: point.recall_100.mean)
    high = reached.setting
    least = ann.least(DEPTH, refine)  # below which a setting finds no less
    low = max((point.setting for point in points if point.setting and point.setting < high), default=least - 1)
    with progress.track("tune", None, "settings") as advance:
        while high - low > max(1, high // FINE):
            between = (low + high) // 2
            if recall(ann, sample, between, refine).mean >= target:
                high = between
            else:
                low = between
            advance(1)
    return reached if high == reached.setting else measured(ann, sample, high, refine)


def measured(ann: Ann, sample: Sample, setting: int | None, refine: int) -> Point:
    """The recall of a search for 100, in its first 10 and in all; medians of what single queries and batches took."""
    tried = searched(sample, turned(ann, setting, refine))
    return judged(sample, setting, tried, exact_scores(ann, sample, tried.found))


def turned(ann: Ann, setting: int | None, refine: int) -> Search:
    """The search of an index at a setting."""
    if setting is not None:
        ann.turn(setting)
    return lambda vectors: ann.search(vectors, DEPTH, refine)


def searched(sample: Sample, search: Search) -> Searched:
    """All queries in batches, and some alone."""
    whole = min(BATCH, len(sample.names))
    found, batches = list[Hits](), list[float]()
    for some in parted(sample):
        began = time.perf_counter()
        found += search(some)
        batches += [time.perf_counter() - began] if len(some) == whole else []
    alone = list[float]()
    for row in range(whole):
        began = time.perf_counter()
        search(sample.vectors[row : row + 1])
        alone.append(time.perf_counter() - began)
    single, batch = (1e3 * statistics.median(seconds) for seconds in (alone, batches))
    return Searched(found, single, batch)


def judged(sample: Sample, setting: int | None, searched: Searched, scores: Sequence[NDArray[np.float32]]) -> Point:
    """What was found, by its exact scores for each query, held against exact search."""
    shallow, deep = (share(sample, scores, depth) for depth in (SHALLOW, DEPTH))
    return Point(setting, shallow, deep, searched.single, searched.batch)


def recall(ann: Ann, sample: Sample, setting: int, refine: int) -> Share:
    """Of 100, without the time."""
    search = turned(ann, setting, refine)
    found = [hits for some in parted(sample) for hits in search(some)]
    return share(sample, exact_scores(ann, sample, found), DEPTH)


def parted(sample: Sample) -> Iterator[NDArray[np.float32]]:
    return (sample.vectors[begin : begin + BATCH] for begin in range(0, len(sample.names), BATCH))


def exact_scores(ann: Ann, sample: Sample, found: Sequence[Hits]) -> list[NDArray[np.float32]]:
    """The scores that exact search gives to what was found for each query, in the order in which it was found.

    They tell what is right: in place of a document that scores as much as the last one, it may bring another.
    """
    scores, owners, rows = list[NDArray[np.float32]](), list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for query, (name, hits) in enumerate(zip(sample.names, found, strict=True)):
        documents, known = sample.truth.ranking(name)
        by = np.argsort(documents)
        places = by[np.minimum(np.searchsorted(documents, hits.ids, sorter=by), len(by) - 1)]
        there = documents[places] == hits.ids
        scores.append(np.where(there, known[places], np.float32(np.nan)))
        rows.append(hits.rows[~there])
        owners.append(np.full(len(rows[-1]), query))
    asked = torch.from_numpy(ann.rows.of_length(sample.vectors))
    others = exact.scored(asked, np.concatenate(owners), np.concatenate(rows), ann.matrix).scores
    ends = np.cumsum([len(own) for own in rows])
    for own, missing in zip(scores, np.split(others, ends[:-1]), strict=True):
        own[np.isnan(own)] = missing
    return scores


def share(sample: Sample, scores: Sequence[NDArray[np.float32]], depth: int) -> Share:
    """The mean over queries of how many of the first documents are among the exact first."""
    shares = []
    for name, own in zip(sample.names, scores, strict=True):
        known = sample.truth.ranking(name)[1][:depth]
        shares.append(float((own[:depth] >= known[-1]).sum() / len(known)))
    error = 1.96 * statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else 1.0
    return Share(statistics.fmean(shares), error)
