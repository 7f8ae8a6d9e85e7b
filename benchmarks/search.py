"""Exact search here, by faiss (IndexFlatIP) and by Pyserini's FaissSearcher: milliseconds a batch, side by side.

    python benchmarks/search.py --work FOLDER [--vectors 1000000] [--width 384] [--device cuda]
    python benchmarks/search.py --work FOLDER --bounded [--vectors 20000000] [--width 64]

The vectors are made up: normal numbers around a thousand centres, of length 1. Each system searches in a process of its
own that has --threads threads; rounds alternate, and medians count. Ours gives ids in order, the others row numbers
(faiss, as it comes, and with matrix products for batches) or ids (Pyserini). Times stand beside what the machine can do
at best: reading all vectors once from memory (1 query), and multiplying matrices (64). --bounded runs `seed search`
over float16 vectors for 1,000 encoded queries, 1,000 deep, within --memory, and prints the peak of memory that was
resident. Each measurement is a JSON line. Nothing else should be running.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SYSTEMS = ("seed", "faiss", "faiss-blas", "pyserini")
BATCHES = (1, 64)
SHARD = 20_000
CENTRES = 1_000


def main() -> None:
    options = read_options()
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    prepare(options)
    if options.bounded:
        print(json.dumps(told(options, "bounded", os.cpu_count() or 1)), flush=True)
        return
    for threads in options.threads:
        rounds: list[dict[str, Any]] = []
        for _ in range(options.rounds):
            systems = SYSTEMS if options.device == "cpu" else ("seed",)
            rounds.append({system: told(options, system, threads) for system in systems})
            rounds[-1]["machine"] = told(options, "machine", threads)
        for batch in BATCHES if options.device == "cpu" else (*BATCHES, 1_024):
            print(json.dumps(line(options, rounds, threads, str(batch))), flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for the vectors")
    add("--vectors", type=int)
    add("--width", type=int)
    add("--depth", type=int, default=100)
    add("--threads", type=int, nargs="+", default=[1, 2])
    add("--rounds", type=int, default=3)
    add("--repeats", type=int, default=5, help="searches of a round")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--plain", action="store_true", help="without rough copies, as on processors that don't multiply bfloat16")
    add("--bounded", action="store_true")
    add("--memory", default="1g")
    add("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.vectors = options.vectors or (20_000_000 if options.bounded else 1_000_000)
    options.width = options.width or (64 if options.bounded else 384)
    return options


def line(options: argparse.Namespace, rounds: list[dict[str, Any]], threads: int, batch: str) -> dict[str, Any]:
    """The medians of a batch's size, and ratios: above 1 where ours is quicker."""
    systems = [name for name in rounds[0] if name != "machine"]
    seconds = {name: statistics.median(each[name]["seconds"][batch] for each in rounds) for name in systems}
    best = {key: statistics.median(each["machine"][key] for each in rounds) for key in ("bytes", "operations")}
    stored, work = 4 * options.vectors * options.width, 2 * options.vectors * options.width * int(batch)
    return {
        "vectors": options.vectors, "width": options.width, "depth": options.depth, "device": options.device,
        "plain": options.plain, "threads": threads, "queries": int(batch),
        "milliseconds": {name: round(1e3 * value, 1) for name, value in seconds.items()},
        "quicker": {name: round(seconds[name] / seconds["seed"], 2) for name in systems if name != "seed"},
        "of_memory_bandwidth": round(stored / seconds["seed"] / best["bytes"], 2),
        "of_matrix_rate": round(work / seconds["seed"] / best["operations"], 2),
        "gigabytes_a_second": round(best["bytes"] / 1e9, 1), "gflops": round(best["operations"] / 1e9),
        "peak_mib": {name: round(max(each[name]["peak"] for each in rounds) / 2**20) for name in systems},
        "same_first": {name: rounds[0][name]["first"] == rounds[0]["seed"]["first"] for name in systems},
    }  # fmt: skip


