"""Files written whole or not at all: aside, flushed to the disk, then renamed."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seedcli.base.errors import DataError

LOCK = ".lock"


class Closing:
    """Something open whose `close` a with block calls at its end."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends well, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to fill; it takes that place when the block ends well, unless another came first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for orphan in folder.parent.glob(f".{folder.name}.*.part"):
        remove_orphan(orphan)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    lock = (aside / LOCK).open("w")  # held as long as this process lives
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield aside
        (aside / LOCK).unlink()
        for path in aside.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)
    finally:
        lock.close()
        shutil.rmtree(aside, ignore_errors=True)


def remove_orphan(aside: Path) -> None:
    """Remove a folder that a killed process was filling; one at work holds its lock."""
    try:
        with (aside / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(aside, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        pass


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, links followed; hidden ones (a name that begins with a dot) are left out."""
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            found += [Path(parent, name) for name in names if not name.startswith(".")]
        seen.add(real)
    return sorted(found)


def files_of(path: Path) -> list[Path]:
    """A file itself, or the visible files of a folder."""
    return visible_files(path) if path.is_dir() else [path]


def cache_folder() -> Path:
    """Where what can be made again is kept between commands: $SEED_CACHE, or ~/.cache/seedcli."""
    return Path(os.environ.get("SEED_CACHE") or Path.home() / ".cache" / "seedcli")


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises DataError, with file and line, when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
