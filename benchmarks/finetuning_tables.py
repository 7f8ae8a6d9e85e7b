"""Tables and plots of what benchmarks/finetuning.py has measured: Markdown, and PNG and SVG beside the results.

    python benchmarks/finetuning_tables.py [--results docs/finetuning.jsonl]

Shows the runs that have the settings of the last one; a run that hasn't ended is marked so.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetuning import FRACTIONS, LOOK, MEASURES, METHODS, SAMPLED, Run

from seedcli.evaluation.plots import Curve, curves

NAMES = {
    "bm25": "BM25", "encoder": "the encoder as it is", "triplet": "triplets, BM25 negatives",
    "dpr": "DPR, in-batch alone", "dpr-bm25": "DPR, a BM25 negative",
}  # fmt: skip
MARK = "†"  # beside a value that differs from that of DPR in-batch alone without a head, p < .05
UNFINISHED = "unfinished"

Line = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "docs" / "finetuning.jsonl")
    results = parser.parse_args().results
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    found = {
        Run(line["method"], line["head"], line["fraction"]): line
        for line in lines
        if line["settings"] == lines[-1]["settings"]
    }
    print(*methods(found), "", *fractions(found), sep="\n")
    draw(found, results.with_suffix(""))


def methods(found: dict[Run, Line]) -> Iterator[str]:
    """A row for each method, without a head and with one."""
    yield row("fine-tuned by", "head", *MEASURES, "negatives a query", "of which the positive is best")
    yield "|:--|:--|" + "--:|" * (len(MEASURES) + 2)
    for run in (Run("bm25"), Run("encoder"), *(Run(method, head) for method in METHODS for head in (False, True))):
        head = "" if run.method not in METHODS else "yes" if run.head else "no"
        yield row(NAMES[run.method], head, *figures(found.get(run)), *trained(found.get(run)))


def fractions(found: dict[Run, Line]) -> Iterator[str]:
    """A row for each share of the questions."""
    yield row("questions", "in all", *MEASURES)
    yield "|--:|--:|" + "--:|" * len(MEASURES)
    for fraction in FRACTIONS:
        line = found.get(Run("dpr-bm25", fraction=fraction))
        yield row(f"{fraction:.0%}", UNFINISHED if line is None else f"{line['trained']:,}", *figures(line))


def figures(line: Line | None) -> list[str]:
    if line is None:
        return [UNFINISHED, *[""] * (len(MEASURES) - 1)]
    marks = [MARK if line["p_values"].get(measure, 1) < 0.05 else "" for measure in MEASURES]
    return [f"{line['metrics'][measure]:.3f}"[1:] + mark for measure, mark in zip(MEASURES, marks, strict=True)]


def trained(line: Line | None) -> list[str]:
    """From how many negatives a query's positive was told in the end, and how often rightly."""
    if line is None or "curve" not in line:
        return ["", ""]
    last = line["curve"][-1]
    return [f"{last['negatives']:.0f}", f"{last['accuracy']:.0%}"]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def draw(found: dict[Run, Line], stem: Path) -> None:
    """The first measure by share of the questions; and the looks at dev while training."""
    measure = MEASURES[0]
    lines = [found[run] for fraction in FRACTIONS if (run := Run("dpr-bm25", fraction=fraction)) in found]
    share = Curve(
        [100 * line["fraction"] for line in lines],
        [line["metrics"][measure] for line in lines],
        *([line["intervals"][measure][side] for line in lines] for side in (0, 1)),
    )
    ticks = [100 * fraction for fraction in FRACTIONS]
    axis = "% of SQuAD's training questions"
    curves(
        stem.with_name(f"{stem.name}-questions"), {NAMES["dpr-bm25"]: share}, axis, f"dev {measure}",
        ticks=ticks, log_x=True,
    )  # fmt: skip
    seen = {
        f"{NAMES[run.method]}{', head' if run.head else ''}": Curve(
            [look["step"] for look in line["looks"]], [look[LOOK] for look in line["looks"]]
        )
        for run, line in found.items()
        if "looks" in line and run.fraction == 1
    }
    curves(stem.with_name(f"{stem.name}-steps"), seen, "step", f"mrr@10 in {SAMPLED:,} passages")


if __name__ == "__main__":
    main()
