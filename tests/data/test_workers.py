"""Processes that answer in order, fail as one, and end with whoever started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from seedcli.base.errors import DataError, SeedError
from seedcli.data import workers
from seedcli.data.tokenizer import SPECIAL, wordpiece
from seedcli.data.workers import answers, chunked

FRAME = wordpiece({token: row for row, token in enumerate(SPECIAL)}).to_str()
TOKENISE = {"task": "tokenise", "leaks": [], "suffix": [], "room": 8, "code": "H"}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CHUNK", 20)


def lone_letters(names: str) -> str:
    backend = Backend(models.WordLevel({name: row for row, name in enumerate(names)}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(backend.to_str())


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_answers_come_in_the_order_of_the_lines(count: int) -> None:
    rows = np.random.default_rng(0).integers(0, 10, 400)
    lines = ["abcdefghij"[row] * (1 + number % 3) for number, row in enumerate(rows)]
    found = [ids for _, ids in answers(lines, lone_letters("?abcdefghij"), count, **TOKENISE)]
    assert len(found) > 40
    assert np.frombuffer(b"".join(found), np.uint16).tolist() == [
        1 + row if number % 3 == 0 else 0 for number, row in enumerate(rows)
    ]


def test_chunks_hold_all_lines_and_no_more_than_asked_for() -> None:
    lines = ["x" * (number % 30) for number in range(200)]
    chunks = list(chunked(iter(lines)))
    assert [line for chunk in chunks for line in chunk] == lines
    assert max(sum(len(line) + 1 for line in chunk[:-1]) for chunk in chunks) < 20
    assert list(chunked([])) == []


def test_a_single_chunk_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(workers, "Worker")
    assert [words.decode() for words, _ in answers(["a b a"], FRAME, 4, task="count")] == ["a\nb"]
    assert list(answers([], FRAME, 4, task="count")) == []


def test_no_more_processes_than_memory_allows_use_the_cores_as_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def noted(_: object, __: object, count: int, threads: int) -> Iterator[list[bytes]]:
        given.append((count, threads))
        yield []

    monkeypatch.setattr(workers, "spread", noted)
    large = FRAME + " " * ((200 << 20) // workers.EXPANSION)
    for cores, tokenizer in [(2, FRAME), (64, FRAME), (64, large), (2, large * 3)]:
        list(answers(["x" * 30, "y"], tokenizer, cores, task="count"))
    assert given == [(2, 1), (8, 8), (1, 64), (1, 2)]


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_tokenizer_refuses_is_told_once(count: int, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [*["ab a b"] * 50, "a c b", *["a"] * 50]
    tokenizer = lone_letters("ab")  # and no entry for words that it doesn't know
    with pytest.raises(DataError, match="the tokenizer can't take the text in"):
        list(answers(lines, tokenizer, count, **TOKENISE))
    assert capfd.readouterr() == ("", "")


def test_a_process_that_is_killed_is_told() -> None:
    def lines() -> Iterator[str]:
        yield from ["a b c d e f g h i j k l"] * 2
        (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1:]
        os.kill(int(child), signal.SIGKILL)
        yield from ["a b c d e f g h i j k l"] * 50

    with pytest.raises(SeedError, match=r"was killed \(signal 9\): is there too little memory\?"):
        list(answers(lines(), FRAME, 2, task="count"))


def test_a_process_imports_nothing_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the user was run')")
    monkeypatch.chdir(tmp_path)
    lines = ["one line", "and another"] * 4
    assert [*answers(lines, FRAME, 2, **TOKENISE)] == [*answers(lines, FRAME, 1, **TOKENISE)]


def test_no_process_outlives_the_one_that_started_it() -> None:
    code = f"""if True:
        import os
        from itertools import repeat
        from pathlib import Path
        from seedcli.data import workers

        workers.CHUNK = 20
        for row, _ in enumerate(workers.answers(repeat("a b c d e f g h i j"), {FRAME!r}, 2, task="count")):
            if row == 5:
                print(*(child for task in Path("/proc/self/task").iterdir()
                        for child in (task / "children").read_text().split()), flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(child) for child in parent.stdout.readline().split()]
        assert len(children) == 2
        assert all(map(alive, children))
        parent.kill()
    until = time.monotonic() + 10
    while any(map(alive, children)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(alive, children))
