"""Vectors that Milvus holds: seed index --store puts them there, and seed search scores what it finds anew."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.machine import bytes_in
from seedcli.base.manifest import Manifest
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.index import IndexConfig
from seedcli.configs.search import SearchConfig
from seedcli.retrieval import recall
from seedcli.retrieval.matrix import Place
from seedcli.retrieval.milvus import (
    EMBEDDED,
    KINDS,
    LETTERS,
    MOST,
    Mark,
    Store,
    address,
    check_installed,
    index_of,
    is_path,
)
from seedcli.retrieval.recall import DEPTH
from seedcli.retrieval.runs import Ranking
from seedcli.retrieval.stored import HITS, Stored
from seedcli.retrieval.vectors import Shard
from seedcli.stages.estimates import LIBRARIES, announce
from seedcli.stages.faiss_index import check_exact, given_of_faiss
from seedcli.stages.measuring import Unindexed, sampled, told_measured
from seedcli.stages.questions import Questions
from seedcli.stages.stage import Outcome, Stage
from seedcli.stages.vector_index import VectorIndex, by_calls

BATCH = 4 << 20  # bytes of vectors that are sent together
ON_DISK, IN_MEMORY = 2, 4  # milvus-lite takes so many times what the vectors do; measured: benchmarks/scale.py
FILLING, MOST_FILLING = 16, 2 << 30  # and while it is filled, for those that it hasn't written yet
MEASURING = {"faiss.measure", "faiss.sample", "faiss.seed", "queries"}  # what its approximate kinds take of faiss's


class StoreIndex(VectorIndex):
    """What Milvus finds, rescored from the shards; of a flat index the hits and scores of exact search."""

    def __init__(self, folder: Path, manifest: Manifest, config: SearchConfig, runtime: Runtime, progress: Progress):
        super().__init__(folder, manifest, config, runtime)
        told = manifest.metrics["store"]
        mark = Mark(str(self.encoded.identity), self.size, self.shards[0].width, manifest.config["kind"])
        self.store = Store(beside(folder, told["uri"]), told["collection"], config.patience, progress)
        self.stored = Stored(self.store, mark, self.shards, float(told["longest"]), self.each)
        check_held(self.store, mark, folder, config.accept_deletions, progress)
        self.store.load()

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        if min(depth, self.passages) > MOST:
            told = f"Milvus gives {MOST:,} hits at most; a flat index in a folder gives all"
            raise ConfigError(f"--depth {depth}: {told}")
        vectors, several = self.encode(questions), self.stored.at_once(depth)
        return by_calls(questions, vectors, several, lambda some: self.stored.search(some, depth), progress)

    def memory(self) -> int:
        """Bytes that a search holds beside the libraries; milvus-lite holds all vectors."""
        held = 4 * self.size * self.shards[0].width if is_path(self.store.uri) else 0
        return IN_MEMORY * held + 64 * HITS

    def close(self) -> None:
        self.store.close()


def build_store(config: IndexConfig, stage: Stage) -> Outcome:
    """The vectors in a collection of Milvus; the folder is the manifest that points at them."""
    folder, uri = Path(stage.inputs["vectors"].path), address(str(config.store))
    source, metrics = Unindexed(folder, stage.runtime), dict[str, Any]()
    shards = source.shards
    mark = Mark(stage.inputs["vectors"].identity, source.size, shards[0].width, config.kind)
    name = config.collection or f"seed_{mark.vectors[:16]}_{mark.kind}"
    if is_path(uri):
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    with closing(Store(uri, name, config.patience, stage.progress)) as store:
        make_collection(store, mark, longest_id(shards), stage.overwrite)
        longest = fill(store, mark, shards, stage)
        store.settle()
        if (count := store.count()) != mark.size:
            held = f"{name} holds {count:,} vectors in place of {mark.size:,}"
            raise DataError(f"{store}: {held}; see who else writes to it, and make it anew with --overwrite")
        if config.kind != "flat" and config.faiss.measure:
            store.load()
            metrics = measure(config, stage, source, Stored(store, mark, shards, longest, source.each))
    index = index_of(mark)
    place = {"uri": seen_from(stage.folder, uri), "collection": name, "longest": longest, "index": index.type}
    made = {"passages": source.passages, "vectors": mark.size, "width": mark.width, "store": place | index.build}
    return Outcome([], made | metrics)


def measure(config: IndexConfig, stage: Stage, source: Unindexed, stored: Stored) -> dict[str, Any]:
    """Recall and time as searches will have them; the disk's bytes where the store lies on this machine."""
    sample = sampled(config, stage, source)
    with stage.progress.track("measure", len(sample.names), "queries") as advance:
        found = recall.searched(sample, lambda vectors: stored.search(vectors, DEPTH))
        advance(len(sample.names))
    point = recall.judged(sample, None, found, [hits.scores for hits in found.found])
    uri = stored.store.uri
    size = {"disk": bytes_in(Path(uri))} if is_path(uri) else {}
    return told_measured(config, sample, point, [point], size)


