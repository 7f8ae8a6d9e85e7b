"""Two runs evaluated here, by ranx alone, by pytrec_eval and by ir_measures: seconds and memory, side by side.

    python benchmarks/evaluate.py --work FOLDER [--qrels FILE] [--queries 6980] [--depth 1000] [--rounds 3] [--check]

The runs are made up, in TREC's format, over the given qrels or over made-up ones with a passage or two a query. Each
system evaluates both runs in ten measures, in a process of its own; rounds alternate, and medians count. Seconds are of
the whole process, from its start to its end, with compiled code in its cache: each has evaluated a few queries before.
`seed` is the whole command, `seed evaluate` with its files, intervals, and a test with 10,000 permutations against a
baseline; the others read the files and print means, and test nothing. `same` tells whether their means are ours;
--check ends with an error where these differ in the fourth decimal. The result is a JSON line; in ratios, 1 is as quick
as the other (or as large, of memory), and more is quicker (smaller).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MEASURES = {  # ours -> ranx's, pytrec_eval's, ir_measures'
    "mrr": ("mrr", "recip_rank", "RR"),
    "recall@10": ("recall@10", "recall_10", "R@10"),
    "recall@100": ("recall@100", "recall_100", "R@100"),
    "recall@1000": ("recall@1000", "recall_1000", "R@1000"),
    "ndcg@10": ("ndcg@10", "ndcg_cut_10", "nDCG@10"),
    "ndcg": ("ndcg", "ndcg", "nDCG"),
    "map": ("map", "map", "AP"),
    "precision@10": ("precision@10", "P_10", "P@10"),
    "hit_rate@10": ("hit_rate@10", "success_10", "Success@10"),
    "r-precision": ("r-precision", "Rprec", "Rprec"),
}
RUNS = ("one", "other")
PASSAGES = 8_841_823
Values = dict[str, list[float]]  # run -> means of the measures


def main() -> None:
    options = read_options()
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    few = argparse.Namespace(**vars(options) | {"queries": 20, "depth": 20})
    for given in (few, options):
        prepare(given)
    for name in PARTS:
        measured(few, name)
    rounds = [{name: measured(options, name) for name in PARTS} for _ in range(options.rounds)]
    seconds = {name: statistics.median(one[name]["seconds"] for one in rounds) for name in PARTS}
    peaks = {name: max(one[name]["peak"] for one in rounds) for name in PARTS}
    found = {name: rounds[0][name]["values"] for name in PARTS}
    same = {name: agrees(found[name], found["seed"]) for name in PARTS}
    line = {
        "queries": options.queries, "depth": options.depth, "measures": len(MEASURES), "rounds": options.rounds,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "ratio": {name: round(seconds[name] / seconds["seed"], 2) for name in PARTS if name != "seed"},
        "peak_mib": {name: round(value / 2**20) for name, value in peaks.items()},
        "memory_ratio": {name: round(peaks[name] / peaks["seed"], 2) for name in PARTS if name != "seed"},
        "same": same,
    }  # fmt: skip
    print(json.dumps(line), flush=True)
    if options.check and not all(same.values()):
        sys.exit(f"values differ: {json.dumps(found)}")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for runs and reports")
    add("--qrels", type=Path, help="qrels in TREC's format; made up without")
    add("--queries", type=int, default=6_980, help="at most")
    add("--depth", type=int, default=1_000)
    add("--rounds", type=int, default=3)
    add("--check", action="store_true")
    add("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> None:
    """Qrels and runs, unless they are there: most queries have their passage somewhere, the sooner the likelier."""
    options.work = options.work / f"{options.queries}-queries-{options.depth}"
    if (options.work / "whole").is_file():
        options.queries = int((options.work / "whole").read_text())
        return
    options.work.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    judged: dict[str, list[str]] = {}
    if options.qrels:
        for line in options.qrels.read_text().splitlines():
            query, _, passage, _ = line.split()
            judged.setdefault(query, []).append(passage)
        judged = dict(list(judged.items())[: options.queries])
    else:
        for query in rng.choice(1_200_000, options.queries, replace=False).tolist():
            judged[str(query)] = list(map(str, rng.choice(PASSAGES, rng.integers(1, 3), replace=False).tolist()))
    options.queries = len(judged)
    lines = (f"{query} 0 {passage} 1\n" for query, passages in judged.items() for passage in passages)
    (options.work / "qrels.txt").write_text("".join(lines))
    for name in RUNS:
        with (options.work / f"{name}.trec").open("w") as file:
            for query, passages in judged.items():
                found = list(map(str, rng.choice(PASSAGES, options.depth, replace=False).tolist()))
                for passage in passages:
                    found.insert(int(rng.exponential(60 if rng.random() < 0.5 else 6)), passage)
                found = list(dict.fromkeys(found))[: options.depth]
                scores = np.sort(rng.normal(80, 3, len(found)))[::-1].tolist()
                file.writelines(
                    f"{query} Q0 {passage} {rank} {score:.6f} {name}\n"
                    for rank, (passage, score) in enumerate(zip(found, scores, strict=True), 1)
                )
    (options.work / "whole").write_text(str(options.queries))


def measured(options: argparse.Namespace, part: str) -> dict[str, Any]:
    """What a process of its own took and found."""
    command = [sys.executable, __file__, "--part", part, "--work", str(options.work)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr)
    told = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": told.get("seconds", seconds), "peak": told["peak"], "values": told["values"]}


def agrees(values: Values, ours: Values) -> bool:
    return all(np.allclose(values[name], ours[name], rtol=0, atol=5e-5) for name in RUNS)


def told(values: Values) -> dict[str, Any]:
    return {"values": values, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def by_seed(options: argparse.Namespace) -> dict[str, Any]:
    out = options.work / "report"
    runs = [word for name in RUNS for word in ("--runs", f"{name}={options.work / name}.trec")]
    measures = [word for name in MEASURES for word in ("--measures", name)]
    given = ["--qrels", str(options.work / "qrels.txt"), "--baseline", RUNS[0], "--out", str(out), "--overwrite"]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "seedcli", "evaluate", *runs, *measures, *given], capture_output=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr.decode())
    report = json.loads((out / "report.json").read_text())["runs"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"seconds": seconds, "peak": peak, "values": {name: [*report[name]["means"].values()] for name in RUNS}}


def by_ranx(options: argparse.Namespace) -> dict[str, Any]:
    import ranx

    qrels = ranx.Qrels.from_file(str(options.work / "qrels.txt"), kind="trec")
    names = [ranx_name for ranx_name, _, _ in MEASURES.values()]
    values = {}
    for name in RUNS:
        run = ranx.Run.from_file(str(options.work / f"{name}.trec"), kind="trec")
        found = ranx.evaluate(qrels, run, names, make_comparable=True)
        values[name] = [float(found[each]) for each in names]
    return told(values)


def by_pytrec_eval(options: argparse.Namespace) -> dict[str, Any]:
    import pytrec_eval

    with (options.work / "qrels.txt").open() as file:
        qrels = pytrec_eval.parse_qrel(file)
    names = [trec_name for _, trec_name, _ in MEASURES.values()]
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, set(pytrec_eval.supported_measures) & asked(names))
    values = {}
    for name in RUNS:
        with (options.work / f"{name}.trec").open() as file:
            found = evaluator.evaluate(pytrec_eval.parse_run(file))
        values[name] = [sum(query[each] for query in found.values()) / len(qrels) for each in names]
    return told(values)


def asked(names: list[str]) -> set[str]:
    """pytrec_eval takes measures without their cut-offs, and gives some of them all."""
    return {name.rstrip("0123456789").rstrip("_") for name in names}


def by_ir_measures(options: argparse.Namespace) -> dict[str, Any]:
    import ir_measures

    qrels = list(ir_measures.read_trec_qrels(str(options.work / "qrels.txt")))
    measures = [ir_measures.parse_measure(name) for _, _, name in MEASURES.values()]
    values = {}
    for name in RUNS:
        found: dict[Any, float] = defaultdict(float)
        found |= ir_measures.calc_aggregate(measures, qrels, ir_measures.read_trec_run(f"{options.work / name}.trec"))
        values[name] = [found[each] for each in measures]
    return told(values)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "seed": by_seed,
    "ranx": by_ranx,
    "pytrec_eval": by_pytrec_eval,
    "ir_measures": by_ir_measures,
}

if __name__ == "__main__":
    main()
