"""The screen: progress bars, results, tables, hits, errors. Work is told on stderr, results go to stdout."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from seedcli.base.counts import amount
from seedcli.base.machine import size
from seedcli.base.progress import Advance, Pace, Source, State

if TYPE_CHECKING:
    from seedcli.base.manifest import Manifest
    from seedcli.evaluation.results_log import Board
    from seedcli.stages.doctor import Check
    from seedcli.stages.forecast import Part
    from seedcli.stages.outlook import Devices, Outlook

FIRST = 5.0  # seconds until the first line of progress where there is no terminal
STEADY = 3.0  # seconds that a rate must be taken over to be told there
EVERY = 20.0  # seconds between the lines after it, at least
RARER = 15  # and at least this part of the time gone by: the first hour has some fifty lines, the next ten
NARROW, WIDE = 8, 30  # cells of a bar
NAME = 32  # cells of a run's name, and of an input's place, that are lined up
INDENT = 5  # cells before a hit's text
SOON = 2.0  # seconds of a task that a brief screen leaves no line about
WOULD = {
    "done": "stay",
    "new": "run",
    "resume": "go on",
    "remake": "make anew",
    "waits": "make anew if changed",
    "blocked": "stop",
}

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Screen:
    """Where work is told: with bars on a terminal, by a line now and then elsewhere, not at all when quiet.

    A brief one leaves no line of what was done soon.
    """

    def __init__(self, quiet: bool = False, brief: bool = False) -> None:
        self.brief = brief
        self.console = Console(stderr=True, quiet=True) if quiet else err
        self.said: set[tuple[Path | None, str]] = set()
        self.titled: Path | None = None
        self.begun: Path | None = None

    def title(self, text: str, folder: Path, note: str = "", style: str = "bold") -> None:
        """What opens a stage, here rather than by begin."""
        self.titled, self.begun = folder, None
        self.line(Text.assemble((f"{text} → {folder}", style), (f"  ({note})" if note else "", "dim")))

    def begin(self, verb: str, folder: Path, state: State, inputs: Sequence[Source]) -> None:
        if self.titled != folder:
            self.title(verb, folder, "goes on" if state == "resumed" else "")
        self.begun = folder
        if state != "done":
            name = max((len(source.name) for source in inputs), default=0)
            place = min(NAME, max((len(source.place) for source in inputs), default=0))
            for source in inputs:
                line = Text(f"  {source.name:<{name}}  {source.place:<{place}}  ")
                self.console.print(line.append(f"({source.origin})", "dim"), soft_wrap=True)

    def say(self, line: str) -> None:
        """A line, once in each stage; of what stages find before they begin, once in all."""
        if (self.begun, line) not in self.said:
            self.said.add((self.begun, line))
            self.line(Text(printable(line)), 2 if self.titled else 0)

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:
        pace = Pace(total, done)
        if self.console.is_interactive and self.console.file.isatty():
            with Live(Bar(title, unit, pace), console=self.console, transient=True, refresh_per_second=8):
                yield pace.advance
        else:
            yield Lines(title, unit, pace, self.console).advance
        made, elapsed = pace.count - pace.start, pace.elapsed
        if self.brief and elapsed < SOON:
            return
        more = f" more ({pace.count:,} in all)" if pace.start else ""
        rate = f", {speed(made / elapsed)} a second" if made and elapsed >= 1 else ""
        self.line(Text(f"{title}: {amount(made, unit)}{more} in {duration(elapsed)}{rate}"), 2)

    def result(self, manifest: "Manifest", folder: Path, ran: bool) -> None:
        """Where a stage's result lies, and its figures."""
        self.begun = None
        metrics = {name: value for name, value in manifest.metrics.items() if not isinstance(value, dict)}
        figures = ", ".join(f"{name.replace('_', ' ')} {figure(value)}" for name, value in metrics.items())
        state = f"done in {duration(manifest.seconds)}" if ran else "done before (same options, same inputs)"
        self.line(Text(f"{manifest.verb} {state}: {folder}" + (f" ({figures})" if figures else ""), "green"))

    def ended(self, what: str, seconds: float) -> None:
        self.line(Text(f"{what}: {duration(seconds)}", "bold"))

    def next(self, steps: Sequence[tuple[str, str]]) -> None:
        """What can be typed or read now, whole on its line whatever the width: to be pasted."""
        for word, line in steps:
            self.console.print(Text(f"{word:>4}: {line}", "dim"), soft_wrap=True)

    def line(self, text: Text, indent: int = 0) -> None:
        line(self.console, text, indent)


