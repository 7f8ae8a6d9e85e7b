"""A report as rows of plain values: what tables, and other programs, are made from."""

import math
from collections.abc import Iterator, Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np

from seedcli.evaluation.report import Report
from seedcli.evaluation.significance import LEVEL

DECIMALS = 6  # few enough for a report to be the same file on every machine
DIGITS = 6  # of a p-value, for the same reason
COLUMNS = ("system", "measure", "mean", "low", "high", "seeds", "sd", "queries", "lacking", "against", "difference",
           "difference_low", "difference_high", "p", "p_corrected", "effect", "wins", "ties", "losses",
           "detectable")  # fmt: skip


def marks(report: Report, row: int) -> dict[str, str]:
    """What stands behind a system's means: † where it differs from the baseline, or letters of those it surpasses."""
    if not (tested := report.significance):
        return dict.fromkeys(report.measures, "")
    against = {measure: list[int]() for measure in report.measures}  # rows of systems
    for (one, other), means, ps in zip(tested.pairs, tested.differences, tested.corrected, strict=True):
        for measure, difference, p in zip(report.measures, means, ps, strict=True):
            marked = one if tested.baseline is not None or difference > 0 else other
            if row == marked and p < LEVEL:
                against[measure].append(other if row == one else one)
    sign = letter if tested.baseline is None else lambda _: "†"
    return {measure: "".join(map(sign, sorted(rows))) for measure, rows in against.items()}


def highest(means: Sequence[float | None]) -> list[bool]:
    """Which of the systems' means are above others, and below none."""
    there = {mean for mean in means if mean is not None}
    return [len(there) > 1 and mean == max(there) for mean in means]


def letter(row: int) -> str:
    """A system's letter in a table of all pairs."""
    return ascii_lowercase[row] if row < len(ascii_lowercase) else f"({row + 1})"


def label(report: Report, row: int) -> str:
    """A system's name, with its letter where others refer to it."""
    lettered = report.significance is not None and report.significance.baseline is None
    return f"{letter(row)} {report.names[row]}" if lettered else report.names[row]


def differences(report: Report) -> Iterator[dict[str, Any]]:
    """Each tested difference."""
    if not (tested := report.significance):
        return
    for row, (one, other) in enumerate(tested.pairs):
        for column, measure in enumerate(report.measures):
            place = row, column
            low, high = tested.intervals[place].tolist()
            wins, ties, losses = tested.counts[place].tolist()
            yield {
                "system": report.names[one], "against": report.names[other], "measure": measure,
                "difference": rounded(tested.differences[place]), "low": rounded(low), "high": rounded(high),
                "p": significant(tested.p_values[place]), "p_corrected": significant(tested.corrected[place]),
                "effect": rounded(tested.effects[place]), "wins": wins, "ties": ties, "losses": losses,
                "detectable": rounded(tested.detectable[place]),
            }  # fmt: skip


def tidy(report: Report) -> Iterator[Sequence[Any]]:
    """A line for each system and measure, or for each of the differences that the system was tested in."""
    yield COLUMNS
    compared: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in differences(report):
        compared.setdefault((one["system"], one["measure"]), []).append(one)
    for row, name in enumerate(report.names):
        for column, measure in enumerate(report.measures):
            place = row, column
            numbers = (report.means[place], *report.intervals[place])
            deviation = rounded(report.deviations[place])
            own = [name, measure, *map(rounded, numbers), report.seeds[row], deviation, len(report.queries)]
            for one in compared.get((name, measure), [{}]):
                cells = [one.get(key) for key in ("against", "difference", "low", "high", "p", "p_corrected", "effect",
                                                  "wins", "ties", "losses", "detectable")]  # fmt: skip
                yield [*own, report.lacking[row], *cells]


def per_query(report: Report) -> Iterator[Sequence[Any]]:
    """A line for each query: the values of each system, and those of its runs if it has several."""
    parts = [(report.names, report.values)]
    several = [row for row, name in enumerate(report.runs.names) if report.runs.names.count(name) > 1]
    if several:
        numbers = [report.runs.names[: row + 1].count(report.runs.names[row]) for row in several]
        numbered = [f"{report.runs.names[row]}[{number}]" for row, number in zip(several, numbers, strict=True)]
        parts.append((numbered, report.runs.values[several]))
    yield ["query", *(f"{name} {measure}" for names, _ in parts for name in names for measure in report.measures)]
    columns = np.concatenate([values.reshape(-1, len(report.queries)) for _, values in parts])
    for query, row in zip(report.queries, columns.T.tolist(), strict=True):
        yield [query, *(f"{value:.{DECIMALS}f}" for value in row)]


def rounded(value: float) -> float | None:
    """None for what is no number."""
    return None if not math.isfinite(value) else round(float(value), DECIMALS) + 0.0


def significant(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
