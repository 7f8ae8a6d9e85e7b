"""Folders of Parquet shards, such as a dataset of the hub: one set of rows in several files, or one a split."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seedcli.base.files import visible_files
from seedcli.data.collections import Collection
from seedcli.data.formats import files
from seedcli.data.lines import suffix

SPLITS = {"train", "dev", "validation", "valid", "test"}


def open_folder(folder: Path) -> Collection | None:
    """A folder of Parquet shards that hold one thing, None where there are none.

    train-00000-of-00002.parquet and train/0000.parquet are of the split train. Other names must differ by numbers only.
    """
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in visible_files(folder):
        if suffix(path) == ".parquet":
            groups.setdefault(_shard(path, folder), []).append(path)
    splits = {name if name in SPLITS else "": paths for (_, name), paths in groups.items()}
    if not splits or len(splits) < len(groups) or (len(splits) > 1 and "" in splits):
        return None
    found = files.readers_of(next(iter(splits.values()))[0])

    def by_split(reader: Any, of: Callable[[Sequence[Path]], Any]) -> dict[str, Any]:
        return {split: partial(of, paths) for split, paths in splits.items()} if reader else {}

    return Collection(
        folder,
        files.passage_files([path for paths in splits.values() for path in paths]) if found.passages else None,
        by_split(found.queries, files.read_queries),
        by_split(found.qrels, files.read_qrels),
        by_split(found.examples, files.read_examples),
    )


def _shard(path: Path, folder: Path) -> tuple[Path, str]:
    """Where a set of shards lies and what it is called: data, train of data/train/0000.parquet."""
    stem = re.sub(r"-\d+-of-\d+|\d+", "", path.name.partition(".")[0])
    below = stem or path.parent == folder
    return (path.parent, stem) if below else (path.parent.parent, path.parent.name)
