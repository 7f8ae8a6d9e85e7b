"""Indexes, opened: one, or several whose rankings are fused; what is asked of them."""

from collections.abc import Iterator
from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.machine import Used
from seedcli.base.manifest import finished
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.search import SearchConfig
from seedcli.retrieval.fusion import reciprocal_rank
from seedcli.retrieval.runs import Ranking, run_of
from seedcli.stages.flat_index import FlatIndex
from seedcli.stages.questions import Questions
from seedcli.stages.store_index import StoreIndex
from seedcli.stages.vector_index import VectorIndex
from seedcli.stages.word_index import WordIndex


class Searcher:
    """One index, or several to fuse, opened once for any number of questions.

    Vectors and models stay loaded, and the Java process of bm25 runs, until `close`.
    """

    def __init__(self, config: SearchConfig, runtime: Runtime, progress: Progress):
        self.config, self.progress = config, progress
        self.indexes = [open_index(Path(folder), config, runtime, progress) for folder in config.index]
        if config.words.rm3 and not any(isinstance(index, WordIndex) for index in self.indexes):
            raise ConfigError("--rm3 expands the words of queries, for a bm25 index: none is given")

    def search(self, questions: Questions, depth: int) -> Iterator[Ranking]:
        """The rankings of the one index, or of all, fused by reciprocal rank."""
        if len(self.indexes) == 1:
            return self.indexes[0].search(questions, depth, self.progress)
        runs = [run_of(index.search(questions, self.config.fusion_depth, self.progress)) for index in self.indexes]
        return reciprocal_rank(runs, depth, self.config.fusion_k)

    def java(self) -> dict[str, Used]:
        """What the Java process of each bm25 index took, by the number of the index."""
        found = {row: index.used() for row, index in enumerate(self.indexes) if isinstance(index, WordIndex)}
        return {f"index.{row}": used for row, used in found.items() if used is not None}

    def close(self) -> None:
        for index in self.indexes:
            index.close()


def open_index(folder: Path, config: SearchConfig, runtime: Runtime, progress: Progress) -> VectorIndex | WordIndex:
    """The index in a folder, of whatever kind."""
    manifest = finished(folder, "index")
    if manifest.config["kind"] == "bm25":
        return WordIndex(folder, manifest, config)
    if manifest.config.get("store") is not None:
        return StoreIndex(folder, manifest, config, runtime, progress)
    return FlatIndex(folder, manifest, config, runtime)
