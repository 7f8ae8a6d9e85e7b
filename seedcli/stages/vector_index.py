"""Vectors that an index finds passages by: the folder of seed encode, and its model for the queries.

Letters: Q queries, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.base.errors import DataError
from seedcli.base.machine import bytes_of
from seedcli.base.manifest import Manifest, finished, located
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.search import SearchConfig
from seedcli.data.records import Query
from seedcli.models.towers import open_tower, tower_folder
from seedcli.retrieval import exact
from seedcli.retrieval.encoding import TextEncoder
from seedcli.retrieval.exact import Search
from seedcli.retrieval.run_files import PART
from seedcli.retrieval.runs import Ranking
from seedcli.retrieval.vectors import open_shards
from seedcli.stages.questions import Questions


class VectorIndex(ABC):
    """Passages by their vectors, and the model that encoded them, which is loaded when words are asked first."""

    unit = "vectors"

    def __init__(self, folder: Path, manifest: Manifest, config: SearchConfig, runtime: Runtime):
        self.vectors = located(folder, manifest, "vectors")
        self.encoded = finished(self.vectors, "encode")
        self.shards = open_shards(self.vectors)
        self.granted = None if config.memory is None else bytes_of("--memory", config.memory)
        self.runtime = runtime

    @abstractmethod
    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        """The first `depth` passages for each question, in the order of the questions."""

    @abstractmethod
    def memory(self) -> int:
        """Bytes that a search holds beside the libraries."""

    def corpus(self) -> Path:
        """The collection whose passages it finds."""
        return located(self.vectors, self.encoded, "collection")

    @cached_property
    def model(self) -> TextEncoder:
        encoder, tokenizer = open_tower(located(self.vectors, self.encoded, "model"), "query")
        return TextEncoder(encoder, tokenizer, self.runtime, width=self.shards[0].width)

    def model_bytes(self) -> int:
        """Of the weights that encode the questions."""
        tower = tower_folder(located(self.vectors, self.encoded, "model"), "query")
        return sum(path.stat().st_size for path in tower.glob("*.safetensors"))

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

    @property
    def each(self) -> float:
        """Vectors of a passage on average."""
        return self.size / max(1, self.passages)

    def close(self) -> None:  # noqa: B027  (most have nothing to do)
        """Let go what is more than memory."""


def by_calls(
    questions: Questions, vectors: NDArray[np.float32], several: int, search: Search, progress: Progress
) -> Iterator[Ranking]:
    """What a search finds for so many of the questions, by their vectors [Q, D], at a time."""
    exact.check_finite(torch.from_numpy(vectors))
    with progress.track("search", len(vectors), "queries") as advance:
        for begin in range(0, len(vectors), several):
            found = search(vectors[begin : begin + several])
            for query, hits in zip(questions.queries[begin : begin + several], found, strict=True):
                yield hits.ranking(query.id)
            advance(len(found))
