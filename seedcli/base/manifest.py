"""manifest.json: what a stage's folder holds, how it was made, and whether it is finished.

A stage's *plan* is the hash of its verb, the options that affect the result, and its inputs' identities: known before
it runs, it decides what is done, resumed or new. Its *identity* adds the outputs' checksums: later stages build on it.
"""

import dataclasses
import fcntl
import fnmatch
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import seedcli
from seedcli.base.checksums import checksum, folder_checksum
from seedcli.base.config import INCIDENTAL, INPUT, options, plain
from seedcli.base.errors import DataError, FolderError, SeedError
from seedcli.base.files import LOCK, read_json, write_json
from seedcli.base.packages import installed
from seedcli.base.verbs import typed

MANIFEST = "manifest.json"
PART = ".[0-9]*.part"  # how names end that files.written_whole gives
LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "safetensors",
    "faiss-cpu",
    "faiss-gpu",
    "pyserini",
    "ranx",
    "pymilvus",
    "milvus-lite",
)


@dataclasses.dataclass(frozen=True)
class Input:
    """Something a stage reads: where it is (in a manifest: seen from the stage's folder), and what it holds."""

    path: str
    identity: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    verb: str
    status: Literal["running", "finished"]
    plan: str
    identity: str | None
    config: dict[str, Any]
    inputs: dict[str, Input]
    outputs: dict[str, str]  # path in the folder -> sha256
    metrics: dict[str, Any]
    version: str
    libraries: dict[str, str]
    machine: dict[str, Any]
    started: float
    seconds: float  # of the attempt that finished it


def located(folder: Path, manifest: Manifest, name: str) -> Path:
    """Where an input of a finished stage lies now. Raises FolderError when it is gone or no longer what it was."""
    recorded = manifest.inputs[name]
    path = Path(os.path.normpath(folder / recorded.path))
    if not path.exists():
        raise FolderError(f"{folder}: made from {path}, which is no longer there")
    if identify(path).identity != recorded.identity:
        raise FolderError(f"{folder}: made from {path}, which has changed since; make {folder} anew")
    return path


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, None where there is none. Raises DataError when it is broken."""
    import pydantic

    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = pydantic.TypeAdapter(Manifest).validate_python(read_json(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: not a manifest of this tool ({where}: {first['msg']})") from None
    for name in manifest.outputs:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{path}: the output {name!r} lies outside the folder")
    return manifest


def finished(folder: Path, verb: str | None = None) -> Manifest:
    """The manifest of a finished folder whose outputs are what they were.

    Raises FolderError when it is unfinished, another verb's or changed, DataError when it is no stage's folder.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder}: no {MANIFEST}; expected a folder that {typed(verb) if verb else 'seed'} left")
    if verb is not None and manifest.verb != verb:
        raise FolderError(f"{folder}: a folder of {typed(manifest.verb)}, where one of {typed(verb)} was expected")
    if manifest.status != "finished":
        raise FolderError(f"{folder}: unfinished; repeat the {typed(manifest.verb)} command that began it, it goes on")
    if changed := changed_output(folder, manifest):
        raise FolderError(
            f"{changed}: missing or not as {typed(manifest.verb)} wrote it; make the folder anew (--overwrite)"
        )
    return manifest


def changed_output(folder: Path, manifest: Manifest) -> Path | None:
    """The first output that is missing or whose checksum differs."""
    for name, recorded in manifest.outputs.items():
        path = folder / name
        if not path.is_file() or checksum(path) != recorded:
            return path
    return None


def identify(path: Path) -> Input:
    """What a path holds: a stage's folder by its manifest, anything else by its bytes, and by the names that tell how
    they are to be read."""
    if path.is_file():
        return Input(str(path), digest([path.name, checksum(path)]))
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    if (path / MANIFEST).is_file():
        return Input(str(path), str(finished(path).identity))
    return Input(str(path), folder_checksum(path))


def plan_of(verb: str, config: Any, inputs: Mapping[str, Input]) -> str:
    """The hash of all that decides a stage's result."""
    settled = {"verb": verb, "config": result_options(config), "inputs": {k: v.identity for k, v in inputs.items()}}
    return digest(settled)


