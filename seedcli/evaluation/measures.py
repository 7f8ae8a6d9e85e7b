"""Every measure, whoever computes it: of judgements, of answers (answers@k), or of impressions (MIND's)."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from seedcli.base.errors import ConfigError
from seedcli.data.records import Qrels
from seedcli.evaluation.coverage import is_coverage
from seedcli.evaluation.impressions import is_impressions, measure_impressions
from seedcli.evaluation.metrics import Values, measure, parse_measures
from seedcli.retrieval.runs import Run

OURS = ("answers@20", "auc", "mind-mrr", "mind-ndcg@10")

Coverage = Callable[[Mapping[str, Run], Sequence[str]], Values]


def parse_all(names: Iterable[str]) -> list[str]:
    """The measures named, each once. Raises ConfigError for a name that is none, and for no names at all."""
    measures = list(dict.fromkeys(names))
    judged = plain(measures)
    for name in judged:
        stems = [own.partition("@")[0] for own in OURS]
        if near := difflib.get_close_matches(name.lower().partition("@")[0], stems, n=1, cutoff=0.8):
            meant = next(own for own in OURS if own.startswith(near[0]))
            raise ConfigError(f"no measure {name!r}: did you mean {meant}?")
    if judged or not measures:
        parse_measures(judged)
    return measures


def covers(measures: Iterable[str]) -> bool:
    """Whether one of the measures asks for answers."""
    return any(map(is_coverage, measures))


def judges(measures: Iterable[str]) -> bool:
    """Whether one of the measures asks for judgements."""
    return not all(map(is_coverage, measures))


def plain(measures: Iterable[str]) -> list[str]:
    """Those of judgements alone, as trec_eval knows them."""
    return [name for name in measures if not (is_coverage(name) or is_impressions(name))]


def measure_all(runs: Mapping[str, Run], qrels: Qrels, measures: Sequence[str], coverage: Coverage) -> Values:
    """Each run in each measure; `coverage` answers for the answers@k, over the same queries."""
    answered = [name for name in measures if is_coverage(name)]
    judged = [name for name in measures if not is_coverage(name)]
    parts = [coverage(runs, answered)] if answered else []
    return joined([*parts, measure_judged(runs, qrels, judged)] if judged else parts, measures)


def measure_judged(runs: Mapping[str, Run], qrels: Qrels, measures: Sequence[str]) -> Values:
    """Each run in each measure of judgements, or of impressions."""
    shown = [name for name in measures if is_impressions(name)]
    others = plain(measures)
    parts = [measure_impressions(runs, qrels, shown)] if shown else []
    return joined([*parts, measure(runs, qrels, others)] if others else parts, measures)


def joined(parts: Sequence[Values], measures: Sequence[str]) -> Values:
    """The measures of several, of the same runs and queries, in this order."""
    every = [name for part in parts for name in part.measures]
    values = np.concatenate([part.values for part in parts], axis=1)[:, [every.index(name) for name in measures]]
    return Values(parts[0].names, list(measures), parts[0].queries, values, parts[0].lacking)
