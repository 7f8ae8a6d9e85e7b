"""seed: end-to-end dense retrieval, from raw words to a significance-tested table. The commands, as functions:

    import seedcli as seed

    encoder = seed.pretrain(text="scifact", tokenizer="train", size="mini", length=128, steps=20_000, out="encoder")
    retriever = seed.finetune(model=encoder, data="scifact", negatives="bm25", steps=500, out="retriever")
    vectors = seed.encode(model=retriever, corpus="scifact", out="vectors")
    flat = seed.index(vectors=vectors, out="flat")
    words = seed.index(kind="bm25", corpus="scifact", out="words")
    dense = seed.search(index=flat, queries="scifact", split="test", out="dense")
    fused = seed.search(index=[flat, words], queries="scifact", split="test", out="fused")
    report = seed.evaluate(runs=[dense, fused], qrels="scifact", baseline="dense", out="report")
    print(report)

and search over texts in memory:

    index = seed.index_texts(["Owls hunt at night.", "Trout swim upstream."])
    print(index.search("what swims in the stream", depth=1))

Importing this loads nothing more: a name comes from seedcli.api when it is used, and torch when a verb runs.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = [
    *["pretrain", "finetune", "encode", "index", "search", "evaluate", "inspect", "convert", "run"],
    *["open_model", "open_vectors", "open_index", "open_run", "open_report", "fuse", "index_texts"],
    *["Result", "Model", "Vectors", "Index", "Fusion", "Run", "Report", "Inspection"],
    *["Ranking", "Hit", "StrPath", "Text"],
    *["SeedError", "ConfigError", "DataError", "FolderError", "Progress", "Silent"],
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'seedcli' has no attribute {name!r}")
    return getattr(importlib.import_module("seedcli.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