def line(console: Console, text: Text, indent: int = 0) -> None:
    """Wrapped between words on a terminal, whole elsewhere."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent), expand=False))
    else:
        console.print(Text(" " * indent) + text, soft_wrap=True)


class Lines:
    """A task without a terminal: soon how long it will take, then a line now and then, rarer as it grows long."""

    def __init__(self, title: str, unit: str, pace: Pace, console: Console):
        self.title, self.unit, self.pace, self.console = title, unit, pace, console
        self.due = FIRST

    def advance(self, more: int, /, *notes: str) -> None:
        pace = self.pace
        pace.advance(more, *notes)
        elapsed = pace.elapsed
        if elapsed >= self.due and pace.rate and pace.moving >= STEADY and pace.count != pace.total:
            told = self.estimate() if self.due == FIRST else self.state()
            words = ", ".join([told, f"{speed(pace.rate)} a second", *pace.notes])
            self.console.print(Text(f"  {self.title}: {words}"), soft_wrap=True)
            self.due = elapsed + max(EVERY, elapsed / RARER)

    def estimate(self) -> str:
        pace = self.pace
        if pace.total is None:
            return self.state()
        rest = pace.total - pace.start
        return f"about {roughly(rest / pace.rate)} for {rest:,}{' more' if pace.start else ''} {self.unit}"

    def state(self) -> str:
        pace = self.pace
        of = f" of {pace.total:,}" if pace.total is not None else ""
        left = f", {roughly(pace.left)} left" if pace.left is not None else ""
        return f"{pace.count:,}{of} {self.unit}{left}"


class Bar:
    """A task on a terminal, which rich draws anew several times a second."""

    def __init__(self, title: str, unit: str, pace: Pace):
        self.title, self.unit, self.pace = title, unit, pace

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield bar(self.title, self.unit, self.pace, options.max_width, options.ascii_only)


def bar(title: str, unit: str, pace: Pace, width: int, ascii_only: bool = False) -> Text:
    """A task as one line of at most `width` cells, with its notes as far as there is room.

    Where exact numbers leave too little for the bar and the first note, round ones stand.
    """
    known, total = pace.total is not None, pace.total or 0
    rate = f"  {speed(pace.rate)}/s" if pace.rate else ""
    eta = f"  eta {'-:--' if pace.left is None else clock(pace.left)}" if known else ""
    notes = [f"  {note}" for note in pace.notes]
    for first, (cells, count) in product([*notes[:1], ""], [(32, exact), (16, exact), (16, rounded)]):
        head = f"  {clipped(title, cells)}  "
        of = f"/{count(total)}" if known else ""
        tail = f"  {count(pace.count)}{of} {unit}{rate}  {clock(pace.elapsed)}{eta}"
        room = width - len(head) - len(tail)
        if room >= NARROW + len(first):
            break
    while notes and room < NARROW + len("".join(notes)):
        notes.pop()
    room = min(WIDE, room - len("".join(notes)))
    if known:
        drawn = filled(pace.count / max(1, total), room, ascii_only) if room >= NARROW else Text()
    else:
        turning = "|/-\\" if ascii_only else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        drawn = Text(turning[int(8 * pace.elapsed) % len(turning)], "cyan")
    line = Text.assemble(head, drawn, tail, *notes)
    line.truncate(width)
    return line


def filled(share: float, cells: int, ascii_only: bool) -> Text:
    """A share of so many cells; what is done and what is left can be told apart without colour."""
    full, half, rest = ("#", "-", "-") if ascii_only else ("━", "╸", "─")
    halves = min(2 * cells, int(2 * cells * share))
    done = full * (halves // 2) + half * (halves % 2)
    return Text.assemble((done, "cyan"), (rest * (cells - len(done)), "dim"))


def fail(message: str) -> None:
    """A user's mistake, in at most six lines."""
    lines = list(map(printable, message.splitlines()))
    err.print(Text("error: " + "\n".join(lines[:5])), style="red", soft_wrap=not err.is_terminal)


