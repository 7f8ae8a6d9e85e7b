"""What is searched for: the texts of a collection, or the vectors that they were encoded to.

Letters: Q queries, D width.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import finished, read_manifest
from seedcli.data.records import Query
from seedcli.data.sources import open_collection
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
