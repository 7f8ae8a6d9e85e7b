"""report.html: one file that needs nothing else, with the table, the lineage, and a script that draws the rest.

Its policy lets no resource in from outside, and no script or style run but its own, which are named by their hashes.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from seedcli.base.counts import amount
from seedcli.base.files import write_text
from seedcli.data.records import clean
from seedcli.evaluation.rows import highest
from seedcli.evaluation.steps import Step
from seedcli.evaluation.tables import difference_cells

DIFFERENCES = ("difference", "measure", "mean", "p", "corrected", "d_z", "won / tied / lost", "detectable")
UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}  # in JSON that stands in HTML


def write_page(path: Path, summary: Mapping[str, Any], held: Mapping[str, Any], lineages: Sequence[Step]) -> None:
    """The page of a report: `summary` is what report.json holds, `held` what `contents` gives."""
    write_text(path, page(summary, held, lineages))


def page(summary: Mapping[str, Any], held: Mapping[str, Any], lineages: Sequence[Step]) -> str:
    style, script = packaged("page.css"), packaged("page.js")
    return Template(packaged("page.html")).substitute(
        policy=f"default-src 'none'; style-src {source(style)}; script-src {source(script)}; base-uri 'none'; "
        "form-action 'none'",
        style=style,
        script=script,
        subtitle=f"{amount(len(summary['runs']), 'runs')}, {amount(summary['queries'], 'judged queries')}",
        table="\n".join(table(summary)),
        differences="\n".join(differences(summary)),
        legend="\n".join(f"<p>{safe(line)}</p>" for line in summary["legend"]),
        lineage="\n".join(part for step in lineages for part in tree(step)),
        data=embedded(held),
    )


def packaged(name: str) -> str:
    return (files("seedcli.evaluation.page") / name).read_text(encoding="utf-8")


def source(text: str) -> str:
    """What names an inline script or style in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(value: Any) -> str:
    """JSON that can't end the element it stands in."""
    return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).translate(UNSAFE)


def safe(value: Any) -> str:
    return escape(clean(str(value)))


def table(summary: Mapping[str, Any]) -> Iterator[str]:
    """Means, marked where they differ, and their intervals; the highest of each measure in bold."""
    measures, runs = summary["measures"], summary["runs"]
    bold = {measure: highest([run["means"][measure] for run in runs.values()]) for measure in measures}
    baseline = (summary["significance"] or {}).get("baseline")
    yield f"<table>{head(['run', *measures])}<tbody>"
    for row, (name, run) in enumerate(runs.items()):
        note = " <small>(baseline)</small>" if name == baseline else ""
        yield f'<tr><th scope="row">{safe(run.get("label", name))}{note}</th>'
        for measure in measures:
            mean = run["means"][measure]
            shown = "–" if mean is None else f"{mean:.4f}"
            if bold[measure][row]:
                shown = f"<strong>{shown}</strong>"
            mark = run.get("marks", {}).get(measure)
            shown += f"<sup>{safe(mark)}</sup>" if mark else ""
            yield f"<td>{shown}{''.join(f'<small>{line}</small>' for line in beside(run, measure))}</td>"
        yield "</tr>"
    yield "</tbody></table>"


def beside(run: Mapping[str, Any], measure: str) -> Iterator[str]:
    """What stands below a mean."""
    parts = (run.get(part, {}).get(measure) for part in ("deviations", "intervals", "corrected"))
    deviation, interval, p = parts
    if deviation is not None:
        yield f"±{deviation:.4f}"
    if interval:
        yield f"[{interval[0]:.3f}, {interval[1]:.3f}]"
    if p is not None:
        yield f"p {p:{'.4f' if p >= 0.0001 else '.1e'}}"


def differences(summary: Mapping[str, Any]) -> Iterator[str]:
    """The differences that were tested."""
    if compared := summary.get("tests"):
        yield f"<details><summary>{amount(len(compared), 'tested differences')}</summary>"
        yield f'<div class="wide" role="region" aria-label="Tested differences" tabindex="0"><table>{head(DIFFERENCES)}'
        for one in compared:
            first, *cells = map(safe, difference_cells(one))
            yield f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        yield "</table></div></details>"


def head(names: Sequence[str]) -> str:
    """The names of columns, which break before a cut-off where there is little room."""
    cells = "".join(f'<th scope="col">{safe(name).replace("@", "<wbr>@")}</th>' for name in names)
    return f"<thead><tr>{cells}</tr></thead>"


def tree(step: Step) -> Iterator[str]:
    """A step with its options, and those before it below."""
    made = f"seed {step.verb}" if step.verb else ""
    head = f"<b>{safe(step.role)}</b> {safe(made)} <code>{safe(step.name)}</code> <small>{step.identity[:8]}</small>"
    yield f"<ul><li>{head}"
    if step.note:
        yield f"<em>{safe(step.note)}</em>"
    if step.chosen:
        yield f'<span class="chosen">{safe(", ".join(f"{key} {value}" for key, value in step.chosen.items()))}</span>'
    if step.options:
        rows = "".join(f"<tr><th>{safe(key)}</th><td>{safe(value)}</td></tr>" for key, value in step.options.items())
        yield f"<details><summary>all {amount(len(step.options), 'options')}</summary><table>{rows}</table></details>"
    for before in step.inputs:
        yield from tree(before)
    yield "</li></ul>"
