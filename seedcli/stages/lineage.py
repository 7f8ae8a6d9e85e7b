"""Lineage: what a folder was made from, stage by stage, as the manifests tell it; nothing is read or checked anew."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from seedcli.base.config import INCIDENTAL, INPUT, options
from seedcli.base.errors import DataError
from seedcli.base.manifest import MANIFEST, Manifest, digest, read_manifest
from seedcli.base.verbs import typed
from seedcli.configs import VERBS
from seedcli.evaluation.steps import Step
from seedcli.stages.told import called, place


def lineage(path: Path, identity: str, role: str = "run") -> Step:
    """The step that left a path, or that wrote a file, with those before it."""
    folder = path if path.is_dir() else path.parent
    name = shown_name(path)
    try:
        made = read_manifest(folder)
    except DataError:
        return Step(role, name, None, identity, {}, {}, f"its {MANIFEST} is broken", [])
    if made is None or (path != folder and path.name not in made.outputs):
        return Step(role, name, None, identity, {}, {}, "" if path.exists() else "no longer there", [])
    as_written = made.identity if path == folder else digest([path.name, made.outputs[path.name]])
    if identity != as_written:
        return Step(role, name, None, identity, {}, {}, f"changed since; {typed(made.verb)} wrote another", [])
    known = {key: (value, default) for key, value, default in settled(made)}
    before = [
        lineage(Path(os.path.normpath(folder / given.path)), given.identity, called(key))
        for key, given in made.inputs.items()
    ]
    return Step(
        role, name, made.verb, str(made.identity),
        {key: value for key, (value, _) in known.items()},
        {key: value for key, (value, default) in known.items() if value != default},
        "", before,
    )  # fmt: skip


def shown_name(path: Path) -> str:
    """The last part of a path, lest a report that is passed on tells of a machine; a hub's name whole."""
    known = place(str(path))
    return path.name if known == str(path) else known


def settled(made: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """The options that a result follows from, as they were, with their defaults; those that name an input left out."""
    if made.verb not in VERBS:
        return
    for option in options(VERBS[made.verb]):
        value = at(made.config, option.key)
        named = INPUT in option.marks and value != option.default and value not in option.words
        if option.key != "out" and INCIDENTAL not in option.marks and not named and value is not MISSING:
            yield option.key, value, option.default


def at(values: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return MISSING
        values = values[part]
    return values
