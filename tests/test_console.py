"""The screen: bars that fit, estimates that come early, plain text without a terminal, tables that stay whole."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from seedcli import console
from seedcli.base import progress
from seedcli.base.manifest import Manifest
from seedcli.base.progress import Pace, Source
from seedcli.console import Lines, Screen, bar

MANY = 8_841_823
COLOUR = re.compile(r"\x1b\[[\d;]*(3[0-9]|9[0-7])[\d;]*m")
INPUTS = [Source("model", "retriever", "finetune 3f2a9c1b"), Source("collection", "scifact", "91f0c2d4")]
MANIFEST = Manifest("encode", "finished", "", "", {}, {}, {}, {"vectors": 5183, "loss": 0.25}, "", {}, {}, 0, 13.0)


class Clock:
    """Time that goes on when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def paced(total: int | None, steps: int, each: float, done: int = 0, more: int = 1) -> Pace:
    """A pace that took `each` seconds for each of so many advances by `more`."""
    clock = Clock()
    pace = Pace(total, done, clock)
    for _ in range(steps):
        clock.now += each
        pace.advance(more)
    return pace


def lines_of(total: int | None, steps: int, each: float, done: int = 0) -> list[str]:
    """What is told, without a terminal, of a task of which so many steps are done."""
    clock, told = Clock(), Console(file=io.StringIO(), width=80)
    lines = Lines("pre-train", "steps", Pace(total, done, clock), told)
    for _ in range(steps):
        clock.now += each
        lines.advance(1)
    return told.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool, width: int = 80, **environment: str) -> tuple[Screen, Any]:
    """A screen whose console writes to memory, and that memory."""
    file = Terminal() if terminal else io.StringIO()
    settings = {"TERM": "xterm-256color"} | environment
    made = Console(file=file, width=width, highlight=False, force_terminal=terminal, _environ=settings)
    monkeypatch.setattr(console, "err", made)
    monkeypatch.setattr(console, "out", made)
    return Screen(), file


def tell_a_stage(screen: Screen) -> None:
    screen.say("said before")
    screen.begin("encode", Path("vectors"), "new", INPUTS)
    with screen.track("encode", 3, "texts") as advance:
        advance(3)
    screen.result(MANIFEST, Path("vectors"), ran=True)
    screen.next([("next", "seed index --vectors vectors --out index")])


def test_a_brief_screen_leaves_no_line_of_what_was_done_soon(monkeypatch):
    _, file = shown(monkeypatch, terminal=False)
    for patience in (console.SOON, 0.0):
        monkeypatch.setattr(console, "SOON", patience)
        with Screen(brief=True).track("search", 1, "queries") as advance:
            advance(1)
    assert len(file.getvalue().splitlines()) == 1


def test_units_that_were_behind_do_not_count_for_the_rate():
    pace = paced(total=600, steps=100, each=2.0, done=300)
    assert pace.count == 400
    assert pace.rate == pytest.approx(0.5)
    assert pace.left == pytest.approx(400)


def test_a_slow_start_is_forgotten():
    clock = Clock()
    pace = Pace(2_000, 0, clock)
    clock.now += 500
    pace.advance(1)
    for _ in range(1000):
        clock.now += 1
        pace.advance(1)
    assert pace.rate == pytest.approx(1)
    assert pace.left == pytest.approx(999)


def test_what_goes_before_the_first_units_does_not_count_for_the_rate():
    clock = Clock()
    pace = Pace(20_000, 0, clock)
    clock.now += 30  # the first texts are tokenised
    pace.advance(64)
    for _ in range(10):
        clock.now += 1
        pace.advance(64)
    assert (pace.rate, pace.moving) == (pytest.approx(64), pytest.approx(10))


def test_what_is_left_shrinks_between_two_advances():
    pace = paced(total=10, steps=4, each=10.0)
    assert pace.left == pytest.approx(60)
    pace.clock.now += 5  # type: ignore[attr-defined]
    assert (pace.left, pace.rate) == (pytest.approx(55), pytest.approx(0.1))


