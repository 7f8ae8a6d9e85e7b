"""The screen: progress bars, results, tables, hits, errors. Work is told on stderr, results go to stdout."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from seedcli.base.progress import Advance

if TYPE_CHECKING:
    from seedcli.base.manifest import Manifest
    from seedcli.stages.search import Hit

EVERY = 20.0  # seconds between lines of progress where there is no terminal
SNIPPET = 240  # characters of a hit's text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Screen:
    """Progress as bars on a terminal, and as a line now and then elsewhere."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def say(self, line: str) -> None:
        """A line, once."""
        if line not in self.said:
            self.said.add(line)
            err.print(Text(f"  {line}"), soft_wrap=not err.is_terminal)

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:
        began = time.monotonic()
        bar = _bar(unit) if err.is_terminal else None
        if bar is None:
            told = _Lines(title, total, unit, done)
            yield told.advance
            count = told.count
        else:
            with bar:
                task = bar.add_task(title, total=total, completed=done)
                yield lambda more: bar.advance(task, more)
            count = int(bar.tasks[0].completed)
        self.say(f"{title}: {count:,} {unit} in {duration(time.monotonic() - began)}")


class _Lines:
    """Progress without a terminal."""

    def __init__(self, title: str, total: int | None, unit: str, done: int):
        self.title, self.total, self.unit, self.count, self.start = title, total, unit, done, done
        self.began = self.last = time.monotonic()

    def advance(self, more: int) -> None:
        self.count += more
        now = time.monotonic()
        if now - self.last >= EVERY:
            self.last = now
            rate = (self.count - self.start) / (now - self.began)
            of = f" of {self.total:,}" if self.total else ""
            left = f", {duration((self.total - self.count) / rate)} left" if self.total and rate else ""
            err.print(f"  {self.title}: {self.count:,}{of} {self.unit}, {rate:,.1f} a second{left}", soft_wrap=True)


class _Rate(ProgressColumn):
    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        of = f"/{task.total:,.0f}" if task.total is not None else ""
        speed = (
            f" {task.speed:,.0f}/s" if task.speed and task.speed >= 10 else f" {task.speed:.1f}/s" if task.speed else ""
        )
        return Text(f"{task.completed:,.0f}{of} {self.unit}{speed}")


def _bar(unit: str) -> Progress:
    columns = (
        TextColumn("  {task.description:<10}"), SpinnerColumn(), BarColumn(bar_width=24), _Rate(unit),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=err, transient=True)


def title(text: str) -> None:
    err.print(Text(text, style="bold"), soft_wrap=True)


def fail(message: str) -> None:
    """A user's mistake, in at most six lines."""
    lines = message.splitlines()
    err.print(Text("error: " + "\n".join(lines[:5])), style="red", soft_wrap=True)


def result(manifest: "Manifest", folder: Path, ran: bool) -> None:
    """Where a stage's result lies, and its figures."""
    figures = ", ".join(
        f"{_figure(value)} {name}" for name, value in manifest.metrics.items() if not isinstance(value, dict)
    )
    state = f"done in {duration(manifest.seconds)}" if ran else "done before (same options, same inputs)"
    line = f"{manifest.verb} {state}: {folder}" + (f" ({figures})" if figures else "")
    err.print(Text(line, style="green"), soft_wrap=True)


def report(folder: Path) -> None:
    """The table in a folder of seed evaluate, its legend, and its examples."""
    summary = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    level = summary["significance"]["level"] if summary["significance"] else 0.0
    table = Table(title=Text(str(folder)), title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for measure in summary["measures"]:
        table.add_column(measure, justify="right")
    for name, run in summary["runs"].items():
        p_values = run.get("p_values", {})
        marks = [f"{run['means'][m]:.4f}{'†' if p_values.get(m, 1) < level else ' '}" for m in summary["measures"]]
        table.add_row(Text(name), *marks)
    out.print()
    out.print(table)
    legend = (folder / "report.md").read_text(encoding="utf-8").split("\n\n", 1)[1]
    out.print(Text(" ".join(legend.split())))
    if (folder / "examples.json").is_file():
        examples(json.loads((folder / "examples.json").read_text(encoding="utf-8")))


def examples(found: Sequence[Mapping[str, Any]]) -> None:
    for example in found:
        out.print()
        out.print(Text.assemble((_printable(example["query"]), "bold"), (f"   ({example['run']})", "dim")))
        for rank, hit in enumerate(example["hits"], 1):
            mark = "✓" if hit["id"] in example["relevant"] else " "
            out.print(Text.assemble(f"{mark} {rank}  ", (_printable(hit["id"]), "cyan")), soft_wrap=True)
            out.print(Padding(Text(_snippet(hit["text"], 150)), (0, 0, 0, 5)))


def hits(found: Sequence["Hit"]) -> None:
    """A readable list."""
    if not found:
        out.print("no hits")
    for rank, (passage, score) in enumerate(found, 1):
        name = Text(_printable(passage.title or passage.id), style="bold")
        out.print(
            Text(f"{rank:>3}  {score:.4f}  ")
            + name
            + Text(f"  {_printable(passage.id)}" if passage.title else "", style="dim")
        )
        out.print(Padding(Text(_snippet(passage.text, SNIPPET)), (0, 0, 0, 5)))


def print_plain(text: str) -> None:
    """Text for other programs to read."""
    sys.stdout.write(text)


def verdicts(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """The plan of a recipe: stage, verb, what is to be done, why."""
    words = {
        "done": "done",
        "new": "run",
        "resume": "go on",
        "remake": "make anew",
        "waits": "make anew if changed",
        "blocked": "stop",
    }
    table = Table(header_style="bold", box=None, pad_edge=False)
    for heading in ("stage", "verb", "would", "why"):
        table.add_column(heading, overflow="fold")
    for name, verb, state, why in rows:
        table.add_row(name, verb, "stay" if state == "done" else words[state], Text(why))
    out.print(table)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _printable(text: str) -> str:
    """Text without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def _snippet(text: str, length: int) -> str:
    words = " ".join(_printable(text).split())
    return words if len(words) <= length else words[: length - 1] + "…"
