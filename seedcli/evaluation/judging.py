"""Runs and qrels as ranx's compiled functions take them: lists of arrays, each a query's documents as numbers.

Letters: Q judged queries, N hits of a run, J judgements, W documents judged.
"""

import sys
import warnings
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.data.records import Qrels
from seedcli.retrieval.runs import Run, utf8

FUNCTIONS = {  # measure -> ranx's name of its function
    "mrr": "reciprocal_rank",
    "recall": "recall",
    "ndcg": "ndcg",
    "map": "average_precision",
    "precision": "precision",
    "hit_rate": "hit_rate",
    "r-precision": "r_precision",
}


class Judgements:
    """Qrels, prepared once for all runs. A query's documents are numbered from the highest grade on."""

    def __init__(self, qrels: Qrels):
        self.queries = judged_queries(qrels)
        ranked = [sorted(qrels[query].items(), key=lambda item: item[1], reverse=True) for query in self.queries]
        self.grades = [np.array([grade for _, grade in row]) for row in ranked]  # [Q]
        names = utf8([document for row in ranked for document, _ in row])  # [J]
        self.documents, columns = np.unique(names, return_inverse=True)  # [W], [J]
        sizes = [len(row) for row in ranked]
        keys = np.repeat(np.arange(len(ranked)), sizes) * len(self.documents) + columns
        order = np.argsort(keys)
        self.keys = keys[order]  # [J], query * W + document
        self.numbers = np.concatenate([np.arange(size) for size in [0, *sizes]])[order]  # [J]

    @cached_property
    def typed(self) -> Any:
        return _typed([_pairs(np.arange(len(grades)), grades) for grades in self.grades])

    def find(self, run: Run) -> "Found":
        """Where a run has judged documents."""
        rows = {query: row for row, query in enumerate(run.queries)}
        own = np.array([rows.get(query, -1) for query in self.queries], np.int64)  # [Q], rows of the run
        query = np.full(len(run.queries), -1)
        query[own[own >= 0]] = np.flatnonzero(own >= 0)
        owners, columns = np.repeat(query, np.diff(run.offsets)), _places(run.documents, self.documents)  # [N], [N]
        hits = np.flatnonzero((owners >= 0) & (columns >= 0))
        keys = owners[hits] * len(self.documents) + columns[hits]
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        judged = self.keys[at] == keys
        numbers = np.full(len(columns), -1)
        numbers[hits[judged]] = self.numbers[at[judged]]
        return Found(numbers, *(np.where(own < 0, 0, run.offsets[own + side]) for side in (0, 1)))


class Found(NamedTuple):
    """What a run has for each judged query: rows from `begins` to `ends`."""

    numbers: NDArray[np.int64]  # [N], of a hit among its query's judgements, or -1
    begins: NDArray[np.int64]  # [Q]
    ends: NDArray[np.int64]  # [Q]

    def typed(self) -> Any:
        pairs = _pairs(self.numbers, np.zeros(1))  # ranx looks at the order alone
        return _typed([pairs[begin:end] for begin, end in zip(self.begins, self.ends, strict=True)])

    def judged(self, cutoff: int) -> NDArray[np.float64]:
        """The share of the first `cutoff` hits that have a judgement, or of all (0); [Q]."""
        known = np.cumsum(np.append(0, self.numbers >= 0))
        ends = np.minimum(self.ends, self.begins + cutoff) if cutoff else self.ends
        share: NDArray[np.float64] = (known[ends] - known[self.begins]) / np.maximum(1, ends - self.begins)
        return share


def judged_queries(qrels: Qrels) -> list[str]:
    """The queries that means are over: all that have a judgement."""
    return [query for query, grades in qrels.items() if grades]


def by_ranx(function: str, judged: Any, found: Any, cutoff: int, level: int) -> NDArray[np.float64]:
    """A measure for each query; a cut-off of 0 is none. Compiles when it is called for the first time ever."""
    import ranx.metrics
    from numba import NumbaWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaWarning)  # what numba has to say, once, of the code in ranx
        values: NDArray[np.float64] = getattr(ranx.metrics, function)(judged, found, cutoff, rel_lvl=level)
        return values


def compiled() -> tuple[list[str], Path]:
    """The measures whose compiled code is there, and the folder that it is kept in."""
    import ranx.metrics  # noqa: F401

    done, folder = [], Path()
    for measure, name in FUNCTIONS.items():
        function = getattr(sys.modules[f"ranx.metrics.{name}"], f"_{name}_parallel")
        folder = Path(function.stats.cache_path)
        if any(folder.glob(f"{name}._{name}_parallel-*.nbi")):
            done.append(measure)
    return done, folder


def compiling(measures: Iterable[str]) -> bool:
    """Whether some of the measures are still to be compiled."""
    done, _ = compiled()
    return any(measure.startswith(name) for measure in measures for name in FUNCTIONS.keys() - set(done))


def _places(documents: NDArray[np.bytes_], known: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Where each document stands among the known ones, or -1; [N], [W] -> [N]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    width = max(documents.itemsize, known.itemsize)

    def arrow(ids: NDArray[np.bytes_]) -> "pa.Array":
        wide = np.ascontiguousarray(ids.astype(f"S{width}", copy=False))
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(ids), [None, pa.py_buffer(wide)])

    found = pc.fill_null(pc.index_in(arrow(documents), arrow(known)), -1)
    return found.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _pairs(numbers: NDArray[np.int64], scores: NDArray[Any]) -> NDArray[np.float64]:
    """A row for each document, of its number and its score; [n], [n] -> [n, 2]."""
    pairs = np.empty((len(numbers), 2))
    pairs[:, 0], pairs[:, 1] = numbers, scores
    return pairs


def _typed(arrays: Iterable[NDArray[np.float64]]) -> Any:
    from numba.typed import List as TypedList

    typed = TypedList()
    for array in arrays:
        typed.append(array)
    return typed
