"""seed encode: a model and a corpus, or queries -> shards of vectors with their ids."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Progress
from seedcli.configs.encode import EncodeConfig
from seedcli.data.records import Passage, Query
from seedcli.data.segments import Rows, Segmentation, lengths_of, vector_counts
from seedcli.data.sources import open_collection, source_path
from seedcli.data.survey import Survey, survey_passages, survey_queries
from seedcli.models.encoder import Encoder, model_folder, segmentation
from seedcli.models.towers import Role, open_tower
from seedcli.retrieval.encoding import WORKERS, TextEncoder, write_vectors
from seedcli.retrieval.vectors import open_shards
from seedcli.stages.encode_runtime import CHOICE, check_options, encoder_for
from seedcli.stages.estimates import LIBRARIES, SAMPLE, announce, rounded, weights
from seedcli.stages.stage import Outcome, Stage

OBJECTS = 250  # bytes of a text's id and of the array that holds its tokens, beside these
BYTES = {"float32": 4, "float16": 2, "int8": 1}  # of a number


def inputs(config: EncodeConfig, progress: Progress) -> dict[str, Path]:
    """The model and the collection, by name."""
    if (config.corpus is None) == (config.queries is None):
        raise ConfigError("give either --corpus or --queries")
    if config.split and config.corpus:
        raise ConfigError("--split chooses queries; a corpus is encoded whole")
    check_options(config)
    name, source = ("collection", config.corpus) if config.corpus is not None else ("queries", str(config.queries))
    open_collection(source, progress)
    return {"model": model_folder(config.model), name: source_path(source)}


def run(config: EncodeConfig, stage: Stage) -> Outcome:
    role: Role = "passage" if config.corpus is not None else "query"
    encoder, tokenizer = open_tower(Path(stage.inputs["model"].path), role)
    check_width(config.dim, encoder, stage.progress)
    model = TextEncoder(encoder, tokenizer, stage.runtime, config.batch_tokens, stage.progress.say, width=config.dim)
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
    sample = model.tokenizer.encode([item.text for item in islice(model.items(records()), SAMPLE)], model.length(role))
    expect(config, stage, model, role, survey, sample)
    tokens = lengths_of(sample).mean() * survey.records
    name, model = encoder_for(config, stage, model, role, sample, tokens)
    items = model.items(records())
    size, kind = config.shard_size, config.storage
    stage.runtime.gather(  # which tells a mistake of any process
        lambda: write_vectors(items, model, role, stage.folder, size, survey.records, stage.progress, kind)
    )
    stage.runtime.barrier()
    shards = open_shards(stage.folder)
    vectors = {"vectors": sum(shard.size for shard in shards), "width": shards[0].width, "shards": len(shards)}
    texts = {"passage": "passages", "query": "queries"}[role]
    metrics = {"role": role, texts: survey.records, **vectors, "runtime": name}
    return Outcome([shard.path for shard in shards], metrics, scratch=[stage.folder / CHOICE])


def check_width(dim: int | None, encoder: Encoder, progress: Progress) -> None:
    """Tell of a width that the model isn't trained for. Raises ConfigError for one that is more than it has."""
    if dim is None or dim == encoder.size:
        return
    if dim > encoder.size:
        raise ConfigError(f"--dim {dim}: the vectors of this model have {encoder.size} numbers")
    if dim not in encoder.settings.dimensions:
        named = ", ".join(map(str, encoder.settings.dimensions)) or "none"
        progress.say(
            f"this model isn't trained for vectors of {dim} numbers (its model.json names {named}): they may find less"
        )


def expect(config: EncodeConfig, stage: Stage, model: TextEncoder, role: Role, survey: Survey, sample: Rows) -> None:
    """Tell what is to come, as far as the first texts show it."""
    settings, width, lengths = model.encoder.settings, model.width, lengths_of(sample)
    cut = Segmentation(length=settings.query_length) if role == "query" else segmentation(settings, model.tokenizer)
    each = float(vector_counts(lengths, cut).mean())
    vectors = 4 * (model.encoder.size + 2 * width) * each  # whole ones, cut ones, and those on their way to the disk
    windows = 2 * (OBJECTS + sample[0].itemsize * lengths.mean())  # the one at work, and the one tokenised ahead
    batches = 0 if stage.runtime.device.type != "cpu" else min(torch.get_num_threads(), WORKERS)
    holds = int(min(config.shard_size, survey.records) * (vectors + windows))
    holds += LIBRARIES + 4 * weights(model.encoder) + 40 * batches * model.budget.tokens * model.encoder.size
    tokens = rounded(lengths.mean() * survey.records)
    reads = f"{survey.records:,} texts, about {tokens} tokens, at most {cut.longest} each"
    if settings.several and role == "passage":
        reads += f"; about {rounded(each * survey.records)} vectors"
    announce(stage, reads, holds, {stage.folder: int(each * survey.records) * (BYTES[config.storage] * width + 24)})
