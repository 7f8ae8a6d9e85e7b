"""seed index: vectors, or a corpus for bm25 -> an index."""

from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.manifest import finished
from seedcli.base.progress import Progress
from seedcli.configs.index import IndexConfig
from seedcli.retrieval.vectors import open_shards
from seedcli.stages.stage import Outcome, Stage
from seedcli.stages.store_index import build_store, check_options
from seedcli.stages.word_building import build_words, word_inputs


def inputs(config: IndexConfig, progress: Progress) -> dict[str, Path]:
    """The vectors or the corpus, by name."""
    wanted, other = ("corpus", "vectors") if config.kind == "bm25" else ("vectors", "corpus")
    if getattr(config, wanted) is None or getattr(config, other) is not None:
        raise ConfigError(f"--kind {config.kind} is built over --{wanted}, and takes no --{other}")
    if config.store is not None:
        check_options(config)
    elif config.kind not in {"flat", "bm25"}:
        raise ConfigError(f"--kind {config.kind}: is an index of Milvus; say where with --store")
    if config.vectors is not None:
        if finished(Path(config.vectors), "encode").metrics["role"] != "passage":
            raise ConfigError(f"--vectors {config.vectors}: holds query vectors; give those of a corpus")
        return {"vectors": Path(config.vectors)}
    return word_inputs(config, progress)


def run(config: IndexConfig, stage: Stage) -> Outcome:
    if config.store is not None:
        return build_store(config, stage)
    return build_words(config, stage) if config.kind == "bm25" else build_flat(stage)


def build_flat(stage: Stage) -> Outcome:
    """Vectors are stored once: the index is the manifest that points at them."""
    folder = Path(stage.inputs["vectors"].path)
    shards, encoded = open_shards(folder), finished(folder, "encode").metrics
    vectors = sum(shard.size for shard in shards)
    passages = encoded.get("passages", vectors)  # which older folders don't tell
    return Outcome([], {"passages": passages, "vectors": vectors, "width": shards[0].width})