def test_nothing_is_known_before_the_first_advance():
    pace = Pace(10, 0, Clock())
    assert (pace.rate, pace.left) == (0, None)
    assert "eta -:--" in bar("encode", "texts", pace, 80).plain


NOTES = ("loss 5.31", "12.4k tok/s", "61% of peak")


def noted(pace: Pace) -> Pace:
    pace.advance(0, *NOTES)
    return pace


@pytest.mark.parametrize("width", [40, 60, 80, 140])
@pytest.mark.parametrize("title", ["encode", "read docstrings", "a title of so many words that it leaves no room"])
@pytest.mark.parametrize(
    "pace",
    [
        paced(MANY, 100, 1.0, more=12_345),
        paced(MANY * 28, 3_000, 60.0, more=50_000),
        paced(1_000_000, 10, 14.0),
        paced(None, 100, 1.0, more=123_456),
        paced(10, 10, 1.0),
        paced(0, 0, 1.0),
        noted(paced(MANY, 100, 1.0, more=12_345)),
        noted(paced(None, 100, 1.0, more=123_456)),
    ],
)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_bar_is_one_line_of_the_screen(title, pace, width, ascii_only):
    file = io.StringIO()
    Console(file=file, width=width).print(bar(title, "passages", pace, width, ascii_only))
    assert len(file.getvalue().splitlines()) == 1
    assert len(file.getvalue().rstrip("\n")) <= width
    assert not ascii_only or bar("encode", "passages", pace, width, ascii_only).plain.isascii()


def test_at_80_columns_a_bar_of_millions_tells_everything():
    line = bar("encode", "passages", paced(MANY, 100, 1.0, more=12_345), 80).plain
    assert line == "  encode  ━╸───────────  1,234,500/8,841,823 passages  12,345/s  1:40  eta 10:16"
    slow = bar("a title of so many words", "passages", paced(MANY, 100, 60.0, more=12_345), 80).plain
    assert slow == "  a title of so m…  ━───────  1.23M/8.84M passages  206/s  1:40:00  eta 10:16:14"


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (66, "  pre-train  ━━──────────  200/1,000 steps  1.0/s  3:20  eta 13:20"),
        (80, "  pre-train  ━━━────────────  200/1,000 steps  1.0/s  3:20  eta 13:20  loss 5.31"),
        (90, "  pre-train  ━━──────────  200/1,000 steps  1.0/s  3:20  eta 13:20  loss 5.31  12.4k tok/s"),
        (100, "  pre-train  ━╸───────  200/1,000 steps  1.0/s  3:20  eta 13:20  loss 5.31  12.4k tok/s  61% of peak"),
    ],
)
def test_a_bar_has_its_notes_as_far_as_there_is_room(width, line):
    assert bar("pre-train", "steps", noted(paced(1_000, 200, 1.0)), width).plain == line


def test_a_note_is_worth_round_numbers_if_they_make_room_for_it():
    long = noted(paced(1_000_000, 200, 100.0, more=1_000))
    for width, end in [
        (95, "  200,000/1,000,000 steps  10/s  5:33:20  eta 22:13:20  loss 5.31"),
        (83, "  200.0k/1.00M steps  10/s  5:33:20  eta 22:13:20  loss 5.31"),
        (80, "  200,000/1,000,000 steps  10/s  5:33:20  eta 22:13:20"),
    ]:
        assert bar("pre-train", "steps", long, width).plain.endswith(end)


def test_without_a_terminal_a_line_ends_with_the_notes():
    clock, told = Clock(), Console(file=io.StringIO(), width=80)
    lines = Lines("pre-train", "steps", Pace(1_000, 0, clock), told)
    for step in range(30):
        clock.now += 1
        lines.advance(1, *(NOTES if step == 7 else ()))
    first, second = told.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first.endswith(" steps, 1.0 a second")
    assert second.endswith(", 1.0 a second, loss 5.31, 12.4k tok/s, 61% of peak")


