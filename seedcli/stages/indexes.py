"""Indexes, opened: one, or several whose rankings are fused, finished runs among them; what is asked of them."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.machine import Used
from seedcli.base.manifest import Manifest, finished
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.search import SearchConfig
from seedcli.retrieval.fusion import Pool, fuse, pools
from seedcli.retrieval.runs import Ranking, Run, run_of
from seedcli.stages.faiss_index import FaissIndex
from seedcli.stages.flat_index import FlatIndex
from seedcli.stages.found_run import FoundRun, is_run
from seedcli.stages.questions import Questions
from seedcli.stages.store_index import StoreIndex
from seedcli.stages.vector_index import VectorIndex
from seedcli.stages.word_index import WordIndex


class Searcher:
    """One index, or several to fuse, opened once for any number of questions.

    Vectors and models stay loaded, and the Java process of bm25 runs, until `close`.
    """

    def __init__(self, config: SearchConfig, runtime: Runtime, progress: Progress):
        check_fusion(config)
        self.config, self.progress = config, progress
        self.weights = config.weight or [1.0] * len(config.index)
        manifests = {folder: opened(Path(folder)) for folder in config.index if not is_run(folder)}
        check_settings(config, [*manifests.values()])
        self.indexes = [
            open_index(Path(folder), manifests[folder], config, runtime, progress)
            if folder in manifests
            else FoundRun(Path(folder))
            for folder in config.index
        ]
        if config.words.rm3 and not any(isinstance(index, WordIndex) for index in self.indexes):
            raise ConfigError("--rm3 expands the words of queries, for a bm25 index: none is given")

    def search(self, questions: Questions, depth: int) -> Iterator[Ranking]:
        """The rankings of the one index, or of all, fused."""
        if len(self.indexes) == 1:
            return self.indexes[0].search(questions, depth, self.progress)
        return fuse(self.runs(questions), self.config.fusion, self.weights, depth, self.config.fusion_k)

    def pools(self, questions: Questions) -> list[Pool]:
        """What all indexes have for the questions, to be weighed."""
        return [*pools(self.runs(questions), self.config.fusion, self.config.fusion_k)]

    def runs(self, questions: Questions) -> list[Run]:
        """What each index has that is to be fused."""
        return [run_of(index.search(questions, self.config.fusion_depth, self.progress)) for index in self.indexes]

    def java(self) -> dict[str, Used]:
        """What the Java process of each bm25 index took, by the number of the index."""
        found = {row: index.used() for row, index in enumerate(self.indexes) if isinstance(index, WordIndex)}
        return {f"index.{row}": used for row, used in found.items() if used is not None}

    def close(self) -> None:
        for index in self.indexes:
            index.close()


def check_fusion(config: SearchConfig) -> None:
    """Raises ConfigError for weights that can't be."""
    count, weights = len(config.index), config.weight
    if (weights or config.tuning.tune is not None) and count < 2:
        raise ConfigError("--weight and --tune are of a fusion: give --index twice or more")
    if weights and config.tuning.tune is not None:
        raise ConfigError("--weight and --tune: give the weights, or what to tune them on")
    if weights and len(weights) != count:
        raise ConfigError(f"--weight: {len(weights)} for {count} indexes; give one each, in their order")
    if weights and not (all(0 <= weight < math.inf for weight in weights) and any(weights)):
        raise ConfigError(f"--weight: got {', '.join(map(str, weights))}; give numbers from 0 on, not all 0")


def opened(folder: Path) -> Manifest:
    """The manifest of an index. Raises ConfigError for a comparison, which holds several."""
    manifest = finished(folder, "index")
    if kinds := manifest.metrics.get("kinds"):
        folders = ", ".join(str(folder / name) for name in kinds)
        raise ConfigError(f"--index {folder}: a comparison; search one of its indexes: {folders}")
    return manifest


def check_settings(config: SearchConfig, manifests: Sequence[Manifest]) -> None:
    """Raises ConfigError for a setting that none of the indexes has."""
    for name, told_by in (("probes", "probes"), ("ef_search", "ef_search"), ("refine", "factory")):
        if getattr(config, name) is not None and not any(told_by in manifest.metrics for manifest in manifests):
            kinds = ", ".join(
                f"{made.config['kind']}{' in a store' if made.config.get('store') else ''}" for made in manifests
            )
            raise ConfigError(f"--{name.replace('_', '-')}: none of the indexes takes that ({kinds})")


def open_index(
    folder: Path, manifest: Manifest, config: SearchConfig, runtime: Runtime, progress: Progress
) -> VectorIndex | WordIndex:
    """The index in a folder, of whatever kind."""
    kind = manifest.config["kind"]
    if kind == "bm25":
        return WordIndex(folder, manifest, config)
    if manifest.config.get("store") is not None:
        return StoreIndex(folder, manifest, config, runtime, progress)
    return (FlatIndex if kind == "flat" else FaissIndex)(folder, manifest, config, runtime)