def make_collection(store: Store, mark: Mark, letters: int, overwrite: bool) -> None:
    """A new collection, or the one that was begun for these vectors. Raises DataError when it holds others."""
    there = store.made_of()
    if there is not None and overwrite:
        store.drop()
    elif there not in (None, mark):
        told = f"{store}: the collection {store.collection} holds other vectors"
        raise DataError(f"{told}; name another one with --set collection=NAME, or lose it with --overwrite")
    store.prepare(mark, letters)


def fill(store: Store, mark: Mark, shards: Sequence[Shard], stage: Stage) -> float:
    """Send the batches that aren't whole in the store; the norm of the longest vector of all.

    Raises DataError for a vector that holds no numbers.
    """
    places = list(batches(shards))
    missing = lacking(store, places, stage.progress)
    left = sum(place.size for place in places if place.row in missing)
    whole, more, holds, writes = 4 * mark.width * mark.size, 4 * mark.width * left, 4 * BATCH, dict[Path, int]()
    if is_path(store.uri):
        holds += whole + min(FILLING * more, MOST_FILLING)
        writes[Path(store.uri)] = ON_DISK * more
    announce(stage, f"{mark.size:,} vectors of {mark.width} numbers", LIBRARIES + holds, writes)
    longest = 0.0
    with stage.progress.track("store", mark.size, "vectors", mark.size - left) as advance:
        for place in places:
            vectors = place.shard.stored(place.begin, place.end).floats()
            norm = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
            if not np.isfinite(norm):
                raise DataError(f"{place.shard.path}: a vector holds NaN or an infinite number; encode anew")
            longest = max(longest, norm)
            if place.row in missing:
                ids = place.shard.names().at(np.arange(place.begin, place.end))
                store.upsert(place.row, ids.tolist(), vectors)
                advance(place.size)
    return longest


def lacking(store: Store, places: Sequence[Place], progress: Progress) -> set[int]:
    """The first rows of the batches that aren't whole in the store."""
    if not store.count():
        return {place.row for place in places}
    missing = set[int]()
    with progress.track("look what is there", sum(place.size for place in places), "vectors") as advance:
        for place in places:
            if not store.holds(range(place.row, place.row + place.size)):
                missing.add(place.row)
            advance(place.size)
    return missing


def batches(shards: Sequence[Shard]) -> Iterator[Place]:
    """All vectors, some at a time."""
    row = 0
    for shard in shards:
        step = max(1, BATCH // (4 * shard.width))
        for begin in range(0, shard.size, step):
            yield Place(shard, begin, min(begin + step, shard.size), row + begin)
        row += shard.size


def check_options(config: IndexConfig) -> None:
    """Raises ConfigError when an index can't be stored, or measured, as it is asked for."""
    uri = address(str(config.store))
    check_installed(uri)
    kinds = EMBEDDED if is_path(uri) else KINDS
    if config.kind not in kinds:
        raise ConfigError(f"--kind {config.kind}: {'milvus-lite' if is_path(uri) else 'Milvus'} has {', '.join(kinds)}")
    if config.kind == "flat":
        check_exact(config)
    elif other := [typed for key, typed in given_of_faiss(config).items() if key not in MEASURING]:
        raise ConfigError(f"{other[0]}: Milvus's {config.kind} takes none of that")


def check_held(store: Store, mark: Mark, folder: Path, accept_deletions: bool, progress: Progress) -> None:
    """Raises DataError unless the collection holds what an index in a folder was made of."""
    if is_path(store.uri) and not Path(store.uri).is_dir():
        raise DataError(f"{folder}: its store {store} is no longer there; repeat seed index with --overwrite")
    there, name = store.made_of(), store.collection
    if there is None:
        raise DataError(f"{folder}: {store} has no collection {name}; repeat seed index with --overwrite")
    if there != mark:
        told = f"{there.size:,} vectors of {there.width} numbers ({there.kind}, {there.vectors[:8]})"
        asked = f"{mark.size:,} of {mark.width} ({mark.kind}, {mark.vectors[:8]})"
        raise DataError(
            f"{folder}: {name} in {store} is made of {told}, not of {asked}; repeat seed index with "
            "--overwrite, which drops those, or with --set collection=NAME"
        )
    count = store.count()
    if count < mark.size and accept_deletions:
        progress.say(f"{store}: {mark.size - count:,} of {mark.size:,} vectors were deleted there, and aren't found")
    elif count != mark.size:
        raise DataError(
            f"{folder}: {name} in {store} holds {count:,} vectors in place of {mark.size:,}; where some were deleted "
            "on purpose, give --set accept_deletions=true, otherwise repeat seed index with --overwrite"
        )


def longest_id(shards: Sequence[Shard]) -> int:
    """Bytes of the longest id. Raises DataError when Milvus can't hold it."""
    most = 0
    for shard in shards:
        most = max(most, int(np.diff(shard.names().offsets).max(initial=0)))
        if most > LETTERS:
            raise DataError(f"{shard.path}: an id has {most:,} bytes; Milvus holds at most {LETTERS:,}")
    return most


def seen_from(folder: Path, uri: str) -> str:
    """A store as a manifest in a folder tells it: a path as seen from there."""
    return os.path.relpath(uri, folder) if is_path(uri) else uri


def beside(folder: Path, told: str) -> str:
    """Where a store that a manifest in a folder tells of lies."""
    return os.path.normpath(folder / told) if is_path(told) else told
