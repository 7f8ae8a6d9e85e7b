"""Plots: what they show, that they repeat, and that they leave the user's matplotlib alone."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from seedcli.evaluation.plots import COLOURS, FEW, MARKERS, Curve, curves, decimals, drawn

LENGTHS = [16, 32, 64]
TWO = {
    "low": Curve(LENGTHS, [0.1, 0.1, 0.2], [0.0, 0.0, 0.1], [0.2, 0.2, 0.3]),
    "high": Curve(LENGTHS, [0.8, 0.9, 0.7]),
}


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Draws, and gives the figure in place of its files."""

    def made(*arguments: Any, **options: Any) -> Figure:
        kept: list[Figure] = []
        monkeypatch.setattr("seedcli.evaluation.plots.saved", lambda drawn, _: kept.append(drawn))
        curves(tmp_path / "plot", *arguments, **options)
        kept[0].draw_without_rendering()
        return kept[0]

    return made


def test_a_plot_is_a_png_and_an_svg_and_the_same_from_the_same_data(tmp_path):
    first = curves(tmp_path / "one.v2", TWO, "tokens", "cosine", title="a title", log_x=True, ticks=LENGTHS)
    assert [path.name for path in first] == ["one.v2.png", "one.v2.svg"]
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in first[1].read_bytes()
    again = curves(tmp_path / "two", TWO, "tokens", "cosine", title="a title", log_x=True, ticks=LENGTHS)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]
    other = curves(tmp_path / "two", TWO, "words", "cosine", title="a title", log_x=True, ticks=LENGTHS)
    assert other[0].read_bytes() != first[0].read_bytes()


def test_the_users_style_neither_changes_a_plot_nor_is_changed(tmp_path):
    plain = curves(tmp_path / "plain", TWO, "x", "y")
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "own"}):
        before = dict(matplotlib.rcParams)
        styled = curves(tmp_path / "styled", TWO, "x", "y")
        assert dict(matplotlib.rcParams) == before
    assert [path.read_bytes() for path in styled] == [path.read_bytes() for path in plain]


def test_a_plot_that_fails_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    def halfway(_: Figure, path: Path, **__: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", halfway)
    with pytest.raises(OSError, match="disk full"):
        curves(tmp_path / "plot", TWO, "x", "y")
    assert list(tmp_path.iterdir()) == []


def test_names_stand_outside_the_axes_and_those_of_higher_curves_above(figure):
    made = figure(TWO, "x", "y")
    (legend,) = made.legends
    assert [text.get_text() for text in legend.get_texts()] == ["high", "low"]
    assert legend.get_window_extent().x0 >= made.axes[0].get_window_extent().x1
    long = figure({"a name of so many words that it must be broken": TWO["low"]}, "x", "y")
    assert "\n" in long.legends[0].get_texts()[0].get_text()
    figure({r"$\no$ formula": TWO["low"]}, "x", "y")


def test_a_dollar_is_a_dollar(figure):
    made = figure(TWO, r"$\foo$", "$x_2$", title=r"$\bar{", ticks=LENGTHS, labels=["$1$", r"$\no$", "3"])
    texts = [text for text in made.findobj(Text) if "$" in text.get_text()]
    assert len({text.get_text() for text in texts}) == 5
    assert not any(text.get_parse_math() for text in texts)


def test_curves_are_told_apart_by_colour_and_without_it():
    lines = drawn({str(row): TWO["high"] for row in range(len(MARKERS))}).axes[0].lines
    assert len({line.get_marker() for line in lines}) == len(MARKERS)
    assert len({line.get_color() for line in lines}) == len(COLOURS)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(MARKERS)


def test_few_points_have_bars_for_their_intervals_and_many_a_band():
    def kinds(count: int) -> list[type]:
        y = np.linspace(0, 1, count)
        return [type(part) for part in drawn({"a": Curve(range(count), y, y - 1, y + 1)}).axes[0].collections]

    assert kinds(FEW) == [LineCollection]
    assert issubclass(kinds(FEW + 1)[0], PolyCollection)
    assert drawn({"a": Curve([1, 2], [3, 4])}).axes[0].collections[:] == []


def test_the_axes_are_labelled_and_ticked_as_asked(figure):
    axes = figure(TWO, "tokens", "cosine", ticks=[16, 32, 64], log_x=True, y_range=(0, 1)).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens", "cosine")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "32", "64"]
    places = axes.transData.transform([(16, 0), (32, 0), (64, 0)])[:, 0]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    low, high = axes.get_ylim()
    assert low <= 0 < 1 <= high
    low, high = figure(TWO, "x", "y").axes[0].get_ylim()
    assert 0.9 < high < 1


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (0.13, 8, [0.1, 0.2, 0.5, 1, 2, 5, 10]),
    (3, 8, [3, 4, 5, 6, 7, 8]),
    (0.1, 1000, [0.1, 1, 10, 100, 1000]),
    (0.02, 0.9, [0.02, 0.05, 0.1, 0.2, 0.5, 1]),
    (2.1, 2.4, [2, 3]),
])  # fmt: skip
def test_ticks_of_a_logarithmic_axis_read_naturally(low, high, ticks):
    assert decimals(low, high) == ticks
