"""Measures of a run against qrels: ranx's compiled functions, fed so that they agree with `trec_eval -c`.

As there, every judged query counts: one that the run lacks scores 0, and so does one without a relevant document. A
document is relevant from grade 1 on, or from the level that a measure names (recall@100-l2); without a judgement or
with a negative one it is not. The gain of nDCG is the grade itself, so it has no level. judged@k is the share of the
first k hits, or of all if they are fewer, that have a judgement.

Letters: R runs, M measures, Q judged queries.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError
from seedcli.data.records import Qrels
from seedcli.evaluation.judging import FUNCTIONS, Found, Judgements, by_ranx
from seedcli.retrieval.runs import Run

JUDGED = "judged"
NAMES = (*FUNCTIONS, JUDGED)
MEASURE = re.compile(r"([a-z_-]+?)(?:@([1-9][0-9]{0,8}))?(?:-l([1-9][0-9]{0,2}))?")
ALLOWED = (
    "mrr, recall, ndcg, map, precision, hit_rate or judged, with or without a cut-off (mrr@10), or r-precision; "
    "with -l2 relevant from grade 2 on (recall@100-l2), but for ndcg and judged"
)


@dataclass(frozen=True, eq=False)
class Values:
    """What each run scores in each measure for each judged query."""

    names: list[str]  # [R]
    measures: list[str]  # [M]
    queries: list[str]  # [Q]
    values: NDArray[np.float64]  # [R, M, Q]
    lacking: list[int]  # [R], how many of the queries the run has no ranking for


class Measure(NamedTuple):
    """What a measure's name says."""

    name: str
    cutoff: int  # 0: none
    level: int  # the least grade that is relevant


def parse_measures(names: Iterable[str]) -> list[str]:
    """The measures named, each once. Raises ConfigError for a name that is none, and for no names at all."""
    measures = list(dict.fromkeys(names))
    for measure in measures:
        if parsed(measure) is None:
            stem = re.split("@|-l[0-9]", measure)[0]
            close = difflib.get_close_matches(stem.lower(), NAMES, n=1)
            meant = [near for near in [*(name + measure[len(stem) :] for name in close), *close] if parsed(near)]
            hint = f"did you mean {meant[0]}? " if meant else ""
            raise ConfigError(f"no measure {measure!r}: {hint}expected {ALLOWED}")
    if not measures:
        raise ConfigError(f"no measures given: expected {ALLOWED}")
    return measures


def parsed(measure: str) -> Measure | None:
    """What a name says, None for one that is no measure's."""
    found = MEASURE.fullmatch(measure)
    if not found or found[1] not in NAMES:
        return None
    name, cutoff, level = found.groups()
    if (cutoff and name == "r-precision") or (level and name in {"ndcg", JUDGED}):
        return None
    return Measure(name, int(cutoff or 0), int(level or 1))


def measure(runs: Mapping[str, Run], qrels: Qrels, measures: Sequence[str]) -> Values:
    """Each run by its name in each measure, over all queries that have a judgement, in their order."""
    judgements = Judgements(qrels)
    values = np.zeros((len(runs), len(measures), len(judgements.queries)))
    lacking = []
    for row, run in enumerate(runs.values()):
        found = judgements.find(run)
        values[row] = _values(judgements, found, measures)
        lacking.append(int((found.begins == found.ends).sum()))
    return Values(list(runs), list(measures), judgements.queries, values, lacking)


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Each measure's value for each query that has a judgement, in their order."""
    (values,) = measure({"run": run}, qrels, measures).values
    return dict(zip(measures, values, strict=True))


def _values(judgements: Judgements, found: Found, measures: Sequence[str]) -> list[NDArray[np.float64]]:
    """[M] of [Q]"""
    asked = [named for named in map(parsed, measures) if named]
    if not judgements.queries:
        return [np.zeros(0)] * len(asked)
    typed = found.typed() if any(name != JUDGED for name, _, _ in asked) else None
    return [
        found.judged(cutoff) if name == JUDGED else by_ranx(FUNCTIONS[name], judgements.typed, typed, cutoff, level)
        for name, cutoff, level in asked
    ]
