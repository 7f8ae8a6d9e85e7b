"""Records with named fields (JSONL, TSV, CSV, Parquet) as passages, queries, qrels and examples.

What a field holds is told by the caller, or by one of the names that such files are known to use.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seedcli.base.errors import DataError
from seedcli.data.formats import parquet
from seedcli.data.formats.scored import read_score
from seedcli.data.lines import Records, field, first_line, id_field, read_jsonl, read_table, suffix
from seedcli.data.records import Example, Passage, Qrels, Query, clean

Names = Mapping[str, str]  # what a field holds -> what it is called


class Told(NamedTuple):
    """What a user tells of a file: what some fields are called, and the columns of a TSV or CSV without a header."""

    names: Names
    columns: Sequence[str]


UNTOLD = Told({}, ())
RECIPE = "collection.yaml"
KNOWN: dict[str, dict[str, tuple[str, ...]]] = {  # the first that a record has is taken
    "passages": {
        "id": ("_id", "id", "docid", "doc_id", "document_id", "pid", "passage_id", "docno"),
        "text": ("text", "contents", "content", "body", "passage", "document", "abstract"),
        "title": ("title", "headline"),
        "url": ("url", "link"),
    },
    "queries": {
        "id": ("_id", "id", "qid", "query_id", "query-id", "question_id", "topic_id"),
        "text": ("text", "query", "question", "contents"),
        "answers": ("answers", "answer"),
    },
    "qrels": {
        "query": ("query-id", "query_id", "qid"),
        "passage": ("corpus-id", "corpus_id", "docid", "doc_id", "document_id", "pid", "passage_id", "docno"),
        "grade": ("score", "relevance", "grade", "rel", "label"),
    },
    "examples": {
        "query": ("query", "question", "anchor"),
        "positives": ("positives", "positive", "pos", "positive_passages"),
        "negatives": ("negatives", "negative", "neg", "negative_passages"),
        "id": ("query_id", "qid"),
        "answers": ("answers", "answer"),
        "positive scores": ("pos_scores", "positive_scores", "positives_scores"),
        "negative scores": ("neg_scores", "negative_scores", "negatives_scores"),
    },
}
OPTIONAL = {
    "passages": {"title", "url"},
    "queries": {"answers"},
    "qrels": set[str](),
    "examples": {"negatives", "id", "answers", "positive scores", "negative scores"},
}


def read_passages(path: Path, told: Told = UNTOLD) -> Iterator[Passage]:
    """Raises DataError where a record lacks an id or a text, by the names that were told or known ones."""
    for where, record, names in _named(path, "passages", told):
        yield Passage(
            id_field(record, names["id"], where),
            field(record, names["title"], where, ""),
            field(record, names["text"], where),
            field(record, names["url"], where, ""),
        )


def read_queries(path: Path, told: Told = UNTOLD) -> Iterator[Query]:
    for where, record, names in _named(path, "queries", told):
        answers = tuple(_texts(record, names["answers"], where))
        yield Query(id_field(record, names["id"], where), field(record, names["text"], where), answers)


def read_qrels(path: Path, told: Told = UNTOLD) -> Qrels:
    qrels: Qrels = {}
    for where, record, names in _named(path, "qrels", told):
        grades = qrels.setdefault(id_field(record, names["query"], where), {})
        grades[id_field(record, names["passage"], where)] = _grade(record, names["grade"], where)
    if not qrels:
        raise DataError(f"{path}: no judgements in it")
    return qrels


def read_examples(path: Path, told: Told = UNTOLD) -> Iterator[Example]:
    """Queries with the texts of right and wrong passages: one or a list, each a text or an object with its fields."""
    for where, record, names in _named(path, "examples", told):
        id_ = id_field(record, names["id"], where) if record.get(names["id"]) is not None else ""
        right, wrong = (_passages(record, names[what], where) for what in ("positives", "negatives"))
        scores = [
            _scores(record, names[f"{what} scores"], names[f"{what}s"], len(named), where)
            for what, named in (("positive", right), ("negative", wrong))
        ]
        answers = tuple(_texts(record, names["answers"], where))
        yield Example(Query(id_, field(record, names["query"], where), answers), right, wrong, *scores)


def roles(names: Collection[str]) -> set[str]:
    """What records with fields of such names can be."""
    return {
        role for role in KNOWN if all(_first(KNOWN[role][what], names) for what in KNOWN[role].keys() - OPTIONAL[role])
    }


def _named(path: Path, role: str, told: Told) -> Iterator[tuple[str, Mapping[str, Any], Names]]:
    """Each record of a file, with what its fields are called: the first record that has a field settles it."""
    names: dict[str, str] = {}
    undecided: dict[str, Sequence[str]] = {}
    for where, record in _records(path, role, told):
        if not names:
            names = _names(record, role, told.names, where)
            undecided = {what: KNOWN[role][what] for what in OPTIONAL[role] if names[what] not in record}
        for what, known in list(undecided.items()):
            if name := _first(known, record):
                names[what] = name
                del undecided[what]
        yield where, record, names


def _records(path: Path, role: str, told: Told) -> Records:
    if suffix(path) == ".parquet":
        there = parquet.columns(path)
        wanted = _names(there, role, told.names, str(path)).values()
        return parquet.read_rows(path, [name for name in there if name in wanted])
    if not told.columns and (suffix(path) == ".jsonl" or first_line(path).startswith("{")):
        return read_jsonl(path)
    return read_table(path, told.columns)


def _names(there: Collection[str], role: str, told: Names, where: str) -> dict[str, str]:
    """What each field is called among the names that are there. Raises DataError when one is missing."""
    names = {}
    for what, known in KNOWN[role].items():
        name = told.get(what) or _first(known, there)
        if name not in there and (what in told or what not in OPTIONAL[role]):
            lacks = f"{name!r}, which {RECIPE} names" if what in told else f"called {', '.join(known)}"
            hint = "" if what in told else f"; name the {what} in a {RECIPE}"
            raise DataError(f"{where}: no field {lacks}; it has {', '.join(map(repr, there))}{hint}")
        names[what] = name or known[0]
    return names


def _first(known: Sequence[str], there: Collection[str]) -> str | None:
    return next((name for name in known if name in there), None)


def _grade(record: Mapping[str, Any], name: str, where: str) -> int:
    try:
        grade = float(record[name])
    except (KeyError, TypeError, ValueError):
        grade = 0.5
    if not grade.is_integer():
        raise DataError(f"{where}: the grade {record.get(name)!r:.40} is not a whole number")
    return int(grade)


def _texts(record: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A field that holds a text or a list of them, or is missing."""
    value = record.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(text, str) for text in values):
        raise DataError(f"{where}: the field {name!r} is neither text nor a list of texts")
    return list(map(clean, values))


