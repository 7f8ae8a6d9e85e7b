"""How a pre-trained encoder is best fine-tuned, and how few labels do: SQuAD, from one SEED encoder of mini size.

    SEED_DATA=FOLDER python benchmarks/finetuning.py --work finetuning [--plan]

FOLDER holds wikipedia_2015/wiki.txt.gz and squad/ in BEIR's layout. The encoder is pre-trained on Wikipedia; BM25
ranks SQuAD's passages for the training questions. Then, all else equal, steps included: triplets with a BM25 negative
each; DPR with the batch's passages alone; DPR with a BM25 negative each; all three with and without a head (linear,
layer norm); and DPR with a BM25 negative on 1, 5, 10 and 50 % of the questions, a smaller part within the larger. Each
searches all passages for the dev questions, as do BM25 and the encoder as it is.

A run that has ended is a JSON line in --results, and isn't run again with the same settings; one that was interrupted
goes on from the folders in --work. Settings were chosen on dev, which also compares.
"""

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from objectives import Stages, read_lines, say, versions

from seedcli.base.files import read_json, write_text
from seedcli.base.manifest import finished

METHODS: dict[str, dict[str, Any]] = {
    "triplet": {"loss": "triplet", "hard": 1},
    "dpr": {"loss": "in-batch", "hard": 0},
    "dpr-bm25": {"loss": "in-batch", "hard": 1},
}
FRACTIONS = (0.01, 0.05, 0.1, 0.5, 1.0)
MEASURES = ["mrr@10", "recall@20", "recall@100"]
BASELINE = "dpr"  # without a head, on all questions: what the others are tested against
DEPTH = 100
SAMPLED = 2_000  # passages that 500 dev questions are searched in while training; the best look's weights are kept
LOOK = "dev_mrr@10"
INCIDENTAL = {"work", "results", "plan", "only"}  # options that change no run


class Run(NamedTuple):
    """Something to be done once: a method, with or without a head, on a share of the questions."""

    method: str
    head: bool = False
    fraction: float = 1.0

    def __str__(self) -> str:
        if self.method not in METHODS:
            return self.method
        return f"{self.method}{', head' if self.head else ''}, {self.fraction:.0%} of the questions"


RUNS = [
    Run("bm25"),
    Run("encoder"),
    Run(BASELINE),
    *(Run(method, head) for head in (False, True) for method in METHODS if (method, head) != (BASELINE, False)),
    *(Run("dpr-bm25", fraction=fraction) for fraction in FRACTIONS[:-1]),
]


def main() -> None:
    options = read_options()
    settings = {name: value for name, value in vars(options).items() if name not in INCIDENTAL}
    for run in RUNS:
        lines = read_lines(options.results)
        done = find(lines, settings, run) is not None
        if options.plan:
            print(f"{'done ' if done else 'to do'}  {run}")
        elif not done and (not options.only or run.method in options.only):
            say(f"{run}: begins")
            began = time.monotonic()
            line = {**run._asdict(), **Bench(options).measure(run), "settings": settings}
            line |= {"command": command(settings), **versions()}
            write_text(options.results, "".join(f"{json.dumps(each)}\n" for each in [*lines, line]))
            told = " ".join(f"{name} {value:.4f}" for name, value in line["metrics"].items())
            say(f"{run}: ended after {time.monotonic() - began:,.0f} s  {told}")


def options_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    results = Path(__file__).parents[1] / "docs" / "finetuning.jsonl"
    add("--work", type=Path, required=True, help="folder for models, vectors and runs")
    add("--results", type=Path, default=results, help="where finished runs are kept, a JSON line each")
    add("--plan", action="store_true", help="print the runs, and do nothing")
    add("--only", action="append", choices=[*METHODS, "bm25", "encoder"], help="a method; repeatable")
    add("--size", default="mini")
    add("--vocabulary", type=int, default=8_192)
    add("--std", type=float, default=0.05, help="of the initial weights")
    add("--length", type=int, default=64, help="tokens of a block, and of a passage")
    add("--blocks", type=int, default=16, help="a step of pre-training")
    add("--pretrain-steps", type=int, default=7_000)
    add("--pretrain-lr", type=float, default=1e-3)
    add("--negative-depth", type=int, default=30, help="of BM25's ranking")
    add("--questions", type=int, default=64, help="a step of fine-tuning")
    add("--query-length", type=int, default=32)
    add("--steps", type=int, default=200, help="of fine-tuning")
    add("--lr", type=float, default=5e-4, help="of fine-tuning")
    add("--temperature", type=float, default=8.0, help="what dot products are divided by")
    add("--seed", type=int, default=0)
    return parser


def read_options() -> argparse.Namespace:
    options = options_parser().parse_args()
    if not options.plan and "SEED_DATA" not in os.environ:
        sys.exit("SEED_DATA must name a folder with wikipedia_2015/wiki.txt.gz and squad/")
    return options


