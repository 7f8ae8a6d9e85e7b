"""Negatives of BM25: the training queries, searched in the training corpus; kept in the cache."""

import shutil
from collections.abc import Collection as Names
from pathlib import Path

from seedcli.base.files import cache_folder, written_whole
from seedcli.base.manifest import digest
from seedcli.base.progress import Progress
from seedcli.data.collections import Collection
from seedcli.retrieval.lucene import index_collection, search_index
from seedcli.retrieval.run_files import write_run

RULES = 1  # to be raised when another run would come out of the same texts


def mine(
    collection: Collection, identity: str, split: str, wanted: Names[str], depth: int, folder: Path, progress: Progress
) -> Path:
    """The run of the `wanted` queries of a split in `folder`; searched anew unless the cache has it.

    `identity` stands for what the collection holds.
    """
    path, index = folder / "bm25.trec", folder / "bm25"
    if not path.is_file():
        kept = cache_folder() / f"bm25-{digest([RULES, identity, split, sorted(wanted), depth])[:16]}.trec"
        if not kept.is_file():
            index_collection(collection, index, progress)
            queries = (query for query in collection.queries(split) if query.id in wanted)
            write_run(kept, search_index(index, queries, depth, progress, total=len(wanted)), "bm25")
        with written_whole(path) as aside:
            shutil.copyfile(kept, aside)
    shutil.rmtree(index, ignore_errors=True)
    return path
