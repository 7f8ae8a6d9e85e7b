"""What 8.8 million and a billion passages take to encode, to store and to search: arithmetic over measured rates.

    python benchmarks/scale.py                    # the tables of docs/scale.md
    python benchmarks/scale.py --measure FOLDER   # this machine's rates of reading and of milvus-lite, as JSON

Every figure of the tables is an estimate: a rate that was measured on two cores, times what there is to do. GPUs were
not to be had: theirs are the data sheet's rate and an assumed share of it. The second command makes 200,000 passages
and 100,000 vectors in FOLDER and takes about a minute; nothing else should be running.
"""

import argparse
import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedcli.base.machine import bytes_in, size
from seedcli.base.progress import Silent

GIB = 1 << 30

# docs/retrieval.md, two cores: texts of 256 tokens a second by all-MiniLM-L6-v2 (fp32 by ONNX Runtime, bf16 by AMX),
# and seconds for one query and for 64 over a million vectors of 384 numbers
ENCODED = {"fp32": 42.8 * 256, "bf16": 123.5 * 256}
SCANNED = {1: 0.045, 64: 0.149}
SCAN = 1_000_000 * 384

TOKENISED = 1_124_000  # tokens a second, two cores: docs/pretraining.md, the tokenizers library, which encode uses

# --measure, on the same two cores
READ = 180_000  # passages a second that one process reads
SENT = 6_300  # vectors of 384 numbers a second into milvus-lite
LOOKED = 49_000  # vectors a second that are asked for when a store goes on

GPU = 312e12 * 0.4  # operations a second: an A100's by its data sheet, and the share that is assumed
ROOM = 0.7  # of a node's memory, for vectors
NODE = 256 * GIB


class Model(NamedTuple):
    name: str
    layers: int
    width: int


class Corpus(NamedTuple):
    name: str
    passages: int
    tokens: int  # of a passage


MODELS = [Model("MiniLM-L6", 6, 384), Model("BERT-base", 12, 768)]
CORPORA = [Corpus("8.8 million", 8_841_823, 75), Corpus("1 billion", 1_000_000_000, 100)]
PASSAGE_ID = 10  # bytes, with eight more for where it begins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure), indent=2))
        return
    for title, rows in (("Encoding", encoding()), ("Bytes", storage()), ("Searching", searching())):
        print(f"\n## {title} (estimates)\n")
        print("\n".join(table(list(rows))))


def operations(model: Model, tokens: int) -> float:
    """Of a token, forward: two a weight of the layers, and attention's over `tokens`."""
    return 2 * model.layers * (12 * model.width**2 + 2 * tokens * model.width)


def encoding() -> Iterator[list[str]]:
    """Hours on two cores, at the measured rate of operations, and on GPUs."""
    yield ["passages", "model", "operations", "two cores, fp32", "two cores, bf16", "8 A100 at 40 %",
           "tokenising, 16 cores", "reading"]  # fmt: skip
    pace = {kind: rate * operations(MODELS[0], 256) for kind, rate in ENCODED.items()}
    for corpus in CORPORA:
        for model in MODELS:
            tokens = corpus.passages * corpus.tokens
            work = tokens * operations(model, corpus.tokens)
            cores = [hours(work / pace[kind]) for kind in ("fp32", "bf16")]
            others = [hours(work / (8 * GPU)), hours(tokens / (8 * TOKENISED)), hours(corpus.passages / READ)]
            yield [corpus.name, model.name, f"{work:.1e}", *cores, *others]