def told(options: argparse.Namespace, part: str, threads: int) -> dict[str, Any]:
    """What a process of its own measured."""
    names = ("work", "vectors", "width", "depth", "repeats", "device", "memory")
    given = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    given += ["--plain"] * options.plain
    command = [sys.executable, __file__, "--part", part, "--threads", str(threads), *given]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prepare(options: argparse.Namespace) -> None:
    """Shards, unless they are there; Pyserini's index over the same vectors."""
    from seedcli.retrieval.vectors import open_shards, shard_path, write_shard

    folder, kind = vectors_folder(options), "float16" if options.bounded else "float32"
    for number, begin in enumerate(range(0, options.vectors, SHARD)):
        path = shard_path(folder, number)
        if not path.is_file():
            count = min(SHARD, options.vectors - begin)
            write_shard(path, [f"d{begin + row}" for row in range(count)], made(options, count, number), kind)
    if not options.bounded and options.device == "cpu" and not (folder / "pyserini" / "docid").is_file():
        import faiss

        index = faiss.IndexFlatIP(options.width)
        for shard in open_shards(folder):
            index.add(shard.vectors)
        (folder / "pyserini").mkdir(exist_ok=True)
        faiss.write_index(index, str(folder / "pyserini" / "index"))
        (folder / "pyserini" / "docid").write_text("".join(f"d{row}\n" for row in range(options.vectors)))


def vectors_folder(options: argparse.Namespace) -> Path:
    return Path(options.work) / f"{options.vectors}x{options.width}"


def made(options: argparse.Namespace, count: int, number: int) -> NDArray[np.float32]:
    """Vectors of length 1 around centres that all shards share; those of queries have the number -1."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, options.width))
    rng = np.random.default_rng([1, number + 1])
    vectors = centres[rng.integers(CENTRES, size=count)] + rng.normal(size=(count, options.width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def repeated(options: argparse.Namespace, search: Callable[[NDArray[np.float32]], Any]) -> dict[str, float]:
    """The median of the seconds that batches of each size take."""
    seconds = {}
    for size in BATCHES if options.device == "cpu" else (*BATCHES, 1_024):
        queries = made(options, size, -1)
        search(queries)
        each = []
        for _ in range(options.repeats):
            began = time.perf_counter()
            search(queries)
            each.append(time.perf_counter() - began)
        seconds[str(size)] = statistics.median(each)
    return seconds


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


def seed(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from seedcli.base.machine import multiplies_bfloat16
    from seedcli.base.progress import Silent
    from seedcli.retrieval import exact
    from seedcli.retrieval.matrix import MANY, Matrix
    from seedcli.retrieval.vectors import open_shards

    torch.set_num_threads(options.threads[0])
    rough = options.device == "cpu" and multiplies_bfloat16() and not options.plain
    matrix = Matrix(open_shards(vectors_folder(options)), torch.device(options.device), keep=True, rough=rough)
    matrix.asked += MANY  # the first search makes the copies, if any

    def search(queries: NDArray[np.float32]) -> list[Any]:
        names = [str(row) for row in range(len(queries))]
        return list(exact.search(names, queries, matrix, options.depth, Silent()))

    seconds = repeated(options, search)
    return {"seconds": seconds, "first": list(search(made(options, 1, -1))[0].documents), "peak": peak()}


def by_faiss(options: argparse.Namespace, threshold: int | None = None) -> dict[str, Any]:
    """With a threshold, batches of as many queries go through matrix products, which newer builds don't by default."""
    import faiss

    if threshold is not None:
        faiss.cvar.distance_compute_blas_threshold = threshold

    faiss.omp_set_num_threads(options.threads[0])
    index = faiss.read_index(str(vectors_folder(options) / "pyserini" / "index"))
    seconds = repeated(options, lambda queries: index.search(queries, options.depth))
    rows = index.search(made(options, 1, -1), options.depth)[1][0].tolist()
    return {"seconds": seconds, "first": [f"d{row}" for row in rows], "peak": peak()}


