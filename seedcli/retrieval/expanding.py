"""Queries that a model writes of passages, in a file that grows by batches: what is killed goes on after the last."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from seedcli.base.errors import telling_refusals
from seedcli.base.files import sync_folder
from seedcli.base.progress import Progress
from seedcli.data.records import Passage

Write = Callable[[Sequence[str], int], list[list[str]]]  # texts and the number of their batch -> the queries of each


def write_expansions(
    passages: Iterator[Passage], path: Path, write: Write, batch: int, total: int | None, progress: Progress
) -> None:
    """Leave a file of expansions, one for each passage, unless it is there."""
    if path.is_file():
        return
    begun = path.with_suffix(".begun")
    path.parent.mkdir(parents=True, exist_ok=True)
    with telling_refusals(path), begun.open("ab+") as file:
        done = whole_batches(begun, batch)
        rest = islice(passages, done * batch, None)
        with progress.track("write queries", total, "passages", done * batch) as advance:
            while some := list(islice(rest, batch)):
                written = write([f"{passage.title} {passage.text}".strip() for passage in some], done)
                for passage, queries in zip(some, written, strict=True):
                    file.write(json.dumps({"id": passage.id, "queries": queries}, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                done += 1
                advance(len(some))
    begun.replace(path)
    sync_folder(path.parent)


def whole_batches(path: Path, batch: int) -> int:
    """How many whole batches of lines a file begins with; what comes after them is cut off."""
    lines, at, end = 0, 0, 0
    with path.open("rb+") as file:
        for line in file:
            at += len(line)
            lines += line.endswith(b"\n")
            if lines % batch == 0 and line.endswith(b"\n"):
                end = at
        file.truncate(end)
    return lines // batch
