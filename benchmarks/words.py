"""BM25 here and by Pyserini alone: seconds of indexing, and queries a second, side by side.

    python benchmarks/words.py --work FOLDER [--passages 200000] [--queries 2000]
    python benchmarks/words.py --work FOLDER --million [--passages 1000000] [--heap 1g]

The passages are made up: 30 to 80 words drawn from 300,000 by Zipf's law; a query is six words of one of them. Each
system works in a process of its own; rounds alternate, and medians count. Indexing is timed with the start of Java:
`seed`, from a collection as it lies on the disk; `pyserini`, its LuceneIndexer, given the same lines by a loop that
does no more than turn them into its documents; and `anserini`, its JsonCollection, which reads such documents from a
file for each thread. Searching is LuceneSearcher.batch_search of all queries, over the index that `seed` left, after a
first round that isn't timed; what Pyserini hands out are objects of Java, whose ids and scores `pyserini-read` reads as
well, which a run needs and `seed` has done. --million runs `seed index` and `seed search` within --heap and tells what
their manifests do. Each measurement is a JSON line; in ratios, 1 is as quick as the other, and more is quicker.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

WORDS, LETTERS = 300_000, np.array(list("etaoinshrdlucmfwypvbgk"))
BLOCK = 20_000  # passages made at a time
BATCH = 1_000  # documents that LuceneIndexer gets at once
INDEXING, SEARCHING = ("seed", "pyserini", "anserini"), ("seed", "pyserini", "pyserini-read")


def main() -> None:
    options = read_options()
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    prepare(options)
    if options.million:
        print(json.dumps(million(options)), flush=True)
        return
    print(json.dumps(compared(options, "index", INDEXING, 1.0)), flush=True)
    for depth in options.depth:
        options.depth = [depth]
        print(json.dumps({"depth": depth} | compared(options, "search", SEARCHING, options.queries)), flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for the passages and indexes")
    add("--passages", type=int)
    add("--queries", type=int, default=2_000)
    add("--depth", type=int, nargs="+", default=[10, 100, 1_000])
    add("--threads", type=int, default=os.cpu_count())
    add("--rounds", type=int, default=3)
    add("--heap")
    add("--million", action="store_true")
    add("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.passages = options.passages or (1_000_000 if options.million else 200_000)
    options.heap = options.heap or ("1g" if options.million else "4g")
    return options


def compared(options: argparse.Namespace, work: str, systems: tuple[str, ...], each: float) -> dict[str, Any]:
    """The medians of alternating rounds, and how much quicker ours is."""
    rounds = [{name: told(options, f"{work}-{name}") for name in systems} for _ in range(options.rounds)]
    seconds = {name: statistics.median(one[name]["seconds"] for one in rounds) for name in systems}
    return {
        "work": work, "passages": options.passages, "threads": options.threads, "rounds": options.rounds,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "a_second": {name: round((each if work == "search" else options.passages) / seconds[name]) for name in systems},
        "ratio": {name: round(seconds[name] / seconds["seed"], 2) for name in systems if name != "seed"},
        "peak_mib": {name: round(max(one[name]["peak"] for one in rounds) / 2**20) for name in systems},
        "same": {name: rounds[0][name]["told"] == rounds[0]["seed"]["told"] for name in systems},
    }  # fmt: skip


def told(options: argparse.Namespace, part: str) -> dict[str, Any]:
    """What a process of its own measured."""
    given = [
        word
        for name in ("work", "passages", "queries", "threads", "heap")
        for word in (f"--{name}", str(getattr(options, name)))
    ]
    command = [sys.executable, __file__, "--part", part, *given, "--depth", *map(str, options.depth)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def folder(options: argparse.Namespace) -> Path:
    return Path(options.work) / f"{options.passages}-passages"


def prepare(options: argparse.Namespace) -> None:
    """The collection, unless it is there, and its documents as Anserini reads them, in a file for each thread."""
    place = folder(options)
    if not (place / "queries.jsonl").is_file():
        place.mkdir(parents=True, exist_ok=True)
        with (place / "corpus.jsonl").open("w") as corpus, (place / "queries.jsonl").open("w") as queries:
            for row, words in enumerate(made(options.passages)):
                corpus.write(json.dumps({"_id": f"d{row}", "title": "", "text": " ".join(words)}) + "\n")
                if row % (options.passages // options.queries) == 0:
                    queries.write(json.dumps({"_id": f"q{row}", "text": " ".join(words[:30:5])}) + "\n")
    documents = place.with_name(f"{place.name}-documents-{options.threads}")
    if not options.million and not documents.is_dir():
        documents.mkdir()
        files = [(documents / f"{number}.jsonl").open("w") for number in range(options.threads)]
        for row, line in enumerate(read_documents(place)):
            files[row % options.threads].write(line + "\n")
        for file in files:
            file.close()


def made(count: int) -> Iterator[list[str]]:
    """Passages as lists of words."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 11, 2 * WORDS)
    drawn = LETTERS[rng.integers(len(LETTERS), size=(2 * WORDS, 10))].tolist()
    words = list(dict.fromkeys("".join(row[:length]) for row, length in zip(drawn, lengths, strict=True)))[:WORDS]
    chances = 1 / np.arange(1, len(words) + 1)
    ends = np.cumsum(chances) / chances.sum()
    for begin in range(0, count, BLOCK):
        sizes = rng.integers(30, 81, min(BLOCK, count - begin))
        ranks = np.minimum(np.searchsorted(ends, rng.random(sizes.sum())), len(words) - 1).tolist()
        for end, size in zip(np.cumsum(sizes).tolist(), sizes.tolist(), strict=True):
            yield [words[rank] for rank in ranks[end - size : end]]


