"""Plots of curves with their intervals, as PNG and SVG: told apart without colour, the same file from the same data."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seedcli.base.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe & Ito, "Color Universal Design" (2008), without yellow, which white paper swallows; dark and light in turn.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2)))
FEW = 24  # points: so many get a marker and a bar each, more of them a band
SOME = 5  # ticks of an axis
MARKED = 9  # markers on a curve of many points
NAME = 24  # characters of a line in the legend
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.ymargin": 0.03,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "svg.hashsalt": "seed",  # names inside an SVG are drawn by chance otherwise
}


class Curve(NamedTuple):
    """Points, and an interval around each where there is one."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def curves(
    stem: Path, series: Mapping[str, Curve], x_label: str, y_label: str, *, title: str = "",
    ticks: Sequence[float] | None = None, labels: Sequence[str] | None = None, log_x: bool = False,
    y_range: tuple[float, float] | None = None,
) -> list[Path]:  # fmt: skip
    """Draw curves by their names to STEM.png and STEM.svg, each whole or not at all; the files.

    A logarithmic x axis counts in powers of two. `ticks` are all that the x axis shows, with `labels` for their
    numbers; `y_range` is at least shown.
    """
    import matplotlib
    from matplotlib import style

    with style.context(["default", STYLE]), matplotlib.rc_context():
        figure = drawn(series, log_x)
        axes = figure.axes[0]
        for label, text in ((axes.set_xlabel, x_label), (axes.set_ylabel, y_label), (axes.set_title, title)):
            label(text, parse_math=False)
        if ticks is not None:
            axes.set_xticks(ticks, labels or [f"{tick:,g}" for tick in ticks], parse_math=False)
            axes.minorticks_off()
        if y_range is not None:
            axes.update_datalim([(axes.dataLim.x0, y) for y in y_range], updatex=False)
            axes.autoscale_view(scalex=False)
        return saved(figure, stem)


def drawn(series: Mapping[str, Curve], log_x: bool = False) -> "Figure":
    """A figure of the curves with their names at its right, those of higher curves above."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.8, 3.8), layout="constrained")
    axes = figure.add_subplot()
    if log_x:
        axes.set_xscale("log", base=2)
    lines = [draw(axes, curve, row, len(series), log_x) for row, curve in enumerate(series.values())]
    ranked = sorted(zip(series, lines, strict=True), key=lambda pair: -np.mean(series[pair[0]].y))
    names = [fill(name, NAME) for name, _ in ranked]
    legend = figure.legend([line for _, line in ranked], names, loc="outside right upper")
    for text in legend.get_texts():
        text.set_parse_math(False)  # a $ in a name is a $
    return figure


def draw(axes: "Axes", curve: Curve, row: int, of: int, log_x: bool) -> "Line2D":
    """One curve in the looks of its row among so many; what stands for it in a legend."""
    colour, marker, dashes = (looks[row % len(looks)] for looks in (COLOURS, MARKERS, DASHES))
    many = len(curve.x) > FEW
    (line,) = axes.plot(
        curve.x, curve.y, color=colour, marker=marker, linestyle=dashes, linewidth=1.4, markersize=5,
        markeredgecolor="white", markeredgewidth=0.5, markevery=marked(curve.x, row / of, log_x) if many else 1,
    )  # fmt: skip
    if curve.low is not None and curve.high is not None:
        if many:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        else:
            axes.vlines(curve.x, curve.low, curve.high, color=colour, linewidth=1.0)
    return line


def marked(x: Sequence[float], begin: float, log_x: bool) -> list[int]:
    """Which of many points are marked: some, evenly apart, from a part of the first gap on: no curve hides others'."""
    places = np.log(x) if log_x else np.asarray(x)
    wanted = places[0] + (np.arange(MARKED) + begin) / MARKED * (places[-1] - places[0])
    return sorted({int(np.abs(places - place).argmin()) for place in wanted})


def decimals(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis from one number above zero to another, such as 0.1, 0.2, 0.5, 1, 2; some at least."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for steps in ((1,), (1, 2, 5), range(1, 10)):
        ticks = [float(f"{step * power:.0e}") for power in powers for step in steps]
        first, last = max(bisect_right(ticks, low) - 1, 0), bisect_left(ticks, high)
        ticks = ticks[first : last + 1]
        if len(ticks) >= SOME:
            break
    return ticks


def saved(figure: "Figure", stem: Path) -> list[Path]:
    """STEM.png and STEM.svg, without the time and the program that made them."""
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    for path, unsaid in zip(files, (["Software"], ["Date", "Creator"]), strict=True):
        with written_whole(path) as aside:
            figure.savefig(aside, format=path.suffix[1:], dpi=200, metadata=dict.fromkeys(unsaid))
    return files
