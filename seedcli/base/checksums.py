"""What files hold, as sha256, remembered by path, size and time of change so that big files are read once."""

import hashlib
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.base.files import cache_folder, visible_files


def checksum(path: Path) -> str:
    """The sha256 of a file; of an unchanged one (same size, same mtime_ns) from memory."""
    try:
        state = path.stat()
        key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
        with suppress(OSError, sqlite3.Error):
            return _remembered(path, key)
        return _read(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None


def folder_checksum(folder: Path) -> str:
    """One sha256 over the names and contents of all files in a folder; hidden ones are left out."""
    total = hashlib.sha256()
    for path in visible_files(folder):
        total.update(f"{path.relative_to(folder).as_posix()}\0{checksum(path)}\n".encode())
    return total.hexdigest()


def _remembered(path: Path, key: tuple[str, int, int]) -> str:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(cache_folder() / "checksums.sqlite", timeout=5)) as memory, memory:
        memory.execute("CREATE TABLE IF NOT EXISTS sums (path TEXT PRIMARY KEY, size INT, mtime INT, sha256 TEXT)")
        found = memory.execute("SELECT sha256 FROM sums WHERE path = ? AND size = ? AND mtime = ?", key).fetchone()
        if found:
            return str(found[0])
    total = _read(path)
    with closing(sqlite3.connect(cache_folder() / "checksums.sqlite", timeout=5)) as memory, memory:
        memory.execute("INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?)", (*key, total))
    return total


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