def report(folder: Path) -> None:
    """The table in a folder of seed evaluate, its legend, and its examples."""
    summary = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    out.print()
    out.print(Text(str(folder), "bold"), soft_wrap=True)
    for table in tables(summary, out.width):
        out.print(table)
        out.print()
    if summary.get("tests"):
        out.print(differences(summary["tests"], out.width))
        out.print()
    out.print(Text(printable(" ".join(summary["legend"]))))
    if (folder / "examples.json").is_file():
        examples(json.loads((folder / "examples.json").read_text(encoding="utf-8")))


def leaderboard(found: Sequence["Board"], between: str | None) -> None:
    """A table for each set of judgements, and what its lines differ in."""
    from seedcli.evaluation import results_log

    for board in found:
        out.print()
        out.print(Text(printable(results_log.heading(board)), "bold"))
        table = Table(header_style="bold", box=None, pad_edge=False)
        for number, name in enumerate(["", "run", "date", *board.measures]):
            table.add_column(Text(name), justify="left" if number in (1, 2) else "right", overflow="fold")
        for row in results_log.rows(board):
            table.add_row(*(Text(printable(cell)) for cell in row))
        out.print(table)
        out.print()
        for line in results_log.apart(board, between):
            print_line(Text(printable(line)))


def inspection(folder: Path) -> None:
    """The table in a folder of seed model inspect, a column a model, as many beside each other as fit; its legend."""
    from seedcli.evaluation import inspection as found

    made = found.read_inspection(folder)
    rows = found.rows(made)
    first = max(len(row.measure) for row in rows)
    columns = {name: [row.cells[place] for row in rows] for place, name in enumerate(made.models)}
    out.print()
    out.print(Text(str(folder), "bold"), soft_wrap=True)
    widths = {name: max(min(len(name), NAME), *map(len, cells)) for name, cells in columns.items()}
    for names in beside(widths, first, out.width):
        table = Table(header_style="bold", box=None, pad_edge=False)
        table.add_column("", no_wrap=True)
        for name in names:
            table.add_column(Text(name), justify="right", overflow="fold", max_width=widths[name])
        for place, row in enumerate(rows):
            cells = [columns[name][place] for name in names]
            if any(cell != found.NONE for cell in cells):
                table.add_row(row.measure, *map(Text, cells))
        out.print(table)
        out.print()
    for line in found.legend(made):
        out.print(Text(line))


def indexes(metrics: Mapping[str, Any], folder: Path) -> None:
    """What was measured of an index at each setting, or of several kinds side by side; nothing where nothing was."""
    if "kinds" in metrics:
        head = ["kind", "recall@10", "recall@100", "ms", "ms, 64", "disk", "memory"]
        rows = [[f"{name}\n  {row['setting']}".rstrip(), *index_cells(row)] for name, row in metrics["kinds"].items()]
        told = "ms: of a query alone, and of 64 together\n"
        told += f"read: {folder / 'compare.json'}, and the plot {folder / 'compare.png'} (.svg)"
    elif "measured" in metrics:
        measured, knob = metrics["measured"], "probes" if "probes" in metrics else "ef_search"
        head = [knob if knob in metrics else "", "recall@10", "recall@100", "ms, 1 query", "ms, 64"]
        rows = [
            [f"{'→ ' * (point['setting'] == metrics[knob])}{point['setting']:,}" if point["setting"] else "",
             *share_cells(point), milliseconds(point["single"]), milliseconds(point["batch"])]
            for point in measured["points"]
        ]  # fmt: skip
        places = [("disk", "on disk"), ("memory", "in memory")]
        room = ", ".join(f"{size(measured[key])} {where}" for key, where in places if key in measured)
        parts = [f"{measured['queries']:,} queries", room, "± spans 95 %", "→ where searches begin" * (knob in metrics)]
        told = "; ".join(filter(None, parts))
    else:
        return
    table = Table(header_style="bold", box=None, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place == 0 and name == "kind" else "right", no_wrap=place > 1)
    for row in rows:
        table.add_row(*row)
    out.print()
    out.print(table)
    out.print(Text(told), soft_wrap=True)


