"""The prompt of seed search -i: questions and commands, a line each, typed or from a pipe."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from seedcli import answers, console
from seedcli.base.errors import ConfigError, SeedError

if TYPE_CHECKING:
    from seedcli.stages.asking import Answer, Asking

PROMPT = "seed> "
DEEPEST = 1_000  # hits that can be asked for at the prompt
KEPT = 1_000  # lines of the history
END = {"quit", "exit", ":q", ":quit", ":exit"}
COMMANDS = ":k N, :doc ID, :why N, :help and :q"
HELP = """\
QUESTION   its first hits, each with the sentence that answers best
:k N       show N hits from now on
:doc ID    a whole passage
:why N     how hit N of the last question was found
:q         end; so do quit, exit and Ctrl-D. Ctrl-C drops a line, or a question
"""


class Prompt:
    """A conversation: how many hits are shown, and what was asked last."""

    def __init__(self, asking: "Asking", depth: int, json: bool):
        self.asking, self.depth, self.json = asking, depth, json
        self.typed = False
        self.question: str | None = None
        self.found: list[Answer] = []
        self.commands: dict[str, Callable[[str], None]] = {
            ":k": self.set_depth,
            ":doc": self.show_passage,
            ":why": self.explain,
            ":help": lambda _: console.print_plain(HELP),
        }

    def converse(self, first: str | None, quiet: bool) -> None:
        """Answer a first question, if there is one, then each line until the last or one of END.

        A mistake is one line, and the next question is asked.
        """
        typed = self.typed = sys.stdin.isatty()
        if typed and not quiet:
            answers.welcome(self.asking)
        for line in lines(first, typed):
            if line in END:
                return
            try:
                self.take(line)
            except SeedError as error:
                self.fail(line, " ".join(str(error).split()))
            except KeyboardInterrupt:
                if not typed:
                    raise
                self.fail(line, "interrupted")

    def take(self, line: str) -> None:
        """Do what a line says. Raises SeedError when that can't be done."""
        name, _, rest = line.partition(" ")
        if not name.startswith(":"):
            self.ask(line)
        elif name in self.commands:
            self.commands[name](rest.strip())
        else:
            raise ConfigError(f"{name}: no such command; there are {COMMANDS}")

    def ask(self, question: str) -> None:
        self.found, self.question = self.asking.answers(question, self.depth), question
        if self.json:
            console.print_json_line({"question": question, "hits": answers.rows(self.found)})
        else:
            if not self.typed:
                answers.asked(question)
            answers.hits(self.found)

    def set_depth(self, count: str) -> None:
        self.depth = number(":k", count, DEEPEST)

    def show_passage(self, id_: str) -> None:
        if not id_:
            raise ConfigError(":doc: name a passage by its id")
        passage = self.asking.passages([id_]).get(id_)
        if passage is None:
            raise ConfigError(f":doc {id_}: no passage has this id")
        if self.json:
            console.print_json_line(passage._asdict())
        else:
            answers.passage(passage)

    def explain(self, rank: str) -> None:
        if self.question is None or not self.found:
            raise ConfigError(":why: there is no hit to explain; ask a question first")
        place = number(":why", rank, len(self.found))
        hit = self.found[place - 1].hit
        reasons = self.asking.why(self.question, hit, place)
        if self.json:
            told = {"question": self.question, "rank": place, "id": hit.id, "score": hit.score}
            console.print_json_line(told | {"why": answers.reason_rows(hit, reasons)})
        else:
            config = self.asking.config
            by_ranks = config.fusion == "rrf" and not config.weight
            answers.reasons(place, hit, reasons, config.fusion_k if by_ranks else None)

    def fail(self, line: str, problem: str) -> None:
        if self.json:
            console.print_json_line({"line": line, "error": problem})
        else:
            console.fail(problem)


def number(command: str, given: str, most: int) -> int:
    """What follows a command. Raises ConfigError unless it is a number from 1 to `most`."""
    if given.isdecimal() and len(given) < 10 and 1 <= int(given) <= most:
        return int(given)
    raise ConfigError(f"{command} {given}".strip() + f": expected a number from 1 to {most:,}")


def lines(first: str | None, typed: bool) -> Iterator[str]:
    """The lines that say something, without the blanks around them; what is no UTF-8 is read as it can be."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if first is not None:
        yield first.strip()
    for line in typed_lines() if typed else sys.stdin:
        if text := line.strip():
            yield text


def typed_lines() -> Iterator[str]:
    """The lines of a terminal until Ctrl-D, edited with readline where Python has it; Ctrl-C drops one."""
    remember = open_history(history_path())
    while True:
        try:
            if sys.stdout.isatty():
                line = input(PROMPT)
            else:  # results go elsewhere
                print(PROMPT, end="", file=sys.stderr, flush=True)
                line = input()
        except EOFError:
            print(file=sys.stderr)
            return
        except KeyboardInterrupt:
            print(file=sys.stderr)
        else:
            remember(line)
            yield line


def history_path() -> Path:
    """Where the lines typed are kept, for their owner alone: in $XDG_STATE_HOME, or ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "seedcli" / "questions"


def open_history(path: Path) -> Callable[[str], None]:
    """Read what was typed before; the function returned keeps a line just typed. Neither is needed to ask."""
    try:
        import readline
    except ImportError:
        return lambda _: None
    readline.set_auto_history(True)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        readline.read_history_file(path)
    readline.set_history_length(KEPT)
    last = ""

    def remember(line: str) -> None:
        nonlocal last
        if line not in ("", last):  # which readline doesn't add, either
            with suppress(OSError):
                readline.append_history_file(1, path)
        last = line

    return remember
