"""A report as files: JSON, Markdown, LaTeX, CSV, and the values query by query."""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seedcli.base.counts import amount
from seedcli.base.files import write_json, write_text, written_whole
from seedcli.evaluation.markdown import literal, table
from seedcli.evaluation.report import Report
from seedcli.evaluation.rows import DECIMALS, differences, highest, label, marks, per_query, rounded, tidy
from seedcli.evaluation.significance import LEVEL, POWER

NONE = "–"
TESTS = {
    "permutation": "paired sign-flip permutation test of the mean difference, two-sided",
    "t": "paired t-test of the mean difference, two-sided",
}
SEEDS = "t-test of the mean difference over queries and seeds, both drawn at random, each by its own t (Banerjee)"
CORRECTIONS = {
    "holm": "Holm's correction",
    "bonferroni": "Bonferroni's correction",
    "bh": "Benjamini and Hochberg's correction",
    "none": "not corrected for several tests",
}
DIFFERENCES = (
    "d_z: the mean difference in standard deviations of the queries' differences. Detectable: the smallest true "
    f"difference that this many queries show with a chance of about {100 * POWER:.0f} % in one test at {LEVEL}."
)
TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "`": r"\`{}",  # in every font
    "[": "{[}", "]": "{]}",  # after a line's end, brackets would be an argument
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}  # fmt: skip


def write_report(report: Report, folder: Path) -> list[Path]:
    """report.json, .md, .tex and .csv, and per_query.tsv: the same report always gives the same bytes."""
    names = ("report.json", "report.md", "report.tex", "report.csv", "per_query.tsv")
    summary, *texts, rows, queries = files = [folder / name for name in names]
    write_json(summary, summarised(report))
    for path, text in zip(texts, (markdown(report), latex(report)), strict=True):
        write_text(path, text)
    _write_rows(rows, "excel", tidy(report))
    _write_rows(queries, "excel-tab", per_query(report))
    return files


def summarised(report: Report) -> dict[str, Any]:
    """What report.json holds: plain values, None for a number that there is none of."""
    runs: dict[str, Any] = {}
    for row, name in enumerate(report.names):
        found = {"means": report.means[row], "intervals": report.intervals[row]}
        if report.seeds[row] > 1:
            found["deviations"] = report.deviations[row]
        by_measure = {
            word: dict(zip(report.measures, values.round(DECIMALS).tolist(), strict=True))
            for word, values in found.items()
        }
        told = {"label": label(report, row), "lacking": report.lacking[row], "seeds": report.seeds[row]}
        runs[name] = told | {"marks": marks(report, row)}
        runs[name] |= by_measure
    settings, compared = None, list(differences(report))
    if tested := report.significance:
        settings = {"test": TESTS[tested.test], "level": LEVEL, "baseline": tested.baseline,
                    "correction": tested.correction, "permutations": tested.permutations, "seed": tested.seed,
                    "every_sign": tested.every_sign}  # fmt: skip
        for one in compared if tested.baseline else []:
            for word, key in (("p_values", "p"), ("corrected", "p_corrected")):
                runs[one["system"]].setdefault(word, {})[one["measure"]] = one[key]
    return {
        "queries": len(report.queries), "measures": report.measures, "significance": settings,
        "legend": [*legend(report), *[DIFFERENCES] * bool(compared)], "runs": runs, "tests": compared,
    }  # fmt: skip


def markdown(report: Report) -> str:
    """The means with their intervals as a table; a legend; the differences that were tested."""
    rows = []
    for row in range(len(report.names)):
        told = [mark if mark in {"", "†"} else f"<sup>{mark}</sup>" for mark in marks(report, row).values()]
        cells = [
            f"{mean:.4f}{mark}{_deviation(deviation)} [{low:.4f}, {high:.4f}]"
            for mean, mark, deviation, (low, high) in zip(
                report.means[row], told, report.deviations[row], report.intervals[row], strict=True
            )
        ]
        rows.append([literal(label(report, row)), *cells])
    lines = table(["run", *map(literal, report.measures)], [":--", *["--:"] * len(report.measures)], rows)
    for paragraph in legend(report):
        lines += ["", literal(paragraph)]
    if compared := list(differences(report)):
        heading = ["difference", "measure", "mean", "p", "corrected", "d_z", "won / tied / lost", "detectable"]
        rows = [
            [literal(pair), literal(measure), *numbers] for pair, measure, *numbers in map(difference_cells, compared)
        ]
        lines += ["", DIFFERENCES, "", *table(heading, [":--", ":--", *["--:"] * 6], rows)]
    return "\n".join(lines) + "\n"


