import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seedcli.base.errors import DataError
from seedcli.base.files import LOCK, cache_folder, made_whole, read_json, write_json, write_text, written_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    with written_whole(path) as aside:
        aside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["file"]


def test_an_exception_leaves_the_old_file_and_no_litter(tmp_path):
    write_text(tmp_path / "file", "old")
    with pytest.raises(TypeError), written_whole(tmp_path / "file") as aside:
        aside.write_text(None)  # once the file is open
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_exception_leaves_no_folder(tmp_path):
    with pytest.raises(TypeError), made_whole(tmp_path / "folder") as aside:
        (aside / "half").write_text(None)
    assert names(tmp_path) == []


def test_a_folder_takes_its_place_when_it_is_whole(tmp_path):
    with made_whole(tmp_path / "deep" / "folder") as aside:
        (aside / "inner").mkdir()
        (aside / "inner" / "file").write_text("text")
        assert names(tmp_path / "deep") == [aside.name]
    assert (tmp_path / "deep" / "folder" / "inner" / "file").read_text() == "text"
    assert names(tmp_path / "deep") == ["folder"]


def test_of_two_that_make_a_folder_the_first_stays(tmp_path):
    with made_whole(tmp_path / "folder") as aside:
        (aside / "file").write_text("second")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_text("first")
    assert (tmp_path / "folder" / "file").read_text() == "first"
    assert names(tmp_path) == ["folder"]


SCRIPT = """
from pathlib import Path
from seedcli.base.files import made_whole, written_whole
with {} as aside:
    {}.write_text("half")
    print("half", flush=True)
    input()
"""
WRITE = SCRIPT.format("written_whole(Path('file'))", "aside")
MAKE = SCRIPT.format("made_whole(Path('new'))", "(aside / 'inner')")


@pytest.mark.parametrize("script", [WRITE, MAKE], ids=["file", "folder"])
def test_a_kill_leaves_the_old_file_and_what_is_new_can_be_made_again(tmp_path, script):
    write_text(tmp_path / "file", "old")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old"
    assert not (tmp_path / "new").exists()
    write_text(tmp_path / "file", "new")
    with made_whole(tmp_path / "new") as aside:
        (aside / "file").touch()
    assert (tmp_path / "file").read_text() == "new"
    assert names(tmp_path / "new") == ["file"]


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"b": [1, 2.5, None], "a": "ü\n"}
    write_json(tmp_path / "file", value)
    assert read_json(tmp_path / "file") == value
    assert (tmp_path / "file").read_text(encoding="utf-8").endswith('"ü\\n"\n}\n')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),  # noqa: ARG005
        (lambda path: path.write_text('{\n"a": }'), ":2: not JSON (Expecting value)"),
        (lambda path: path.write_bytes(b"\xff"), "not UTF-8 text"),
    ],
    ids=["missing", "broken", "bytes"],
)
def test_broken_json_is_refused_with_file_and_line(tmp_path, make: Callable[[Path], object], message):
    make(tmp_path / "file")
    with pytest.raises(DataError) as error:
        read_json(tmp_path / "file")
    assert str(error.value) in {f"{tmp_path / 'file'}{message}", f"{tmp_path / 'file'}: {message}"}


def test_the_cache_is_where_the_environment_says_else_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("SEED_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "seedcli"


def test_what_killed_processes_left_is_removed_and_what_others_fill_is_not(tmp_path):
    with made_whole(tmp_path / "made") as other:  # another process, as it were
        orphan = tmp_path / ".made.x.part"
        orphan.mkdir()
        (orphan / LOCK).touch()
        with made_whole(tmp_path / "made") as aside:
            assert not orphan.exists()
            assert other.is_dir()
            (aside / "first").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["first"]
