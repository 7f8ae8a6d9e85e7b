"""What may not serve as a negative: candidates that hold an answer, or score too near to the positive.

Letters: E examples, K candidates of all examples together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.data.answers import answer_tokens, holds_answer
from seedcli.data.ragged import Ragged
from seedcli.data.records import Example, Passage
from seedcli.negatives.examples import Scores, TrainingSet

BATCH = 1 << 13  # passages looked at at a time
BINS = 20


class Margins(NamedTuple):
    """How far below its query's positive a candidate has to score; None: it needn't."""

    absolute: float | None = None  # at most s+ - absolute
    relative: float | None = None  # at most s+ - relative * |s+| (Moreira et al. 2024: a percentage of s+)

    @property
    def any(self) -> bool:
        return self != Margins()


def cut(example: Example, places: slice) -> Example:
    """The example with its negatives at some places alone."""
    return example._replace(negatives=example.negatives[places], negative_scores=example.negative_scores[places])


def without_answers(example: Example, answers: Sequence[str]) -> Example:
    """The example without the negatives whose own text holds an answer."""
    wanted = [answer_tokens(answer) for answer in answers]
    kept = [
        isinstance(passage, str) or not holds_answer(answer_tokens(passage.text), wanted)
        for passage in example.negatives
    ]
    scores = [score for score, stays in zip(example.negative_scores, kept, strict=False) if stays]
    negatives = [passage for passage, stays in zip(example.negatives, kept, strict=True) if stays]
    return example._replace(negatives=negatives, negative_scores=scores)


def answered(data: TrainingSet, passages: Iterable[Passage], answers: Mapping[int, Sequence[str]]) -> NDArray[np.bool_]:
    """Which candidates hold an answer of their query [K]; `answers` by the query's row, the corpus is read once."""
    owners = owners_of(data)
    order = np.argsort(data.negatives.values, kind="stable")
    sorted_rows = np.asarray(data.negatives.values)[order]
    wanted = {row: [answer_tokens(answer) for answer in given] for row, given in answers.items()}
    found = np.zeros(len(order), dtype=bool)
    for batch in _batches(passages):
        rows = data.passages.ids.rows([passage.id for passage in batch])
        begins, ends = (np.searchsorted(sorted_rows, rows, side=side) for side in ("left", "right"))
        for place in np.flatnonzero((rows >= 0) & (ends > begins)).tolist():
            tokens = answer_tokens(batch[place].text)
            for candidate in order[begins[place] : ends[place]].tolist():
                found[candidate] = holds_answer(tokens, wanted.get(int(data.trained[owners[candidate]]), ()))
    return found


def too_near(data: TrainingSet, scores: Scores, margins: Margins) -> dict[str, NDArray[np.bool_]]:
    """By the name of a margin, which candidates don't keep it [K]. The best positive counts.

    A query none of whose positives has a score keeps no candidate: they can't be told from right ones.
    """
    best = best_positives(scores.positives)
    right, wrong = best[owners_of(data)], np.asarray(scores.negatives.values)
    masks = {}
    with np.errstate(invalid="ignore"):  # inf - inf of a positive without a score
        if margins.absolute is not None:
            masks["absolute margin"] = ~(wrong <= right - margins.absolute)
        if margins.relative is not None:
            masks["relative margin"] = ~(wrong <= right - margins.relative * np.abs(right))
    return masks


def best_positives(scores: Ragged) -> NDArray[np.float32]:
    """The best of each example's positives' scores [E]; -inf where none has one."""
    best = np.full(len(scores), -np.inf, np.float32)
    np.maximum.at(
        best, np.repeat(np.arange(len(best)), np.diff(scores.offsets)), np.nan_to_num(scores.values, nan=-np.inf)
    )
    return best


def drop(data: TrainingSet, masks: Mapping[str, NDArray[np.bool_]]) -> tuple[TrainingSet, dict[str, int]]:
    """The training set without candidates that a mask [K] names; how many the first mask to name them dropped."""
    gone = np.zeros(len(data.negatives.values), dtype=bool)
    dropped = {}
    for name, mask in masks.items():
        dropped[name] = int((mask & ~gone).sum())
        gone |= mask
    offsets = np.append(0, np.cumsum(np.bincount(owners_of(data)[~gone], minlength=len(data.negatives))))
    scores = data.scores
    if scores is not None:
        scores = scores._replace(negatives=Ragged(np.asarray(scores.negatives.values)[~gone], offsets))
    return data._replace(negatives=Ragged(np.asarray(data.negatives.values)[~gone], offsets), scores=scores), dropped


def histogram(scores: Scores) -> dict[str, Any]:
    """How scores of positives and of the candidates that are left are distributed, over the same bins."""
    both = [np.asarray(part.values)[np.isfinite(part.values)] for part in scores]
    if not sum(map(len, both)):
        return {}
    edges = np.histogram_bin_edges(np.concatenate(both), BINS)
    counts = [np.histogram(part, edges)[0].tolist() for part in both]
    unscored = int(np.isnan(scores.positives.values).sum())
    told = {"edges": [round(edge, 4) for edge in edges.tolist()], "positives": counts[0], "negatives": counts[1]}
    return told | {"positives without a score": unscored}


def owners_of(data: TrainingSet) -> NDArray[np.int64]:
    """The example of each candidate [K]."""
    return np.repeat(np.arange(len(data.negatives)), np.diff(data.negatives.offsets))


def _batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    rest = iter(passages)
    while batch := list(islice(rest, BATCH)):
        yield batch
