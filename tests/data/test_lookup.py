"""Passages found by their ids, in files of any kind: what reading all of them gives."""

import csv
import gzip
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seedcli.base.errors import DataError
from seedcli.base.progress import Advance, Silent
from seedcli.data import ids, lookup
from seedcli.data.collections import Collection
from seedcli.data.lookup import finder
from seedcli.data.records import Passage
from seedcli.data.sources import open_collection

WORDS = ["otter", "heron", "naïve", "日本", "\u2028", "\x85", "'quoted'", "reed"]
PASSAGES = [
    Passage(f"p{row}", f"title {row}" if row % 3 else "", " ".join(random.Random(row).choices(WORDS, k=row % 7 + 1)))
    for row in range(150)
]


class Told(Silent):
    """Keeps what is said, and what is counted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counts: list[tuple[str, int | None, int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        made = 0

        def advance(more: int, /, *_: str) -> None:
            nonlocal made
            made += more

        yield advance
        self.counts.append((title, total, made))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own; even the smallest corpus is listed."""
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lookup, "SMALL", -1)
    return tmp_path / "cache"


def jsonl(passages: list[Passage]) -> bytes:
    rows = [{"_id": id_, "title": title, "text": text} for id_, title, text, _ in passages]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(passages: list[Passage], header: str = "id\ttext\ttitle\n") -> bytes:
    return (header + "".join(f"{id_}\t{text}\t{title}\n" for id_, title, text, _ in passages)).encode()


def beir(folder: Path) -> Path:
    (folder / "corpus.jsonl").write_bytes(jsonl(PASSAGES))
    return folder


def shards(folder: Path) -> Path:
    """With a mark in front, blank lines, ends of lines of Windows, and no end after the last."""
    (folder / "corpus").mkdir()
    for number, begin in enumerate(range(0, 150, 40)):
        text = b"\xef\xbb\xbf\r\n" + jsonl(PASSAGES[begin : begin + 40]).replace(b"\n", b"\r\n\n").rstrip()
        (folder / "corpus" / f"{number}.jsonl").write_bytes(text)
    return folder


def dpr(folder: Path) -> Path:
    (folder / "psgs_w100.tsv").write_bytes(table(PASSAGES))
    return folder


def documents(folder: Path) -> Path:
    rows = (f"{id_}\t\t{title}\t{text}\n" for id_, title, text, _ in PASSAGES)
    (folder / "msmarco-docs.tsv").write_text("".join(rows))
    return folder


def news(folder: Path) -> Path:
    rows = (f"{id_}\tx\ty\t{title}\t{text}\t\t[]\t[]\n" for id_, title, text, _ in PASSAGES)
    (folder / "news.tsv").write_text("".join(rows))
    return folder


def named(folder: Path) -> Path:
    entry = "passages: {file: '*.tsv', columns: [key, body, head], fields: {id: key, text: body, title: head}}\n"
    (folder / "collection.yaml").write_text(entry)
    for number, begin in enumerate((0, 75)):
        (folder / f"{number}.tsv").write_bytes(table(PASSAGES[begin : begin + 75], ""))
    return folder


def packed(folder: Path) -> Path:
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(jsonl(PASSAGES)))
    return folder


def partly_packed(folder: Path) -> Path:
    (folder / "corpus").mkdir()
    (folder / "corpus" / "0.jsonl").write_bytes(jsonl(PASSAGES[:70]))
    (folder / "corpus" / "1.jsonl.gz").write_bytes(gzip.compress(jsonl(PASSAGES[70:])))
    return folder


def cells(folder: Path) -> Path:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["id", "title", "text"])
    writer.writerows([id_, title, text.replace(" ", "\n")] for id_, title, text, _ in PASSAGES)
    (folder / "a.csv").write_text(file.getvalue())
    return folder / "a.csv"


def parquet(folder: Path) -> Path:
    rows = [{"id": id_, "title": title, "text": text} for id_, title, text, _ in PASSAGES]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")  # type: ignore[no-untyped-call]
    return folder / "a.parquet"


PLAIN = [beir, shards, dpr, documents, news, named]
COPIED = [packed, partly_packed, cells, parquet]


