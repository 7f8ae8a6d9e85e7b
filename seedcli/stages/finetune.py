"""seed finetune: a model, a training set and its negatives -> a retriever."""

import dataclasses
import math
from pathlib import Path

import torch

from seedcli.base.errors import DataError
from seedcli.base.files import write_json
from seedcli.base.progress import Progress
from seedcli.configs.finetune import FinetuneConfig
from seedcli.data.records import Qrels
from seedcli.data.sources import open_collection, source_path
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import (
    Encoder,
    EncoderSettings,
    check_settings,
    model_folder,
    open_encoder,
    read_config,
    read_settings,
    save_model,
)
from seedcli.negatives.bm25 import mine
from seedcli.negatives.sampling import ContrastiveBatches, TrainingSet, tokenise, training_set, wanted_passages
from seedcli.retrieval.runs import Run, read_run, run_of, run_path
from seedcli.stages.stage import Outcome, Stage, check_batch
from seedcli.training.checkpoint import CHECKPOINT
from seedcli.training.loop import Training, train
from seedcli.training.objectives import ContrastiveObjective
from seedcli.training.optimizers import adamw, warmup_steps


def inputs(config: FinetuneConfig, progress: Progress) -> dict[str, Path]:
    """The model, the data, and the run of negatives if there is one, by name."""
    data = open_collection(config.data, progress)
    paths = {"model": model_folder(config.model), "data": source_path(config.data)}
    data.qrels(config.split)
    chosen_settings(config, paths["model"])
    if config.negatives.hard and config.negatives.negatives != "bm25":
        paths["negatives"] = Path(config.negatives.negatives)
    return paths


def run(config: FinetuneConfig, stage: Stage) -> Outcome:
    check_batch(config.optimize.batch_size, stage.runtime)
    torch.manual_seed(config.optimize.seed)
    encoder, tokenizer = open_encoder(Path(stage.inputs["model"].path))
    encoder.settings = chosen_settings(config, Path(stage.inputs["model"].path))
    qrels = open_collection(config.data).qrels(config.split)
    data = prepare(config, stage, encoder.settings, tokenizer, qrels, negatives_run(config, stage))
    metrics = train_encoder(config, stage, encoder, data, tokenizer)
    files = save_model(stage.folder, encoder.backbone, tokenizer, encoder.settings) if stage.runtime.first else []
    metrics = {"queries": len(data.trained), **metrics}
    return Outcome(files, metrics, scratch=[stage.folder / CHECKPOINT])


def chosen_settings(config: FinetuneConfig, model: Path) -> EncoderSettings:
    """The model's settings, but for what the options change. Raises ConfigError when they don't fit the model."""
    changed = {name: value for name, value in dataclasses.asdict(config.tower).items() if value is not None}
    architecture = read_config(model)
    settings = dataclasses.replace(read_settings(model, architecture), **changed)
    check_settings(settings, architecture)
    return settings


def negatives_run(config: FinetuneConfig, stage: Stage) -> Run:
    """The run that negatives come from: given, or mined here with BM25 and kept beside the model."""
    if not config.negatives.hard:
        return run_of([])
    if "negatives" in stage.inputs:
        return read_run(run_path(Path(stage.inputs["negatives"].path)))
    if stage.runtime.first:
        mine(open_collection(config.data), config.split, config.negatives.depth, stage.folder, stage.progress)
    stage.runtime.barrier()
    return read_run(stage.folder / "bm25.trec")


def prepare(
    config: FinetuneConfig, stage: Stage, settings: EncoderSettings, tokenizer: Tokenizer, qrels: Qrels, negatives: Run
) -> TrainingSet:
    """Tokenised queries and passages, with the pools to draw from; negatives.json says what was left out."""
    collection, depth = open_collection(config.data), config.negatives.depth
    wanted = wanted_passages(qrels, negatives, depth)
    used = (passage for passage in collection.passages() if passage.id in wanted)
    queries = tokenise(
        collection.queries(config.split), settings.query_template, tokenizer, settings.query_length
    )  # fmt: skip
    passages = tokenise(used, settings.passage_template, tokenizer, settings.passage_length)
    data, report = training_set(queries, passages, qrels, negatives, depth)
    if not data.trained:
        raise DataError(f"{config.data}: no query of {config.split!r} has both a text and a positive in the corpus")
    without = report["queries without"]
    if config.negatives.hard and without["negative"] == len(data.trained):
        raise DataError(f"{config.negatives.negatives}: a run without any negative for the queries of {config.split!r}")
    if stage.runtime.first:
        write_json(stage.folder / "negatives.json", report)
    stage.progress.say(
        f"{len(data.trained):,} training queries, {len(passages.tokens):,} passages; "
        f"{without['negative']:,} queries without a negative, {without['positive'] + without['text']:,} left out"
    )
    return data


def train_encoder(
    config: FinetuneConfig, stage: Stage, encoder: Encoder, data: TrainingSet, tokenizer: Tokenizer
) -> dict[str, float]:
    options, runtime = config.optimize, stage.runtime
    steps = options.steps or math.ceil(options.epochs * len(data.trained) / options.batch_size)
    batches = ContrastiveBatches(data, tokenizer.pad, options.batch_size, config.negatives.hard, options.seed)
    objective = ContrastiveObjective(encoder, options.temperature).to(runtime.device)
    optimizer = adamw(objective, options.lr, (options.beta1, options.beta2), options.eps, options.weight_decay)
    training = Training(
        steps, warmup_steps(options.warmup, steps, 1_237), options.lr, options.clip, options.seed,
        config.saving.log_every, config.saving.save_every, "fine-tune",
    )  # fmt: skip
    return train(objective, optimizer, batches, training, stage.folder, runtime, stage.progress)
