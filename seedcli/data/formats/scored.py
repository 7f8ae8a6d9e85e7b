"""Training examples with a teacher's scores: triples after two columns of them, and lists of ids and scores."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seedcli.base.errors import DataError
from seedcli.data.lines import read_lines
from seedcli.data.records import Example, Passage, Query, clean


def read_scored_triples(path: Path) -> Iterator[Example]:
    """Score of the positive, of the negative, query, positive, negative: ids, or texts if the first line has them."""
    as_texts = None
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        parts = line.split("\t")
        if len(parts) != 5:
            raise DataError(
                f"{where}: expected 'score TAB score TAB query TAB positive TAB negative', got {line!r:.80}"
            )
        scores = tuple(read_score(part, where) for part in parts[:2])
        query, positive, negative = parts[2:]
        as_texts = any(" " in part for part in parts[2:]) if as_texts is None else as_texts
        if as_texts:
            texts = (Passage("", "", clean(positive)),), (Passage("", "", clean(negative)),)
            yield Example(Query("", clean(query)), *texts, scores[:1], scores[1:])
        elif " " in line:
            raise DataError(f"{where}: expected three ids after the scores, as in the first line, got {line!r:.80}")
        else:
            yield Example(query, (positive,), (negative,), scores[:1], scores[1:])
    if as_texts is None:
        raise DataError(f"{path}: no examples in it")


def read_scored_lists(path: Path) -> Iterator[Example]:
    """JSON lines [query, [passage, score], ...] of ids, the positive first (as ColBERTv2 is taught)."""
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            query, *found = json.loads(line)
            ids, given = [str(id_) for id_, _ in found], [score for _, score in found]
        except (json.JSONDecodeError, TypeError, ValueError, RecursionError):
            raise DataError(f"{where}: expected [query, [passage, score], ...], got {line!r:.80}") from None
        if len(ids) < 2 or not isinstance(query, str | int):
            raise DataError(f"{where}: expected a query, its positive and some negatives, got {line!r:.80}")
        scores = tuple(read_score(score, where) for score in given)
        yield Example(str(query), ids[:1], ids[1:], scores[:1], scores[1:])


def read_score(value: Any, where: str) -> float:
    """A finite number, or text that says one."""
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{where}: the score {value!r:.40} is not a number")
    return score
