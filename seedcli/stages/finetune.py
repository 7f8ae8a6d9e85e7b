"""seed finetune: a model, a training set and its negatives -> a retriever."""

import dataclasses
import math
from pathlib import Path

import torch

from seedcli.base.errors import ConfigError
from seedcli.base.progress import Progress
from seedcli.base.speed import matrix_rate
from seedcli.configs.finetune import FinetuneConfig
from seedcli.data.sources import open_collection, source_path
from seedcli.data.templates import template_of
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
from seedcli.models.flops import encoder_shape, encoding_operations
from seedcli.negatives.examples import TrainingSet
from seedcli.negatives.sampling import ContrastiveBatches
from seedcli.stages.estimates import arithmetic
from seedcli.stages.stage import Outcome, Stage, check_batch
from seedcli.stages.training_set import FILE, Preparation, holds_examples
from seedcli.training.checkpoint import CHECKPOINTS
from seedcli.training.loop import Training, train
from seedcli.training.objectives import ContrastiveObjective
from seedcli.training.optimizers import adamw, warmup_steps


def inputs(config: FinetuneConfig, progress: Progress) -> dict[str, Path]:
    """The model, the data, and the run or the triples if there are some, by name."""
    data, source = open_collection(config.data, progress), config.negatives.negatives
    paths = {"model": model_folder(config.model), "data": source_path(config.data)}
    chosen_settings(config, paths["model"])
    given = None if source == "bm25" else paths["data"] if source == FILE else source_path(source, progress)
    if given is not None and not given.exists():
        raise ConfigError(f"--negatives {source}: no such file or folder; a run, triples, or the word bm25 or {FILE}")
    if given is not None and holds_examples(source, given):
        paths["negatives"] = given
        next(open_collection(given).examples(config.split), None)
        return paths
    if given is not None and config.negatives.hard:
        paths["negatives"] = given
    if data.example_readers and not data.qrels_readers:
        raise ConfigError(f"--data {config.data}: training examples without qrels; give --negatives {FILE}")
    data.qrels(config.split)
    return paths


def run(config: FinetuneConfig, stage: Stage) -> Outcome:
    check_batch(config.optimize.batch_size, stage.runtime)
    torch.manual_seed(config.optimize.seed)
    encoder, tokenizer = open_encoder(Path(stage.inputs["model"].path))
    encoder.settings = chosen_settings(config, Path(stage.inputs["model"].path))
    collection = open_collection(stage.inputs["data"].path)
    data = Preparation(config, stage, encoder, tokenizer, collection).training_set()
    metrics = train_encoder(config, stage, encoder, data, tokenizer)
    files: list[Path] = []
    if stage.runtime.first:
        files = save_model(stage.folder, encoder.backbone, tokenizer, encoder.settings, encoder.head)
    metrics = {"queries": len(data.trained), **metrics}
    return Outcome(files, metrics, scratch=[stage.folder / CHECKPOINTS])


def chosen_settings(config: FinetuneConfig, model: Path) -> EncoderSettings:
    """The model's settings, but for what the options change. Raises ConfigError when they don't fit the model."""
    changed = {name: value for name, value in dataclasses.asdict(config.tower).items() if value is not None}
    changed |= {name: template_of(changed[name]) for name in changed if name.endswith("_template")}
    architecture = read_config(model)
    settings = dataclasses.replace(read_settings(model, architecture), **changed)
    check_settings(settings, architecture)
    return settings


def train_encoder(
    config: FinetuneConfig, stage: Stage, encoder: Encoder, data: TrainingSet, tokenizer: Tokenizer
) -> dict[str, float]:
    options, runtime = config.optimize, stage.runtime
    steps = options.steps or math.ceil(options.epochs * len(data.trained) / options.batch_size)
    batches = ContrastiveBatches(data, tokenizer.pad, options.batch_size, config.negatives.hard, options.seed)
    objective = ContrastiveObjective(encoder, options.temperature).to(runtime.device)
    optimizer = adamw(objective, options.lr, (options.beta1, options.beta2), options.eps, options.weight_decay)
    passages = data.passages.tokens  # most of what is read; queries only have fewer products of token with token
    operations = encoding_operations(encoder_shape(encoder.backbone.config), len(passages.values) / len(passages))
    rate = matrix_rate(runtime)
    stage.progress.say(arithmetic(operations, rate))
    training = Training(
        steps, warmup_steps(options.warmup, steps, 1_237), options.lr, options.clip, options.seed,
        config.saving.log_every, config.saving.save_every, "fine-tune", config.saving.keep_last,
        config.saving.tensorboard, operations=operations, rate=rate,
    )  # fmt: skip
    return train(objective, optimizer, batches, training, stage.folder, runtime, stage.progress)
