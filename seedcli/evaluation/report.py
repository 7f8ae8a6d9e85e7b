"""Reports: runs side by side on the same qrels, each tested against a baseline; as JSON, as Markdown, query by query.

Letters: R runs, M measures, Q judged queries.
"""

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError
from seedcli.base.files import write_json, write_text, written_whole
from seedcli.data.records import Qrels, Query
from seedcli.evaluation.metrics import Values
from seedcli.evaluation.significance import bootstrap_intervals, every_sign, permutation_test
from seedcli.retrieval.runs import Run

LEVEL = 0.05
DECIMALS = 6  # few enough for a report to be the same file on every machine
TEST = "paired sign-flip permutation test of the mean difference, two-sided"


class Significance(NamedTuple):
    """The p-value of every difference from the baseline (which itself has 1), and how to get it again."""

    baseline: str
    permutations: int
    seed: int
    every_sign: bool
    p_values: NDArray[np.float64]  # [R, M]


@dataclass(frozen=True, eq=False)
class Report(Values):
    """Values with what can be concluded from them."""

    intervals: NDArray[np.float64]  # [R, M, 2], of the means, at 95 %
    significance: Significance | None

    @property
    def means(self) -> NDArray[np.float64]:
        means: NDArray[np.float64] = self.values.mean(axis=2)  # [R, M]
        return means


class Example(NamedTuple):
    """A query, the ids of its relevant documents, and what each run has first: (run, ids)."""

    query: Query
    relevant: set[str]
    hits: list[tuple[str, list[str]]]


def compare(values: Values, baseline: str | None, permutations: int, seed: int) -> Report:
    """Test each run against the one that `baseline` names, if any."""
    names, queries, each = values.names, len(values.queries), values.values
    if baseline is not None and baseline not in names:
        near = difflib.get_close_matches(baseline, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"baseline {baseline!r}: no such run; {hint}there are {', '.join(names)}")
    intervals = bootstrap_intervals(each.reshape(-1, queries).T, permutations, seed).reshape(*each.shape[:2], 2)
    significance = None
    if baseline is not None:
        differences = (each - each[names.index(baseline)]).reshape(-1, queries).T  # [Q, R * M]
        p_values = permutation_test(differences, permutations, seed).reshape(each.shape[:2])
        significance = Significance(baseline, permutations, seed, every_sign(queries, permutations), p_values)
    return Report(**vars(values), intervals=intervals, significance=significance)


def pick_examples(
    qrels: Qrels, queries: Iterable[Query], runs: Mapping[str, Run], count: int, depth: int = 3, seed: int = 0
) -> list[Example]:
    """Some `count` queries with a relevant document, drawn by the seed, in the order of `queries`."""
    relevant = {query: {document for document, grade in grades.items() if grade > 0} for query, grades in qrels.items()}
    candidates = [query for query in queries if relevant.get(query.id)]
    drawn = np.random.default_rng(seed).permutation(len(candidates))[:count]
    return [
        Example(query, relevant[query.id], [(name, _first(run, query.id, depth)) for name, run in runs.items()])
        for query in (candidates[number] for number in sorted(drawn))
    ]


def write_report(report: Report, folder: Path) -> None:
    """report.json, report.md and per_query.tsv; the same report always gives the same bytes."""
    write_json(folder / "report.json", _summary(report))
    write_text(folder / "report.md", markdown(report))
    with written_whole(folder / "per_query.tsv") as aside, aside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, "excel-tab", lineterminator="\n")
        table.writerow(["query", *(f"{name} {measure}" for name in report.names for measure in report.measures)])
        columns = report.values.reshape(-1, len(report.queries))  # [R * M, Q]
        for query, row in zip(report.queries, columns.T, strict=True):
            table.writerow([query, *(f"{value:.{DECIMALS}f}" for value in row)])


def markdown(report: Report) -> str:
    """The means with their intervals as a table, marked where they differ from the baseline's; a legend; p-values."""
    p_values = report.significance.p_values if report.significance else np.ones(report.means.shape)
    rows = []
    for name, means, ps, ranges in zip(report.names, report.means, p_values, report.intervals, strict=True):
        cells = [
            f"{mean:.4f}{'†' if p < LEVEL else ''} [{low:.4f}, {high:.4f}]"
            for mean, p, (low, high) in zip(means, ps, ranges, strict=True)
        ]
        rows.append([name, *cells])
    lines = [*_table(["run", *report.measures], rows), "", *_legend(report)]
    if report.significance:
        baseline = report.significance.baseline
        tested = [[name, *map(_p, ps)] for name, ps in zip(report.names, p_values, strict=True) if name != baseline]
        lines += ["", *_table([f"p against {baseline}", *report.measures], tested)]
    return "\n".join(lines) + "\n"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    ruled = [heading, [":--", *("--:" for _ in heading[1:])], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in ruled]


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1e}"


def _legend(report: Report) -> list[str]:
    lacking = [f"{name} lacks {count:,}" for name, count in zip(report.names, report.lacking, strict=True) if count]
    counted = f"; one that a run lacks counts as 0 ({', '.join(lacking)})" if lacking else ""
    brackets = "in brackets their 95 % bootstrap intervals over queries"
    lines = [f"Means over {len(report.queries):,} judged queries{counted}; {brackets}."]
    if report.significance:
        baseline, permutations, seed, complete, _ = report.significance
        signs = f"all {1 << len(report.queries):,} signs" if complete else f"{permutations:,} permutations, seed {seed}"
        lines += [
            "",
            f"† p < {LEVEL} against {baseline}, better or worse: {TEST} ({signs}; not corrected for several tests).",
        ]
    return lines


def _summary(report: Report) -> dict[str, Any]:
    runs: dict[str, Any] = {}
    for name, lacking, *found in zip(report.names, report.lacking, report.means, report.intervals, strict=True):
        means, intervals = (dict(zip(report.measures, part.round(DECIMALS).tolist(), strict=True)) for part in found)
        runs[name] = {"lacking": lacking, "means": means, "intervals": intervals}
    settings = None
    if report.significance:
        settings = {"test": TEST, "level": LEVEL, **report.significance._asdict()}
        for name, row in zip(report.names, settings.pop("p_values").tolist(), strict=True):
            if name != report.significance.baseline:
                runs[name]["p_values"] = dict(zip(report.measures, row, strict=True))
    legend = [line for line in _legend(report) if line]
    return {
        "queries": len(report.queries), "measures": report.measures, "significance": settings, "legend": legend,
        "runs": runs,
    }  # fmt: skip


def _first(run: Run, query: str, depth: int) -> list[str]:
    return [document.decode() for document in run.ranking(query)[0][:depth].tolist()]
