"""What stages tell of memory and disk before they start, and what they refuse."""

import gzip
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from seedcli.base.config import resolve
from seedcli.base.errors import DataError
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.configs import VERBS
from seedcli.data.sources import open_collection
from seedcli.retrieval.encoding import write_vectors
from seedcli.stages import encode, estimates, stage
from seedcli.stages.estimates import announce, mean_tokens, refuse_full_disk, rounded, text_bytes

GIB = 1 << 30


class Heard(Silent):
    """What was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def room(monkeypatch) -> Callable[[int], None]:
    """Makes every disk have so many bytes free."""

    def left(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(GIB, GIB - count, count))

    return left


def at_work(folder: Path, world: int = 1) -> stage.Stage:
    return stage.Stage(folder, {}, Runtime(world=world), Heard())


def heard(verb: str, **flags: Any) -> list[str]:
    """What a stage says."""
    progress = Heard()
    given = {key: str(value) if isinstance(value, Path) else value for key, value in flags.items()}
    stage.perform(verb, resolve(VERBS[verb], {}, given, "a test"), progress)
    return progress.lines


def test_what_is_read_held_and_written_is_told_in_this_order(room, tmp_path):
    room(512 << 20)
    here = at_work(tmp_path / "out")
    announce(here, "60 texts", 3 << 19, {tmp_path / "out": 2048, tmp_path: 1000})
    assert here.progress.lines == [
        "reads   60 texts",
        "holds   about 1.5 MiB",
        f"writes  about 2.0 KiB to {tmp_path / 'out'} (512 MiB free)",
        f"writes  about 1000 bytes to {tmp_path} (512 MiB free)",
    ]


def test_what_a_command_that_was_killed_left_needs_no_more_room(room, tmp_path):
    room(3000)
    here = at_work(tmp_path)
    with pytest.raises(DataError, match="are needed"):
        announce(here, "a text", GIB, {tmp_path: 4000})
    (tmp_path / "checkpoint").write_bytes(b"x" * 1500)
    announce(here, "a text", GIB, {tmp_path: 4000})
    assert here.progress.lines[-1].startswith("writes  about 2.4 KiB to")


def test_more_memory_than_is_free_is_told_and_not_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(estimates, "memory", lambda: (8 * GIB, 4 * GIB))
    here = at_work(tmp_path)
    announce(here, "a text", 4 * GIB, {})
    assert here.progress.lines == ["reads   a text", "holds   about 4.0 GiB"]
    announce(here, "a text", 4 * GIB + 1, {})
    told = "that is more memory than is free now (4.0 GiB): the system may end this command"
    assert here.progress.lines[-1] == told
    here = at_work(tmp_path, world=2)
    announce(here, "a text", 3 * GIB, {})
    assert here.progress.lines == ["reads   a text", "holds   about 3.0 GiB in each of 2 processes", told]


def test_a_disk_with_too_little_room_is_refused_by_what_is_needed_and_what_is_free(room, tmp_path):
    room(3000)
    refuse_full_disk({tmp_path: 3000})
    message = f"{tmp_path}: about 2.9 KiB of this disk are needed, and 2.9 KiB are free; make room, or name"
    with pytest.raises(DataError, match=message):
        refuse_full_disk({tmp_path: 3001})


def test_folders_on_one_disk_share_its_room(room, tmp_path):
    room(3 << 20)
    refuse_full_disk({tmp_path / "a": 1 << 20, tmp_path / "b": 2 << 20})
    with pytest.raises(DataError, match=r"/b: about 4\.0 MiB of this disk are needed, and 3\.0 MiB are free"):
        refuse_full_disk({tmp_path / "a": 2 << 20, tmp_path / "b": 2 << 20})


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_the_one_above(tmp_path):
    expected = shutil.disk_usage(tmp_path)
    assert estimates.free(tmp_path / "not" / "yet") == pytest.approx(expected.free, abs=64 << 20)  # others write, too


def test_text_is_counted_in_files_and_folders_and_packed_text_threefold(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.txt").write_text("ä" * 50)
    (tmp_path / "in" / "b.txt.gz").write_bytes(gzip.compress(b"otter " * 1000))
    (tmp_path / ".hidden").write_text("not counted")
    packed = (tmp_path / "in" / "b.txt.gz").stat().st_size
    assert text_bytes(tmp_path / "a.txt") == 100
    assert text_bytes(tmp_path) == 100 + 3 * packed


def test_tokens_are_counted_over_the_first_texts_alone(wordpiece):
    def texts() -> Iterator[str]:
        yield from ["the", "the it"] * (estimates.SAMPLE // 2)
        raise AssertionError("read on")

    assert mean_tokens(texts(), wordpiece, 16) == (3 + 4) / 2  # with [CLS] and [SEP]
    assert mean_tokens(iter(["the it it it"]), wordpiece, 4) == 4
    assert mean_tokens([], wordpiece, 16) == 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (7.4, "7"),
        (42, "42"),
        (123, "120"),
        (1_951, "2,000"),
        (1_234_567, "1,200,000"),
        (9.96e6, "10,000,000"),
    ],
)
def test_a_count_is_told_to_two_digits(count, text):
    assert rounded(count) == text


def test_encoding_tells_the_texts_their_tokens_and_their_longest(chain, beir, tmp_path):
    """Of a collection as small as this, all texts are counted."""
    tokenizer = AutoTokenizer.from_pretrained(chain.retriever)
    texts = [f"{passage.title} {passage.text}" for passage in open_collection(beir).passages()]
    tokens = sum(map(len, tokenizer(texts, truncation=True, max_length=32)["input_ids"]))
    reads, holds, writes = heard("encode", out=tmp_path / "out", model=chain.retriever, corpus=beir)[:3]
    assert reads == f"reads   60 texts, about {rounded(tokens)} tokens, at most 32 each"
    assert holds.startswith("holds   about ")
    assert f" to {tmp_path / 'out'} (" in writes


@pytest.mark.parametrize("shard_size", [16, 60])
def test_what_shards_take_is_within_a_twentieth_of_what_was_told(chain, beir, tmp_path, monkeypatch, shard_size):
    """A vector of 128 dims takes 512 bytes, an id 8 and its letters (8 to 14 here, 16 are told), a header some 250."""
    told: list[int] = []

    def hear(_: stage.Stage, __: str, ___: int, writes: Mapping[Path, int]) -> None:
        told.extend(writes.values())

    monkeypatch.setattr(encode, "announce", hear)
    heard("encode", out=tmp_path / "out", model=chain.retriever, corpus=beir, shard_size=shard_size)
    taken = sum(path.stat().st_size for path in (tmp_path / "out").glob("vectors-*"))
    assert told == [60 * (512 + 24)]
    assert taken == pytest.approx(told[0], rel=0.05)


def test_shards_that_are_there_need_no_room_again(chain, beir, tmp_path, room, monkeypatch):
    """Encoding goes on where a disk has room for the rest alone."""
    out = tmp_path / "out"
    with monkeypatch.context() as once:
        once.setattr(encode, "write_vectors", fails_after_two)
        with pytest.raises(DataError, match="fewer texts than a moment ago"):
            heard("encode", out=out, model=chain.retriever, corpus=beir, shard_size=16)
    assert len(list(out.glob("vectors-*"))) == 2
    room(30 * 536)
    heard("encode", out=out, model=chain.retriever, corpus=beir, shard_size=16)
    assert len(list(out.glob("vectors-*"))) == 4


def fails_after_two(items: Iterator[Any], model: Any, role: Any, folder: Path, *rest: Any) -> None:
    write_vectors(islice(items, 32), model, role, folder, *rest)


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "encode", "index"])
def test_a_full_disk_is_refused_before_anything_is_written(verb, chain, beir, tiny, room, tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").write_text("q:otter-diet Q0 otter-home 1 1 t\n")
    flags = {
        "pretrain": {"text": [str(beir)], **tiny, "optimize.steps": 2},
        "finetune": {"model": chain.encoder, "data": beir, "negatives.negatives": tmp_path / "run"},
        "encode": {"model": chain.retriever, "corpus": beir},
        "index": {"kind": "bm25", "corpus": beir},
    }[verb]
    room(100)
    with pytest.raises(DataError, match=r"about .* of this disk are needed, and 100 bytes are free; make room"):
        heard(verb, out=tmp_path / "out", **flags)
    assert not (tmp_path / "out").exists()
    kept = {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()}
    assert kept <= {"survey", "checksums.sqlite"}  # what was learned of the inputs
