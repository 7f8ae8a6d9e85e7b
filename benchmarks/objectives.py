"""What pre-training is worth for retrieval: masked words, SEED's weak decoder and a strong one, from the same start.

    SEED_DATA=FOLDER python benchmarks/objectives.py --work objectives [--plan]

FOLDER holds wikipedia_2015/wiki.txt.gz and squad/ in BEIR's layout. `mlm`, `seed` (3 layers, window 2) and `strong`
(5 layers, all of the past) are pre-trained from the same random weights on the same blocks and masks: equal tokens.
`mlm-equal-operations` takes more steps, until it cost as many floating-point operations as `seed`; `random` takes
none. Each then searches SQuAD's passages for the dev questions as it is (fraction 0), and after DPR fine-tuning with
in-batch negatives on 1 %, 10 % and 100 % of the training questions, a smaller part within the larger. Vectors are
those of [CLS], which is what the decoders train. BM25 stands beside.

A run that has ended is a JSON line in --results, and isn't run again with the same settings; one that was interrupted
goes on from the folders in --work. Both compare models on dev, where the settings were chosen too.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seedcli import __version__
from seedcli.base.config import resolve
from seedcli.base.files import read_json, write_text
from seedcli.base.manifest import digest, finished, library_versions, machine
from seedcli.base.progress import Silent
from seedcli.configs import VERBS
from seedcli.models.encoder import SIZES
from seedcli.models.flops import Decoder, Encoder, pretraining_operations
from seedcli.stages.stage import perform

DECODERS = {
    "mlm": None,
    "seed": Decoder(3, 2),
    "random": None,
    "strong": Decoder(5, None),
    "mlm-equal-operations": None,
}
BASELINES = ("mlm", "seed")  # they come first, so that whatever follows can be tested against them
WAVES = (("mlm", "seed", "random"), ("strong",), ("mlm-equal-operations",))  # the small fractions of each, in turn
FRACTIONS = (0.0, 0.01, 0.1, 1.0)
MASKED = 0.15
MEASURES = ["mrr@10", "recall@100"]
HELD_OUT = 0.003  # of the blocks, to see what h0 is worth
LOOKS = ("step", "held_out_mlm", "held_out_decoder", "h0_worth", "probe_mrr")
SPANS = 20  # equal parts of a training run, over each of which its losses are averaged
DEPTH = 100
INCIDENTAL = {"work", "results", "plan", "only", "fractions", "seed"}  # options that change no run


class Run(NamedTuple):
    """Something to be done once: a pre-training has no fraction, and BM25 is a model of no seed."""

    model: str
    seed: int
    fraction: float | None = None

    def __str__(self) -> str:
        if self.model == "bm25":
            return self.model
        task = "pre-training" if self.fraction is None else f"{self.fraction:.0%} of the questions"
        return f"{self.model}, seed {self.seed}, {task}"


def main() -> None:
    options = read_options()
    lines = read_lines(options.results)
    settings = {name: value for name, value in vars(options).items() if name not in INCIDENTAL}
    for run in planned(options):
        done = find(lines, settings, run) is not None
        if options.plan:
            print(f"{'done ' if done else 'to do'}  {operations(options, run):9.2e} operations (computed)  {run}")
        elif not done:
            say(f"{run}: begins")
            began = time.monotonic()
            line = {**run._asdict(), **Bench(options).measure(run), "settings": settings}
            line |= {"command": command(settings, run.seed), **versions()}
            lines = [*read_lines(options.results), line]
            write_text(options.results, "".join(f"{json.dumps(each)}\n" for each in lines))
            shown = " ".join(
                f"{name} {value:.4f}" for name, value in line.get("metrics", line.get("losses", {})).items()
            )
            say(f"{run}: ended after {time.monotonic() - began:,.0f} s  {shown}")


def options_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    results = Path(__file__).parents[1] / "docs" / "objectives.jsonl"
    add("--work", type=Path, required=True, help="folder for models, vectors and runs")
    add("--results", type=Path, default=results, help="where finished runs are kept, a JSON line each")
    add("--plan", action="store_true", help="print the runs and what they cost, and do nothing")
    add("--only", action="append", choices=[*DECODERS, "bm25"], help="a model, tested against mlm and seed; repeatable")
    add("--fractions", type=float, nargs="+", choices=FRACTIONS, default=list(FRACTIONS))
    add("--seed", type=int, action="append", help="of weights, order, masks and questions; repeatable; default 0")
    add("--size", choices=list(SIZES), default="tiny")
    add("--vocabulary", type=int, default=8_192)
    add("--std", type=float, default=0.05, help="of the initial weights; 0.02 x (768 / 128)^0.5")
    add("--length", type=int, default=64, help="tokens of a block, and of a passage")
    add("--batch-size", type=int, default=16, help="blocks a step of pre-training")
    add("--steps", type=int, default=7_000, help="of pre-training, where operations aren't made equal")
    add("--lr", type=float, default=2e-3, help="of pre-training")
    add("--questions", type=int, default=64, help="a step of fine-tuning")
    add("--query-length", type=int, default=32, help="tokens of a question")
    add("--tune-steps", type=int, nargs=3, default=[100, 250, 600], help="of fine-tuning on 1 %%, 10 %% and 100 %%")
    add("--tune-lr", type=float, default=1e-3, help="of fine-tuning")
    add("--similarity", choices=["dot", "cosine"], default="dot")
    add("--temperature", type=float, default=6.0, help="what scores are divided by in fine-tuning")
    add("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    return parser


def read_options() -> argparse.Namespace:
    options = options_parser().parse_args()
    if not options.plan and "SEED_DATA" not in os.environ:
        sys.exit("SEED_DATA must name a folder with wikipedia_2015/wiki.txt.gz and squad/")
    options.only, options.seed = options.only or [*DECODERS, "bm25"], options.seed or [0]
    return options


def planned(options: argparse.Namespace) -> Iterator[Run]:
    """All runs, in an order that leaves something whole wherever it ends: the full training set comes last."""
    fractions = [fraction for fraction in FRACTIONS if fraction in options.fractions]
    for seed in options.seed:
        for wave in WAVES:
            models = [model for model in wave if model in options.only]
            yield from (Run(model, seed) for model in models if model != "random")
            yield from (Run(model, seed, fraction) for fraction in fractions if fraction < 1 for model in models)
            if "bm25" in options.only and wave == WAVES[0] and seed == options.seed[0]:
                yield Run("bm25", 0)
        if 1.0 in fractions:
            yield from (Run(model, seed, 1.0) for wave in WAVES for model in wave if model in options.only)


class Stages:
    """The stages of runs over a set of SEED_DATA, each in a folder of --work named by all that it was made with."""

    def __init__(self, options: argparse.Namespace, data: str):
        self.options, self.collection = options, Path(os.environ["SEED_DATA"]) / data
        self.seconds: dict[str, float] = {}  # verb -> those of its last folder

    def made(self, verb: str, name: str, given: dict[str, Any]) -> Path:
        """The folder of a stage, made or gone on with unless it is there."""
        key = json.dumps(given).replace(str(self.options.work), "").replace(str(self.collection.parent), "")
        folder = self.options.work / f"{name}-{digest([verb, key])[:8]}"
        done = perform(verb, resolve(VERBS[verb], {"out": str(folder), **given}, {}, name), Silent())
        self.seconds[verb] = done.seconds
        return folder


class Bench(Stages):
    """Runs over SQuAD."""

    def __init__(self, options: argparse.Namespace):
        super().__init__(options, "squad")

    def measure(self, run: Run) -> dict[str, Any]:
        """What a run's line says of it."""
        told: dict[str, Any] = {}
        if run.model != "bm25":
            folder = self.pretrained(run) if run.fraction is None else self.tuned(run)
            told = sizes(self.options, run) | (training(folder) if steps(self.options, run) else {})
        if run.model != "bm25" and run.fraction is None:
            return told | {"parameters": finished(folder).metrics["parameters"], "seconds": self.seconds}
        found = self.found(run)
        told["seconds"] = dict(self.seconds)
        return told | self.evaluated(run, found)

    def pretrained(self, run: Run) -> Path:
        """The encoder before fine-tuning, with the settings that search needs."""
        options, decoder = self.options, DECODERS[run.model]
        model: dict[str, Any] = {"size": options.size, "dropout": 0.0, "std": options.std}
        model["decoder"] = "weak" if decoder else "none"
        if decoder:
            model |= {"decoder_layers": decoder.layers, "window": decoder.window or "none"}
        given = {
            "text": [str(self.collection.parent / "wikipedia_2015" / "wiki.txt.gz")],
            "model": model,
            "words": {"tokenizer": "train", "vocabulary": options.vocabulary, "length": options.length, "mask": MASKED},
            "optimize": {
                "steps": steps(options, Run(run.model, run.seed)), "batch_size": options.batch_size,
                "micro_batch": options.batch_size, "lr": options.lr, "seed": run.seed,
            },
            "watch": {"held_out_share": HELD_OUT, "watch_every": 1_000},
            "saving": {"log_every": 5, "save_every": 200},
            "machine": {"precision": options.precision},
        }  # fmt: skip
        return self.made("pretrain", f"{run.model}-{run.seed}-pretrained", given)

    def tuned(self, run: Run) -> Path:
        """The retriever: what pre-training left, or the same fine-tuned on a fraction of the questions."""
        options, encoder = self.options, self.pretrained(run)
        if not run.fraction:
            return encoder
        given = {
            "model": str(encoder),
            "data": str(self.part(run)),
            "negatives": {"hard": 0},
            "tower": {
                "pooling": "cls", "similarity": options.similarity, "query_length": options.query_length,
                "passage_length": options.length,
            },
            "optimize": {
                "steps": steps(options, run), "batch_size": options.questions, "lr": options.tune_lr,
                "seed": run.seed,
            },
            "loss": {"temperature": options.temperature},
            "saving": {"log_every": 5, "save_every": 100},
            "machine": {"precision": options.precision},
        }  # fmt: skip
        return self.made("finetune", f"{label(run)}-tuned", given)

    def part(self, run: Run) -> Path:
        """SQuAD with the judgements of a fraction of its training questions."""
        folder = self.options.work / f"squad-{run.seed}-{run.fraction}"
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        for name in ("corpus.jsonl", "queries.jsonl"):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to((self.collection / name).resolve())
        heading, *rows = (self.collection / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()
        kept = drawn([row.split("\t")[0] for row in rows], run.fraction or 0.0, run.seed)
        lines = [heading, *(row for row in rows if row.split("\t")[0] in kept)]
        write_text(folder / "qrels" / "train.tsv", "".join(f"{line}\n" for line in lines))
        return folder

    def found(self, run: Run) -> Path:
        """The ranking of SQuAD's passages for each dev question."""
        if run.model == "bm25":
            index = self.made("index", "bm25-index", {"kind": "bm25", "corpus": str(self.collection)})
        else:
            given = {"model": str(self.tuned(run)), "corpus": str(self.collection)}
            vectors = self.made("encode", f"{label(run)}-vectors", given)
            index = self.made("index", f"{label(run)}-index", {"vectors": str(vectors)})
        asked = {"index": [str(index)], "queries": str(self.collection), "split": "dev", "depth": DEPTH}
        return self.made("search", f"{label(run)}-found", asked)

    def evaluated(self, run: Run, found: Path) -> dict[str, Any]:
        """Metrics with their 95 % intervals over questions, and p-values against the baselines before it."""
        before = list(DECODERS)[: list(DECODERS).index(run.model)] if run.model in DECODERS else []
        baselines = {model: self.found(run._replace(model=model)) for model in BASELINES if model in before}
        runs = [f"{name}={path}" for name, path in {run.model: found, **baselines}.items()]
        given = {"runs": runs, "qrels": str(self.collection), "split": "dev", "measures": MEASURES}
        p_values = {}
        for baseline in [*baselines] or [None]:
            folder = self.made("evaluate", f"{label(run)}-against-{baseline}", {**given, "baseline": baseline})
            report = read_json(folder / "report.json")["runs"][run.model]
            if baseline:
                p_values[baseline] = report["p_values"]
        return {"metrics": report["means"], "intervals": report["intervals"], "p_values": p_values}


def label(run: Run) -> str:
    return run.model if run.model == "bm25" else f"{run.model}-{run.seed}-{run.fraction}"


def drawn(questions: list[str], fraction: float, seed: int) -> set[str]:
    """A share of the questions, at least one; the same seed's larger share holds the smaller."""
    different = sorted(set(questions))
    order = np.random.default_rng(seed).permutation(len(different))
    return {different[row] for row in order[: max(1, round(fraction * len(different)))]}


def steps(options: argparse.Namespace, run: Run) -> int:
    """Steps of the optimiser."""
    if run.fraction:
        return int(options.tune_steps[FRACTIONS.index(run.fraction) - 1])
    if run.fraction == 0 or run.model in {"random", "bm25"}:
        return 0
    ratio = token_operations(options, "seed") / token_operations(options, "mlm")
    return round(options.steps * ratio) if run.model == "mlm-equal-operations" else int(options.steps)


def tokens(options: argparse.Namespace, run: Run) -> int:
    """At most so many, were all blocks, questions and passages of full length."""
    if run.fraction is None:
        return steps(options, run) * options.batch_size * options.length
    return steps(options, run) * options.questions * (options.query_length + options.length)


def operations(options: argparse.Namespace, run: Run) -> float:
    """Floating-point operations of training, by arithmetic."""
    return tokens(options, run) * token_operations(options, run.model, tuning=run.fraction is not None)


def token_operations(options: argparse.Namespace, model: str, tuning: bool = False) -> float:
    decoder, layers, hidden = DECODERS.get(model), *SIZES[options.size]
    encoder = Encoder(layers, hidden, 4 * hidden, options.vocabulary)
    return pretraining_operations(encoder, None if tuning else decoder, options.length, 0.0 if tuning else MASKED)


def sizes(options: argparse.Namespace, run: Run) -> dict[str, Any]:
    layers, hidden = SIZES[options.size]
    return {
        "layers": layers, "hidden": hidden, "steps": steps(options, run), "tokens_at_most": tokens(options, run),
        "operations_computed": operations(options, run),
    }  # fmt: skip


def training(folder: Path) -> dict[str, Any]:
    """The losses in nats, as means over equal spans of the run, the last one apart; its speed since it went on; and
    what was seen of held-out text.
    """
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    records = [record for record in logged if "loss" in record]
    names = [name for name in ("mlm", "decoder", "in-batch") if records[-1].get(name)]
    spans = np.array_split(range(len(records)), min(SPANS, len(records)))
    curve = [
        {"step": records[span[-1]]["step"], **{name: mean([records[row][name] for row in span]) for name in names}}
        for span in spans
    ]
    losses = {name: curve[-1][name] for name in names}
    looks = [{name: round(record[name], 4) for name in LOOKS if name in record} for record in logged]
    told = {"losses": losses, "steps_per_second": round(records[-1]["steps_per_second"], 3), "curve": curve}
    return told | {"looks": [look for look in looks if len(look) > 1]}


def mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)


def command(settings: dict[str, Any], seed: int) -> str:
    """What gives a line again, and those beside it, whatever the defaults are by then."""
    words = ["--work", "objectives"]
    for name, value in {"seed": seed, **settings}.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return f"SEED_DATA=FOLDER python benchmarks/objectives.py {shlex.join(words)}"


def versions() -> dict[str, Any]:
    told = machine()
    libraries = {"seedcli": __version__, "python": told["python"], **library_versions()}
    return {"libraries": libraries, "cores": told["cores"], "device": "cuda" if torch.cuda.is_available() else "cpu"}


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def find(lines: list[dict[str, Any]], settings: dict[str, Any], run: Run) -> dict[str, Any] | None:
    """The line of a run with these settings. BM25 depends on none."""
    same = (line for line in lines if Run(line["model"], line["seed"], line["fraction"]) == run)
    return next((line for line in same if run.model == "bm25" or line["settings"] == settings), None)


if __name__ == "__main__":
    main()
