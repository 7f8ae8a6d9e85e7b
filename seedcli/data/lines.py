"""Text files read line by line, .gz and .zst too; an error names file and line."""

import gzip
import json
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from seedcli.base.errors import DataError
from seedcli.data.records import clean


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
    """A text field of a record, cleaned. Raises DataError when it is missing (without a default) or no text."""
    value = record.get(name, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        problem = f"no field {name!r}" if name not in record else f"the field {name!r} is not text"
        raise DataError(f"{where}: {problem}; it has {', '.join(map(repr, record)) or 'none'}")
    return clean(value)