def index_cells(row: Mapping[str, Any]) -> list[str]:
    """The row of a kind in a comparison, without its name and setting."""
    shares = [f"{row['recall@10']:.3f}", f"{row['recall@100']:.3f}"]
    times = [milliseconds(row["milliseconds"]), milliseconds(row["milliseconds_64"])]
    return [*shares, *times, size(row["disk"]), size(row["memory"])]


def share_cells(point: Mapping[str, Any]) -> list[str]:
    return [f"{mean:.3f} ±{error:.3f}" for mean, error in (point["recall_10"], point["recall_100"])]


def milliseconds(value: float) -> str:
    return f"{value:.2f}" if value < 9.95 else f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def tables(summary: Mapping[str, Any], width: int) -> Iterator[Table]:
    """The means of all runs, with intervals and p-values where there are some; as many measures a table as fit."""
    runs = summary["runs"]
    labels = [run.get("label", name) for name, run in runs.items()]
    columns = {m: [cell(run, m) for run in runs.values()] for m in summary["measures"]}
    widths = {m: max(len(m) + 1, *(len(line) for lines in column for line in lines)) for m, column in columns.items()}
    room = width - sum(cells + 2 for cells in widths.values())
    name = min(max(NAME, room), max(map(len, [*labels, "run"])))
    for chosen in beside(widths, name, width):
        table = Table(header_style="bold", box=None, pad_edge=False)
        table.add_column("run", overflow="fold", max_width=name)
        for measure in chosen:
            table.add_column(f"{measure} ", justify="right", no_wrap=True, min_width=widths[measure])
        for row in range(len(runs)):
            cells = [columns[measure][row] for measure in chosen]
            table.add_row(
                Text(labels[row]), *(Text.assemble(c[0], *(("\n" + line, "dim") for line in c[1:])) for c in cells)
            )
        yield table


