"""seed index: vectors, or a corpus for bm25 -> an index."""

from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.manifest import finished
from seedcli.base.progress import Progress
from seedcli.configs.index import Expander, IndexConfig, Tuning, Words
from seedcli.retrieval.vectors import open_shards
from seedcli.stages.stage import Outcome, Stage
from seedcli.stages.word_building import build_words, word_inputs


def inputs(config: IndexConfig, progress: Progress) -> dict[str, Path]:
    """The vectors or the corpus, by name."""
    wanted, other = ("vectors", "corpus") if config.kind == "flat" else ("corpus", "vectors")
    if getattr(config, wanted) is None or getattr(config, other) is not None:
        raise ConfigError(f"--kind {config.kind} is built over --{wanted}, and takes no --{other}")
    if config.kind != "bm25" and (config.words, config.expander, config.tuning) != (Words(), Expander(), Tuning()):
        raise ConfigError(f"--kind {config.kind} knows no words: the options of words and of tuning are for bm25")
    if config.vectors is not None:
        if finished(Path(config.vectors), "encode").metrics["role"] != "passage":
            raise ConfigError(f"--vectors {config.vectors}: holds query vectors; give those of a corpus")
        return {"vectors": Path(config.vectors)}
    return word_inputs(config, progress)


def run(config: IndexConfig, stage: Stage) -> Outcome:
    return build_words(config, stage) if config.kind == "bm25" else build_flat(stage)


def build_flat(stage: Stage) -> Outcome:
    """Vectors are stored once: the index is the manifest that points at them."""
    folder = Path(stage.inputs["vectors"].path)
    shards, encoded = open_shards(folder), finished(folder, "encode").metrics
    vectors = sum(shard.size for shard in shards)
    passages = encoded.get("passages", vectors)  # which older folders don't tell
    return Outcome([], {"passages": passages, "vectors": vectors, "width": shards[0].width})
