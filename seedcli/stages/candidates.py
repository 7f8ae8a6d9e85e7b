"""The candidates of seed search --candidates: what a run, or the qrels of a collection, names for each query.

Letters: Q queries.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Progress
from seedcli.data.problems import Problems
from seedcli.data.ragged import Ragged
from seedcli.data.sources import open_collection, source_path
from seedcli.retrieval.exact import rows_of
from seedcli.retrieval.run_files import holds_run, read_run, run_path
from seedcli.retrieval.runs import Ranking, Run, run_of
from seedcli.retrieval.vectors import Shard


def candidates_path(source: str, split: str | None, progress: Progress) -> Path:
    """The path of a source. Raises ConfigError when it is neither a run nor has qrels of that split."""
    path = source_path(source, progress)
    if not path.exists() or not holds_run(path):
        try:
            collection = open_collection(path)
        except DataError as error:
            raise ConfigError(f"--candidates {source}: neither a run nor a collection ({error})") from None
        if not collection.judges(split or ""):
            there = ", ".join(sorted(collection.qrels_readers))
            lacking = "holds no qrels; give a run, or a collection with qrels"
            raise ConfigError(f"--candidates {source}: {f'name its qrels with --split: {there}' if there else lacking}")
    return path


def read_candidates(path: Path, split: str | None) -> Run:
    """The candidates of each query, as a run whose scores say nothing where qrels named them."""
    if holds_run(path):
        return read_run(run_path(path))
    collection = open_collection(path)
    if collection.shown_reader is not None:  # MIND's, whose test split has no judgements
        named = ((id_, news) for id_, news in collection.shown_reader())
        return run_of(Ranking(id_, news, np.zeros(len(news), np.float32)) for id_, news in named)
    qrels = collection.qrels(split or "")
    return run_of(Ranking(query, list(grades), np.zeros(len(grades), np.float32)) for query, grades in qrels.items())


class Known(NamedTuple):
    """What an index holds of the candidates: their rows, and how many of them, for each query [Q]."""

    rows: Ragged
    counts: NDArray[np.int64]


def known(candidates: Run, queries: Sequence[str], shards: Sequence[Shard]) -> tuple[Known, Problems]:
    """What the shards hold of the candidates of each query [Q], and what is wrong with them."""
    problems = Problems()
    named = [candidates.ranking(query)[0] for query in queries]
    names, ends = np.concatenate(named), np.cumsum([0, *map(len, named)])
    found = rows_of(names, shards)
    there = np.diff(found.offsets) > 0
    for name in names[~there].tolist():
        problems.add("candidates that the index lacks", name.decode())
    counts = np.diff(np.append(0, np.cumsum(there))[ends])
    for place in np.flatnonzero(counts == 0).tolist():
        problems.add("queries without a candidate, left out", queries[place])
    return Known(Ragged(found.values, found.offsets[ends]), counts), problems