@pytest.mark.parametrize("make", [*PLAIN, *COPIED])
def test_passages_are_those_that_reading_all_gives(
    tmp_path: Path, own_cache: Path, make: Callable[[Path], Path]
) -> None:
    (tmp_path / "corpus").mkdir()
    collection, told = open_collection(make(tmp_path / "corpus")), Told()
    whole = {passage.id: passage for passage in collection.passages()}
    assert len(whole) == 150
    find = finder(collection, make.__name__, told, total=150)
    assert told.counts == [("passages by id", 150, 150)]
    for wanted in (["p149"], ["p0"], ["p7", "p0", "p7", "p80", "p1", "p149"], [], ["p150", "p3"], list(whole)):
        assert find(wanted) == {id_: whole[id_] for id_ in wanted if id_ in whole}
    (folder,) = own_cache.glob("passages-*")
    assert (folder / "blocks.values").exists() == (make in COPIED)
    assert [str(folder) in line and "KiB" in line for line in told.lines] == [True] * (make in COPIED)
    again = Told()
    assert finder(collection, make.__name__, again)(["p8"]) == {"p8": whole["p8"]}
    assert (again.counts, again.lines) == ([], [])


def test_a_corpus_of_no_files_is_copied() -> None:
    find = finder(Collection("irds:x", lambda: iter(PASSAGES)), "x", Silent())
    assert find(["p5", "p149", "none"]) == {"p5": PASSAGES[5], "p149": PASSAGES[149]}


@pytest.mark.parametrize("make", [beir, packed])
def test_of_passages_that_share_an_id_the_first_is_found(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    rows = [Passage("a", "", "one"), Passage("b", "", "two"), Passage("a", "", "three")]
    (tmp_path / "corpus.jsonl").write_bytes(jsonl(rows))
    if make is packed:
        (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress((tmp_path / "corpus.jsonl").read_bytes()))
        (tmp_path / "corpus.jsonl").unlink()
    collection = open_collection(tmp_path)
    assert finder(collection, "twice", Silent())(["b", "a"]) == {"b": rows[1], "a": rows[0]}
    assert collection.passages_of(["b", "a"]) == {"b": rows[1], "a": rows[0]}


def test_ids_that_share_a_fingerprint_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "fingerprint", lambda name: int(name[1:]) % 7)
    collection = open_collection(beir(tmp_path))
    wanted = [f"p{row}" for row in (149, 3, 80, 0, 150, 700)]
    assert finder(collection, "shared", Silent())(wanted) == {f"p{row}": PASSAGES[row] for row in (149, 3, 80, 0)}


def test_a_small_corpus_and_one_that_is_asked_once_are_read_without_a_table(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = open_collection(beir(tmp_path))
    assert finder(collection, "once", Silent(), make=False)(["p9"]) == {"p9": PASSAGES[9]}
    monkeypatch.setattr(lookup, "SMALL", (tmp_path / "corpus.jsonl").stat().st_size)
    assert finder(collection, "small", Silent())(["p9"]) == {"p9": PASSAGES[9]}
    assert not own_cache.exists()


def test_what_is_asked_once_uses_a_table_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = open_collection(beir(tmp_path))
    finder(collection, "there", Silent())
    monkeypatch.setattr(Collection, "passages", None)
    assert finder(collection, "there", Silent(), make=False)(["p9"]) == {"p9": PASSAGES[9]}


def test_files_that_change_while_they_are_asked_are_refused(tmp_path: Path) -> None:
    path = beir(tmp_path) / "corpus.jsonl"
    find = finder(open_collection(tmp_path), "changing", Silent())
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"heron", b"egret"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DataError, match=r"corpus\.jsonl: changed since it was opened"):
        find(["p3"])
    path.unlink()
    with pytest.raises(DataError, match=r"corpus\.jsonl: no such file"):
        find(["p3"])


def test_a_listing_cut_short_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    path = beir(tmp_path) / "corpus.jsonl"
    path.write_bytes(path.read_bytes() + b"{no json\n")
    with pytest.raises(DataError, match=r"corpus\.jsonl:151: not JSON"):
        finder(open_collection(tmp_path), "cut", Silent())
    assert list(own_cache.iterdir()) == []


def test_without_room_in_the_cache_all_passages_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lookup, "list_lines", full)
    told = Told()
    find = finder(open_collection(beir(tmp_path)), "full", told)
    assert find(["p3"]) == {"p3": PASSAGES[3]}
    (line,) = told.lines
    assert "No space left on device; without it, all passages are read for each question" in line