def read_documents(place: Path) -> Iterator[str]:
    with (place / "corpus.jsonl").open() as file:
        for line in file:
            record = json.loads(line)
            yield json.dumps({"id": record["_id"], "contents": f"{record['title']} {record['text']}"})


def java(heap: str) -> None:
    """Java in this process, as Pyserini has it."""
    os.environ.setdefault("OPENAI_API_KEY", "none")  # its import builds a client
    from seedcli.retrieval.lucene import java_home

    os.environ["JAVA_HOME"] = java_home()
    from seedcli.retrieval.lucene_child import start_java

    start_java(heap)


def own_peak() -> int:
    from seedcli.base.machine import used

    return used().peak


def index_seed(options: argparse.Namespace) -> dict[str, Any]:
    from seedcli.base.progress import Silent
    from seedcli.data.sources import open_collection
    from seedcli.retrieval.lucene import index_collection

    place = folder(options)
    began = time.perf_counter()
    built = index_collection(
        open_collection(place), place.with_name(f"{place.name}-index"), Silent(), heap=options.heap
    )
    return {"seconds": time.perf_counter() - began, "peak": built.used.peak, "told": built.documents}


def index_pyserini(options: argparse.Namespace) -> dict[str, Any]:
    place = folder(options)
    out = place.with_name(f"{place.name}-raw")
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    java(options.heap)
    from pyserini.index.lucene import LuceneIndexer

    indexer, documents, given = LuceneIndexer(str(out), threads=options.threads), read_documents(place), 0
    while batch := list(islice(documents, BATCH)):
        indexer.add_batch_raw(batch)
        given += len(batch)
    indexer.close()
    return {"seconds": time.perf_counter() - began, "peak": own_peak(), "told": given}


def index_anserini(options: argparse.Namespace) -> dict[str, Any]:
    place = folder(options)
    out = place.with_name(f"{place.name}-raw")
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    java(options.heap)
    from jnius import autoclass

    threads, documents = str(options.threads), place.with_name(f"{place.name}-documents-{options.threads}")
    given = ["-collection", "JsonCollection", "-input", str(documents), "-index", str(out), "-threads", threads]
    autoclass("io.anserini.index.IndexCollection").main(given)
    return {"seconds": time.perf_counter() - began, "peak": own_peak(), "told": options.passages}


def search_seed(options: argparse.Namespace) -> dict[str, Any]:
    from seedcli.base.progress import Silent
    from seedcli.data.sources import open_collection
    from seedcli.retrieval.lucene import WordSearcher

    place, (depth,) = folder(options), options.depth
    queries = list(open_collection(place).queries())
    searcher = WordSearcher(place.with_name(f"{place.name}-index"), threads=options.threads, heap=options.heap)
    list(searcher.search(queries, depth, Silent()))
    began = time.perf_counter()
    found = list(searcher.search(queries, depth, Silent()))
    seconds, took = time.perf_counter() - began, searcher.used()
    searcher.close()
    hits = sum(len(ranking.documents) for ranking in found)
    return {"seconds": seconds, "peak": took.peak if took else 0, "told": hits}


def search_pyserini(options: argparse.Namespace, read: bool = False) -> dict[str, Any]:
    from seedcli.data.sources import open_collection

    place, (depth,) = folder(options), options.depth
    queries = list(open_collection(place).queries())
    java(options.heap)
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(place.with_name(f"{place.name}-index")))
    names, texts = [query.id for query in queries], [query.text for query in queries]
    searcher.batch_search(texts, names, depth, options.threads)
    began = time.perf_counter()
    found = searcher.batch_search(texts, names, depth, options.threads)
    if read:
        found = {name: [(hit.docid, hit.score) for hit in hits] for name, hits in found.items()}
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "peak": own_peak(), "told": sum(map(len, found.values()))}


def million(options: argparse.Namespace) -> dict[str, Any]:
    """`seed index` and `seed search`, and what they told."""
    place = folder(options)
    index, run = place.with_name(f"{place.name}-million"), place.with_name(f"{place.name}-run")
    heap = ["--set", f"heap={options.heap}", "--overwrite"]
    found = {}
    for verb, given in (
        ("index", ["--kind", "bm25", "--corpus", place, "--out", index]),
        ("search", ["--index", index, "--queries", place, "--depth", options.depth[-1], "--out", run]),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "seedcli", verb, *map(str, given), *heap], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        manifest = json.loads((Path(given[-1]) / "manifest.json").read_text())
        java = next(iter(manifest["metrics"]["java"].values()))
        found[verb] = {
            "seconds": round(manifest["seconds"], 1), "java_cpu_seconds": round(java["seconds"], 1),
            "java_peak_mib": round(java["peak"] / 2**20),
        }  # fmt: skip
    stored = sum(path.stat().st_size for path in (index / "lucene").iterdir())
    queries = sum(1 for _ in (place / "queries.jsonl").open())
    told = {"passages": options.passages, "queries": queries, "depth": options.depth[-1], "heap": options.heap}
    return (
        told
        | {"text_mib": round((place / "corpus.jsonl").stat().st_size / 2**20), "index_mib": round(stored / 2**20)}
        | found
    )


PARTS = {
    "index-seed": index_seed, "index-pyserini": index_pyserini, "index-anserini": index_anserini,
    "search-seed": search_seed, "search-pyserini": search_pyserini,
    "search-pyserini-read": partial(search_pyserini, read=True),
}  # fmt: skip

if __name__ == "__main__":
    main()
