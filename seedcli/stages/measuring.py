"""What approximate indexes are measured by: queries, and what exact search finds for them.

Letters: Q queries, D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedcli.base.files import cache_folder
from seedcli.base.manifest import digest, finished
from seedcli.base.runtime import Runtime
from seedcli.configs.index import IndexConfig
from seedcli.data.batches import permuted
from seedcli.retrieval import exact
from seedcli.retrieval.ann import Rows
from seedcli.retrieval.matrix import FLOATS, Matrix
from seedcli.retrieval.recall import DEPTH, Point, Sample
from seedcli.retrieval.run_files import read_run, write_run
from seedcli.retrieval.runs import Ranking
from seedcli.retrieval.vectors import names_of, open_shards
from seedcli.stages.flat_index import FlatIndex
from seedcli.stages.questions import Questions, read_questions
from seedcli.stages.stage import Stage, hush_libraries

RULES = 1  # to be raised when exact search for a sample would bring something else


class Unindexed(FlatIndex):
    """The vectors that an index is being built of."""

    def __init__(self, folder: Path, runtime: Runtime):
        self.vectors, self.encoded, self.shards = folder, finished(folder, "encode"), open_shards(folder)
        self.granted, self.runtime = None, runtime

    @cached_property
    def documents(self) -> int:
        """Different ids."""
        return len(np.unique(names_of(self.shards).at()))

    @property
    def each(self) -> float:
        """Vectors of a document on average."""
        return self.size / self.documents


def told_measured(
    config: IndexConfig, sample: Sample, chosen: Point, points: Sequence[Point], size: Mapping[str, int]
) -> dict[str, Any]:
    """What an index tells of itself: `chosen` is where searches begin; `size` in bytes, as far as it is known."""
    told = {
        "queries": len(sample.names), "of": "queries" if config.queries else "corpus",
        "milliseconds": chosen.single, "milliseconds_64": chosen.batch, **size,
        "points": [point._asdict() for point in points],
    }  # fmt: skip
    return {"recall@10": chosen.recall_10.mean, "recall@100": chosen.recall_100.mean, "measured": told}


def sampled(config: IndexConfig, stage: Stage, source: Unindexed) -> Sample:
    """Queries, or vectors of the corpus in their place, with what exact search finds for them, kept in the cache."""
    given, count = config.faiss, config.faiss.sample
    if config.queries is None:
        rows = Rows(source.shards)
        vectors = rows.at(rows.sample(count, given.seed, 2))
        stage.progress.say(
            f"measured with {len(vectors):,} vectors of the corpus, which find themselves: questions find less, "
            "and --queries takes some"
        )
    else:
        vectors = encoded(read_questions(config.queries, None), count, given.seed, source)
        stage.progress.say(f"measured with {len(vectors):,} of the queries of {config.queries}")
    asked = stage.inputs["queries"].identity if config.queries else None
    key = [RULES, stage.inputs["vectors"].identity, asked, count, given.seed, given.metric, DEPTH]
    kept, names = cache_folder() / f"exact-{digest(key)[:16]}.parquet", [str(row) for row in range(len(vectors))]
    if not kept.is_file():
        write_run(kept, truth(source, vectors, given.metric == "cosine", stage), "exact")
    return Sample(names, vectors, read_run(kept))


def encoded(questions: Questions, count: int, seed: int, source: Unindexed) -> NDArray[np.float32]:
    """Some of the queries as vectors [Q, D], drawn by the seed."""
    total = len(questions.queries)
    drawn = np.sort(permuted(np.arange(min(count, total), dtype=np.int64), total, seed, 3))
    if questions.vectors is None:
        hush_libraries()
    return source.encode(questions.at(drawn.tolist()))


def truth(source: Unindexed, vectors: NDArray[np.float32], unit: bool, stage: Stage) -> Iterator[Ranking]:
    """What exact search finds."""
    matrix = Matrix(source.shards, stage.runtime.device, FLOATS[stage.runtime.device.type], unit=unit)  # read once
    asked = Rows(source.shards, unit).of_length(vectors)
    names = [str(row) for row in range(len(asked))]
    return exact.search(names, asked, matrix, DEPTH, stage.progress, source.each)