class Bench(Stages):
    """Runs over SQuAD."""

    def __init__(self, options: argparse.Namespace):
        super().__init__(options, "squad")

    def measure(self, run: Run) -> dict[str, Any]:
        """What a run's line says of it."""
        found = self.found(run)
        seconds = dict(self.seconds)  # before those of the baseline take their place
        told = training(self.tuned(run)) if run.method in METHODS else {}
        return told | self.evaluated(run, found) | {"seconds": seconds}

    def pretrained(self) -> Path:
        options = self.options
        given = {
            "text": [str(self.collection.parent / "wikipedia_2015" / "wiki.txt.gz")],
            "words": {"tokenizer": "train", "vocabulary": options.vocabulary, "length": options.length},
            "model": {"size": options.size, "std": options.std, "dropout": 0.0},
            "optimize": {
                "steps": options.pretrain_steps, "batch_size": options.blocks, "micro_batch": options.blocks,
                "lr": options.pretrain_lr, "seed": options.seed,
            },
            "watch": {"held_out_share": 0.003, "watch_every": 1_000},
            "saving": {"log_every": 100},
        }  # fmt: skip
        return self.made("pretrain", "encoder", given)

    def index(self) -> Path:
        return self.made("index", "bm25-index", {"kind": "bm25", "corpus": str(self.collection)})

    def negatives(self) -> Path:
        given = {"index": [str(self.index())], "queries": str(self.collection), "split": "train"}
        return self.made("search", "negatives", {**given, "depth": self.options.negative_depth})

    def tuned(self, run: Run) -> Path:
        """The retriever, or the encoder as it is."""
        options, encoder = self.options, self.pretrained()
        if run.method == "encoder":
            return encoder
        method = METHODS[run.method]
        given = {
            "model": str(encoder),
            "data": str(self.collection),
            "fraction": run.fraction,
            "negatives": {"negatives": str(self.negatives()), "hard": method["hard"]},
            "loss": {"loss": method["loss"], "temperature": options.temperature},
            "tower": {
                "pooling": "cls", "similarity": "dot", "query_length": options.query_length,
                "passage_length": options.length, "head": "linear" if run.head else "none",
            },
            "optimize": {
                "steps": options.steps, "batch_size": options.questions, "lr": options.lr, "seed": options.seed,
            },
            "watch": {"dev": "dev", "watch_every": options.steps // 4, "dev_passages": SAMPLED},
            "saving": {"log_every": 10, "save_every": 100},
        }  # fmt: skip
        return self.made("finetune", f"{label(run)}-tuned", given)

    def found(self, run: Run) -> Path:
        """The ranking of SQuAD's passages for each dev question."""
        if run.method == "bm25":
            index = self.index()
        else:
            given = {"model": str(self.tuned(run)), "corpus": str(self.collection)}
            vectors = self.made("encode", f"{label(run)}-vectors", given)
            index = self.made("index", f"{label(run)}-index", {"vectors": str(vectors)})
        asked = {"index": [str(index)], "queries": str(self.collection), "split": "dev", "depth": DEPTH}
        return self.made("search", f"{label(run)}-found", asked)

    def evaluated(self, run: Run, found: Path) -> dict[str, Any]:
        """Metrics with their 95 % intervals over questions, and p-values against the baseline."""
        compared = {"run": found} | ({} if run.method in {"bm25", "encoder"} else {BASELINE: self.found(Run(BASELINE))})
        given = {"runs": [f"{name}={path}" for name, path in compared.items()], "qrels": str(self.collection)}
        given |= {"split": "dev", "measures": MEASURES, "baseline": BASELINE if len(compared) > 1 else None}
        report = read_json(self.made("evaluate", f"{label(run)}-report", given) / "report.json")["runs"]["run"]
        p_values = report["p_values"] if len(compared) > 1 and run != Run(BASELINE) else {}
        return {"metrics": report["means"], "intervals": report["intervals"], "p_values": p_values}


def label(run: Run) -> str:
    return f"{run.method}{'-head' if run.head else ''}-{run.fraction}" if run.method in METHODS else run.method


def training(folder: Path) -> dict[str, Any]:
    """What the log says: losses, negatives and accuracy in the batch as training went on, looks at dev; queries."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    names = ("step", "loss", "negatives", "accuracy", "steps_per_second")
    curve = [{name: round(record[name], 4) for name in names} for record in records if "loss" in record]
    looks = [{"step": record["step"], LOOK: record[LOOK]} for record in records if LOOK in record]
    told = finished(folder).metrics
    return {"trained": told["queries"], "best_step": told["best_step"], "curve": curve, "looks": looks}


def command(settings: dict[str, Any]) -> str:
    """What gives the lines again, whatever the defaults are by then."""
    words = ["--work", "finetuning"]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return f"SEED_DATA=FOLDER python benchmarks/finetuning.py {shlex.join(words)}"


def find(lines: list[dict[str, Any]], settings: dict[str, Any], run: Run) -> dict[str, Any] | None:
    """The line of a run with these settings."""
    same = (line for line in lines if Run(line["method"], line["head"], line["fraction"]) == run)
    return next((line for line in same if line["settings"] == settings), None)


if __name__ == "__main__":
    main()
