"""seed index: vectors, or a corpus for bm25 -> an index."""

from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.manifest import finished
from seedcli.base.progress import Progress
from seedcli.configs.index import IndexConfig
from seedcli.data.sources import open_collection, source_path
from seedcli.data.survey import survey_passages
from seedcli.retrieval.lucene import heap_bytes, index_collection
from seedcli.retrieval.vectors import open_shards
from seedcli.stages.estimates import announce
from seedcli.stages.stage import Outcome, Stage


def inputs(config: IndexConfig, progress: Progress) -> dict[str, Path]:
    """The vectors or the corpus, by name."""
    wanted, other = ("vectors", "corpus") if config.kind == "flat" else ("corpus", "vectors")
    if getattr(config, wanted) is None or getattr(config, other) is not None:
        raise ConfigError(f"--kind {config.kind} is built over --{wanted}, and takes no --{other}")
    if config.vectors is not None:
        if finished(Path(config.vectors), "encode").metrics["role"] != "passage":
            raise ConfigError(f"--vectors {config.vectors}: holds query vectors; give those of a corpus")
        return {"vectors": Path(config.vectors)}
    open_collection(str(config.corpus), progress)
    return {"corpus": source_path(str(config.corpus))}


def run(config: IndexConfig, stage: Stage) -> Outcome:
    if config.kind == "flat":  # vectors are stored once: the index is the manifest that points at them
        folder = Path(stage.inputs["vectors"].path)
        shards, encoded = open_shards(folder), finished(folder, "encode").metrics
        vectors = sum(shard.size for shard in shards)
        passages = encoded.get("passages", vectors)  # which older folders don't tell
        return Outcome([], {"passages": passages, "vectors": vectors, "width": shards[0].width})
    lucene, collection = stage.folder / "lucene", open_collection(stage.inputs["corpus"].path)
    survey = survey_passages(collection, stage.inputs["corpus"].identity, stage.progress)
    survey.problems.settle(str(config.corpus), config.problems, stage.progress)
    disk = {stage.folder: survey.characters // 2}  # SQuAD's index takes a fifth, and its merging as much again
    announce(stage, f"{survey.records:,} passages", heap_bytes(config.heap), disk)
    count = index_collection(collection, lucene, stage.progress, survey.records, config.heap)
    return Outcome([], {"passages": count}, variable=[path for path in lucene.iterdir() if path.is_file()])
