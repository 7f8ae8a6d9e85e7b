"""The prompt of seed search -i, over a pipe and in a real terminal."""

import io
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from seedcli import console, prompt
from seedcli.base.errors import SeedError
from seedcli.base.progress import Silent
from seedcli.cli import app
from seedcli.configs.groups import Machine
from seedcli.configs.search import SearchConfig
from seedcli.prompt import Prompt, open_history
from seedcli.stages.asking import Asking, open_asking

QUESTION = "what does the otter eat"


def piped(*arguments: Any, lines: Sequence[str] | bytes) -> Any:
    given = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines)
    return CliRunner().invoke(app, ["search", *map(str, arguments)], input=given, env={"COLUMNS": "200"})


@pytest.fixture
def asking(chain) -> Iterator[Asking]:
    with open_asking(SearchConfig([str(chain.words)], machine=Machine(threads=1)), Silent()) as opened:
        yield opened


def test_a_question_a_line_is_answered_and_commands_are_obeyed(chain):
    lines = ["", "  ", QUESTION, ":why 2", ":k 1", "where does the lynx live", ":doc lynx-home", ":help", "quit", "no"]
    answer = piped("-i", "--index", chain.words, "--depth", 2, lines=lines)
    assert (answer.exit_code, answer.stderr) == (0, "")
    told = answer.stdout.splitlines()
    assert told[0] == QUESTION
    assert re.fullmatch(r"  1  \d+\.\d{4}  Otter  otter-diet", told[1])
    assert "»" in told[2]
    assert told[3].startswith("  2  ")
    assert re.fullmatch(rf"     {chain.words}: rank 2, score \d+\.\d{{4}}", told[6])
    asked = told.index("where does the lynx live")
    assert told[asked + 1].startswith("  1  ")
    assert told[asked + 3] == "Lynx  lynx-home"
    assert told[asked + 4].startswith("Look for the lynx in northern forests.")
    assert "\n".join(told[asked + 5 :]) + "\n" == prompt.HELP


def test_in_json_every_line_is_answered_by_one(chain):
    lines = [QUESTION, ":k 1", ":why 1", ":doc otter-diet", ":doc none", "zzz", ":nonsense", "lynx"]
    answer = piped("-i", "--json", "--index", chain.words, "--depth", 3, lines=lines)
    first, why, passage, unknown, none, nonsense, last = map(json.loads, answer.stdout.splitlines())
    assert (first["question"], len(first["hits"])) == (QUESTION, 3)
    hit = first["hits"][0]
    assert hit.keys() == {"rank", "id", "score", "title", "text", "sentence"}
    part = hit["sentence"]
    assert hit["text"][part["begin"] : part["end"]] == part["text"]
    assert (why["question"], why["rank"], why["id"], why["score"]) == (QUESTION, 1, hit["id"], hit["score"])
    assert sum(why["why"][0]["words"].values()) == pytest.approx(hit["score"])
    assert passage["text"] == next(hit["text"] for hit in first["hits"] if hit["id"] == "otter-diet")
    assert unknown == {"line": ":doc none", "error": ":doc none: no passage has this id"}
    assert none == {"question": "zzz", "hits": []}
    assert nonsense["line"] == ":nonsense"
    assert len(last["hits"]) == 1


MISTAKES = {
    ":x": ":x: no such command; there are :k N, :doc ID, :why N, :help and :q",
    ":why": ":why: there is no hit to explain; ask a question first",
    ":k": ":k: expected a number from 1 to 1,000",
    ":k 0": ":k 0: expected a number from 1 to 1,000",
    ":k ten": ":k ten: expected a number from 1 to 1,000",
    ":k 1001": ":k 1001: expected a number from 1 to 1,000",
    ":doc otter-": ":doc otter-: no passage has this id",
    ":doc": ":doc: name a passage by its id",
}


def test_a_mistake_is_one_line_and_the_next_is_answered(chain):
    answer = piped("-i", "--index", chain.words, "--depth", 1, lines=[*MISTAKES, QUESTION])
    assert answer.stderr.splitlines() == [f"error: {told}" for told in MISTAKES.values()]
    assert "otter-diet" in answer.stdout


def test_a_hit_that_was_not_shown_is_not_explained(chain):
    answer = piped("-i", "--index", chain.words, "--depth", 2, lines=[QUESTION, ":why 3", "zzz", ":why 1"])
    assert answer.stderr.splitlines() == [
        "error: :why 3: expected a number from 1 to 2",
        "error: :why: there is no hit to explain; ask a question first",
    ]


def test_bytes_that_are_no_text_are_asked_as_they_can_be_read(chain):
    answer = piped("-i", "--index", chain.words, "--depth", 1, lines=b"\xff\xfe otter\r\nlynx")
    assert answer.exit_code == 0
    assert "�� otter" in answer.stdout
    assert answer.stdout.count("  1  ") == 2


def test_a_first_question_is_asked_before_the_others(chain):
    answer = piped("-i", "--index", chain.words, "--depth", 1, QUESTION, lines=["lynx"])
    questions = [line for line in answer.stdout.splitlines() if line in (QUESTION, "lynx")]
    assert questions == [QUESTION, "lynx"]


