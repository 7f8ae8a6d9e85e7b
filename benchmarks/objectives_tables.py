"""Tables and plots of what benchmarks/objectives.py has measured: Markdown, and PNG and SVG beside the results.

    python benchmarks/objectives_tables.py [--results docs/objectives.jsonl]

Shows the runs that have the settings of the last one; a run that hasn't ended is marked so.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from objectives import BASELINES, DECODERS, FRACTIONS, MEASURES

from seedcli.evaluation.plots import Curve, curves

NAMES = {
    "bm25": "BM25", "random": "random weights", "mlm": "masked words", "strong": "strong (5 layers, all)",
    "mlm-equal-operations": "masked words, operations of seed", "seed": "seed (3 layers, window 2)",
}  # fmt: skip
ORDER = ("bm25", "random", "mlm", "mlm-equal-operations", "strong", "seed")
MARKS = dict(zip(BASELINES, "†‡", strict=True))  # beside a value that differs from a baseline's, p < .05
UNFINISHED = "unfinished"

Line = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "docs" / "objectives.jsonl")
    results = parser.parse_args().results
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    lines = [line for line in lines if line["model"] == "bm25" or line["settings"] == lines[-1]["settings"]]
    first = min(line["seed"] for line in lines)
    runs = {(line["model"], line["fraction"]): line for line in lines if line["seed"] == first}
    print(*pretraining(runs), "", sep="\n")
    for measure in MEASURES:
        print(*retrieval(runs, measure), "", sep="\n")
    draw(runs, results.with_suffix(""))


def pretraining(runs: dict[tuple[str, float | None], Line]) -> Iterator[str]:
    """A row for each model: what it took, its losses on held-out text, what h0 is worth there, the probe's MRR."""
    yield "| pre-trained | steps | operations | minutes | MLM loss | decoder loss | h0 is worth | probe MRR |"
    yield "|:--|--:|--:|--:|--:|--:|--:|--:|"
    for model in ORDER[2:]:
        if line := runs.get((model, None)):
            look, first = line["looks"][-1], line["looks"][0]
            assert first["step"] == 0
            told = [
                f"{line['steps']:,}",
                f"{line['operations_computed']:.1e}",
                f"{line['seconds']['pretrain'] / 60:.1f}",
            ]
            told += [f"{look['held_out_mlm']:.2f}", shown(look, "held_out_decoder"), shown(look, "h0_worth")]
            yield row(NAMES[model], *told, f"{look['probe_mrr']:.3f}")
        else:
            yield row(NAMES[model], UNFINISHED, *[""] * 6)


def retrieval(runs: dict[tuple[str, float | None], Line], measure: str) -> Iterator[str]:
    """A row for each model: a measure by the share of the training questions that it was fine-tuned on."""
    yield row(measure, *(f"{fraction:.0%}" for fraction in FRACTIONS))
    yield "|:--|" + "--:|" * len(FRACTIONS)
    for model in ORDER:
        if model == "bm25":
            yield row(NAMES[model], value(runs.get((model, None)), measure), *["–"] * (len(FRACTIONS) - 1))
        else:
            yield row(NAMES[model], *(value(runs.get((model, fraction)), measure) for fraction in FRACTIONS))


def value(line: Line | None, measure: str) -> str:
    if line is None:
        return UNFINISHED
    marks = (mark for model, mark in MARKS.items() if line["p_values"].get(model, {}).get(measure, 1) < 0.05)
    return f"{line['metrics'][measure]:.3f}"[1:] + "".join(marks)


def shown(look: Line, name: str) -> str:
    return f"{look[name]:.2f}" if name in look else "–"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def draw(runs: dict[tuple[str, float | None], Line], stem: Path) -> None:
    """The first measure by share of the questions, and by step of pre-training what h0 is worth, and the probe."""
    models = [model for model in ORDER if model in DECODERS]
    tuned = FRACTIONS[1:]
    found = {NAMES[model]: [runs[model, f] for f in tuned if (model, f) in runs] for model in models}
    measure = MEASURES[0]
    shares = {
        name: Curve(
            [100 * line["fraction"] for line in lines],
            [line["metrics"][measure] for line in lines],
            [line["intervals"][measure][0] for line in lines],
            [line["intervals"][measure][1] for line in lines],
        )
        for name, lines in found.items()
        if lines
    }  # fmt: skip
    axis, ticks = "% of SQuAD's training questions", [100 * fraction for fraction in tuned]
    curves(stem.with_name(f"{stem.name}-questions"), shares, axis, f"dev {measure}", ticks=ticks, log_x=True)

    def looks(name: str, take: Callable[[Line], bool]) -> dict[str, Curve]:
        lines = {NAMES[model]: runs[model, None]["looks"] for model in models if (model, None) in runs}
        return {
            model: Curve([look["step"] for look in seen], [look[name] for look in seen])
            for model, seen in lines.items()
            if take(seen[-1])
        }

    for name, label in (("h0_worth", "nats a token that h0 is worth"), ("probe_mrr", "MRR of the probe")):
        drawn = looks(name, lambda look, name=name: name in look)  # type: ignore[misc]
        curves(stem.with_name(f"{stem.name}-{name.split('_')[0]}"), drawn, "step of pre-training", label)


if __name__ == "__main__":
    main()
