import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from seedcli.base.checksums import checksum, folder_checksum
from seedcli.base.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def written(path: Path, text: str, time: int = 1) -> Path:
    path.write_text(text)
    os.utime(path, ns=(time, time))
    return path


def test_a_checksum_is_the_sha256_of_the_bytes(tmp_path):
    path = written(tmp_path / "file", "text")
    assert checksum(path) == checksum(path) == sha256("text")
    assert checksum(written(tmp_path / "empty", "")) == sha256("")


def test_an_unchanged_file_is_not_read_again(tmp_path):
    path = written(tmp_path / "file", "text")
    checksum(path)
    written(path, "TEXT")  # as long, and as old: what the memory is told by
    assert checksum(path) == sha256("text")


@pytest.mark.parametrize(("text", "time"), [("TEXT", 2), ("longer", 1)], ids=["time", "size"])
def test_another_size_or_time_of_change_is_read_again(tmp_path, text, time):
    path = written(tmp_path / "file", "text")
    checksum(path)
    assert checksum(written(path, text, time)) == sha256(text)


def test_a_file_moved_over_a_remembered_one_of_another_time_is_read(tmp_path):
    path = written(tmp_path / "file", "text")
    checksum(path)
    written(tmp_path / "new", "TEXT", time=5).replace(path)
    assert checksum(path) == sha256("TEXT")


def unusable(cache: Path) -> None:
    cache.write_text("a file where the folder should be")


def broken(cache: Path) -> None:
    cache.mkdir()
    (cache / "checksums.sqlite").write_text("no database " * 100)


def of_other_columns(cache: Path) -> None:
    cache.mkdir()
    with sqlite3.connect(cache / "checksums.sqlite") as memory:
        memory.execute("CREATE TABLE sums (other TEXT)")


@pytest.mark.parametrize("spoilt", [unusable, broken, of_other_columns])
def test_checksums_work_without_a_memory(tmp_path, cache, spoilt):
    spoilt(cache)
    path = written(tmp_path / "file", "text")
    assert checksum(path) == sha256("text")
    assert checksum(written(path, "TEXT")) == sha256("TEXT")  # nothing was remembered


def test_a_missing_file_is_a_mistake_and_not_remembered(tmp_path):
    with pytest.raises(DataError, match="absent: no such file"):
        checksum(tmp_path / "absent")
    assert checksum(written(tmp_path / "absent", "here now")) == sha256("here now")


def test_a_folder_counts_names_and_contents_but_not_what_is_hidden(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "inner").mkdir(parents=True)
        written(folder / "inner" / "file", "text")
    same = folder_checksum(first)
    assert folder_checksum(second) == same
    (second / ".git").mkdir()
    written(second / ".git" / "file", "hidden")
    written(second / ".lock", "hidden")
    assert folder_checksum(second) == same
    written(second / "inner" / "file", "TEXT", time=2)
    assert folder_checksum(second) != same
    written(first / "inner" / "file", "text", time=3).rename(first / "inner" / "renamed")
    assert folder_checksum(first) != same


def test_the_memory_is_of_one_folder_alone(tmp_path, cache, monkeypatch):
    path = written(tmp_path / "file", "text")
    checksum(path)
    assert any(cache.iterdir())
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "another"))
    assert checksum(written(path, "TEXT")) == sha256("TEXT")


def test_a_linked_folder_counts_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "qrels").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")  # and a loop ends
    (tmp_path / "elsewhere" / "test.tsv").write_text("a")
    before = folder_checksum(tmp_path / "data")
    (tmp_path / "elsewhere" / "test.tsv").write_text("bb")
    assert folder_checksum(tmp_path / "data") != before
