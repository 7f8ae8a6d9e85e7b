"""Negatives of BM25: the training queries, searched in the training corpus."""

import shutil
from pathlib import Path

from seedcli.base.progress import Progress
from seedcli.data.collections import Collection
from seedcli.retrieval.lucene import index_collection, search_index
from seedcli.retrieval.runs import write_run


def mine(collection: Collection, split: str, depth: int, folder: Path, progress: Progress) -> Path:
    """The run of a split's queries in `folder`, made there unless it is already."""
    path = folder / "bm25.trec"
    if not path.is_file():
        index = folder / "bm25"
        index_collection(collection, index, progress)
        queries, total = collection.queries(split), len(collection.qrels(split))
        write_run(path, search_index(index, queries, depth, progress, total=total), "bm25")
        shutil.rmtree(index)
    return path
