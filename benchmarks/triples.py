"""Memory and speed of training examples: seed finetune over made-up triples of ids, as many as asked for.

    python benchmarks/triples.py --triples 500000 --triples 5000000

Prints a JSON line for each number: the largest resident memory of the command, which must not grow with the triples,
and how many a second are made ready. 50,000 passages of 30 made-up words, 20,000 queries, and a tiny model of random
weights are made first; three steps of eight examples are trained.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

PASSAGES, QUERIES = 50_000, 20_000
AT_ONCE = 100_000  # lines written at a time
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main(
    triples: Annotated[list[int], typer.Option(help="How many triples; repeatable.")],
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SEED_CACHE"] = str(folder / "cache")
        rng = np.random.default_rng(0)
        words = ["".join(chr(97 + letter) for letter in rng.integers(0, 26, 6)) for _ in range(5_000)]
        write_texts(folder / "collection.tsv", rng, words, PASSAGES, 30)
        write_texts(folder / "queries.train.tsv", rng, words, QUERIES, 6)
        seed("pretrain", "--text", folder / "collection.tsv", "--tokenizer", "train", "--vocabulary", 2_000,
             "--size", "tiny", "--steps", 0, "--out", folder / "model")  # fmt: skip
        for count in triples:
            data = folder / f"data-{count}"
            data.mkdir()
            for part in ("collection.tsv", "queries.train.tsv"):
                (data / part).symlink_to(folder / part)
            write_triples(data / "qidpidtriples.train.full.2.tsv", rng, count)
            began = time.monotonic()
            peak = seed("finetune", "--model", folder / "model", "--data", data, "--negatives", "file", "--steps", 3,
                        "--batch-size", 8, "--threads", threads, "--out", folder / f"out-{count}")  # fmt: skip
            seconds = time.monotonic() - began
            print(
                json.dumps({"triples": count, "peak_mib": round(peak / 1024), "seconds": round(seconds, 1)}), flush=True
            )


def write_texts(path: Path, rng: np.random.Generator, words: list[str], count: int, length: int) -> None:
    with path.open("w") as file:
        for number in range(count):
            file.write(f"{number}\t{' '.join(words[word] for word in rng.integers(0, len(words), length))}\n")


def write_triples(path: Path, rng: np.random.Generator, count: int) -> None:
    with path.open("w") as file:
        for begin in range(0, count, AT_ONCE):
            rows = rng.integers(0, [QUERIES, PASSAGES, PASSAGES], (min(AT_ONCE, count - begin), 3))
            file.writelines(f"{query}\t{positive}\t{negative}\n" for query, positive, negative in rows.tolist())


def seed(*arguments: object) -> int:
    """Run a command; the most memory that it held, in KiB."""
    command = [sys.executable, "-c", PEAK, "seed", *map(str, arguments), "-q"]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


if __name__ == "__main__":
    typer.run(main)
