"""Sources: what an option names as a collection, and the path whose content stands for it."""

from collections.abc import Callable
from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.base.progress import Progress, Silent
from seedcli.data.collections import Collection
from seedcli.data.formats import beir

FOLDERS: tuple[Callable[[Path], Collection | None], ...] = (beir.open_folder,)


def open_collection(source: str | Path, progress: Progress | None = None) -> Collection:
    """The collection that an option names: a folder, a file, or the word pydocs (made on first use)."""
    path = source_path(source, progress)
    for open_folder in FOLDERS:
        if path.is_dir() and (collection := open_folder(path)):
            return collection
    raise DataError(f"{path}: not a collection; expected a BEIR folder with corpus.jsonl, or the word pydocs")


def source_path(source: str | Path, progress: Progress | None = None) -> Path:
    """The path that holds what an option names: itself, or what stands in the cache for the word pydocs."""
    if str(source) != "pydocs":
        return Path(source)
    from seedcli.data.pydocs import fingerprint, pydocs_folder

    folder = pydocs_folder(progress or Silent())
    if progress:
        progress.say(fingerprint(folder))
    return folder
