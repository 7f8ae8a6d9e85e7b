"""seed index: vectors, or a corpus for bm25 -> an index, or several kinds side by side."""

from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.manifest import finished, read_manifest
from seedcli.base.progress import Progress
from seedcli.configs.index import Expander, IndexConfig, Tuning, Words
from seedcli.data.sources import open_collection, source_path
from seedcli.retrieval.vectors import open_shards
from seedcli.stages.comparison import compare, kinds_of
from seedcli.stages.faiss_index import build_faiss, check_exact, designed
from seedcli.stages.stage import Outcome, Stage
from seedcli.stages.store_index import build_store, check_options
from seedcli.stages.word_building import build_words, word_inputs


def inputs(config: IndexConfig, progress: Progress) -> dict[str, Path]:
    """The vectors, and the queries to measure with; or the corpus."""
    wanted, other = ("corpus", "vectors") if config.kind == "bm25" else ("vectors", "corpus")
    if getattr(config, wanted) is None or getattr(config, other) is not None:
        lacking = f"give --{wanted}" if getattr(config, other) is None else f"it takes no --{other}"
        raise ConfigError(f"--kind {config.kind} is built over --{wanted}: {lacking}")
    if config.kind != "bm25" and (config.words, config.expander, config.tuning) != (Words(), Expander(), Tuning()):
        raise ConfigError(f"--kind {config.kind} knows no words: the options of words and of tuning are for bm25")
    if config.store is not None:
        if config.compare:
            raise ConfigError("--compare measures indexes in folders: leave --store out")
        check_options(config)
    if config.kind in {"flat", "bm25"} and not config.compare:
        check_exact(config)
    if config.vectors is None:
        return word_inputs(config, progress)
    vectors = Path(config.vectors)
    if finished(vectors, "encode").metrics["role"] != "passage":
        raise ConfigError(f"--vectors {config.vectors}: holds query vectors; give those of a corpus")
    for each in kinds_of(config):
        if each.kind != "flat" and config.store is None:
            shards = open_shards(vectors)
            designed(each, sum(shard.size for shard in shards), shards[0].width)
    if config.queries is None:
        return {"vectors": vectors}
    if read_manifest(Path(config.queries)) is None:
        open_collection(config.queries, progress)
    return {"vectors": vectors, "queries": source_path(config.queries)}


def run(config: IndexConfig, stage: Stage) -> Outcome:
    if config.compare:
        return compare(config, stage)
    if config.store is not None:
        return build_store(config, stage)
    if config.kind == "bm25":
        return build_words(config, stage)
    return build_flat(stage) if config.kind == "flat" else build_faiss(config, stage)


def build_flat(stage: Stage) -> Outcome:
    """Vectors are stored once: the index is the manifest that points at them."""
    folder = Path(stage.inputs["vectors"].path)
    shards, encoded = open_shards(folder), finished(folder, "encode").metrics
    vectors = sum(shard.size for shard in shards)
    passages = encoded.get("passages", vectors)  # which older folders don't tell
    return Outcome([], {"passages": passages, "vectors": vectors, "width": shards[0].width})
