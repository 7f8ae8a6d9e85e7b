"""seed encode: a model and a corpus, or queries -> shards of vectors with their ids."""

from collections.abc import Iterator
from pathlib import Path

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Progress
from seedcli.configs.encode import EncodeConfig
from seedcli.data.records import Passage, Query
from seedcli.data.segments import Segmentation, vector_counts
from seedcli.data.sources import open_collection, source_path
from seedcli.data.survey import Survey, survey_passages, survey_queries
from seedcli.models.encoder import model_folder, segmentation
from seedcli.models.towers import Role, open_tower
from seedcli.retrieval.encoding import TextEncoder, write_vectors
from seedcli.retrieval.vectors import open_shards
from seedcli.stages.estimates import LIBRARIES, announce, rounded, token_lengths, weights
from seedcli.stages.stage import Outcome, Stage

BYTES = {"float32": 4, "float16": 2, "int8": 1}  # of a number


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
    role: Role = "passage" if config.corpus is not None else "query"
    encoder, tokenizer = open_tower(Path(stage.inputs["model"].path), role)
    model = TextEncoder(encoder, tokenizer, stage.runtime, config.batch_tokens, stage.progress.say)
    name = "collection" if role == "passage" else "queries"
    source, identity = stage.inputs[name].path, stage.inputs[name].identity
    collection = open_collection(source)

    def records() -> Iterator[Passage | Query]:
        return collection.passages() if role == "passage" else collection.queries(config.split)

    def surveyed() -> Survey:
        if role == "passage":
            return survey_passages(collection, identity, stage.progress)
        return survey_queries(lambda: collection.queries(config.split), config.split, identity, stage.progress)

    survey = stage.runtime.cached(surveyed)
    survey.problems.settle(source, config.problems, stage.progress)
    if not survey.records:
        raise DataError(f"{source}: empty, nothing to encode")
    expect(config, stage, model, role, survey, records())
    items = model.items(records())
    write_vectors(items, model, role, stage.folder, config.shard_size, survey.records, stage.progress, config.storage)
    stage.runtime.barrier()
    shards = open_shards(stage.folder)
    vectors = {"vectors": sum(shard.size for shard in shards), "width": shards[0].width, "shards": len(shards)}
    texts = {"passage": "passages", "query": "queries"}[role]
    return Outcome([shard.path for shard in shards], {"role": role, texts: survey.records, **vectors})


def expect(
    config: EncodeConfig, stage: Stage, model: TextEncoder, role: Role, survey: Survey,
    records: Iterator[Passage | Query],
) -> None:  # fmt: skip
    """Tell what is to come."""
    settings, width = model.encoder.settings, model.encoder.size
    cut = Segmentation(length=settings.query_length) if role == "query" else segmentation(settings, model.tokenizer)
    lengths = token_lengths((item.text for item in model.items(records)), model.tokenizer, cut.longest)
    each = float(vector_counts(lengths, cut).mean())
    shard = min(config.shard_size, survey.records)
    texts = 3 * survey.characters // survey.records  # as characters, as bytes and as tokens
    of_shard = int(shard * (8 * width * each + texts))
    holds = LIBRARIES + 4 * weights(model.encoder) + of_shard + 40 * model.budget.tokens * width
    tokens = rounded(lengths.mean() * survey.records)
    reads = f"{survey.records:,} texts, about {tokens} tokens, at most {cut.longest} each"
    if settings.several and role == "passage":
        reads += f"; about {rounded(each * survey.records)} vectors"
    announce(stage, reads, holds, {stage.folder: int(each * survey.records) * (BYTES[config.storage] * width + 24)})