def test_a_bar_is_as_full_as_its_task():
    drawn = [bar("encode", "texts", paced(10, steps, 1.0), 80).plain for steps in (0, 5, 10)]
    assert [line.count("━") for line in drawn] == [0, 15, 30]
    assert [line.count("─") for line in drawn] == [30, 15, 0]


@pytest.mark.parametrize(
    ("rate", "text"), [(12_345.6, "12,346"), (10, "10"), (7.0, "7.0"), (0.7, "0.7"), (0.0712, "0.071"), (0, "0")]
)
def test_slow_rates_keep_two_digits(rate, text):
    assert console.speed(rate) == text


def test_without_a_terminal_the_first_line_tells_how_long_it_takes():
    assert lines_of(600, 1, 1 / 0.7) == []
    assert lines_of(600, 4, 1 / 0.7) == ["  pre-train: about 14 min for 600 steps, 0.7 a second"]
    assert lines_of(600, 4, 2.0, done=300) == ["  pre-train: about 10 min for 300 more steps, 0.5 a second"]
    assert lines_of(None, 4, 2.0) == ["  pre-train: 3 steps, 0.5 a second"]
    assert lines_of(4, 4, 1.5) == []  # at its end


def test_later_lines_tell_what_is_left():
    assert lines_of(600, 40, 1.0)[1] == "  pre-train: 25 of 600 steps, 10 min left, 1.0 a second"


def test_a_long_task_tells_less_and_less_often():
    assert 40 <= len(lines_of(10**9, 3_600, 1.0)) <= 60
    assert len(lines_of(10**9, 36_000, 1.0)) <= 100


def test_a_task_that_is_tracked_gives_its_estimate(monkeypatch):
    monkeypatch.setattr(console, "FIRST", 0.0)
    monkeypatch.setattr(console, "STEADY", 0.0)
    monkeypatch.setattr(progress, "MARK", 0.0)
    screen, file = shown(monkeypatch, terminal=False)
    with screen.track("encode", 1_000, "texts") as advance:
        for more in (1, 1, 998):
            advance(more)
    first, last = file.getvalue().splitlines()
    assert re.fullmatch(r"  encode: about \d+ s for 1,000 texts, [\d,.]+ a second", first)
    assert re.fullmatch(r"  encode: 1,000 texts in 0\.\d s", last)


def test_without_a_terminal_all_is_plain_and_whole(monkeypatch):
    screen, file = shown(monkeypatch, terminal=False, width=20)
    tell_a_stage(screen)
    assert re.sub(r"in 0\.\d s", "in 0.0 s", file.getvalue()).splitlines() == [
        "said before",
        "encode → vectors",
        "  model       retriever  (finetune 3f2a9c1b)",
        "  collection  scifact    (91f0c2d4)",
        "  encode: 3 texts in 0.0 s",
        "encode done in 13 s: vectors (vectors 5,183, loss 0.25)",
        "next: seed index --vectors vectors --out index",
    ]


def test_on_a_terminal_there_is_a_bar_and_colour(monkeypatch):
    screen, file = shown(monkeypatch, terminal=True)
    tell_a_stage(screen)
    assert "3/3 texts" in file.getvalue()
    assert COLOUR.search(file.getvalue())


def test_no_color_is_honoured(monkeypatch):
    screen, file = shown(monkeypatch, terminal=True, NO_COLOR="1")
    tell_a_stage(screen)
    assert "3/3 texts" in file.getvalue()
    assert not COLOUR.search(file.getvalue())


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_terminal_that_can_do_nothing_gets_no_control_characters(monkeypatch, terminal):
    screen, file = shown(monkeypatch, terminal=True, TERM=terminal)
    tell_a_stage(screen)
    assert "\x1b" not in file.getvalue()
    assert "3/3 texts" not in file.getvalue()


def test_a_quiet_screen_tells_nothing_but_mistakes(monkeypatch, capsys):
    _, file = shown(monkeypatch, terminal=False)
    tell_a_stage(Screen(quiet=True))
    assert capsys.readouterr() == ("", "")
    console.fail("wrong")
    assert file.getvalue() == "error: wrong\n"


