"""What ANCE adds to a retriever, in turn and beside training, and MaxP to long documents: SQuAD and MedQuAD.

    SEED_DATA=FOLDER python benchmarks/ance.py --work ance --start RETRIEVER [--plan] [--table]

FOLDER holds squad/ and medquad/ in BEIR's layout. RETRIEVER is a model folder to go on from, such as the best of
benchmarks/finetuning.py. On SQuAD it is trained for --steps more, all else equal, with negatives of BM25, of ANCE in
turn, and of ANCE beside it; and is left as it is. On MedQuAD, whose answers are long, it is trained for --steps to read
the first --length tokens of a passage (FirstP), or up to four segments of so many, of which the best counts (MaxP).
Each searches all passages for the dev questions.

A run that has ended is a JSON line in --results, and isn't run again with the same settings; one that was interrupted
goes on from the folders in --work. Settings were chosen on dev, which also compares. --table prints what the lines say.
"""

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from objectives import Stages, read_lines, say, versions

from seedcli.base.files import read_json, write_text
from seedcli.base.manifest import identify

MEASURES = ["mrr@10", "recall@20", "recall@100"]
DEPTH = 100
RUNS = {
    "squad": ["start", "bm25", "in-turn", "async"],
    "medquad": ["words", "firstp", "maxp"],
}
BASELINES = {"squad": "bm25", "medquad": "firstp"}
NAMES = {
    "start": "the start",
    "bm25": "more steps, BM25 negatives",
    "in-turn": "more steps, ANCE in turn",
    "async": "more steps, ANCE beside training",
    "words": "BM25",
    "firstp": "FirstP, {length} tokens",
    "maxp": "MaxP, {segments} x {length} tokens",
}
UNFINISHED = "unfinished"
INCIDENTAL = {"work", "results", "plan", "table", "only", "start"}  # options that change no run; the start has a name
SETS = ("negatives_overlap", "negatives_above_positive", "negatives_staleness", "negatives_refresh_seconds")

Line = dict[str, Any]