def test_when_java_died_the_next_question_begins_it_anew(chain, monkeypatch):
    answers = Asking.answers

    def killing(self: Asking, question: str, depth: int) -> Any:
        if question == "kill":
            child = self.searcher.indexes[0].lucene.started()  # type: ignore[union-attr]
            ask = child.ask
            monkeypatch.setattr(
                child, "ask", lambda *asked: (os.kill(child.process.pid, signal.SIGKILL), ask(*asked))[1]
            )
        return answers(self, question, depth)

    monkeypatch.setattr(Asking, "answers", killing)
    answer = piped("-i", "--index", chain.words, "--depth", 1, lines=[QUESTION, "kill", QUESTION])
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: the Java process of BM25 ended (signal 9)")
    assert answer.stdout.count("otter-diet") == 2


def test_ctrl_c_drops_a_question_not_the_session(asking, monkeypatch):
    lines = iter(["first", "second"])

    def typed(_: str = "") -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    def answers(question: str, depth: int) -> Any:  # noqa: ARG001
        if question == "first":
            raise KeyboardInterrupt
        raise SeedError("of\ntwo lines")

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(prompt, "open_history", lambda _: lambda _: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(asking, "answers", answers)
    told: list[str] = []
    monkeypatch.setattr(console, "fail", told.append)
    Prompt(asking, 3, json=False).converse(None, quiet=True)
    assert told == ["interrupted", "of two lines"]


def test_a_bug_keeps_its_traceback(asking, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a question\n"))
    monkeypatch.setattr(asking, "answers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Prompt(asking, 3, json=False).converse(None, quiet=True)


def test_the_history_is_its_owners_alone_and_each_line_is_kept_at_once(tmp_path):
    path = tmp_path / "state" / "seedcli" / "questions"
    script = f"""
import readline, sys
from pathlib import Path
from seedcli.prompt import open_history
remember = open_history(Path({str(path)!r}))
for line in sys.argv[1:]:
    if line:
        readline.add_history(line)
    remember(line)
print([readline.get_history_item(row + 1) for row in range(readline.get_current_history_length())])
"""
    for lines, expected in [(["one", "", "two"], ["one", "two"]), (["three"], ["one", "two", "three"])]:
        done = subprocess.run([sys.executable, "-c", script, *lines], capture_output=True, text=True, check=True)
        assert done.stdout == f"{expected}\n"
    assert path.read_text() == "one\ntwo\nthree\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_history_that_cant_be_kept_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    open_history(tmp_path / "file" / "seedcli" / "questions")("a line")
    (tmp_path / "questions").mkdir()
    open_history(tmp_path / "questions")("a line")


class Terminal:
    """A command in a terminal of 80 columns."""

    def __init__(self, arguments: Sequence[Any], environment: dict[str, str]):
        self.pid, self.handle = pty.fork()
        if not self.pid:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what starts in the background may be told to ignore Ctrl-C
            os.execvpe(
                sys.executable, [sys.executable, "-m", "seedcli", *map(str, arguments)], os.environ | environment
            )
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def interrupt(self, pattern: str) -> None:
        """Ctrl-C until the pattern is written: Python loses a signal that comes just before readline waits."""
        for _ in range(20):
            self.type("\x03")
            try:
                self.wait_for(pattern, 3)
            except AssertionError:
                continue
            return
        raise AssertionError(f"{pattern} is not in {self.seen!r}")

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """What was written until then."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, f"{pattern} is not in {self.seen!r}"
            if select.select([self.handle], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.handle, 4096).decode(errors="replace")
                except OSError:  # the other side is closed
                    assert re.search(pattern, self.seen), f"{pattern} is not in {self.seen!r}"
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before


@pytest.mark.slow
def test_at_a_terminal_questions_are_edited_and_remembered(chain, tmp_path):
    environment = {"XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "80", "INPUTRC": "/dev/null"}
    terminal = Terminal(["search", "-i", "--index", chain.words, "--depth", "1"], environment)
    assert "passages in" in terminal.wait_for("seed> ")
    terminal.type("what does the lynx eatt\x7f\r")
    assert "lynx-diet" in terminal.wait_for("(?s)lynx-diet.*seed> ")
    terminal.type("never asked")
    terminal.wait_for("never asked")
    terminal.interrupt("seed> ")
    terminal.type("\x1b[A\x1b[D\x1b[D\x1b[D\x1b[D lives\r")  # the line before, edited within
    terminal.wait_for("(?s)  1  .*seed> ")
    terminal.type(":why 1\r")
    assert re.search(r"\d\.\d{4}  lynx", terminal.wait_for("(?s)not in it: .*seed> "))
    terminal.type("\x04")
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 0
    os.close(terminal.handle)
    kept = (tmp_path / "seedcli" / "questions").read_text().splitlines()
    assert kept == ["what does the lynx eat", "what does the lynx lives eat", ":why 1"]
