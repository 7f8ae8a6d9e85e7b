"""Indexes, opened: vectors that are searched exactly, words in Lucene, or several of them fused; what is asked of them.

Letters: Q queries, D width.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.machine import bytes_of
from seedcli.base.manifest import Manifest, finished, located, read_manifest
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.search import SearchConfig
from seedcli.data.records import Query
from seedcli.data.sources import open_collection
from seedcli.models.towers import open_tower
from seedcli.retrieval import exact
from seedcli.retrieval.encoding import TextEncoder
from seedcli.retrieval.fusion import reciprocal_rank
from seedcli.retrieval.lucene import WordSearcher, heap_bytes
from seedcli.retrieval.matrix import HELD, Matrix, Room, room_for
from seedcli.retrieval.run_files import PART
from seedcli.retrieval.runs import Ranking, run_of
from seedcli.retrieval.vectors import open_shards, read_ids


class Questions(NamedTuple):
    """What is searched for: texts, or vectors [Q, D] that seed encode left, with the identity of their model."""

    queries: list[Query]
    vectors: NDArray[np.float32] | None = None
    model: str = ""

    def at(self, places: Iterable[int]) -> "Questions":
        """Some of them."""
        chosen = list(places)
        vectors = None if self.vectors is None else self.vectors[chosen]
        return Questions([self.queries[place] for place in chosen], vectors, self.model)


class FlatIndex:
    """Vectors, and the model that encoded them, which is loaded when words are asked for the first time."""

    unit = "vectors"

    def __init__(self, folder: Path, manifest: Manifest, config: SearchConfig, runtime: Runtime):
        self.vectors = located(folder, manifest, "vectors")
        self.encoded = finished(self.vectors, "encode")
        self.shards = open_shards(self.vectors)
        self.granted = None if config.memory is None else bytes_of("--memory", config.memory)
        self.runtime = runtime

    def corpus(self) -> Path:
        """The collection whose passages it finds."""
        return located(self.vectors, self.encoded, "collection")

    @cached_property
    def model(self) -> TextEncoder:
        encoder, tokenizer = open_tower(located(self.vectors, self.encoded, "model"), "query")
        return TextEncoder(encoder, tokenizer, self.runtime, width=self.shards[0].width)

    @cached_property
    def matrix(self) -> Matrix:
        """The vectors of this process's shards, with the memory that is left once the queries are encoded."""
        here = self.runtime
        room, own = here.share(self.room), self.shards[here.rank :: here.world]
        return Matrix(own, here.device, *room, width=self.shards[0].width)

    def room(self) -> Room:
        return room_for(self.shards, self.runtime.device, self.granted, self.runtime.world)

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        names, vectors = [query.id for query in questions.queries], self.encode(questions)
        each = self.size / max(1, self.passages)
        return exact.search(names, vectors, self.matrix, depth, progress, each, self.runtime)

    def encode(self, questions: Questions) -> NDArray[np.float32]:
        """The questions as vectors [Q, D]. Raises DataError when they were encoded by another model."""
        if questions.vectors is None:
            return self.runtime.share(lambda: self.encoded_words(questions.queries))
        if questions.model != self.encoded.inputs["model"].identity:
            raise DataError(f"{self.vectors}: encoded by another model than the queries")
        if (width := self.shards[0].width) != questions.vectors.shape[1]:
            told = f"vectors of {width} numbers, and those of the queries have {questions.vectors.shape[1]}"
            raise DataError(f"{self.vectors}: {told}; encode the queries with --dim {width}")
        return questions.vectors

    def encoded_words(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The queries of a run's part together, so that a search that goes on computes what one at once does."""
        texts = [item.text for item in self.model.items(queries)]
        parts = [self.model.encode(texts[begin : begin + PART], "query") for begin in range(0, len(texts), PART)]
        return np.concatenate([np.empty((0, self.shards[0].width), np.float32), *parts])

    @property
    def size(self) -> int:
        return sum(shard.size for shard in self.shards)

    @property
    def passages(self) -> int:
        """How many there are; older folders don't tell, and have a vector of each."""
        return int(self.encoded.metrics.get("passages", self.size))

    def memory(self) -> int:
        """Bytes that a search holds beside the libraries."""
        room, stored = self.room(), sum(shard.bytes for shard in self.shards) // self.runtime.world
        return HELD * room.floats + room.keep * stored

    def close(self) -> None:
        """Nothing but memory is held."""


class WordIndex:
    """A bm25 index, in a Java process that starts with the first question."""

    unit = "passages"

    def __init__(self, folder: Path, manifest: Manifest, config: SearchConfig):
        self.folder, self.manifest, self.config = folder, manifest, config
        k1, b, threads = manifest.config["k1"], manifest.config["b"], config.machine.threads or os.cpu_count() or 1
        self.lucene = WordSearcher(folder / "lucene", k1, b, threads, config.heap)

    def corpus(self) -> Path:
        """The collection whose passages it finds."""
        return located(self.folder, self.manifest, "corpus")

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        if questions.vectors is not None:
            raise ConfigError(f"{self.folder}: bm25 needs the queries' words; give --queries a collection")
        return self.lucene.search(questions.queries, depth, progress, len(questions.queries))

    @property
    def size(self) -> int:
        return int(self.manifest.metrics["passages"])

    def memory(self) -> int:
        """Bytes that a search holds beside the libraries: at most Java's heap."""
        return heap_bytes(self.config.heap)

    def close(self) -> None:
        self.lucene.close()


class Searcher:
    """One index, or several to fuse, opened once for any number of questions.

    Vectors and models stay loaded, and the Java process of bm25 runs, until `close`.
    """

    def __init__(self, config: SearchConfig, runtime: Runtime, progress: Progress):
        self.config, self.progress = config, progress
        self.indexes = [open_index(Path(folder), config, runtime) for folder in config.index]

    def search(self, questions: Questions, depth: int) -> Iterator[Ranking]:
        """The rankings of the one index, or of all, fused by reciprocal rank."""
        if len(self.indexes) == 1:
            return self.indexes[0].search(questions, depth, self.progress)
        runs = [run_of(index.search(questions, self.config.fusion_depth, self.progress)) for index in self.indexes]
        return reciprocal_rank(runs, depth, self.config.fusion_k)

    def close(self) -> None:
        for index in self.indexes:
            index.close()


def open_index(folder: Path, config: SearchConfig, runtime: Runtime) -> FlatIndex | WordIndex:
    """The index in a folder, of either kind."""
    manifest = finished(folder, "index")
    if manifest.config["kind"] == "bm25":
        return WordIndex(folder, manifest, config)
    return FlatIndex(folder, manifest, config, runtime)


def read_questions(source: str, split: str | None) -> Questions:
    """The queries of a collection, or those that a folder of seed encode holds as vectors."""
    if read_manifest(Path(source)) is None:
        questions = Questions(list(open_collection(source).queries(split)))
    else:
        manifest, shards = finished(Path(source), "encode"), open_shards(Path(source))
        if manifest.metrics["role"] != "query" or split is not None:
            raise ConfigError(
                f"--queries {source}: holds {manifest.metrics['role']} vectors; give encoded queries, whole"
            )
        queries = [Query(id_, "") for id_ in read_ids(shards)]
        vectors = np.concatenate([shard.vectors for shard in shards])
        questions = Questions(queries, vectors, manifest.inputs["model"].identity)
    if not questions.queries:
        raise DataError(f"{source}: no queries" + (f" judged in {split!r}" if split else ""))
    return questions