def main() -> None:
    options = read_options()
    settings = {name: value for name, value in vars(options).items() if name not in INCIDENTAL}
    if options.start is not None:
        settings["start"] = identify(options.start).identity[:12]
    if options.table:
        print("\n".join(table(read_lines(options.results))))
        return
    for data, run in ((data, run) for data, runs in RUNS.items() for run in runs):
        lines = read_lines(options.results)
        done = any((line["data"], line["run"], line["settings"]) == (data, run, settings) for line in lines)
        if options.plan:
            print(f"{'done ' if done else 'to do'}  {data}: {run}")
        elif not done and (not options.only or run in options.only):
            say(f"{data}: {run} begins")
            began = time.monotonic()
            line = {"data": data, "run": run, **Bench(options, data).measure(run), "settings": settings}
            line |= {"command": command(settings), **versions()}
            write_text(options.results, "".join(f"{json.dumps(each)}\n" for each in [*lines, line]))
            told = " ".join(f"{name} {value:.4f}" for name, value in line["metrics"].items())
            say(f"{data}: {run} ended after {time.monotonic() - began:,.0f} s  {told}")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    results = Path(__file__).parents[1] / "docs" / "ance.jsonl"
    add("--work", type=Path, help="folder for models, vectors and runs")
    add("--start", type=Path, help="the retriever to go on from")
    add("--results", type=Path, default=results, help="where finished runs are kept, a JSON line each")
    add("--plan", action="store_true", help="print the runs, and do nothing")
    add("--table", action="store_true", help="print what the finished runs say, and do nothing")
    add("--only", action="append", choices=[run for runs in RUNS.values() for run in runs], help="repeatable")
    add("--steps", type=int, default=200)
    add("--refresh", type=int, default=50, help="steps between searches for negatives")
    add("--questions", type=int, default=64, help="a step")
    add("--max-queries", type=int, default=12_800, help="training questions, drawn by the seed")
    add("--length", type=int, default=64, help="tokens of a passage, or of a segment")
    add("--segments", type=int, default=4)
    add("--lr", type=float, default=2e-4)
    add("--temperature", type=float, default=8.0, help="what dot products are divided by")
    add("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.plan or options.table):
        if options.work is None or options.start is None:
            parser.error("needs --work and --start")
        if "SEED_DATA" not in os.environ:
            sys.exit("SEED_DATA must name a folder with squad/ and medquad/")
    return options


class Bench(Stages):
    """Runs over one data set."""

    def __init__(self, options: argparse.Namespace, data: str):
        super().__init__(options, data)
        self.data = data

    def measure(self, run: str) -> Line:
        """What a run's line says of it."""
        found = self.found(run)
        seconds = dict(self.seconds)  # before those of the baseline take their place
        told = {} if run in {"start", "words"} else training(self.tuned(run))
        return told | self.evaluated(run, found) | {"seconds": seconds}

    def tuned(self, run: str) -> Path:
        """The retriever, or the one that all go on from."""
        options = self.options
        if run == "start":
            return Path(options.start)
        squad = self.data == "squad"
        negatives: dict[str, Any] = {"hard": 1, "negatives": "bm25"} if squad else {"hard": 0}
        if run in {"in-turn", "async"}:
            negatives |= {"negatives": "ance", "ance": run, "refresh": options.refresh, "negative_depth": "200"}
        given = {
            "model": str(options.start),
            "data": str(self.collection),
            "max_queries": options.max_queries,
            "negatives": negatives,
            "loss": {"loss": "in-batch", "temperature": options.temperature},
            "tower": {"passage_length": options.length, "segments": options.segments if run == "maxp" else 1},
            "optimize": {
                "steps": options.steps, "batch_size": options.questions, "lr": options.lr, "seed": options.seed,
            },
            "saving": {"log_every": 10, "save_every": options.refresh},
        }  # fmt: skip
        return self.made("finetune", f"{run}-tuned", given)

    def found(self, run: str) -> Path:
        """The ranking of the passages for each dev question."""
        if run == "words":
            index = self.made("index", "words", {"kind": "bm25", "corpus": str(self.collection)})
        else:
            given = {"model": str(self.tuned(run)), "corpus": str(self.collection)}
            vectors = self.made("encode", f"{run}-vectors", given)
            index = self.made("index", f"{run}-index", {"vectors": str(vectors)})
        asked = {"index": [str(index)], "queries": str(self.collection), "split": "dev", "depth": DEPTH}
        return self.made("search", f"{run}-found", asked)

    def evaluated(self, run: str, found: Path) -> Line:
        """Metrics with their 95 % intervals over questions, and p-values against the baseline."""
        baseline = BASELINES[self.data]
        compared = {"run": found} | ({} if run == baseline else {baseline: self.found(baseline)})
        given = {"runs": [f"{name}={path}" for name, path in compared.items()], "qrels": str(self.collection)}
        given |= {"split": "dev", "measures": MEASURES, "baseline": baseline if len(compared) > 1 else None}
        report = read_json(self.made("evaluate", f"{run}-report", given) / "report.json")["runs"]["run"]
        p_values = report["p_values"] if len(compared) > 1 else {}
        return {"metrics": report["means"], "intervals": report["intervals"], "p_values": p_values}

    def made(self, verb: str, name: str, given: dict[str, Any]) -> Path:
        return super().made(verb, f"{self.data}-{name}", given)


def training(folder: Path) -> Line:
    """What the log says: losses as training went on, and each set of negatives."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    names = ("step", "loss", "negatives", "accuracy", "steps_per_second")
    curve = [{name: round(record[name], 4) for name in names} for record in records if "loss" in record]
    sets = [
        {"step": record["step"], "of_step": record["negatives_step"]}
        | {name: round(record[name], 4) for name in (*SETS, "training_seconds") if name in record}
        for record in records
        if "negatives_step" in record
    ]
    return {"curve": curve, "sets": sets}


def command(settings: dict[str, Any]) -> str:
    """What gives the lines again, whatever the defaults are by then."""
    words = ["--work", "ance", "--start", "RETRIEVER"]
    for name, value in ((name, value) for name, value in settings.items() if name != "start"):
        words += [f"--{name.replace('_', '-')}", str(value)]
    return f"SEED_DATA=FOLDER python benchmarks/ance.py {shlex.join(words)}"


def table(lines: list[Line]) -> list[str]:
    """The runs with the settings of the last one, as Markdown; one that hasn't ended is marked so."""
    told: list[str] = []
    for data, runs in RUNS.items():
        told += ["", f"| {data}, dev | " + " | ".join(MEASURES) + " | p (mrr@10) |", "|:--|" + "--:|" * 4]
        for run in runs:
            same = (line for line in lines if (line["data"], line["run"]) == (data, run))
            line = next((line for line in same if line["settings"] == lines[-1]["settings"]), None)
            name = NAMES[run].format(**lines[-1]["settings"])
            cells = [UNFINISHED, "", "", ""]
            if line:
                p = line["p_values"].get("mrr@10")
                cells = [f"{line['metrics'][key]:.3f}".lstrip("0") for key in MEASURES]
                cells.append("" if p is None else f"{p:.4f}".lstrip("0"))
            told.append(f"| {name} | " + " | ".join(cells) + " |")
    return told[1:]


if __name__ == "__main__":
    main()