def storage() -> Iterator[list[str]]:
    """Of the vectors, without indexes."""
    yield ["passages", "numbers", "float32", "float16", "int8", "codes of a number in four", "ids"]
    for corpus in CORPORA:
        for model in MODELS:
            each = (4 * model.width, 2 * model.width, model.width + 4, model.width // 4)
            told = [size(corpus.passages * count) for count in each]
            yield [corpus.name, f"{model.width}", *told, size(corpus.passages * (PASSAGE_ID + 8))]


def searching() -> Iterator[list[str]]:
    """Exactly from memory by two cores, and what a cluster holds."""
    yield ["passages", "numbers", "one query, two cores", "64 queries", "filling, one process", "going on",
           "nodes: flat", "nodes: codes"]  # fmt: skip
    for corpus in CORPORA:
        for model in MODELS:
            share = corpus.passages * model.width / SCAN
            sent = corpus.passages * model.width / (SENT * 384)
            nodes = [-(-corpus.passages * count // int(ROOM * NODE)) for count in (4 * model.width, model.width // 4)]
            seconds = [f"{share * SCANNED[queries]:,.1f} s" for queries in (1, 64)]
            yield [
                corpus.name,
                f"{model.width}",
                *seconds,
                hours(sent),
                hours(corpus.passages / LOOKED),
                *map(str, nodes),
            ]


def hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:,.0f} h"


def table(rows: list[list[str]]) -> Iterator[str]:
    head, *rest = rows
    yield f"| {' | '.join(head)} |"
    yield f"|:--|{'--:|' * (len(head) - 1)}"
    for row in rest:
        yield f"| {' | '.join(row)} |"


def measured(folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return {"read a second": reading(folder, 200_000), **storing(folder, 100_000, 384)}


def reading(folder: Path, passages: int) -> float:
    """Passages of 56 words that are read a second."""
    from seedcli.data.sources import open_collection

    (folder / "corpus").mkdir()
    text = " ".join(["passage"] * 56)
    with (folder / "corpus" / "corpus.jsonl").open("w") as file:
        file.writelines(json.dumps({"_id": f"p{row}", "text": f"{text} {row}"}) + "\n" for row in range(passages))
    collection, began = open_collection(folder / "corpus"), time.perf_counter()
    assert sum(1 for _ in collection.passages()) == passages
    return round(passages / (time.perf_counter() - began))


def storing(folder: Path, count: int, width: int) -> dict[str, Any]:
    """Rates of milvus-lite."""
    from seedcli.retrieval.milvus import Mark, Store, index_of
    from seedcli.stages.store_index import BATCH

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, width), np.float32)
    ids, mark = [f"p{row}".encode() for row in range(count)], Mark("made up", count, width, "flat")
    step, told, start = BATCH // (4 * width), dict[str, Any](), time.perf_counter()

    def timed(name: str, began: float) -> float:
        told[f"{name}, s"] = round(time.perf_counter() - began, 3)
        told[f"{name}, most MiB so far"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        return float(told[f"{name}, s"])

    with Store(str(folder / "lite.db"), "made_up", 10.0, Silent()) as store:
        store.prepare(mark, 16)
        began = time.perf_counter()
        for begin in range(0, count, step):
            store.upsert(begin, ids[begin : begin + step], vectors[begin : begin + step])
        told["upserted a second"] = round(count / timed("upsert", began))
        began = time.perf_counter()
        store.settle()
        timed("settle", began)
        began = time.perf_counter()
        assert all(store.holds(range(begin_, min(begin_ + step, count))) for begin_ in range(0, count, step))
        told["looked for a second"] = round(count / timed("look", began))
    told["bytes of the vectors"], told["bytes on disk"] = vectors.nbytes, bytes_in(folder / "lite.db")
    with Store(str(folder / "lite.db"), "made_up", 10.0, Silent()) as store:
        began = time.perf_counter()
        store.load()
        timed("load", began)
        for queries in (1, 64):
            times = []
            for _ in range(5):
                asked, began = rng.standard_normal((queries, width), np.float32), time.perf_counter()
                store.search(asked, 132, index_of(mark))
                times.append(time.perf_counter() - began)
            told[f"{queries} queries, s"] = round(sorted(times)[2], 3)
    timed("in all", start)
    return told


if __name__ == "__main__":
    main()
