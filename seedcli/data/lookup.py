"""Passages by id: where each stands in its corpus, listed once and kept in the cache by what the corpus holds.

What is a line of a plain file is read there. Where no line can be gone to (compressed files, CSV, Parquet,
ir_datasets), a compressed copy of the passages is kept instead. A row is a passage's number in the corpus, from 0.
"""

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from seedcli.base.errors import DataError, refusal
from seedcli.base.files import cache_folder, made_whole, read_json, write_json
from seedcli.base.machine import size
from seedcli.base.manifest import digest
from seedcli.base.progress import Advance, Progress
from seedcli.data.collections import Collection, PassageFiles
from seedcli.data.ids import Ids, IdWriter, open_ids
from seedcli.data.lines import COMPRESSED, line_places, suffix
from seedcli.data.ragged import Ragged, RaggedWriter, mapped
from seedcli.data.records import Passage

RULES = 1  # to be raised when another table would come out of the same corpus
SMALL = 1 << 22  # bytes of files that are sooner read, in some 50 ms, than listed and kept
BATCH = 1_000  # passages listed at a time
BLOCK = 64  # passages compressed together

Find = Callable[[Iterable[str]], dict[str, Passage]]  # the passages of some ids, by id, without those that aren't there
Read = Callable[[Sequence[int]], list[Passage]]  # the passages of some rows


def finder(
    collection: Collection, identity: str, progress: Progress, total: int | None = None, make: bool = True
) -> Find:
    """How passages of a corpus are found whose content `identity` stands for: of those that share an id, the first.

    The corpus is read each time when it is small, and when nothing is kept of it and `make` is off: once, that is
    quicker than to make a table first. `total` is about how many passages there are.
    """
    reader, folder = collection.passage_reader, cache_folder() / f"passages-{digest([RULES, identity])[:16]}"
    files = reader if isinstance(reader, PassageFiles) else None
    small = files is not None and sum(path.stat().st_size for path in files.paths) <= SMALL
    if small or not (make or folder.is_dir()):
        return collection.passages_of
    plain = files if files and all(map(has_lines, files.paths)) else None
    if not folder.is_dir():
        try:
            with made_whole(folder) as aside, progress.track("passages by id", total, "passages") as advance:
                list_lines(plain, aside, advance) if plain else copy(collection.passages(), aside, advance)
        except OSError as error:
            if (reason := refusal(error)) is None:
                raise
            progress.say(f"{folder}: {reason}; without it, all passages are read for each question")
            return collection.passages_of
        if not plain:
            taken = size(sum(path.stat().st_size for path in folder.iterdir()))
            progress.say(f"{collection.source}: passages can't be found by place in it; a copy takes {taken}: {folder}")
    read = Lines(plain, folder).read if plain else partial(read_copies, Ragged.open(folder, "blocks"))
    return partial(found, open_ids(folder), read)


def has_lines(path: Path) -> bool:
    """Whether each record is a line that can be gone to; one of a CSV may be several."""
    return path.suffix not in COMPRESSED and suffix(path) not in {".csv", ".parquet"}


def found(ids: Ids, read: Read, wanted: Iterable[str]) -> dict[str, Passage]:
    """The passages of the ids that are there; ids that share a fingerprint are told apart by what is read."""
    passages: dict[str, Passage] = {}
    left, turn = {id_: ids.candidates(id_) for id_ in wanted}, 0
    while left := {id_: rows for id_, rows in left.items() if id_ not in passages and turn < len(rows)}:
        there = read([rows[turn] for rows in left.values()])
        passages |= {id_: passage for id_, passage in zip(left, there, strict=True) if passage.id == id_}
        turn += 1
    return passages


def list_lines(files: PassageFiles, folder: Path, advance: Advance) -> None:
    """List where the lines of all files begin, in bytes, how many each file has, and the ids of their passages."""
    before, counts = list(map(state, files.paths)), []
    with IdWriter(folder) as ids, (folder / "places").open("wb") as places:

        def listed(begins: Iterable[int]) -> int:
            some = array("q", begins)
            places.write(some.tobytes())
            return len(some)

        for path in files.paths:
            passages, begins, lines, records = files.read(path), line_places(path), 0, 0
            while batch := list(islice(passages, BATCH)):
                ids.extend(passage.id for passage in batch)
                records += len(batch)
                lines += listed(islice(begins, BATCH))
                advance(len(batch))
            counts.append((lines + listed(begins), records))
    if before != list(map(state, files.paths)):
        raise DataError(f"{files.paths[0].parent}: changed while it was read; repeat the command")
    write_json(folder / "counts.json", counts)


class Lines:
    """Passages that are lines of files, read by the reader of the whole: from an excerpt, a file of the same name.

    An excerpt begins as its file does: with a header, or with the record that tells how the others are read.
    Letters: F files.
    """

    def __init__(self, files: PassageFiles, folder: Path):
        self.files, self.states = files, list(map(state, files.paths))
        lines, records = np.array(read_json(folder / "counts.json"), dtype=np.int64).T  # [F], [F]
        self.headers = lines - records  # [F], 1 or 0
        self.ends = np.cumsum(records)  # [F], of the rows of each file
        self.begins = np.cumsum(lines) - lines  # [F], of the lines of each file in `places`
        self.places = mapped(folder / "places", np.int64)

    def read(self, rows: Sequence[int]) -> list[Passage]:
        """The passages of some rows."""
        passages: dict[int, Passage] = {}
        owners = np.searchsorted(self.ends, rows, side="right")
        for file in np.unique(owners).tolist():
            own = np.unique(np.array(rows)[owners == file]).tolist()
            passages |= zip(own, self.read_file(file, own), strict=True)
        return [passages[row] for row in rows]

    def read_file(self, file: int, rows: Sequence[int]) -> list[Passage]:
        """The passages of rows of one file."""
        path, headers, first = self.files.paths[file], int(self.headers[file]), int(self.begins[file])
        begin = first + headers - (int(self.ends[file - 1]) if file else 0)
        if state(path) != self.states[file]:
            raise DataError(f"{path}: changed since it was opened; begin anew")
        with path.open("rb") as source:
            lines = []
            for line in [first, *(begin + row for row in rows)]:
                source.seek(self.places[line])
                lines.append(source.readline().rstrip(b"\r\n"))
        with TemporaryDirectory(prefix="seed-") as folder:
            excerpt = Path(folder, path.name)
            excerpt.write_bytes(b"\n".join(lines))
            return list(self.files.read(excerpt))[1 - headers :]


def state(path: Path) -> tuple[int, int]:
    """What tells that a file has changed. Raises DataError when it is gone."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None
    return found.st_size, found.st_mtime_ns


def copy(passages: Iterator[Passage], folder: Path, advance: Advance) -> None:
    """Copy passages in compressed blocks, with their ids."""
    import pyarrow as pa

    with IdWriter(folder) as ids, RaggedWriter(folder, "blocks", np.uint8) as blocks:
        while batch := list(islice(passages, BLOCK)):
            ids.extend(passage.id for passage in batch)
            block = pa.compress(json.dumps(batch, ensure_ascii=False).encode(), "zstd", asbytes=True)
            blocks.append(np.frombuffer(block, np.uint8))
            advance(len(batch))


def read_copies(blocks: Ragged, rows: Sequence[int]) -> list[Passage]:
    """The passages of some rows, from what `copy` left."""
    import pyarrow as pa

    opened = {
        number: json.loads(pa.input_stream(pa.py_buffer(blocks[number]), compression="zstd").read())
        for number in {row // BLOCK for row in rows}
    }
    return [Passage(*opened[row // BLOCK][row % BLOCK]) for row in rows]
