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

from seedcli.base.files import write_text
from seedcli.data.records import clean
from seedcli.evaluation.steps import Step

UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}  # in JSON that stands in HTML


def write_page(path: Path, summary: Mapping[str, Any], held: Mapping[str, Any], lineages: Sequence[Step]) -> None:
    """The page of a report: `summary` is what report.json holds, `held` what `contents` gives."""
    write_text(path, page(summary, held, lineages))


def page(summary: Mapping[str, Any], held: Mapping[str, Any], lineages: Sequence[Step]) -> str:
    style, script = packaged("page.css"), packaged("page.js")
    count = len(summary["runs"])
    return Template(packaged("page.html")).substitute(
        policy=f"default-src 'none'; style-src {source(style)}; script-src {source(script)}; base-uri 'none'; "
        "form-action 'none'",
        style=style,
        script=script,
        subtitle=f"{count} {'run' if count == 1 else 'runs'}, {summary['queries']:,} judged queries",
        table="\n".join(table(summary)),
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
    """Means, marked where they differ from the baseline's, and their intervals."""
    tested = summary["significance"] or {}
    yield '<table><thead><tr><th scope="col">run</th>'
    yield from (f'<th scope="col">{safe(measure)}</th>' for measure in summary["measures"])
    yield "</tr></thead><tbody>"
    best = {m: max(run["means"][m] or 0 for run in summary["runs"].values()) for m in summary["measures"]}
    for name, run in summary["runs"].items():
        note = " <small>(baseline)</small>" if name == tested.get("baseline") else ""
        yield f'<tr><th scope="row">{safe(name)}{note}</th>'
        for measure in summary["measures"]:
            mean, interval = run["means"][measure], run.get("intervals", {}).get(measure)
            p = run.get("p_values", {}).get(measure)
            shown = f"{mean:.4f}" if mean is not None else "–"
            shown = f"<strong>{shown}</strong>" if mean == best[measure] and len(summary["runs"]) > 1 else shown
            dagger = "<abbr title='differs from the baseline'>†</abbr>" if p is not None and p < tested["level"] else ""
            between = f"<small>[{interval[0]:.3f}, {interval[1]:.3f}]</small>" if interval else ""
            chance = f"<small>p {p:{'.4f' if p >= 0.0001 else '.1e'}}</small>" if p is not None else ""
            yield f"<td>{shown}{dagger}{between}{chance}</td>"
        yield "</tr>"
    yield "</tbody></table>"


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
        yield f"<details><summary>all {len(step.options)} options</summary><table>{rows}</table></details>"
    for before in step.inputs:
        yield from tree(before)
    yield "</li></ul>"
