"""BEIR folders: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv, compressed or not."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from seedcli.data.collections import Collection
from seedcli.data.formats.trec import read_qrels
from seedcli.data.lines import field, read_jsonl
from seedcli.data.records import Passage, Query

ENDINGS = ("", ".gz", ".zst")


def open_folder(folder: Path) -> Collection | None:
    """The collection in a folder, None where there is no corpus.jsonl."""
    corpus, queries = (_first(folder, name) for name in ("corpus.jsonl", "queries.jsonl"))
    if corpus is None:
        return None
    return Collection(
        folder,
        partial(read_passages, corpus),
        {"": partial(read_queries, queries)} if queries else {},
        {path.name.partition(".")[0]: partial(read_qrels, path) for path in sorted(folder.glob("qrels/*.tsv*"))},
    )


def read_passages(path: Path) -> Iterator[Passage]:
    for where, record in read_jsonl(path):
        yield Passage(field(record, "_id", where), field(record, "title", where, ""), field(record, "text", where))


def read_queries(path: Path) -> Iterator[Query]:
    for where, record in read_jsonl(path):
        yield Query(field(record, "_id", where), field(record, "text", where))


def _first(folder: Path, name: str) -> Path | None:
    return next((path for ending in ENDINGS if (path := folder / f"{name}{ending}").is_file()), None)
