"""Approximate indexes built and searched by seed, and by faiss called directly: seconds and memory, side by side.

    pip install "seedcli[cpu]"
    python benchmarks/indexes.py --work FOLDER [--vectors 200000] [--width 384] [--kind hnsw --kind ivfpq]
    python benchmarks/indexes.py --work FOLDER --compare flat,hnsw,ivf,ivfpq,sq [--vectors 1000000] [--memory 400m]

The vectors are made up: normal numbers around a thousand centres, of length 1. Both build the same index: the factory
string, the training sample and efConstruction that seed chose. Building is counted from shards on the disk to the
index on the disk for seed, and from an array in memory to the index on the disk for faiss: training, adding, writing. A
search gives ids in order for seed, row numbers for faiss, 100 a query at seed's default setting, of the index opened
memory-mapped for seed and read for faiss, once its pages are in memory. Each build and each search has a process of its
own, systems take turns, and medians of the rounds count. Prints a JSON line for each kind; ratios above 1 say that seed
is quicker. --compare runs `seed index --compare` over the same vectors, with a thousand other queries. Nothing else
should be running.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from search import encoded, made, peak, prepare, vectors_folder

SYSTEMS = ("seed", "faiss")
BATCHES = (1, 64)
DEPTH = 100


def main() -> None:
    options = read_options()
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    prepare(options)
    if options.compare:
        compare(options)
        return
    for kind in options.kind or ("hnsw", "ivfpq"):
        rounds = []
        for _ in range(options.rounds):
            build = {system: told(options, f"build {system}", kind) for system in SYSTEMS}
            search = {system: told(options, f"search {system}", kind) for system in SYSTEMS}
            rounds.append((build, search))
        print(json.dumps(line(options, kind, rounds)), flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for vectors and indexes")
    add("--vectors", type=int, default=200_000)
    add("--width", type=int, default=384)
    add("--kind", action="append", help="of seed index --kind; repeatable; left out: hnsw and ivfpq")
    add("--threads", type=int, default=os.cpu_count())
    add("--rounds", type=int, default=3)
    add("--repeats", type=int, default=200, help="searches of single queries; of batches a tenth")
    add("--compare", help="kinds, for `seed index --compare`")
    add("--memory", help="of an index, for the same")
    add("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.bounded, options.device = False, "none"  # for prepare: float32, and nothing of Pyserini's
    return options


def compare(options: argparse.Namespace) -> None:
    """`seed index --compare`; its table goes to the screen."""
    passages, queries = encoded(options)
    root = vectors_folder(options)
    given = ["--vectors", passages, "--queries", queries, "--out", root.with_name(f"{root.name}-compared")]
    given += ["--compare", options.compare, "--threads", options.threads]
    given += ["--memory", options.memory] if options.memory else []
    done = subprocess.run([sys.executable, "-m", "seedcli", "index", *map(str, given)], check=False)
    sys.exit(done.returncode)


def told(options: argparse.Namespace, part: str, kind: str) -> dict[str, Any]:
    """What a process of its own measured."""
    names = ("work", "vectors", "width", "threads", "repeats")
    given = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    command = [sys.executable, __file__, "--part", part, "--kind", kind, *given]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def line(options: argparse.Namespace, kind: str, rounds: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Medians, and ratios: above 1 where seed is quicker."""
    seconds = {system: statistics.median(build[system]["seconds"] for build, _ in rounds) for system in SYSTEMS}
    searched = {
        size: {system: statistics.median(search[system][str(size)] for _, search in rounds) for system in SYSTEMS}
        for size in BATCHES
    }
    build, search = rounds[0]
    return {
        "kind": kind, "factory": build["seed"]["factory"], "vectors": options.vectors, "width": options.width,
        "threads": options.threads, "rounds": options.rounds,
        "build_seconds": {system: round(value, 1) for system, value in seconds.items()},
        "build": round(seconds["faiss"] / seconds["seed"], 3),
        "milliseconds": {size: {name: round(1e3 * value, 2) for name, value in own.items()}
                         for size, own in searched.items()},
        "search": {size: round(own["faiss"] / own["seed"], 3) for size, own in searched.items()},
        "build_peak_mib": {system: round(build[system]["peak"] / 2**20) for system in SYSTEMS},
        "search_peak_mib": {system: round(search[system]["peak"] / 2**20) for system in SYSTEMS},
        "same": round(same(search), 4),
    }  # fmt: skip