def result_options(config: Any) -> dict[str, Any]:
    """The options of a config that affect its result, by dotted key; inputs count by their content instead."""
    values, every = plain(config), [option for option in options(type(config)) if option.key != "out"]
    kept = [option.key for option in every if not option.marks & {INCIDENTAL, INPUT}]
    words = [option.key for option in every if INPUT in option.marks and _at(values, option.key) in option.words]
    return {key: _at(values, key) for key in [*kept, *words]}


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Folder:
    """A stage's folder, open for this process alone."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest

    def finish(self, outputs: Sequence[Path], metrics: Mapping[str, Any], variable: Sequence[Path] = ()) -> Manifest:
        """Record the outputs. Those in `variable` are checked like the rest but differ each time they are made."""
        sums = {path.relative_to(self.path).as_posix(): checksum(path) for path in sorted([*outputs, *variable])}
        apart = {path.relative_to(self.path).as_posix() for path in variable}
        identity = digest([self.manifest.plan, {name: value for name, value in sums.items() if name not in apart}])
        self.manifest = dataclasses.replace(
            self.manifest,
            status="finished",
            identity=identity,
            outputs=sums,
            metrics=dict(metrics),
            seconds=round(time.time() - self.manifest.started, 3),
        )
        write_json(self.path / MANIFEST, dataclasses.asdict(self.manifest))
        return self.manifest


@contextmanager
def open_folder(path: Path, verb: str, config: Any, inputs: Mapping[str, Input], overwrite: bool) -> Iterator[Folder]:
    """The folder of a stage: new, its own unfinished one to go on with, or done.

    Raises FolderError when the folder holds anything else (and `overwrite` is off) or another process works in it.
    """
    plan = plan_of(verb, config, inputs)
    check_apart(path, inputs, overwrite)
    lost = overwrite and read_manifest(path) is not None
    if not lost:
        check_folder(path, verb, config, plan)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except NotADirectoryError:
        raise FolderError(f"{path}: can't be made inside a file; name another folder with --out") from None
    with alone(path):
        if lost:
            _clear(path)
        check_folder(path, verb, config, plan)  # again: another process may have come first
        old = read_manifest(path)
        if old is not None and old.status == "finished":
            yield Folder(path, finished(path, verb))
            return
        remove_parts(path)
        manifest = Manifest(
            verb, "running", plan, None, plain(config), _beside(inputs, path), {}, {}, seedcli.__version__,
            library_versions(), machine(), time.time(), 0.0,
        )  # fmt: skip
        write_json(path / MANIFEST, dataclasses.asdict(manifest))
        try:
            yield Folder(path, manifest)
        except SeedError:
            if {entry.name for entry in path.iterdir()} <= {MANIFEST, ".lock"}:  # a mistake before any work
                shutil.rmtree(path)
            raise


def remove_parts(folder: Path) -> None:
    """Remove what a killed process was writing; a folder below that has a lock is another process's."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not Path(parent, name, LOCK).exists()]
        for name in fnmatch.filter(names, f".*{PART}"):
            Path(parent, name).unlink(missing_ok=True)


def check_folder(path: Path, verb: str, config: Any, plan: str) -> None:
    """Refuse a folder that is not this stage's to write."""
    if path.exists() and not path.is_dir():
        raise FolderError(f"{path}: a file; --out names a folder")
    old = read_manifest(path)
    if old is None:
        if path.is_dir() and not all(p.name == LOCK or p.match(f".{MANIFEST}{PART}") for p in path.iterdir()):
            raise FolderError(f"{path}: not empty and not made by seed; name another folder with --out")
        return
    if old.verb != verb:
        raise FolderError(f"{path}: holds a {typed(old.verb)}; name another folder with --out")
    if old.plan != plan:
        state = "a finished" if old.status == "finished" else "an unfinished"
        difference = "; ".join(differences(old, config)) or "its inputs have changed"
        raise FolderError(
            f"{path}: holds {state} {typed(verb)} of another plan ({difference}). "
            "Name another folder with --out, or give --overwrite to lose this one"
        )


def check_apart(path: Path, inputs: Mapping[str, Input], overwrite: bool) -> None:
    """Refuse a folder that would lose or change what its own stage reads."""
    place = path.resolve()
    for given in inputs.values():
        source = Path(given.path).resolve()
        if overwrite and source.is_relative_to(place):
            raise FolderError(f"{path}: holds {given.path}, which this command reads; --overwrite would lose it")
        if place != source and place.is_relative_to(source) and not (source / MANIFEST).is_file():
            raise FolderError(
                f"{path}: lies in {given.path}, which this command reads and so would change; "
                "name another folder with --out"
            )


def differences(old: Manifest, config: Any) -> list[str]:
    """What a config changes of the one in a manifest, in words."""
    new = result_options(config)
    return [
        f"{key} was {_at(old.config, key)!r}, now {value!r}"
        for key, value in new.items()
        if _at(old.config, key) != value
    ]


def library_versions() -> dict[str, str]:
    return {name: version for name in LIBRARIES if (version := installed(name))}


def machine() -> dict[str, Any]:
    return {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}


def _beside(inputs: Mapping[str, Input], folder: Path) -> dict[str, Input]:
    """Inputs with their paths as seen from `folder`, so that folders can move together."""
    return {name: Input(os.path.relpath(given.path, folder), given.identity) for name, given in inputs.items()}


def _at(values: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values.get(part, {})
    return values


def _clear(folder: Path) -> None:
    """Empty a folder, but for the lock that this process holds; the manifest goes last, lest the rest seem foreign."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(f"{folder}: another seed command is at work in it; wait for it, or end it") from None
        yield
