"""Measures over a number that runs were made with: checkpoints, shares of the labels, layers and windows.

As in figures 3 and 6 of the paper (Lu et al., EMNLP 2021): a plot for each measure, with the intervals of the means.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from seedcli.base.counts import amount
from seedcli.base.errors import ConfigError
from seedcli.evaluation.plots import Curve, curves

WIDE = 30  # factor that positive numbers span when the axis is better a logarithmic one
MOST = 8  # ticks

Scale = Literal["auto", "linear", "log"]


class Point(NamedTuple):
    """A run's place: on the x axis, a number or a word, and on a line."""

    name: str
    x: float | str
    line: str


def placed(configs: Mapping[str, Mapping[str, Any]], over: str, by: str | None) -> list[Point]:
    """Where runs belong by the options of all steps that led to them, or by the numbers that their names end on.

    Raises ConfigError for runs without such an option or number, and for two in one place.
    """
    points = []
    numbered = {name: re.fullmatch(r"(.*)@([-+]?\d*\.?\d+(?:e[-+]?\d+)?)", name) for name in configs}
    for name, config in configs.items():
        x, match = option(config, over, "--curve", name), numbered[name]
        if x is None and match and math.isfinite(float(match[2])):
            x = float(match[2])
        if x is None:
            given = ", ".join(differing(configs))
            raise ConfigError(
                f"--curve {over}: the run {name} was made without such an option; name runs like "
                f"{name.split('@')[0]}@100" + (f", or give one in which they differ: {given}" if given else "")
            )
        if by is None:
            line = match[1] if match else ""
        elif (value := option(config, by, "--curve-by", name)) is not None:
            line = f"{by.rsplit('.', 1)[-1]} {said(value)}"
        else:
            raise ConfigError(f"--curve-by {by}: the run {name} was made without such an option")
        points.append(Point(name, x, line))
    for row, point in enumerate(points):
        if same := [other.name for other in points[:row] if other[1:] == point[1:]]:
            raise ConfigError(
                f"--curve {over}: {same[0]} and {point.name} are both at {point.x}; tell them apart by "
                "--curve-by OPTION, or name them like bert@100 and seed@100"
            )
    return points


def option(config: Mapping[str, Any], key: str, flag: str, name: str) -> float | str | None:
    """The value of an option by its whole name or the end of it; None where there is none.

    Raises ConfigError when several options are called so and differ.
    """
    found = {each: value for each, value in config.items() if each == key or each.endswith(f".{key}")}
    if key in found:
        found = {key: found[key]}
    values = {str(value): value for value in found.values() if value is not None}
    if len(values) > 1:
        raise ConfigError(f"{flag} {key}: {name} has several such options; give one of {', '.join(found)}")
    for value in values.values():
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return None


def said(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,g}"


def differing(configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The options that all runs have, with values that differ."""
    common = set.intersection(*(set(config) for config in configs.values()))
    every = [*configs.values()]
    return [key for key in every[0] if key in common and len({str(config[key]) for config in every}) > 1]


def plot_trends(
    folder: Path, points: Sequence[Point], means: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]], over: str, scale: Scale, queries: int,
) -> list[Path]:  # fmt: skip
    """curve-MEASURE.png and .svg, by name -> measure -> value."""
    files = []
    numbers = all(isinstance(point.x, float) for point in points)
    xs = sorted({point.x for point in points}, key=lambda x: (isinstance(x, str), x))
    place = {x: float(x) if numbers else float(row) for row, x in enumerate(xs)}
    log_x = logarithmic(xs, scale)
    lines = dict.fromkeys(point.line for point in points)
    for measure in next(iter(means.values())):
        series = {}
        for line in lines:
            own = sorted((place[point.x], point.name) for point in points if point.line == line)
            low, high = ([intervals[name][measure][side] for _, name in own] for side in (0, 1))
            series[line or measure] = Curve([x for x, _ in own], [means[name][measure] for _, name in own], low, high)
        files += curves(
            folder / ("curve-" + re.sub(r"[^\w@.-]+", "-", measure)), series, over, measure,
            title=f"{measure}, {amount(queries, 'queries')}; bars: 95 % intervals of the means",
            ticks=ticks([place[x] for x in xs], log_x) if numbers else list(place.values()),
            labels=None if numbers else [said(x) for x in xs], log_x=log_x,
        )  # fmt: skip
    return files


def logarithmic(xs: Sequence[float | str], scale: Scale) -> bool:
    """Whether the axis is logarithmic: of numbers, never of words. Raises ConfigError for those without a place."""
    numbers = [x for x in xs if not isinstance(x, str)]
    if len(numbers) < len(xs):
        return False
    low, high = min(numbers), max(numbers)
    if scale == "log" and low <= 0:
        raise ConfigError(f"--set showing.curve_scale=log: {low:g} has no place on it")
    return scale == "log" or (scale == "auto" and low > 0 and high / low >= WIDE)


def ticks(xs: Sequence[float], log_x: bool) -> list[float]:
    """The points' own places, or some of them evenly apart where there are many or they lie close."""
    spread = np.log(xs) if log_x else np.asarray(xs, np.float64)
    room = (spread[-1] - spread[0]) / MOST
    kept: list[int] = []
    for row in range(len(xs)):
        if not kept or spread[row] - spread[kept[-1]] >= room:
            kept.append(row)
    return [xs[row] for row in kept]