def same(search: dict[str, Any]) -> float:
    """The share of hits that both found; a graph that other threads linked finds others."""
    pairs = zip(search["seed"]["found"], search["faiss"]["found"], strict=True)
    return statistics.fmean(len({*ours}.intersection(theirs)) / DEPTH for ours, theirs in pairs)


def designed(options: argparse.Namespace) -> tuple[Any, Any]:
    """The rows, and the index that seed makes of them."""
    from seedcli.retrieval.ann import Rows
    from seedcli.retrieval.design import Asked, design
    from seedcli.retrieval.vectors import open_shards

    rows = Rows(open_shards(vectors_folder(options)))
    return rows, design(options.kind[0], rows.size, rows.width, Asked())


def index_path(options: argparse.Namespace, system: str) -> Path:
    return Path(options.work) / f"{options.vectors}x{options.width}-{options.kind[0]}-{system}" / "index.faiss"


def build_seed(options: argparse.Namespace) -> dict[str, Any]:
    import shutil

    import torch

    from seedcli.base.progress import Silent
    from seedcli.retrieval.ann import built

    torch.set_num_threads(options.threads)
    rows, chosen = designed(options)
    path = index_path(options, "seed")
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    began = time.perf_counter()
    built(path, path.parent / "begun", chosen, rows, 0, torch.device("cpu"), Silent())
    return {"seconds": time.perf_counter() - began, "factory": chosen.factory, "peak": peak()}


def build_faiss(options: argparse.Namespace) -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(options.threads)
    rows, chosen = designed(options)
    vectors, sample = rows.at(np.arange(rows.size)), rows.sample(chosen.train, 0, 0)
    path = index_path(options, "faiss")
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    index = faiss.index_factory(rows.width, chosen.factory, faiss.METRIC_INNER_PRODUCT)
    if chosen.ef_construction:
        index.hnsw.efConstruction = chosen.ef_construction
    if chosen.train:
        index.train(vectors[sample])
    index.add(vectors)
    faiss.write_index(index, str(path))
    return {"seconds": time.perf_counter() - began, "factory": chosen.factory, "peak": peak()}


def search_seed(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from seedcli.retrieval.ann import Ann

    torch.set_num_threads(options.threads)
    rows, chosen = designed(options)
    ann = Ann(index_path(options, "seed"), rows, 1.0, torch.device("cpu"))
    if chosen.setting:
        ann.turn(chosen.setting)
    found = [hits.rows.tolist() for hits in ann.search(made(options, BATCHES[-1], -1), DEPTH)]
    return {**timed(options, lambda queries: ann.search(queries, DEPTH)), "found": found, "peak": peak()}


def search_faiss(options: argparse.Namespace) -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(options.threads)
    _, chosen = designed(options)
    index = faiss.read_index(str(index_path(options, "faiss")))
    if chosen.knob:
        name = {"probes": "nprobe", "ef_search": "efSearch"}[chosen.knob]
        faiss.ParameterSpace().set_index_parameter(index, name, chosen.setting)
    found = index.search(made(options, BATCHES[-1], -1), DEPTH)[1].tolist()
    return {**timed(options, lambda queries: index.search(queries, DEPTH)), "found": found, "peak": peak()}


def timed(options: argparse.Namespace, search: Callable[[NDArray[np.float32]], Any]) -> dict[str, float]:
    """The median of the seconds that batches of each size take, of other queries each time.

    All are searched for twice, and the second time counts: a mapped index comes into memory as it is looked into.
    """
    seconds = {}
    for size in BATCHES:
        repeats = max(3, options.repeats // (1 if size == 1 else 10))
        queries = made(options, size * repeats, -1).reshape(-1, size, options.width)
        for _ in range(2):
            each = []
            for batch in queries:
                began = time.perf_counter()
                search(batch)
                each.append(time.perf_counter() - began)
        seconds[str(size)] = statistics.median(each)
    return seconds


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "build seed": build_seed, "build faiss": build_faiss, "search seed": search_seed, "search faiss": search_faiss,
}  # fmt: skip

if __name__ == "__main__":
    main()
