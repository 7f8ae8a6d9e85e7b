"""Plain text for pre-training, as documents: files, folders, JSONL with a field, a collection's passages."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.base.files import visible_files
from seedcli.data.collections import Collection
from seedcli.data.formats import shards
from seedcli.data.lines import COMPRESSED, field, read_jsonl, read_lines, suffix
from seedcli.data.records import clean
from seedcli.data.sources import collection_in, open_collection

Document = Iterable[str]  # its lines, to be read before the next document's: they may be all of a file
SUFFIXES = tuple(kind + packed for kind in (".txt", ".jsonl") for packed in ("", *COMPRESSED))
TABLES = {".tsv", ".csv", ".parquet"}


def text_files(source: Path) -> list[Path]:
    """The text files that a path names: itself, or those of known endings in a folder, sorted.

    The queries of a collection inside it are not text: a model that has read them is no fair one.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    files = [path for path in visible_files(source) if path.name.endswith(SUFFIXES) and not _queries(path)]
    if not files:
        raise DataError(f"{source}: no text in it; expected a collection, or files ending in {', '.join(SUFFIXES)}")
    return files


def _queries(path: Path) -> bool:
    return path.name.startswith("queries.jsonl") and any(path.parent.glob("corpus.jsonl*"))


def collection_of(source: Path) -> Collection | None:
    """The collection whose passages are the text; None for plain text, and for JSONL whose field is named."""
    if source.is_file():
        return open_collection(source) if suffix(source) in TABLES else None
    if shards.open_folder(source) and any(path.name.endswith(SUFFIXES) for path in visible_files(source)):
        raise DataError(f"{source}: holds both Parquet and text files; name those that are meant")
    return collection_in(source)


def read_documents(sources: Sequence[Path], name: str) -> Iterator[Document]:
    """Every document of every source: passages, a JSONL record's field `name`, or lines up to a blank one."""
    for source in sources:
        if collection := collection_of(source):
            for passage in collection.passages():
                yield [line for line in (passage.title, *passage.text.splitlines()) if line.strip()]
            continue
        for path in text_files(source):
            yield from _jsonl(path, name) if ".jsonl" in path.suffixes else _plain(path)


def _jsonl(path: Path, name: str) -> Iterator[Document]:
    for where, record in read_jsonl(path):
        if name not in record:
            raise DataError(
                f"{where}: no field {name!r}; it has {', '.join(map(repr, record))}; --field names the text's"
            )
        yield [line for line in field(record, name, where).splitlines() if line.strip()]


def _plain(path: Path) -> Iterator[Document]:
    lines = enumerate(read_lines(path))  # which leaves blank lines out: then a line's number runs ahead of the count
    for _, document in groupby(lines, lambda line: line[1][0] - line[0]):
        yield (clean(text) for _, (_, text) in document)
