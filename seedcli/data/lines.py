"""Text files read line by line, .gz and .zst too; an error names file and line."""

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from seedcli.base.errors import DataError
from seedcli.data.records import clean

COMPRESSED = (".gz", ".zst")
BUFFER = 1 << 16
GLANCE = 1 << 16  # bytes of a first line that are looked at
LONGEST = 1 << 24  # characters of a CSV cell; without a bound, a lost quotation mark reads the file whole

Records = Iterator[tuple[str, Mapping[str, Any]]]  # each with where it stands, for messages


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


def read_table(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a TSV or .csv file by the names of its columns, which stand in the first line unless they are given.

    In a TSV a quotation mark is a character like any other. Raises DataError for a row of another width.
    """
    names, told = list(columns), False
    for where, cells in _csv_rows(path) if suffix(path) == ".csv" else _tsv_rows(path):
        if not names:
            names = cells
            if len(set(names)) < len(names):
                raise DataError(f"{where}: a column's name stands twice: {', '.join(names)}")
            continue
        if len(cells) != len(names):
            raise DataError(f"{where}: {len(cells)} columns, where {len(names)} are expected: {', '.join(names)}")
        told = True
        yield where, dict(zip(names, cells, strict=True))
    if not told:
        raise DataError(f"{path}: no rows in it")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file (.gz and .zst too) with their numbers, from 1; blank ones are left out."""
    for number, line in _decoded(path):
        text = line.rstrip("\r\n")
        if text and not text.isspace():
            yield number, text


def line_places(path: Path) -> Iterator[int]:
    """Where each line that `read_lines` gives begins, in bytes, in a file that is not compressed."""
    at = 0
    with path.open("rb") as file:
        for line in file:
            mark = len(codecs.BOM_UTF8) if not at and line.startswith(codecs.BOM_UTF8) else 0
            if not line[mark:].decode("utf-8", "replace").isspace():
                yield at + mark
            at += len(line)


def first_line(path: Path) -> str:
    """The first line that isn't blank, or the beginning of a long one; empty where there is none."""
    return next((line.rstrip("\r\n") for _, line in _decoded(path, GLANCE) if not line.isspace()), "")


def unpacked(path: Path) -> Path:
    """A path as it would be called without its .gz or .zst."""
    return path.with_suffix("") if path.suffix in COMPRESSED else path


def suffix(path: Path) -> str:
    """How a name ends, but for compression: .tsv of a.tsv.gz."""
    return unpacked(path).suffix.lower()


def open_bytes(path: Path) -> BufferedReader:
    """A file's bytes, decompressed; several members of gzip or frames of zstd follow each other."""
    if path.suffix == ".gz":
        return BufferedReader(gzip.open(path), BUFFER)
    if path.suffix == ".zst":
        import pyarrow as pa

        return BufferedReader(pa.CompressedInputStream(path.open("rb"), "zstd"), BUFFER)
    return path.open("rb")


def field(record: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    """A text field of a record, cleaned. Raises DataError when it is missing (without a default) or no text."""
    value = record.get(name, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        problem = f"no field {name!r}" if name not in record else f"the field {name!r} is not text"
        raise DataError(f"{where}: {problem}; it has {', '.join(map(repr, record)) or 'none'}")
    return clean(value)


def id_field(record: Mapping[str, Any], name: str, where: str) -> str:
    """The field that holds an id: text, or a whole number, as its digits."""
    value = record.get(name)
    found = str(value) if type(value) is int else field(record, name, where)
    if not found:
        raise DataError(f"{where}: the id {name!r} is empty")
    return found


def _decoded(path: Path, longest: int = -1) -> Iterator[tuple[int, str]]:
    """All lines with their ends and numbers, or pieces of at most `longest` bytes."""
    number, strictly = 0, "strict" if longest < 0 else "replace"
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(iter(partial(file.readline, longest), b""), 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8", strictly)  # one by one: errors tell
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number}: not UTF-8 text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}:{number + 1}: broken gzip file ({error})") from None
    except OSError as error:
        if error.strerror is None:  # pyarrow's
            raise DataError(f"{path}:{number + 1}: broken zstd file ({error})") from None
        raise DataError(f"{path}: {error.strerror.lower()}") from None


def _tsv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in read_lines(path):
        yield f"{path}:{number}", line.split("\t")


def _csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(LONGEST)
    rows = csv.reader((line for _, line in _decoded(path)), strict=True)
    begin = 1
    try:
        for cells in rows:
            if cells:
                yield f"{path}:{begin}", cells
            begin = rows.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begin}: not CSV ({error})") from None
