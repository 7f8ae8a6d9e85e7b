"""MIND's measures, each of an impression: over what its reader was shown, and clicked on or not (Wu et al. 2020).

A run that lacks an impression scores 0 in it. What was shown and has no score ranks nowhere: its gain is 0, and the
area under the curve counts it as a tie behind all that have one. An impression without a click, or where all was
clicked on, has no curve: its area is that of chance, 0.5.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from seedcli.data.records import Qrels
from seedcli.evaluation.judging import judged_queries
from seedcli.evaluation.metrics import Values
from seedcli.retrieval.runs import Run

NAME = re.compile("auc|mind-mrr|mind-ndcg@([1-9][0-9]{0,8})")


def is_impressions(measure: str) -> bool:
    return NAME.fullmatch(measure) is not None


def measure_impressions(runs: Mapping[str, Run], qrels: Qrels, measures: Sequence[str]) -> Values:
    """Each run in each measure for each judged impression; a run may hold other news, which count for nothing."""
    queries = judged_queries(qrels)
    values = np.array([[shown_as(run, query, qrels[query], measures) for query in queries] for run in runs.values()])
    lacking = [sum(len(run.ranking(query)[0]) == 0 for query in queries) for run in runs.values()]
    return Values(list(runs), list(measures), queries, values.transpose(0, 2, 1), lacking)


def shown_as(run: Run, query: str, grades: Mapping[str, int], measures: Sequence[str]) -> list[float]:
    """The measures of one impression."""
    documents, scores = run.ranking(query)
    shown = {id_.encode(): max(grade, 0) for id_, grade in grades.items()}
    places = [place for place, document in enumerate(documents.tolist()) if document in shown]
    if not places:
        return [0.0] * len(measures)
    ranked = np.array([shown.pop(documents[place].item()) for place in places])
    unscored = np.array([*shown.values()], ranked.dtype)
    every = np.concatenate([ranked, unscored])
    found = []
    for measure in measures:
        name, _, cut = measure.partition("@")
        if name == "auc":
            found.append(auc(scores[places], ranked > 0, unscored > 0))
        elif name == "mind-mrr":
            found.append(mean_reciprocal_rank(ranked > 0, int((every > 0).sum())))
        else:
            best = gain(-np.sort(-every)[: int(cut)])
            found.append(gain(ranked[: int(cut)]) / best if best else 0.0)
    return found


def auc(scores: NDArray[np.float32], clicked: NDArray[np.bool_], unscored: NDArray[np.bool_]) -> float:
    """The share of pairs of a clicked and an unclicked one that stand in order, ties counted by half."""
    all_scores, all_clicked = np.append(scores, np.full(len(unscored), -np.inf)), np.append(clicked, unscored)
    yes, no = all_scores[all_clicked], np.sort(all_scores[~all_clicked])
    if not (len(yes) and len(no)):
        return 0.5
    behind = np.searchsorted(no, yes, side="left").sum() + np.searchsorted(no, yes, side="right").sum()
    return float(behind / (2 * len(yes) * len(no)))


def mean_reciprocal_rank(clicked: NDArray[np.bool_], clicks: int) -> float:
    """The sum of 1 / rank over the clicked, by how many they are: not the reciprocal of the first one's rank."""
    return float((clicked / np.arange(1, 1 + len(clicked))).sum() / clicks) if clicks else 0.0


def gain(grades: NDArray[np.int64]) -> float:
    """Discounted cumulative gain of grades in their order, (2^y - 1) / log2(1 + rank)."""
    return float(((2.0**grades - 1) / np.log2(np.arange(2, 2 + len(grades)))).sum())
