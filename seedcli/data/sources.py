"""Sources: what an option names as a collection, and the path whose content stands for it."""

from collections.abc import Callable
from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.base.progress import Progress, Silent
from seedcli.data.collections import Collection
from seedcli.data.formats import beir, dpr, files, hub, irds, mind, msmarco, named, shards

FOLDERS: tuple[Callable[[Path], Collection | None], ...] = (
    named.open_folder,
    beir.open_folder,
    msmarco.open_folder,
    dpr.open_folder,
    mind.open_folder,
    shards.open_folder,
)


def open_collection(source: str | Path, progress: Progress | None = None) -> Collection:
    """The collection that an option names: a folder, a file, pydocs, irds:ID or hf:NAME (fetched on first use)."""
    path = source_path(source, progress)
    if collection := files.open_file(path) if path.is_file() else collection_in(path):
        return collection
    problem = "not a collection" if path.exists() else "not a collection: no such file or folder"
    raise DataError(f"{source}: {problem}; {files.UNDERSTOOD}")


def collection_in(folder: Path) -> Collection | None:
    """The collection in a folder, None where there is none."""
    found = (open_folder(folder) for open_folder in FOLDERS if folder.is_dir())
    return next((collection for collection in found if collection), None)


def source_path(source: str | Path, progress: Progress | None = None) -> Path:
    """The path that holds what an option names: itself, or the folder in the cache that stands for it."""
    scheme, colon, name = str(source).partition(":")
    made = MADE.get(scheme + colon)
    return made(name, progress or Silent()) if made else Path(source)


def _pydocs(_: str, progress: Progress) -> Path:
    from seedcli.data.pydocs import fingerprint, pydocs_folder

    folder = pydocs_folder(progress)
    progress.say(fingerprint(folder))
    return folder


MADE: dict[str, Callable[[str, Progress], Path]] = {
    "pydocs": _pydocs,
    "irds:": irds.dataset_folder,
    "hf:": hub.dataset_folder,
}