def differences(tests: Sequence[Mapping[str, Any]], width: int) -> Table:
    """The differences that were tested; on a narrow screen the first columns."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    head = ["difference", "measure", "mean", "p", "corrected", "d_z", "won/tied/lost", "detectable"]
    shown = len(head) if width >= 110 else len(head) - 2
    for place, name in enumerate(head[:shown]):
        table.add_column(name, justify="left" if place < 2 else "right", overflow="fold", no_wrap=place > 0)
    for one in tests:
        counts = "/".join(f"{one[word]:,}" for word in ("wins", "ties", "losses"))
        cells = [f"{one['system']} − {one['against']}", one["measure"], f"{one['difference']:+.4f}", chance(one["p"]),
                 chance(one["p_corrected"]), numeral(one["effect"], "+.3f"), counts,
                 numeral(one["detectable"], ".4f")]  # fmt: skip
        table.add_row(*map(Text, cells[:shown]))
    return table


def chance(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"


def numeral(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def beside(widths: Mapping[str, int], first: int, width: int) -> Iterator[list[str]]:
    """Columns in groups that fit into `width` cells beside a first one, two cells between; no group is empty."""
    group: list[str] = []
    for name, cells in widths.items():
        if group and first + sum(widths[other] + 2 for other in group) + cells + 2 > width:
            yield group
            group = []
        group.append(name)
    yield group


def cell(run: Mapping[str, Any], measure: str) -> list[str]:
    """The lines about a run in a measure."""
    p, interval = run.get("corrected", {}).get(measure), run.get("intervals", {}).get(measure)
    mark, deviation = run.get("marks", {}).get(measure, ""), run.get("deviations", {}).get(measure)
    mean = f"{run['means'][measure]:.4f}{mark or ' '}"
    spread = [f"±{deviation:.4f} "] if deviation is not None else []
    between = [f"[{interval[0]:.3f}, {interval[1]:.3f}]"] if interval else []
    return [mean, *spread, *between, *([f"p {chance(p)} "] if p is not None else [])]


def examples(found: Sequence[Mapping[str, Any]]) -> None:
    for example in found:
        out.print()
        out.print(Text.assemble((printable(example["query"]), "bold"), (f"   ({example['run']})", "dim")))
        for rank, hit in enumerate(example["hits"], 1):
            mark = "✓" if hit["id"] in example["relevant"] else " "
            named([f"{mark} {rank}"], Text(printable(hit["id"]), "cyan"))
            print_line(Text(clipped(flat(hit["text"]), 150)), INDENT)


def named(marks: Sequence[str], name: Text) -> None:
    """A name of any length beside its marks."""
    if not out.is_terminal:
        print_line(Text("  ".join([*marks, name.plain])))
        return
    head = Table.grid(padding=(0, 2, 0, 0))
    for _ in marks:
        head.add_column(no_wrap=True)
    head.add_column(overflow="fold")
    head.add_row(*marks, name)
    out.print(head)


def print_line(text: Text, indent: int = 0) -> None:
    """Part of a result, wrapped as `line` does."""
    line(out, text, indent)


def print_plain(text: str) -> None:
    """Text for other programs to read."""
    sys.stdout.write(text)


def print_json(value: Any) -> None:
    """One document for other programs to read; what JSON has no number for is null."""
    print_plain(json.dumps(finite(value), indent=2) + "\n")


def print_json_line(value: Any) -> None:
    """One of several documents, a line each, at once."""
    print_plain(json.dumps(finite(value)) + "\n")
    sys.stdout.flush()


def finite(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def verdicts(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """The plan of a recipe: stage, verb, what is to be done, why; the reasons stand below where all can't be beside."""
    told = [("stage", "verb", "would", "why"), *((name, verb, WOULD[state], why) for name, verb, state, why in rows)]
    widths = [max(len(row[column]) for row in told) for column in range(4)]
    beside = not out.is_terminal or sum(widths) + 6 <= out.width
    for row in told:
        style = "bold" if row is told[0] else ""
        start = "  ".join(f"{cell:<{width}}" for cell, width in zip(row[:3], widths, strict=False))
        out.print(Text(f"{start}  {row[3]}" if beside else start.rstrip(), style), soft_wrap=True)
        if not beside and not style:
            out.print(Padding(Text(row[3], "dim"), (0, 0, 0, 4), expand=False))


def unset(lines: Sequence[str]) -> None:
    """What is still to be set before a recipe can run."""
    for line in lines:
        out.print(Text(line, "yellow"), soft_wrap=True)


