"""Collections on disk: a BEIR folder of passages, queries and qrels, read line by line; errors name file and line."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from seedcli.base.errors import DataError
from seedcli.base.progress import Progress, Silent

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
            yield Passage(field(record, "_id", where), field(record, "title", where, ""), field(record, "text", where))

    def passages_of(self, ids: Iterable[str]) -> dict[str, Passage]:
        """The passages of some ids, by id; those that the corpus lacks are left out."""
        wanted = set(ids)
        return {passage.id: passage for passage in self.passages() if passage.id in wanted}

    def queries(self, split: str | None = None) -> Iterator[Query]:
        """All queries, or those that the qrels of `split` judge, in the order of the file."""
        judged = None if split is None else self.qrels(split)
        for where, record in read_jsonl(self.folder / "queries.jsonl"):
            query = Query(field(record, "_id", where), field(record, "text", where))
            if judged is None or query.id in judged:
                yield query

    def count(self) -> int:
        """How many lines the corpus has."""
        with (self.folder / "corpus.jsonl").open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def qrels(self, split: str) -> Qrels:
        path = self.folder / "qrels" / f"{split}.tsv"
        if not path.is_file():
            splits = sorted(p.stem for p in path.parent.glob("*.tsv"))
            raise DataError(f"{path}: no such split; {self.folder} has {', '.join(splits) or 'no qrels'}")
        return read_qrels(path)


def open_collection(source: str | Path, progress: Progress | None = None) -> Collection:
    """The collection that an option names: a BEIR folder, or `pydocs` (made on first use)."""
    folder = collection_folder(source, progress)
    if not (folder / "corpus.jsonl").is_file():
        raise DataError(f"{folder}: not a collection; expected a BEIR folder with corpus.jsonl, or the word pydocs")
    return Collection(folder)


def collection_folder(source: str | Path, progress: Progress | None = None) -> Path:
    """Where the data that an option names lie: its path, or the folder that stands for the word pydocs."""
    if str(source) != "pydocs":
        return Path(source)
    from seedcli.data.pydocs import fingerprint, pydocs_folder

    folder = pydocs_folder(progress or Silent())
    if progress:
        progress.say(fingerprint(folder))
    return folder


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


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a JSON-lines file with where it stands ("path:line")."""
    where = ""
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg})") from None
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected an object {{...}}, got {line!r:.60}")
        yield where, record
    if not where:
        raise DataError(f"{path}: no records in it")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file (.gz too) with their numbers, from 1; blank ones are left out."""
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):  # decoded one by one, or an error would name an earlier line
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text and not text.isspace():
                    yield number, text
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number}: not UTF-8 text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}:{number + 1}: broken gzip file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: {str(error.strerror).lower()}") from None


def open_bytes(path: Path) -> BufferedReader:
    return BufferedReader(gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def field(record: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    """A text field of a record, with ? for halves of surrogate pairs, which no encoder takes. Raises DataError when it
    is missing (without a default) or no text."""
    value = record.get(name, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        problem = f"no field {name!r}" if name not in record else f"the field {name!r} is not text"
        raise DataError(f"{where}: {problem}; it has {', '.join(map(repr, record)) or 'none'}")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