def _scores(record: Mapping[str, Any], name: str, passages: str, count: int, where: str) -> tuple[float, ...]:
    """A teacher's scores of `count` passages, in a field of their own or in each passage (NaN where one has none)."""
    value, given = record.get(name), record.get(passages)
    if value is None and isinstance(given, list) and all(isinstance(one, Mapping) for one in given):
        inside = [one.get("score") for one in given]
        numbers = [float(score) if isinstance(score, int | float) else math.nan for score in inside]
        return () if all(map(math.isnan, numbers)) else tuple(numbers)
    values = [] if value is None else value if isinstance(value, list) else [value]
    if values and len(values) != count:
        raise DataError(f"{where}: {len(values)} scores, and {count} passages in {passages!r}")
    return tuple(read_score(score, where) for score in values)


def _passages(record: Mapping[str, Any], name: str, where: str) -> list[Passage]:
    """A field that holds texts, or passages as objects."""
    value = record.get(name)
    if not isinstance(value, list) or not all(isinstance(passage, Mapping) for passage in value):
        return [Passage("", "", text) for text in _texts(record, name, where)]
    return [_passage(passage, f"{where}: {name}") for passage in value]


def _passage(record: Mapping[str, Any], where: str) -> Passage:
    text, title, id_ = (_first(KNOWN["passages"][what], record) or what for what in ("text", "title", "id"))
    named = id_field(record, id_, where) if id_ in record else ""
    return Passage(named, field(record, title, where, ""), field(record, text, where))
