"""Collections on disk: a BEIR folder of passages, queries and qrels, read line by line; every error names file and line."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from seedcli.base.errors import DataError

Qrels = dict[str, dict[str, int]]  # query -> passage -> grade


class Passage(NamedTuple):
    id: str
    title: str
    text: str


class Query(NamedTuple):
    id: str
    text: str


@dataclass(frozen=True)
class Collection:
    """A BEIR folder: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""

    folder: Path

    def passages(self) -> Iterator[Passage]:
        path = self.folder / "corpus.jsonl"
        for where, record in read_jsonl(path):
            yield Passage(
                field(record, "_id", where), field(record, "title", where, ""), field(record, "text", where)
            )

    def queries(self, split: str | None = None) -> Iterator[Query]:
        """All queries, or those that the qrels of `split` judge, in the order of the file."""
        judged = None if split is None else self.qrels(split)
        for where, record in read_jsonl(self.folder / "queries.jsonl"):
            query = Query(field(record, "_id", where), field(record, "text", where))
            if judged is None or query.id in judged:
                yield query

    def qrels(self, split: str) -> Qrels:
        path = self.folder / "qrels" / f"{split}.tsv"
        if not path.is_file():
            splits = sorted(p.stem for p in path.parent.glob("*.tsv"))
            raise DataError(f"{path}: no such split; {self.folder} has {', '.join(splits) or 'no qrels'}")
        return read_qrels(path)


def open_collection(source: str | Path) -> Collection:
    """The collection that an option names: a BEIR folder, or `pydocs` (made on first use)."""
    if str(source) == "pydocs":
        from seedcli.data.pydocs import pydocs_folder

        return Collection(pydocs_folder())
    folder = Path(source)
    if not (folder / "corpus.jsonl").is_file():
        raise DataError(f"{folder}: not a collection; expected a BEIR folder with corpus.jsonl, or the word pydocs")
    return Collection(folder)


def read_qrels(path: Path) -> Qrels:
    """Qrels as BEIR writes them (a header, then query, passage, grade) or as TREC does (query, 0, passage, grade)."""
    qrels: Qrels = {}
    for number, line in read_lines(path):
        parts = line.split("\t") if "\t" in line else line.split()
        if number == 1 and parts[0] in {"query-id", "query_id", "qid"}:
            continue
        if len(parts) not in {3, 4}:
            raise DataError(f"{path}:{number}: expected 'query passage grade' or 'query 0 passage grade', got {line!r:.80}")
        try:
            grade = int(parts[-1])
        except ValueError:
            raise DataError(f"{path}:{number}: the grade {parts[-1]!r:.40} is not a whole number") from None
        qrels.setdefault(parts[0], {})[parts[-2]] = grade
    if not qrels:
        raise DataError(f"{path}: no judgements in it")
    return qrels


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a JSON-lines file with where it stands ("path:line")."""
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg})") from None
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected an object {{...}}, got {line!r:.60}")
        yield where, record


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file (.gz too) with their numbers, from 1; blank ones are left out."""
    number = 0
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if stripped := line.rstrip("\r\n"):
                    if not stripped.isspace():
                        yield number, stripped
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a file was expected") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number + 1}: not UTF-8 text") from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}:{number + 1}: broken gzip file ({error})") from None


def open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def field(record: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    """A text field of a record. Raises DataError when it is missing (without a default) or no text."""
    value = record.get(name, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        problem = f"no field {name!r}" if name not in record else f"the field {name!r} is not text"
        raise DataError(f"{where}: {problem}; it has {', '.join(map(repr, record)) or 'none'}")
    return value
