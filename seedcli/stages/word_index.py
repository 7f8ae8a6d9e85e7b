"""Passages that are found by their words."""

import os
from collections.abc import Iterator
from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.manifest import Manifest, located
from seedcli.base.progress import Progress
from seedcli.configs.index import IndexConfig
from seedcli.configs.search import SearchConfig
from seedcli.data.sources import open_collection
from seedcli.data.survey import survey_passages
from seedcli.retrieval.lucene import WordSearcher, heap_bytes, index_collection
from seedcli.retrieval.runs import Ranking
from seedcli.stages.estimates import announce
from seedcli.stages.questions import Questions
from seedcli.stages.stage import Outcome, Stage


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


def build_words(config: IndexConfig, stage: Stage) -> Outcome:
    """A bm25 index of a corpus."""
    lucene, collection = stage.folder / "lucene", open_collection(stage.inputs["corpus"].path)
    survey = survey_passages(collection, stage.inputs["corpus"].identity, stage.progress)
    survey.problems.settle(str(config.corpus), config.problems, stage.progress)
    disk = {stage.folder: survey.characters // 2}  # SQuAD's index takes a fifth, and its merging as much again
    announce(stage, f"{survey.records:,} passages", heap_bytes(config.heap), disk)
    count = index_collection(collection, lucene, stage.progress, survey.records, config.heap)
    return Outcome([], {"passages": count}, variable=[path for path in lucene.iterdir() if path.is_file()])
