"""Runs: for each query a ranking, held in columns, read and written in the TREC format; one rule decides the order.

Letters: Q queries, N ranked documents of all queries together.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import DataError
from seedcli.base.files import written_whole
from seedcli.base.manifest import read_manifest
from seedcli.data.lines import first_line, read_lines

LINES_AT_ONCE = 1 << 16
LINE = re.compile(r"(\S+\s+){3}-?\d+\s+\S+\s+\S+\s*")  # the fourth column is a rank; six words of a triple hold none


class Ranking(NamedTuple):
    """What was found for a query, in any order; `run_of` and `write_run` put it in order."""

    query: str
    documents: Sequence[str]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Run:
    """Rankings in the order of `order`, no document twice in one: `run_of` and `read_run` see to both."""

    queries: list[str]  # [Q], in order of first appearance
    offsets: NDArray[np.int64]  # [Q + 1], where each query's ranking begins, and the end
    documents: NDArray[np.bytes_]  # [N], ids as UTF-8
    scores: NDArray[np.float32]  # [N]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {query: number for number, query in enumerate(self.queries)}

    def ranking(self, query: str) -> tuple[NDArray[np.bytes_], NDArray[np.float32]]:
        """The documents and scores of a query, best first; none when the run lacks it."""
        number = self._numbers.get(query)
        rows = slice(0, 0) if number is None else slice(*self.offsets[number : number + 2])
        return self.documents[rows], self.scores[rows]

    def rankings(self) -> Iterator[Ranking]:
        for query in self.queries:
            documents, scores = self.ranking(query)
            yield Ranking(query, [document.decode() for document in documents.tolist()], scores)


def order(documents: NDArray[np.bytes_], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """The rows by score descending, as float32, then by id descending, as bytes (trec_eval's rule); [N], [N] -> [N]."""
    return np.lexsort((documents, scores.astype(np.float32, copy=False)))[::-1]


def run_of(rankings: Iterable[Ranking]) -> Run:
    """A run of rankings in any order. A document that a query has twice counts once, at its best place."""
    numbers: dict[str, int] = {}
    return _collected(
        numbers,
        (
            _columns([numbers.setdefault(query, len(numbers))] * len(documents), documents, scores)
            for query, documents, scores in rankings
        ),
    )


def read_run(path: Path) -> Run:
    """A TREC run (`query Q0 document rank score tag`); the scores alone decide the order, the ranks are ignored."""
    numbers: dict[str, int] = {}
    rows = _read_rows(path, numbers)
    chunks = iter(lambda: list(islice(rows, LINES_AT_ONCE)), [])
    run = _collected(numbers, (_columns(*zip(*chunk, strict=True)) for chunk in chunks))
    if not run.queries:
        raise DataError(f"{path}: no rankings in it")
    return run


def write_run(path: Path, rankings: Iterable[Ranking], tag: str) -> None:
    """A TREC run whose scores and order `read_run` gives back to the bit."""
    with written_whole(path) as aside, aside.open("w", encoding="utf-8") as file:
        for query, documents, scores in rankings:
            _check_words([tag, query, *documents])
            if np.isnan(scores).any():
                raise DataError(f"query {query}: a score is NaN; look for NaN in the model's weights or the vectors")
            rows = _ordered_once(_utf8(documents), scores)
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores[rows].tolist(), strict=True), 1):
                file.write(f"{query} Q0 {documents[row]} {rank} {score:.9g} {tag}\n")


class _Columns(NamedTuple):
    owners: NDArray[np.int64]  # the number of each row's query
    documents: NDArray[np.bytes_]
    scores: NDArray[np.float32]


def _columns(
    owners: Sequence[int], documents: Sequence[str], scores: Sequence[float] | NDArray[np.float32]
) -> _Columns:
    return _Columns(np.array(owners, np.int64), _utf8(documents), np.asarray(scores, np.float32))


def _utf8(words: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([word.encode() for word in words], np.bytes_)


def _collected(numbers: dict[str, int], parts: Iterable[_Columns]) -> Run:
    """The run of all rows in `parts`; `numbers` holds every query once these are read."""
    owners, documents, scores = map(np.concatenate, zip(_columns([], [], []), *parts, strict=True))
    ends = np.cumsum(np.bincount(owners, minlength=len(numbers)))
    groups = np.split(np.argsort(owners, kind="stable"), ends)  # one more than queries, the last empty
    groups = [rows[_ordered_once(documents[rows], scores[rows])] for rows in groups]
    offsets = np.cumsum([0, *map(len, groups[:-1])])
    rows = np.concatenate(groups)
    return Run(list(numbers), offsets, documents[rows], scores[rows])


def _ordered_once(documents: NDArray[np.bytes_], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """The rows in order, of each document the best alone."""
    rows = order(documents, scores)
    _, firsts = np.unique(documents[rows], return_index=True)
    return rows[np.sort(firsts)]


def _read_rows(path: Path, numbers: dict[str, int]) -> Iterator[tuple[int, str, float]]:
    """Query number, document and score of each line; `numbers` grows by the queries met."""
    for number, line in read_lines(path):
        parts = line.split()
        if len(parts) != 6:
            raise DataError(f"{path}:{number}: expected 'query Q0 document rank score tag', got {line!r:.80}")
        try:
            score = float(parts[4])
        except ValueError:
            score = math.nan
        if math.isnan(score):
            raise DataError(f"{path}:{number}: the score {parts[4]!r:.40} is not a number")
        yield numbers.setdefault(parts[0], len(numbers)), parts[2], score


def _check_words(words: list[str]) -> None:
    if " ".join(words).split() != words:
        word = next(word for word in words if word.split() != [word])
        raise DataError(f"a TREC run cannot hold the name {word!r}: it is empty or has whitespace in it")


def holds_run(path: Path) -> bool:
    """Whether a path holds a run: a folder of seed search, or a file whose first line has a run's six columns."""
    if path.is_dir():
        made = read_manifest(path)
        return (path / "run.trec").is_file() or (made is not None and made.verb == "search")
    return LINE.fullmatch(first_line(path)) is not None


def run_path(path: Path) -> Path:
    """The run that a path names: a file, or run.trec in a folder of seed search."""
    if not path.is_dir():
        return path
    if not (path / "run.trec").is_file():
        raise DataError(f"{path}: no run.trec in it; give a folder that seed search left, or a run's file")
    return path / "run.trec"
