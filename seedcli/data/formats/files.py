"""Single files in any role: what a file can be is told by its name and first line; several are read as shards."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from seedcli.base.errors import DataError
from seedcli.data.collections import Collection, PassageFiles
from seedcli.data.formats import dpr, fields, mind, msmarco, parquet, scored, trec
from seedcli.data.formats.fields import UNTOLD, Told
from seedcli.data.lines import first_line, suffix, unpacked
from seedcli.data.records import Example, Passage, Qrels, Query

UNDERSTOOD = (
    "give a folder (with collection.yaml, or of BEIR, MS MARCO, DPR, MIND or Parquet), pydocs, irds:ID or hf:NAME,\n"
    "or a file of passages, queries, qrels or triples (JSONL, TSV, CSV, Parquet, TREC, DPR; .gz and .zst too)"
)


class Readers(NamedTuple):
    """What a file can be read as."""

    passages: Callable[[Path], Iterator[Passage]] | None = None
    queries: Callable[[Path], Iterator[Query]] | None = None
    qrels: Callable[[Path], Qrels] | None = None
    examples: Callable[[Path], Iterator[Example]] | None = None


NAMED = Readers(fields.read_passages, fields.read_queries, fields.read_qrels, fields.read_examples)
TELLING = Readers(fields.read_passages, fields.read_queries, trec.read_qrels, msmarco.read_triples)

SCORE = r"-?\d+\.\d*(?:[eE][-+]?\d+)?"  # with its point: whole numbers would be ids
# Files known by their name and first line, whatever fields they name: regular expressions for both, the first holds.
SIGNED = (
    (r"news\.tsv", r".*", Readers(mind.read_news)),
    (r".*\.json", r"\[ *(\{.*)?", Readers(examples=dpr.read_examples)),
    (r".*", r'\{.*"positive_ctxs".*', Readers(examples=dpr.read_examples)),
    (r".*", r"id\ttext\ttitle", Readers(dpr.read_passages)),
    (r".*", r"""[^\t]+\t"?\[(["'].*["'])?\]"?""", Readers(queries=dpr.read_questions)),
    (r".*", r"(?i:<top>).*", Readers(queries=trec.read_topics)),
    (r".*", rf"{SCORE}\t{SCORE}\t[^\t]+\t[^\t]+\t[^\t]+", Readers(examples=scored.read_scored_triples)),
    (r".*", r'\[ *("[^"]*"|\d+) *, *\[.*', Readers(examples=scored.read_scored_lists)),
)
# Files whose first line names no fields that are known.
UNNAMED = (
    (r".*", r'\{.*"question".*"answers?".*', Readers(queries=dpr.read_questions)),
    (r".*", r"\{.*", NAMED),  # which tells what is missing
    (r".*\.(jsonl|csv|parquet)", r".*", NAMED),
    (r".*", r"[^\t]+\t[^\t]*", Readers(msmarco.read_passages, msmarco.read_queries)),
    (r"(?i).*triples.*", r"[^\t]+\t[^\t]+\t[^\t]+", Readers(examples=msmarco.read_triples)),  # of numbers, too
    (r"(?i).*qrels.*", r"[^\t]+\t[^\t]+\t-?\d+", Readers(qrels=trec.read_qrels)),
    (r".*", r"[^\t]+\t[^\t]+\t-?\d+", Readers(qrels=trec.read_qrels, examples=msmarco.read_triples)),
    (r".*", r"[^\t]+\t[^\t]+\t[^\t]+", Readers(examples=msmarco.read_triples)),
    (r".*", r"[^\t]+\tQ?\d+\t[^\t]+\t-?\d+", Readers(qrels=trec.read_qrels)),
    (r".*", r"[^\t]+\t[^\t]*\t[^\t]*\t[^\t]*", Readers(msmarco.read_documents)),
    (r".*", r"\S+ +(\S+ +)?\S+ +-?\d+ *", Readers(qrels=trec.read_qrels)),
)


def open_file(path: Path) -> Collection:
    """What one file holds; a split of any name is all of it. Raises DataError for a file of no known kind."""
    found = readers_of(path)
    if not any(found):
        raise DataError(f"{path}: not a file of a known kind; {UNDERSTOOD}")

    def whole(reader: Callable[[Path], Any] | None) -> dict[str, Any]:
        return {"": partial(reader, path)} if reader else {}

    passages = PassageFiles([path], found.passages) if found.passages else None
    return Collection(path, passages, whole(found.queries), whole(found.qrels), whole(found.examples))


def passage_files(paths: Sequence[Path], told: Told = UNTOLD) -> PassageFiles:
    """The reader of passages that several files hold."""
    return PassageFiles(paths, lambda path: _reader("passages", path, told)())


def read_queries(paths: Sequence[Path], told: Told = UNTOLD) -> Iterator[Query]:
    for path in paths:
        yield from _reader("queries", path, told)()


def read_qrels(paths: Sequence[Path], told: Told = UNTOLD) -> Qrels:
    qrels: Qrels = {}
    for path in paths:
        for query, grades in _reader("qrels", path, told)().items():
            qrels.setdefault(query, {}).update(grades)
    return qrels


def read_examples(paths: Sequence[Path], told: Told = UNTOLD) -> Iterator[Example]:
    for path in paths:
        yield from _reader("examples", path, told)()


READ: dict[str, Callable[..., Any]] = {
    "queries": read_queries,
    "qrels": read_qrels,
    "examples": read_examples,
}


def _reader(role: str, path: Path, told: Told) -> Callable[[], Any]:
    """How a file is read whose role is known: as what it is seen to be, or so that the mistake in it is told."""
    if told != UNTOLD:
        return partial(getattr(NAMED, role), path, told)
    telling = NAMED if suffix(path) in {".jsonl", ".csv", ".parquet"} else TELLING
    return partial(getattr(readers_of(path), role) or getattr(telling, role), path)


def readers_of(path: Path) -> Readers:
    """What reads a file in each role that it can have; nothing for a file of no known kind."""
    name = unpacked(path).name
    line = "" if suffix(path) == ".parquet" else first_line(path)
    if not line and suffix(path) != ".parquet":
        raise DataError(f"{path}: an empty file")
    roles = fields.roles(_field_names(path, line))
    named = [(r".*", r".*", Readers(**{role: getattr(NAMED, role) for role in roles}))] if roles else []
    for like, begins, readers in (*SIGNED, *named, *UNNAMED):
        if re.fullmatch(like, name) and re.fullmatch(begins, line):
            return readers
    return Readers()


def _field_names(path: Path, line: str) -> list[str]:
    """The names of a file's fields, told by its first record or line; a line of values gives these."""
    if suffix(path) == ".parquet":
        return parquet.columns(path)
    if suffix(path) == ".csv":
        return next(csv.reader([line]), [])
    try:
        return list(json.loads(line)) if line.startswith("{") else line.split("\t")
    except json.JSONDecodeError:  # broken, or cut
        return []
