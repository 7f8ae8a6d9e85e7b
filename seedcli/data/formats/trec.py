"""TREC's formats: topics and qrels."""

import re
from collections.abc import Iterator
from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.data.lines import read_lines
from seedcli.data.records import Qrels, Query, clean

TAG = re.compile(r"<(/?[A-Za-z][\w-]*)[^<>]*>")


def read_topics(path: Path) -> Iterator[Query]:
    """Classic topics, <top> <num> Number: 301 <title> ... </top>, inner tags closed or not; the title is the query."""
    topic: dict[str, str] | None = None  # what stands after each tag
    tag, began = "", 0
    for number, line in read_lines(path):
        pieces = TAG.split(line)
        for name, text in zip(["", *map(str.lower, pieces[1::2])], pieces[::2], strict=True):
            tag = name or tag
            if name == "top":
                if topic is not None:
                    raise DataError(f"{path}:{number}: expected the </top> of line {began}, got <top>")
                topic, began = {}, number
            elif name == "/top" and topic is not None:
                yield _topic(topic, f"{path}:{began}")
                topic = None
            elif topic is not None:
                topic[tag] = f"{topic.get(tag, '')} {text}"
            elif name == "/top" or text.strip():
                raise DataError(f"{path}:{number}: expected <top>, got {line!r:.80}")
    if topic is not None:
        raise DataError(f"{path}:{began}: <top> without </top>")
    if not began:
        raise DataError(f"{path}: no topics in it")


def _topic(parts: dict[str, str], where: str) -> Query:
    """The number without zeros in front, as qrels have it, and the title."""
    number, title = (
        " ".join(parts.get(tag, "").split()).removeprefix(label).strip()
        for tag, label in (("num", "Number:"), ("title", "Topic:"))
    )
    if not number or " " in number:
        raise DataError(f"{where}: expected a topic's number as <num> Number: 301, got {number!r:.40}")
    if not title:
        raise DataError(f"{where}: the topic {number} has no <title>")
    return Query(str(int(number)) if number.isdecimal() else number, clean(title))


def read_qrels(path: Path) -> Qrels:
    """Qrels as BEIR writes them (a header, then query, passage, grade) or as TREC does (query, 0, passage, grade)."""
    qrels: Qrels = {}
    for number, line in read_lines(path):
        parts = line.split("\t") if "\t" in line else line.split()
        if number == 1 and parts[0] in {"query-id", "query_id", "qid"}:
            continue
        if len(parts) not in {3, 4}:
            expected = "'query passage grade' or 'query 0 passage grade'"
            raise DataError(f"{path}:{number}: expected {expected}, got {line!r:.80}")
        try:
            grade = int(parts[-1])
        except ValueError:
            raise DataError(f"{path}:{number}: the grade {parts[-1]!r:.40} is not a whole number") from None
        qrels.setdefault(parts[0], {})[parts[-2]] = grade
    if not qrels:
        raise DataError(f"{path}: no judgements in it")
    return qrels
