"""collection.yaml: which files of a folder hold its passages, queries, qrels and examples, and what their fields are.

    passages: {file: papers.tsv.gz, fields: {id: pid, title: name, text: abstract}}
    queries: {train: {file: train.tsv, columns: [id, text]}, dev: {file: dev.tsv, columns: [id, text]}}
    qrels: {train: train.qrels, dev: dev.qrels}
    examples: {train: triples-*.tsv}

A file may be a pattern. What fields and columns leave open is told by well-known names and by the file's first line.
"""

import difflib
from collections.abc import Callable, Mapping
from collections.abc import Collection as Keys
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from seedcli.base.config import read_recipe
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import visible_files
from seedcli.data.collections import Collection
from seedcli.data.formats import fields, files, irds

ENTRY = ("file", "fields", "columns")


def open_folder(folder: Path) -> Collection | None:
    """The collection that a folder's collection.yaml describes, None where there is none."""
    path = folder / fields.RECIPE
    if not path.is_file():
        return None
    try:
        written = read_recipe(path)
    except ConfigError as error:
        raise DataError(str(error)) from None
    if "irds" in written:
        if len(written) > 1 or not isinstance(written["irds"], str):
            raise DataError(f"{path}: irds: expected the name of a dataset, and no other key")
        return irds.open_dataset(written["irds"])
    check_keys(written, fields.KNOWN, f"{path}")
    if not written:
        raise DataError(f"{path}: empty; expected {', '.join(fields.KNOWN)}")
    readers = {role: _readers(folder, role, given, f"{path}: {role}") for role, given in written.items()}
    passages = readers.pop("passages", {}).get("")
    return Collection(folder, passages, *(readers.get(role, {}) for role in ("queries", "qrels", "examples")))


def check_keys(given: Mapping[Any, Any], known: Keys[str], where: str) -> None:
    """Raises DataError for a key that isn't known, with the nearest that is."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"expected {', '.join(known)}"
            raise DataError(f"{where}: unknown key {key!r}: {meant}")


def _readers(folder: Path, role: str, given: Any, where: str) -> dict[str, Callable[[], Any]]:
    """The readers of a role by split; under "" that of a file for all splits."""
    if role == "passages" or not isinstance(given, dict) or given.keys() & set(ENTRY):
        return {"": _reader(folder, role, given, where)}
    return {str(split): _reader(folder, role, entry, f"{where}.{split}") for split, entry in given.items()}


def _reader(folder: Path, role: str, given: Any, where: str) -> Callable[[], Any]:
    """The reader of an entry: a file, or a mapping of file, fields and columns."""
    entry = given if isinstance(given, dict) else {"file": given}
    check_keys(entry, ENTRY, where)
    names, columns = entry.get("fields") or {}, entry.get("columns") or []
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise DataError(f"{where}.fields: expected names of fields, as {{text: abstract}}, got {names!r:.60}")
    check_keys(names, fields.KNOWN[role], f"{where}.fields")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise DataError(f"{where}.columns: expected a list of names, got {columns!r:.60}")
    paths, told = _files(folder, entry.get("file"), where), fields.Told(names, tuple(columns))
    return files.passage_files(paths, told) if role == "passages" else partial(files.READ[role], paths, told)


def _files(folder: Path, pattern: Any, where: str) -> list[Path]:
    """The visible files in a folder that a name or a pattern means, sorted."""
    visible = set(visible_files(folder))
    if not isinstance(pattern, str) or not pattern:
        raise DataError(f"{where}: expected a file, or {{{': ..., '.join(ENTRY)}: ...}}, got {pattern!r:.60}")
    if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
        raise DataError(f"{where}: the file {pattern!r} lies outside the folder; copy or link it there")
    literal = folder / pattern
    matching = [literal] if literal.is_file() else sorted(path for path in folder.glob(pattern) if path.is_file())
    found = [path for path in matching if path in visible]  # hidden files are no part of what a folder is known by
    if not found:
        raise DataError(f"{where}: no file {pattern!r} in {folder}")
    return found
