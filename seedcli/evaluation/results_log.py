"""A log of results: a line of JSON for each run of each report, and the lines on the same judgements side by side."""

import fcntl
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seedcli.base.counts import amount
from seedcli.base.errors import ConfigError, DataError, refusal
from seedcli.evaluation.markdown import literal, table
from seedcli.evaluation.steps import differences

FEW = 6  # differences that are told of each line


@dataclass(frozen=True)
class Line:
    """What a run scored in a report, and all that it was made with."""

    date: str  # when the report was made, in UTC
    name: str
    qrels: str
    split: str
    judgements: str  # the identity of the qrels
    queries: int
    means: dict[str, float | None]
    intervals: dict[str, tuple[float | None, float | None]]
    run: str  # its identity
    report: str  # the report's identity
    config: dict[str, Any]  # all options of all steps that led to the run
    command: str


class Board(NamedTuple):
    """The lines on the same judgements, best first in the first of the measures."""

    qrels: str
    split: str
    queries: int
    measures: list[str]
    lines: list[Line]


def append(path: Path, lines: Sequence[Line]) -> int:
    """Add whole lines to a log, but for those that it holds already; how many were added.

    Raises DataError when the file holds anything else, or can't be written: then nothing is added.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            held = {(line.report, line.name) for line in read_log(path)}
            new = [line for line in lines if (line.report, line.name) not in held]
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            begin = b"\n" if file.read(1) not in {b"", b"\n"} else b""
            text = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in new)
            try:
                file.write(begin * bool(new) + text.encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise
    except OSError as error:
        reason = refusal(error) or os.strerror(error.errno or 0)
        raise DataError(f"{path}: {reason.lower()}; nothing was added to the log") from None
    return len(new)


def read_log(path: Path) -> list[Line]:
    """Raises DataError, with file and line, for what isn't a line of such a log."""
    import pydantic

    kind = pydantic.TypeAdapter(Line)
    try:
        texts = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; seed evaluate --log makes one") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder; expected a file of seed evaluate --log") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
    lines = []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            lines.append(kind.validate_json(text))
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = f"{where}: {first['msg']}" if where else "not JSON" if "JSON" in first["msg"] else first["msg"]
            raise DataError(f"{path}:{number}: not a line of seed evaluate --log ({what}); mend or remove it") from None
    return lines


def boards(lines: Sequence[Line], wanted: Sequence[str]) -> list[Board]:
    """A board for each set of judgements, in the order of the log; `wanted` measures first, then those the lines have.

    Lines that lack the first measure come last.
    """
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.judgements, line.split), []).append(line)
    return [board(group, wanted) for group in groups.values()]


def board(lines: Sequence[Line], wanted: Sequence[str]) -> Board:
    there = list(dict.fromkeys(measure for line in lines for measure in line.means))
    measures = [measure for measure in wanted if measure in there] or there
    measures += [measure for measure in there if measure not in measures]

    def place(line: Line) -> float:
        mean = line.means.get(measures[0])
        return float("inf") if mean is None else -mean

    newest = lines[-1]
    return Board(newest.qrels, newest.split, newest.queries, measures, sorted(lines, key=place))


def rows(board: Board) -> list[list[str]]:
    """Number, name, date, and the means."""
    means = ([line.means.get(measure) for measure in board.measures] for line in board.lines)
    return [
        [str(number), line.name, line.date[:10], *("–" if mean is None else f"{mean:.4f}" for mean in own)]
        for number, (line, own) in enumerate(zip(board.lines, means, strict=True), 1)
    ]


def heading(board: Board) -> str:
    return (
        f"{board.qrels}, split {board.split}: {amount(board.queries, 'judged queries')}, best {board.measures[0]} first"
    )


def apart(board: Board, between: str | None) -> list[str]:
    """What lines differ in: each from the first, a few options of each; or two of them, all options.

    Raises ConfigError for numbers that aren't of two lines.
    """
    if between is None:
        numbers = range(2, 1 + len(board.lines))
        return [f"{number} is not as 1: {told(board.lines[0], board.lines[number - 1], FEW)}" for number in numbers]
    found, count = re.fullmatch(r"(\d+),(\d+)", between.replace(" ", "")), len(board.lines)
    if not found or not all(1 <= int(number) <= count for number in found.groups()):
        raise ConfigError(f"--between {between}: expected the numbers of two lines, of 1 to {count}, such as 1,2")
    one, other = map(int, found.groups())
    return [f"{other} is not as {one}: {told(board.lines[one - 1], board.lines[other - 1], None)}"]


def told(one: Line, other: Line, most: int | None) -> str:
    """In words; a stage that one of both lacks as a whole, by its name."""
    different = differences(one.config, other.config)
    words = []
    stages = [{key.partition(".")[0] for key in line.config} for line in (one, other)]
    for stage in dict.fromkeys(key.partition(".")[0] for key in different):
        if stage not in stages[0] or stage not in stages[1]:
            words.append(f"{'no' if stage not in stages[1] else 'has'} {stage}")
        else:
            own = {key: pair for key, pair in different.items() if key.partition(".")[0] == stage}
            words += [f"{key} {said(before)} → {said(after)}" for key, (before, after) in own.items()]
    if not words:
        return "the same options and inputs" if one.run == other.run else "another run, of the same options and inputs"
    left = len(words) - most if most else 0
    return "; ".join(words[:most]) + (f"; and {left} more" if left > 0 else "")


def said(value: Any) -> str:
    return "none" if value is None else str(value)


def markdown(found: Sequence[Board], between: str | None) -> str:
    parts = []
    for each in found:
        names, rules = ["", "run", "date", *each.measures], ["--:", ":--", ":--", *["--:"] * len(each.measures)]
        lines = table([literal(name) for name in names], rules, [[*map(literal, row)] for row in rows(each)])
        notes = [f"- {literal(line)}" for line in apart(each, between)]
        parts.append("\n".join([f"## {literal(heading(each))}", "", *lines, "", *notes]).rstrip() + "\n")
    return "\n".join(parts)


def plain(found: Sequence[Board], between: str | None) -> list[dict[str, Any]]:
    """The same for scripts."""
    return [
        {**each._asdict(), "lines": [asdict(line) for line in each.lines], "differences": apart(each, between)}
        for each in found
    ]
