"""BEIR folders: corpus, queries and qrels/SPLIT as JSONL, TSV or Parquet; one file each, or a folder of shards."""

import re
from functools import partial
from pathlib import Path

from seedcli.base.files import visible_files
from seedcli.data.collections import Collection
from seedcli.data.formats import fields, files, parquet
from seedcli.data.lines import suffix

ENDINGS = (".jsonl", ".tsv", ".csv", ".parquet")
SHARD = re.compile(r"-\d+-of-\d+$")


def open_folder(folder: Path) -> Collection | None:
    """The collection in a folder, None where there is no corpus.

    The hub has qrels also as Parquet in data/ or default/, beside folders of passages and queries.
    """
    corpus, queries = (_parts(folder, role) for role in ("corpus", "queries"))
    if not corpus:
        return None
    qrels = _splits(folder / "qrels", ENDINGS) or {
        split: paths
        for name in ("default", "data")
        for split, paths in _splits(folder / name, (".parquet",)).items()
        if "qrels" in fields.roles(parquet.columns(paths[0]))
    }
    return Collection(
        folder,
        files.passage_files(corpus),
        {"": partial(files.read_queries, queries)} if queries else {},
        {split: partial(files.read_qrels, paths) for split, paths in qrels.items()},
    )


def _parts(folder: Path, role: str) -> list[Path]:
    """The file of a role, corpus.jsonl or corpus.jsonl.gz, or else the shards in a folder of that name."""
    beside = [path for path in folder.glob(f"{role}.*") if path.name.removeprefix(role).startswith(suffix(path))]
    found = sorted((path for path in beside if suffix(path) in ENDINGS), key=lambda p: (ENDINGS.index(suffix(p)), p))
    return found[:1] or [path for path in visible_files(folder / role) if suffix(path) in ENDINGS]


def _splits(folder: Path, endings: tuple[str, ...]) -> dict[str, list[Path]]:
    """Files by split: SPLIT.tsv, SPLIT-00000-of-00002.parquet, or what lies in a folder SPLIT."""
    found: dict[str, list[Path]] = {}
    for path in visible_files(folder):
        if suffix(path) in endings:
            split = SHARD.sub("", path.relative_to(folder).parts[0].partition(".")[0])
            found.setdefault(split, []).append(path)
    return found
