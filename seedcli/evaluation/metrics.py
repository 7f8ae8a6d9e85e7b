"""Measures of a run against qrels: ranx's compiled functions, fed so that they agree with `trec_eval -c`.

As there, every judged query counts: one that the run lacks scores 0, and so does one without a relevant document. A
document is relevant from grade 1 on; without a judgement or with a negative one it is not. The gain of nDCG is the
grade itself.

Letters: R runs, M measures, Q judged queries.
"""

import difflib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError
from seedcli.data.records import Qrels
from seedcli.retrieval.runs import Run

FUNCTIONS = {  # measure -> ranx's name of its function
    "mrr": "reciprocal_rank",
    "recall": "recall",
    "ndcg": "ndcg",
    "map": "average_precision",
    "precision": "precision",
    "hit_rate": "hit_rate",
    "r-precision": "r_precision",
}
ALLOWED = "mrr, recall, ndcg, map, precision or hit_rate, with or without a cut-off (mrr@10), or r-precision"


@dataclass(frozen=True, eq=False)
class Values:
    """What each run scores in each measure for each judged query."""

    names: list[str]  # [R]
    measures: list[str]  # [M]
    queries: list[str]  # [Q]
    values: NDArray[np.float64]  # [R, M, Q]
    lacking: list[int]  # [R], how many of the queries the run has no ranking for


def parse_measures(names: Iterable[str]) -> list[str]:
    """The measures named, each once. Raises ConfigError for a name that is none, and for no names at all."""
    measures = list(dict.fromkeys(names))
    for measure in measures:
        if not _is_measure(measure):
            name, at, cutoff = measure.partition("@")
            close = difflib.get_close_matches(name.lower(), FUNCTIONS, n=1)
            meant = [near for near in [*(stem + at + cutoff for stem in close), *close] if _is_measure(near)]
            hint = f"did you mean {meant[0]}? " if meant else ""
            raise ConfigError(f"no measure {measure!r}: {hint}expected {ALLOWED}")
    if not measures:
        raise ConfigError(f"no measures given: expected {ALLOWED}")
    return measures


def _is_measure(measure: str) -> bool:
    name, at, cutoff = measure.partition("@")
    cuts = name != "r-precision" and re.fullmatch("[1-9][0-9]{0,8}", cutoff)
    return name in FUNCTIONS and bool(cuts or not at)


def judged_queries(qrels: Qrels) -> list[str]:
    """The queries that means are over: all that have a judgement."""
    return [query for query, grades in qrels.items() if grades]


def measure(runs: Mapping[str, Run], qrels: Qrels, measures: Sequence[str]) -> Values:
    """Each run by its name in each measure, over all of `judged_queries(qrels)`."""
    queries = judged_queries(qrels)
    values = np.array([[*evaluate(run, qrels, measures).values()] for run in runs.values()])
    lacking = [sum(len(run.ranking(query)[0]) == 0 for query in queries) for run in runs.values()]
    return Values(list(runs), list(measures), queries, values, lacking)


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Each measure's value for each of `judged_queries(qrels)`, in their order."""
    import ranx.metrics
    from numba import NumbaWarning
    from numba.typed import List as TypedList

    judged, found = TypedList(), TypedList()
    for query in judged_queries(qrels):
        grades = sorted(qrels[query].items(), key=lambda item: item[1], reverse=True)
        numbers = {document.encode(): number for number, (document, _) in enumerate(grades)}
        ranking = [numbers.get(document, -1) for document in run.ranking(query)[0].tolist()]
        judged.append(_pairs(range(len(grades)), [grade for _, grade in grades]))
        found.append(_pairs(ranking, range(len(ranking), 0, -1)))
    values = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaWarning)  # what numba has to say, once, of the code in ranx
        for measure in measures:
            name, _, cutoff = measure.partition("@")
            values[measure] = getattr(ranx.metrics, FUNCTIONS[name])(judged, found, int(cutoff or 0))
    return values


def _pairs(documents: Sequence[int], scores: Sequence[int]) -> NDArray[np.float64]:
    """What ranx works on: a row for each document, of its number and its score; [n], [n] -> [n, 2]."""
    return np.array([documents, scores], np.float64).T.copy()