def test_a_title_of_a_recipe_stands_for_that_of_its_stage(monkeypatch):
    screen, file = shown(monkeypatch, terminal=False)
    screen.title("[3/15] encode", Path("runs/vectors"), "not made yet")
    screen.begin("encode", Path("runs/vectors"), "new", INPUTS[:1])
    screen.begin("encode", Path("resumed"), "resumed", [])
    screen.begin("encode", Path("done"), "done", INPUTS)
    assert file.getvalue().splitlines() == [
        "[3/15] encode → runs/vectors  (not made yet)",
        "  model  retriever  (finetune 3f2a9c1b)",
        "encode → resumed  (goes on)",
        "encode → done",
    ]


def test_a_line_is_told_once_a_stage(monkeypatch):
    screen, file = shown(monkeypatch, terminal=False)
    for folder in ("one", "two"):
        screen.title("index", Path(folder))
        screen.say("of both")  # found before the stage begins: the same words about the same data
        screen.begin("index", Path(folder), "new", [])
        screen.say("of each")
        screen.say("of each")
        screen.result(MANIFEST, Path(folder), ran=True)
        screen.say("of both")
    assert [line for line in file.getvalue().splitlines() if "done" not in line] == [
        "index → one",
        "  of both",
        "  of each",
        "index → two",
        "  of each",
    ]


def test_a_resumed_task_tells_what_was_done_now(monkeypatch):
    screen, file = shown(monkeypatch, terminal=False)
    with screen.track("pre-train", 600, "queries", done=599) as advance:
        advance(1)
    assert file.getvalue().startswith("  pre-train: 1 query more (600 in all) in 0.")


def test_a_command_to_paste_is_never_broken(monkeypatch):
    command = "seed search --index " + "very/long/" * 12 + "index 'your question'"
    screen, file = shown(monkeypatch, terminal=True, width=80, NO_COLOR="1")
    screen.next([("next", command)])
    assert command in file.getvalue()


NAMES = ["BM25", "dense, random weights", "BM25 + dense, SEED, fine-tuned for a very long time on many passages"]
MEASURES = ["mrr@10", "recall@100", "ndcg@10", "recall@1000", "precision@5", "map@100"]


def summary(measures: list[str]) -> dict[str, Any]:
    """A report as report.json holds it, with an interval and a p-value that differ in every cell."""
    runs: dict[str, Any] = {}
    for row, name in enumerate(NAMES):
        values = {m: (row * 10 + column + 1) / 100 for column, m in enumerate(measures)}
        runs[name] = {"means": values, "intervals": {m: [v / 2, v * 2] for m, v in values.items()}}
        if row:
            runs[name]["corrected"] = {m: 0.00001 if v < 0.15 else v for m, v in values.items()}
            runs[name]["marks"] = {m: "†" if v < 0.13 else "" for m, v in values.items()}
    return {"measures": measures, "runs": runs}


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("measures", [MEASURES[:1], MEASURES[:3], MEASURES])
def test_a_report_fits_and_loses_nothing(width, measures):
    file = io.StringIO()
    found = list(console.tables(given := summary(measures), width))
    for table in found:
        Console(file=file, width=width).print(table)
    text = file.getvalue()
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    for run in given["runs"].values():
        for measure, mean in run["means"].items():
            low, high = run["intervals"][measure]
            assert f"{mean:.4f}" in text
            assert f"[{low:.3f}, {high:.3f}]" in text
    for word in [*measures, *" ".join(NAMES).split(), "p 1.0e-05", "p 0.2100", "0.1100†"]:
        assert word in text
    assert "0.2100†" not in text
    assert len(found) == (1 if len(measures) < 4 else {80: 2, 140: 1}[width])


def test_a_report_without_a_test_has_a_line_a_run():
    given = {"measures": ["mrr"], "runs": {"a": {"means": {"mrr": 0.5}}}}
    (table,) = console.tables(given, 80)
    Console(file=(file := io.StringIO()), width=80).print(table)
    assert [line.split() for line in file.getvalue().splitlines()] == [["run", "mrr"], ["a", "0.5000"]]