def by_pyserini(options: argparse.Namespace) -> dict[str, Any]:
    os.environ.setdefault("OPENAI_API_KEY", "none")  # its import builds a client
    from seedcli.retrieval.lucene import java_home

    os.environ["JAVA_HOME"] = java_home()
    from seedcli.retrieval.lucene_child import start_java

    start_java("512m")
    from pyserini.search.faiss import FaissSearcher

    searcher, threads = FaissSearcher(str(vectors_folder(options) / "pyserini"), None), options.threads[0]
    import faiss

    faiss.omp_set_num_threads(threads)

    def search(queries: NDArray[np.float32]) -> Any:
        return searcher.batch_search(queries, [str(row) for row in range(len(queries))], options.depth, threads)

    seconds = repeated(options, search)
    found = search(made(options, 1, -1))["0"]
    return {"seconds": seconds, "first": [hit.docid for hit in found], "peak": peak()}


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes a second that a sum reads from memory, and operations a second of a product of large matrices."""
    import torch

    torch.set_num_threads(options.threads[0])
    numbers = torch.randn(1 << 28, device=options.device)
    left, right = (torch.randn(4_096, 4_096, device=options.device) for _ in range(2))

    def quickest(call: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            if options.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    return {
        "bytes": 4 * numbers.numel() / quickest(numbers.sum),
        "operations": 2 * 4_096**3 / quickest(lambda: left @ right),
    }


def bounded(options: argparse.Namespace) -> dict[str, Any]:
    """`seed search` over the vectors: 1,000 queries, 1,000 hits each, within --memory."""
    from seedcli.configs.index import IndexConfig

    passages, queries = encoded(options)
    root = vectors_folder(options)
    index, out = root.with_name(f"{root.name}-index"), root.with_name(f"{root.name}-found")
    shutil.rmtree(index, ignore_errors=True)
    leave(index, "index", IndexConfig(index, vectors=str(passages)), {"vectors": passages}, list)
    command = ["search", "--index", index, "--queries", queries, "--out", out, "--memory", options.memory]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "seedcli", *map(str, command), "--overwrite"], capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr)
    return {
        "vectors": options.vectors, "width": options.width, "queries": 1_000, "depth": 1_000, "memory": options.memory,
        "stored_mib": round(sum(path.stat().st_size for path in root.iterdir()) / 2**20), "seconds": round(seconds, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10),
        "lines": sum(1 for _ in (out / "run.trec").open()),
    }  # fmt: skip


def encoded(options: argparse.Namespace) -> tuple[Path, Path]:
    """The vectors, and 1,000 queries, in folders such as `seed encode` leaves; without texts and a model."""
    from seedcli.configs.encode import EncodeConfig
    from seedcli.retrieval.vectors import shard_path, write_shard

    root = vectors_folder(options)
    texts, passages, queries = (root.with_name(f"{root.name}-{name}") for name in ("texts", "all", "asked"))
    texts.mkdir(exist_ok=True)
    (texts / "model.json").write_text("{}")  # stands for the model and the texts, which were never there

    def linked() -> list[Path]:
        links = [passages / path.name for path in sorted(root.glob("*.safetensors"))]
        for link in links:
            os.link(root / link.name, link)
        return links

    def asked() -> list[Path]:
        write_shard(shard_path(queries, 0), [f"q{row}" for row in range(1_000)], made(options, 1_000, -1))
        return [shard_path(queries, 0)]

    for folder, files, role in ((passages, linked, "passage"), (queries, asked, "query")):
        shutil.rmtree(folder, ignore_errors=True)
        given = EncodeConfig(folder, str(texts), str(texts))
        leave(folder, "encode", given, {"model": texts, "collection": texts}, files, role=role)
    return passages, queries


def leave(
    folder: Path, verb: str, config: Any, inputs: dict[str, Path], made: Callable[[], list[Path]], **metrics: Any
) -> None:
    """A folder as a verb would have left it."""
    from seedcli.base.manifest import identify, open_folder

    with open_folder(folder, verb, config, {name: identify(path) for name, path in inputs.items()}, False) as opened:
        opened.finish(made(), metrics)


PARTS = {
    "seed": seed, "faiss": by_faiss, "faiss-blas": partial(by_faiss, threshold=20), "pyserini": by_pyserini,
    "machine": machine, "bounded": bounded,
}  # fmt: skip

if __name__ == "__main__":
    main()