def outlooks(found: Sequence["Outlook"], assumed: "Devices") -> None:
    """What the stages of a recipe would take, a line for each part, and the sum; what can't be told stands below."""
    parts = [part for outlook in found for part in outlook.parts]
    rows = [("estimate", "what", "tokens", "operations", "disk", "hours ")]
    for outlook in found:
        for part in outlook.parts:
            named = outlook.stage if part is outlook.parts[0] else ""
            rows.append((named, *outlook_cells(part, hours(assumed.hours(part)))))
    tokens, operations, disk = (sum(getattr(part, name) for part in parts) for name in ("tokens", "operations", "disk"))
    spent = hours(sum(assumed.hours(part) for part in parts if not part.beside))
    rows.append(("total", "", f"{estimated(tokens)} in all ", power(operations), size(disk), f"{spent} "))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    out.print()
    for row in rows:
        cells = [
            f"{row[0]:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        out.print(Text("  ".join(cells).rstrip(), "bold" if row in (rows[0], rows[-1]) else ""), soft_wrap=True)
    legend = [
        f"An estimate, for {assumed} (--assume).",
        "It counts matrix products alone: reading, tokenising, BM25 and evaluation take time too.",
        "Disk is what stays; while a model trains, its checkpoints take more.",
        "In brackets: at most so many, beside the training, on as many devices again; not in the total.",
    ]
    out.print()
    out.print(Text(" ".join(legend if any(part.beside for part in parts) else legend[:-1])))
    for reason in dict.fromkeys(outlook.unknown for outlook in found if outlook.unknown):
        stages = ", ".join(outlook.stage for outlook in found if outlook.unknown == reason)
        out.print(Text(f"no estimate of {stages}: {printable(reason)}", "yellow"), soft_wrap=True)


def outlook_cells(part: "Part", spent: str) -> tuple[str, str, str, str, str]:
    """A part of a stage: what, tokens, operations, disk and the hours that it takes."""
    way = "trained" if part.trained else "encoded"
    return (
        amount(part.number, part.unit),
        f"{estimated(part.tokens)} {way}" if part.tokens else "",
        power(part.operations),
        size(part.disk) if part.disk else "",
        f"({spent})" if part.beside else f"{spent} ",
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def roughly(seconds: float) -> str:
    """Seconds of which no more is known than that."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def speed(rate: float) -> str:
    """Two digits of a rate, or all before its point."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def exact(count: int) -> str:
    return f"{count:,}"


def rounded(count: int) -> str:
    return f"{count / 1e6:,.2f}M" if count >= 999_950 else f"{count / 1e3:.1f}k" if count >= 10_000 else f"{count:,}"


def estimated(count: float) -> str:
    """A count of which two digits are known: 15 billion."""
    scales = [(1e12, " trillion"), (1e9, " billion"), (1e6, " million"), (1.0, "")]
    scale, name = next((scale for scale in scales if count >= 0.995 * scale[0]), scales[-1])
    value = count / scale
    return f"{value:.1f}{name}" if name and value < 9.95 else f"{float(f'{value:.2g}'):,.0f}{name}"


def power(count: float) -> str:
    """A count too large for words: 5.3e18; nothing for none."""
    return f"{count:.1e}".replace("e+", "e") if count else ""


def hours(count: float) -> str:
    """Hours of which two digits are known; nothing for none."""
    if not count:
        return ""
    whole = f"{float(f'{count:.2g}'):,.0f}"
    return "<0.01" if count < 0.01 else f"{count:.2f}" if count < 0.995 else f"{count:.1f}" if count < 9.95 else whole


def clipped(text: str, cells: int) -> str:
    return text if len(text) <= cells else text[: cells - 1] + "…"


def figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """Text without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def flat(text: str) -> str:
    """A text on one line, printable."""
    return " ".join(printable(text).split())


def checks(found: Iterable["Check"]) -> list["Check"]:
    """What is found of this machine, each check as soon as it is known; a command stays whole on its line."""
    styles, known = {"ok": "green", "note": "yellow", "broken": "bold red"}, []
    for check in found:
        known.append(check)
        head = f"{check.state:<7} {check.topic:<12} "
        room = out.width - len(head) if out.is_terminal else sys.maxsize
        lines = wrap(printable(check.finding), max(room, 20), break_long_words=False, break_on_hyphens=False)
        text = Text(head + ("\n" + " " * len(head)).join(lines))
        text.stylize(styles[check.state], 0, len(check.state))
        out.print(text, soft_wrap=True)
        if check.mend:
            out.print(Text(f"    {check.mend}", "cyan"), soft_wrap=True)
    broken, noted = (sum(check.state == state for check in known) for state in ("broken", "note"))
    err.print(Text(f"{broken} broken, {noted} to note", "bold"))
    return known