def test_seeds_and_letters_stand_in_the_table():
    run = {"label": "b dense", "means": {"mrr": 0.5}, "marks": {"mrr": "ac"}, "deviations": {"mrr": 0.01}}
    (table,) = console.tables({"measures": ["mrr"], "runs": {"dense": run}}, 80)
    Console(file=(file := io.StringIO()), width=80).print(table)
    assert file.getvalue().split() == ["run", "mrr", "b", "dense", "0.5000ac", "±0.0100"]


@pytest.mark.parametrize("width", [60, 120])
def test_differences_fit(width):
    tests = [
        {"system": "a system with a long name", "against": "BM25", "measure": "recall@1000", "difference": 0.0123,
         "p": 0.00001, "p_corrected": 0.02, "effect": effect, "wins": 1200, "ties": 0, "losses": 7,
         "detectable": effect}
        for effect in (0.1, None)
    ]  # fmt: skip
    Console(file=(file := io.StringIO()), width=width).print(console.differences(tests, width))
    assert all(len(line.rstrip()) <= width for line in file.getvalue().splitlines())
    words = file.getvalue().split()
    assert {"recall@1000", "+0.0123", "1.0e-05", "0.0200", "+0.100", "–"} <= {*words}
    assert ("1,200/0/7" in words) == (width == 120)


def test_the_legend_of_a_report_is_its_prose_alone(monkeypatch, tmp_path):
    _, file = shown(monkeypatch, terminal=False)
    given = {"measures": ["mrr"], "runs": {"a": {"means": {"mrr": 0.5}}}, "legend": ["Means over [x].", "† differs."]}
    (tmp_path / "report.json").write_text(json.dumps(given))
    console.report(tmp_path)
    assert [line.split() for line in file.getvalue().splitlines()] == [
        *([], [str(tmp_path)], ["run", "mrr"], ["a", "0.5000"], []),
        ["Means", "over", "[x].", "†", "differs."],
    ]


ROWS = [
    ("finetune-with-bm25-negatives", "finetune", "remake", "optimize.lr was 0.002, now 0.001; " * 4),
    ("vectors", "encode", "waits", "made, but finetune-with-bm25-negatives before it comes first"),
]


@pytest.mark.parametrize(("width", "terminal"), [(80, True), (140, True), (80, False)])
def test_a_plan_breaks_no_word(monkeypatch, width, terminal):
    _, file = shown(monkeypatch, terminal, width, TERM="dumb")
    console.verdicts(ROWS)
    words = file.getvalue().split()
    assert {word for name, verb, _, why in ROWS for word in (name, verb, *why.split())} <= set(words)
    assert terminal or len(file.getvalue().splitlines()) == 3
    assert not terminal or all(len(line) <= width for line in file.getvalue().splitlines())


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0"),
        (7.4, "7"),
        (43_320, "43,000"),
        (994_000, "990,000"),
        (996_000, "1.0 million"),
        (9.94e6, "9.9 million"),
        (9.96e6, "10 million"),
        (663e6, "660 million"),
        (66.3e9, "66 billion"),
        (1.04e12, "1.0 trillion"),
        (2.5e15, "2,500 trillion"),
    ],
)
def test_an_estimate_is_told_in_two_digits(count, words):
    assert console.estimated(count) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, ""), (0.004, "<0.01"), (0.014, "0.01"), (0.99, "0.99"), (0.996, "1.0"), (9.94, "9.9"), (9.96, "10"),
        (86.3, "86"), (1_949, "1,900"),
    ],
)  # fmt: skip
def test_hours_are_told_in_two_digits(count, words):
    assert console.hours(count) == words


def test_control_characters_of_data_never_reach_the_terminal(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=file, width=80))
    Screen().say("an id: \x1b]0;owned\x07\x1b[2J")
    console.fail("data: \x1b[2J is no id")
    assert "owned" in file.getvalue()
    assert not {"\x1b", "\x07"} & set(file.getvalue())
