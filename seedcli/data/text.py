"""Plain text for pre-training, as documents: files, folders, .gz, JSONL with a field, a collection's passages."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.base.files import visible_files
from seedcli.data.lines import field, read_jsonl, read_lines
from seedcli.data.sources import open_collection

Document = list[str]  # its lines
SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")


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
        raise DataError(f"{source}: no text in it; expected files ending in {', '.join(SUFFIXES)}")
    return files


def _queries(path: Path) -> bool:
    return path.name == "queries.jsonl" and path.with_name("corpus.jsonl").is_file()


def read_documents(sources: Sequence[Path], name: str) -> Iterator[Document]:
    """Every document of every source: passages, a JSONL record's field `name`, or lines up to a blank one."""
    for source in sources:
        if (source / "corpus.jsonl").is_file():
            for passage in open_collection(source).passages():
                yield [line for line in (passage.title, *passage.text.splitlines()) if line.strip()]
            continue
        for path in text_files(source):
            yield from _jsonl(path, name) if ".jsonl" in path.suffixes else _plain(path)


def _jsonl(path: Path, name: str) -> Iterator[Document]:
    for where, record in read_jsonl(path):
        yield [line for line in field(record, name, where).splitlines() if line.strip()]


def _plain(path: Path) -> Iterator[Document]:
    lines: Document = []
    expected = 1
    for number, line in read_lines(path):
        if number > expected and lines:  # read_lines leaves blank lines out
            yield lines
            lines = []
        lines.append(line)
        expected = number + 1
    if lines:
        yield lines
