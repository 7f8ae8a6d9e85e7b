"""Vectors that Milvus holds: seed index --store puts them there, and what it finds is scored once more from the disk.

Letters: Q queries, D width, c candidates of a query.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import Manifest, finished
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.index import IndexConfig
from seedcli.configs.search import SearchConfig
from seedcli.retrieval import exact
from seedcli.retrieval.exact import NOTHING, Hits
from seedcli.retrieval.fast import error_bound
from seedcli.retrieval.matrix import LEAST, Matrix, Place
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
from seedcli.retrieval.runs import Ranking
from seedcli.retrieval.vectors import Shard, open_shards
from seedcli.stages.estimates import LIBRARIES, announce
from seedcli.stages.questions import Questions
from seedcli.stages.stage import Outcome, Stage
from seedcli.stages.vector_index import VectorIndex

BATCH = 4 << 20  # bytes of vectors that are sent together
ON_DISK, IN_MEMORY = 2, 4  # milvus-lite takes so many times what the vectors do; measured: benchmarks/scale.py
FILLING, MOST_FILLING = 16, 2 << 30  # and while it is filled, for those that it hasn't written yet
HITS, AT_ONCE = 1 << 18, 256  # of one request: hits of all its queries, and queries
WIDER = 4  # times as many candidates, where these don't settle a query


class StoreIndex(VectorIndex):
    """What Milvus finds, rescored from the shards; of a flat index the hits and scores of exact search."""

    def __init__(self, folder: Path, manifest: Manifest, config: SearchConfig, runtime: Runtime, progress: Progress):
        super().__init__(folder, manifest, config, runtime)
        told = manifest.metrics["store"]
        self.mark = Mark(str(self.encoded.identity), self.size, self.shards[0].width, manifest.config["kind"])
        self.longest, self.index = float(told["longest"]), index_of(self.mark)
        self.store = Store(beside(folder, told["uri"]), told["collection"], config.patience, progress)
        self.matrix = Matrix(self.shards, torch.device("cpu"), LEAST)  # of which few vectors are read
        check_held(self.store, self.mark, folder, config.accept_deletions, progress)
        self.store.load()

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        names, vectors = [query.id for query in questions.queries], self.encode(questions)
        wanted = min(exact.count_of(depth, self.size / max(1, self.passages)), self.size, MOST)
        several = max(1, min(AT_ONCE, HITS // max(1, wanted)))
        with progress.track("search", len(names), "queries") as advance:
            for begin in range(0, len(names), several):
                found = self.nearest(vectors[begin : begin + several], depth, wanted)
                for query, hits in zip(names[begin : begin + several], found, strict=True):
                    yield hits.ranking(query)
                advance(len(found))

    def nearest(self, vectors: NDArray[np.float32], depth: int, wanted: int) -> list[Hits]:
        """The first `depth` passages for each query [Q, D], out of so many candidates, or more where these settle none.

        Raises DataError for a query that holds no numbers.
        """
        if not np.isfinite(vectors).all():
            raise DataError("a query's vector holds NaN or an infinite number; look for it in the model's weights")
        queries, hits = torch.from_numpy(np.ascontiguousarray(vectors)), [NOTHING] * len(vectors)
        left = np.arange(len(vectors))
        while len(left):
            answers = self.store.search(vectors[left], wanted, self.index)
            unsure = list[int]()
            for place, (scores, own) in zip(left.tolist(), self.scored(queries[left], answers), strict=True):
                hits[place] = own.first(depth)
                if len(scores) == wanted < self.size and not self.settled(
                    hits[place], scores[-1], queries[place], depth
                ):
                    unsure.append(place)
            if wanted == MOST:
                break
            left, wanted = np.array(unsure, np.int64), min(WIDER * wanted, self.size, MOST)
        return hits

    def scored(
        self, queries: torch.Tensor, answers: Sequence[tuple[list[int], list[float]]]
    ) -> Iterator[tuple[list[float], Hits]]:
        """The store's scores of each query [Q, D], and its hits with those of the vectors on the disk."""
        counts = np.array([len(rows) for rows, _ in answers], np.int64)
        rows = np.array([row for own, _ in answers for row in own], np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.size:
            raise DataError(f"{self.store}: {self.store.collection} holds rows that seed index didn't put there")
        owners = np.repeat(np.arange(len(answers)), counts)
        found = exact.split(exact.scored(queries, owners, rows, self.matrix), counts)
        return zip((scores for _, scores in answers), found, strict=True)

    def settled(self, hits: Hits, least: float, query: torch.Tensor, depth: int) -> bool:
        """Whether no vector below the `least` score that the store told may stand among the first `depth`.

        An approximate index may have passed over others; its hits are taken as they are, once they are enough.
        """
        if len(hits.rows) < depth:
            return False
        error = float(error_bound(query[None], self.longest)[0])
        return self.mark.kind != "flat" or float(hits.scores[-1]) > least + error

    def memory(self) -> int:
        """Bytes that a search holds beside the libraries; milvus-lite holds all vectors."""
        held = 4 * self.size * self.shards[0].width if is_path(self.store.uri) else 0
        return IN_MEMORY * held + 64 * HITS

    def close(self) -> None:
        self.store.close()


def build_store(config: IndexConfig, stage: Stage) -> Outcome:
    """The vectors in a collection of Milvus; the folder is the manifest that points at them."""
    folder, uri = Path(stage.inputs["vectors"].path), address(str(config.store))
    shards, encoded = open_shards(folder), finished(folder, "encode")
    mark = Mark(stage.inputs["vectors"].identity, sum(shard.size for shard in shards), shards[0].width, config.kind)
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
    index = index_of(mark)
    place = {"uri": seen_from(stage.folder, uri), "collection": name, "longest": longest, "index": index.type}
    passages = encoded.metrics.get("passages", mark.size)
    return Outcome([], {"passages": passages, "vectors": mark.size, "width": mark.width, "store": place | index.build})


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
    """Raises ConfigError when an index can't be stored as it is asked for."""
    uri = address(str(config.store))
    check_installed(uri)
    kinds = EMBEDDED if is_path(uri) else KINDS
    if config.kind not in kinds:
        raise ConfigError(f"--kind {config.kind}: {'milvus-lite' if is_path(uri) else 'Milvus'} has {', '.join(kinds)}")


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
        raise DataError(f"{folder}: {name} in {store} is made of {told}, not of {asked}; repeat seed index")
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