def difference_cells(one: dict[str, Any]) -> list[str]:
    """A tested difference as a row of a table."""
    return [
        f"{one['system']} − {one['against']}", one["measure"],
        f"{one['difference']:+.4f} [{_number(one['low'], '+.4f')}, {_number(one['high'], '+.4f')}]",
        _p(one["p"]), _p(one["p_corrected"]),
        _number(one["effect"], "+.3f"), f"{one['wins']:,} / {one['ties']:,} / {one['losses']:,}",
        _number(one["detectable"], ".4f"),
    ]  # fmt: skip


def latex(report: Report) -> str:
    """A table for booktabs, its legend as the caption."""
    bold = np.transpose([highest(list(map(rounded, means))) for means in report.means.T])  # [R, M]
    lines = [r"% \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(report.measures)}}}", r"\toprule"]
    lines += [" & ".join(["Run", *map(tex, report.measures)]) + r" \\", r"\midrule"]
    for row in range(len(report.names)):
        cells = []
        for place, (mean, mark) in enumerate(zip(report.means[row], marks(report, row).values(), strict=True)):
            value = rf"\textbf{{{mean:.4f}}}" if bold[row, place] else f"{mean:.4f}"
            above = "" if not mark else rf"$^{{{mark.replace('†', chr(92) + 'dagger')}}}$"
            deviation = report.deviations[row, place]
            cells.append(value + above + ("" if np.isnan(deviation) else rf" $\pm$ {deviation:.4f}"))
        lines.append(" & ".join([tex(label(report, row)), *cells]) + r" \\")
        between = [rf"{{\scriptsize [{low:.4f}, {high:.4f}]}}" for low, high in report.intervals[row]]
        lines.append(" & ".join(["", *between]) + r" \\")
    caption = " ".join(map(tex, legend(report)))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}", ""])


def tex(text: str) -> str:
    """A text with all that LaTeX would read as its own escaped."""
    escaped = re.sub("|".join(map(re.escape, TEX)), lambda found: TEX[found[0]], " ".join(text.split()))
    for mark, meant in (("†", r"$^\dagger$"), ("–", "--"), ("±", r"$\pm$"), ("−", "$-$"), ("d\\_z", "$d_z$")):
        escaped = escaped.replace(mark, meant)
    return escaped


def legend(report: Report) -> Iterator[str]:
    """Paragraphs that say what the numbers are."""
    lacking = [f"{name} lacks {count:,}" for name, count in zip(report.names, report.lacking, strict=True) if count]
    counted = f"; one that a run lacks counts as 0 ({', '.join(lacking)})" if lacking else ""
    within = "in brackets their 95 % bootstrap intervals over queries"
    yield f"Means over {amount(len(report.queries), 'judged queries')}{counted}; {within}."
    several = [f"{name} {seeds}" for name, seeds in zip(report.names, report.seeds, strict=True) if seeds > 1]
    if several:
        yield f"Means over several runs of a system (seeds: {', '.join(several)}); ± their standard deviation."
    if not (tested := report.significance) or not tested.pairs:
        return
    signs = f"all {1 << len(report.queries):,} signs" if tested.every_sign else f"{tested.permutations:,} permutations"
    drawn = "" if tested.test == "t" else f" ({signs}{'' if tested.every_sign else f', seed {tested.seed}'})"
    count = tested.p_values.size
    over = f"{CORRECTIONS[tested.correction]}" + (f" over {count:,} tests" if tested.correction != "none" else "")
    if tested.baseline is not None:
        meaning = f"† p < {LEVEL} against {tested.baseline}, better or worse"
    else:
        meaning = f"Letters: better than the systems of these letters, p < {LEVEL}"
    seeds = f"; with several seeds, {SEEDS}" if several else ""
    yield f"{meaning}: {TESTS[tested.test]}{drawn}{seeds}; {over}."


def _write_rows(path: Path, dialect: str, rows: Iterable[Sequence[Any]]) -> None:
    with written_whole(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, dialect, lineterminator="\n").writerows(rows)


def _deviation(value: float) -> str:
    return "" if math.isnan(value) else f" ±{value:.4f}"


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1e}"
