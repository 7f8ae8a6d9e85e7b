"""seed encode: a model and a corpus, or queries -> shards of vectors with their ids."""

from pathlib import Path

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Progress
from seedcli.configs.encode import EncodeConfig
from seedcli.data.sources import open_collection, source_path
from seedcli.models.encoder import model_folder, open_encoder
from seedcli.retrieval.encoding import Role, TextEncoder, write_vectors
from seedcli.retrieval.vectors import open_shards
from seedcli.stages.stage import Outcome, Stage


def inputs(config: EncodeConfig, progress: Progress) -> dict[str, Path]:
    """The model and the collection, by name."""
    if (config.corpus is None) == (config.queries is None):
        raise ConfigError("give either --corpus or --queries")
    if config.split and config.corpus:
        raise ConfigError("--split chooses queries; a corpus is encoded whole")
    name, source = ("collection", config.corpus) if config.corpus is not None else ("queries", str(config.queries))
    open_collection(source, progress)
    return {"model": model_folder(config.model), name: source_path(source)}


def run(config: EncodeConfig, stage: Stage) -> Outcome:
    encoder, tokenizer = open_encoder(Path(stage.inputs["model"].path))
    model = TextEncoder(encoder, tokenizer, stage.runtime, config.batch_tokens)
    if config.corpus:
        collection = open_collection(config.corpus)
        items, total = model.items(collection.passages()), collection.count()
    else:
        queries = list(open_collection(str(config.queries)).queries(config.split))
        items, total = model.items(queries), len(queries)
    role: Role = "passage" if config.corpus else "query"
    write_vectors(items, model, role, stage.folder, config.shard_size, total, stage.progress)
    stage.runtime.barrier()
    if not any(stage.folder.glob("vectors-*")):
        raise DataError(f"{config.corpus or config.queries}: empty, nothing to encode")
    shards = open_shards(stage.folder)
    metrics = {"vectors": sum(shard.size for shard in shards), "width": shards[0].width, "shards": len(shards)}
    return Outcome([shard.path for shard in shards], {"role": role, **metrics})
