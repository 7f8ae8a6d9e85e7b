"""seed finetune: a model, a training set and its negatives -> a retriever."""

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import torch

from seedcli.base.errors import ConfigError, SeedError
from seedcli.base.manifest import Manifest
from seedcli.base.progress import Progress
from seedcli.base.speed import matrix_rate
from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.finetune import Negatives as NegativeOptions
from seedcli.data.sources import open_collection, source_path
from seedcli.data.templates import template_of
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import (
    EncoderSettings,
    check_settings,
    model_folder,
    read_config,
    read_settings,
    segmentation,
)
from seedcli.models.flops import encoder_shape, encoding_operations
from seedcli.models.heads import is_linear, new_head
from seedcli.models.towers import Towers, open_towers, save_towers, tower_folder
from seedcli.negatives.examples import TrainingSet
from seedcli.negatives.renewal import Miner
from seedcli.negatives.sampling import ContrastiveBatches, Grouping
from seedcli.retrieval.dev import DevRetrieval
from seedcli.stages import refresher
from seedcli.stages.ance import FOLDER, known, miner, renewing
from seedcli.stages.dev_set import dev_set
from seedcli.stages.estimates import arithmetic, telling_memory
from seedcli.stages.given_examples import HOW, check_scores, looked_at
from seedcli.stages.stage import Outcome, Stage, check_batch
from seedcli.stages.texts import Source
from seedcli.stages.training_memory import smaller_chunk
from seedcli.stages.training_set import ANCE, FILE, Preparation, holds_examples, places
from seedcli.training.checkpoint import CHECKPOINTS
from seedcli.training.loop import Training, train
from seedcli.training.objectives import TAUGHT, ContrastiveObjective, Loss
from seedcli.training.optimizers import SCHEDULES, adamw, lamb, warmup_steps

GROUPED = {"cpu": 2_048, "cuda": 1 << 16}  # tokens encoded at a time, padding included: a GPU wants more to be busy


def inputs(config: FinetuneConfig, progress: Progress) -> dict[str, Path]:
    """The model, the data, the run or the triples if there are some, and the dev collection, by name."""
    data, source = open_collection(config.data, progress), config.negatives.negatives
    paths = {"model": model_folder(config.model), "data": source_path(config.data)}
    chosen_settings(config, paths["model"])
    check_options(config)
    if config.watch.dev is not None:
        dev = config.watch.dev_data
        (data if dev is None else open_collection(dev, progress)).qrels(config.watch.dev)
        if dev is None and not data.tells_apart(config.watch.dev, config.split):
            raise ConfigError(
                f"--dev {config.watch.dev}: {config.data} has one set of judgements, which is trained on; "
                "name another collection by --set watch.dev_data=..."
            )
        if dev is not None:
            paths["dev"] = source_path(dev)
    given = None if source in {"bm25", ANCE} else paths["data"] if source == FILE else source_path(source, progress)
    if given is not None and not given.exists():
        raise ConfigError(
            f"--negatives {source}: no such file or folder; a run, triples, or the word bm25, {ANCE} or {FILE}"
        )
    if given is not None and holds_examples(source, given):
        paths["negatives"] = given
        named = config.data if source == FILE else source
        check_scores(config, looked_at(open_collection(given).example_reader(config.split))[1], named)
        return paths
    if config.loss.loss in TAUGHT:
        raise ConfigError(
            f"--loss {config.loss.loss}: needs a teacher's scores; give --negatives {FILE} and examples with {HOW}"
        )
    if given is not None and config.negatives.hard:
        paths["negatives"] = given
    if data.example_readers and not data.qrels_readers:
        raise ConfigError(f"--data {config.data}: training examples without qrels; give --negatives {FILE}")
    data.qrels(config.split)
    return paths


def check_options(config: FinetuneConfig) -> None:
    """Raises ConfigError for options that don't go together."""
    places(config.negatives.negative_depth)
    check_ance(config)
    loss = config.loss.loss
    if loss != "in-batch" and not config.negatives.hard:
        raise ConfigError(f"--loss {loss}: compares with hard negatives; give --hard 1 or more")
    options = config.negatives
    if not options.hard and (
        options.drop_answers or (options.absolute_margin, options.relative_margin) != (None, None)
    ):
        raise ConfigError("--hard 0: there are no hard negatives to filter; leave out drop_answers and the margins")
    if config.loss.symmetric and loss != "in-batch":
        raise ConfigError(f"--set loss.symmetric: is for --loss in-batch, not {loss}")
    if config.loss.margin != 1 and loss != "triplet":
        raise ConfigError(f"--set loss.margin: is for --loss triplet, not {loss}")
    if config.loss.teacher_temperature != 1 and loss != "kl":
        raise ConfigError(f"--set loss.teacher_temperature: is for --loss kl, not {loss}")
    if config.watch.dev is None and (config.watch.patience or config.watch.dev_data):
        raise ConfigError("watch.patience and watch.dev_data: need --dev, the split to look at")


def check_ance(config: FinetuneConfig) -> None:
    """Raises ConfigError for options of ANCE where its negatives aren't asked for, or aren't used."""
    options, usual = config.negatives, NegativeOptions()
    if options.negatives == ANCE and not options.hard:
        raise ConfigError(f"--negatives {ANCE}: finds hard negatives; give --hard 1 or more")
    if options.negatives != ANCE:
        for name in ("refresh", "ance", "refresh_share", "ance_compat"):
            if getattr(options, name) != getattr(usual, name):
                raise ConfigError(f"negatives.{name}: is for --negatives {ANCE}")
    if abs(1 / options.refresh_share - round(1 / options.refresh_share)) > 1e-6:
        raise ConfigError("--set negatives.refresh_share: give one in so many, such as 0.5, 0.25 or 0.2")
    if options.ance != "async" and (options.role != "both" or options.staleness is not None):
        raise ConfigError("--role and negatives.staleness: are for --negatives ance --ance async")


def run(config: FinetuneConfig, stage: Stage) -> Outcome:
    check_batch(config.optimize.batch_size, stage.runtime)
    torch.manual_seed(config.optimize.seed)
    towers, tokenizer = opened(config, Path(stage.inputs["model"].path))
    collection = open_collection(stage.inputs["data"].path)
    preparation = Preparation(config, stage, towers, tokenizer, collection)
    try:
        data = known(config, preparation.training_set())
    except SeedError:
        (stage.folder / "bm25.trec").unlink(missing_ok=True)  # a copy; a mistake before any work leaves no folder
        raise
    watch = watching(config, stage, towers, tokenizer, preparation.source)
    with telling_memory(smaller_chunk(config, towers, stage.runtime)):
        metrics = train_towers(config, stage, preparation, data, watch)
    files: list[Path] = []
    if watch is not None:
        metrics |= {"best_step": watch.best.step, "best_dev_mrr@10": watch.best.value}
        place = (
            "" if watch.best.step == watch.looks[-1].step else f"; those of the last step in {stage.folder / 'last'}"
        )
        stage.progress.say(f"left: the weights of step {watch.best.step:,}, the best on dev{place}")
        if watch.best.step < watch.looks[-1].step:
            if stage.runtime.first:
                files += save_towers(stage.folder / "last", towers, tokenizer)
            stage.runtime.barrier()
            watch.restore()
    if stage.runtime.first:
        files += save_towers(stage.folder, towers, tokenizer)
    scratch = [stage.folder / CHECKPOINTS]
    if config.negatives.role == "both":
        scratch.append(stage.folder / FOLDER)  # else the refresher removes it, once it is done, too
    return Outcome(files, {"queries": len(data.trained), **metrics}, scratch=scratch)


def assists(config: FinetuneConfig) -> bool:
    """Whether a config asks for nothing but the search for negatives beside another process's training."""
    return config.negatives.role == "refresher"


def assist(config: FinetuneConfig, stage: Stage) -> Manifest:
    """Search for negatives until the training in the stage's folder is done; its manifest."""

    def prepared(own: Stage) -> tuple[ContrastiveObjective, Miner]:
        torch.manual_seed(config.optimize.seed)
        towers, tokenizer = opened(config, Path(stage.inputs["model"].path))
        collection = open_collection(stage.inputs["data"].path)
        preparation = Preparation(config, own, towers, tokenizer, collection)
        data = known(config, preparation.training_set())
        objective = ContrastiveObjective(towers, chosen_loss(config, towers)).to(own.runtime.device)
        return objective, miner(config, own, own.folder, preparation, data)

    return refresher.assist(config, stage, prepared)


def opened(config: FinetuneConfig, folder: Path) -> tuple[Towers, Tokenizer]:
    """The model's towers as the options change them."""
    towers, tokenizer = open_towers(folder)
    built = towers.query.backbone.config
    head = new_head(int(built.hidden_size), float(getattr(built, "initializer_range", 0.02)))
    for tower in towers.different:
        tower.settings = chosen_settings(config, folder)
        if config.tower.head == "none":
            tower.head = None
        elif config.tower.head == "linear" and tower.head is None:
            tower.head = copy.deepcopy(head)  # towers begin alike
        elif config.tower.head == "linear" and not is_linear(tower.head):
            raise ConfigError(f"--head linear: {folder} has another head; --head none takes it away")
    if config.tower.untied is False and towers.untied:
        raise ConfigError(f"--set tower.untied=false: {folder} has two towers, which can't be made one")
    if config.tower.untied and not towers.untied:
        towers = Towers(towers.query, copy.deepcopy(towers.query))
    segmentation(towers.settings, tokenizer)  # refuses an overlap that leaves no room
    widest = max((0, *towers.settings.dimensions))
    if widest > towers.passage.size:
        raise ConfigError(f"--set tower.dimensions: {widest} is more than the {towers.passage.size} of this model")
    return towers, tokenizer


def chosen_settings(config: FinetuneConfig, model: Path) -> EncoderSettings:
    """The model's settings, but for what the options change. Raises ConfigError when they don't fit the model."""
    known = {field.name for field in dataclasses.fields(EncoderSettings)}
    given = {name: value for name, value in dataclasses.asdict(config.tower).items() if name in known}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    changed |= {name: template_of(changed[name]) for name in changed if name.endswith("_template")}
    changed |= {name: tuple(sorted(set(changed[name]))) for name in changed if name == "dimensions"}
    folder = tower_folder(model, "passage")
    architecture = read_config(folder)
    settings = dataclasses.replace(read_settings(folder, architecture), **changed)
    check_settings(settings, architecture)
    return settings


def watching(
    config: FinetuneConfig, stage: Stage, towers: Towers, tokenizer: Tokenizer, source: Source
) -> DevRetrieval | None:
    """What looks at the dev queries; None unless they are asked for."""
    if config.watch.dev is None:
        return None
    if "dev" in stage.inputs:
        given = stage.inputs["dev"]
        source = dataclasses.replace(source, collection=open_collection(given.path), identity=given.identity)
    dev = dev_set(config, source)
    return DevRetrieval(
        towers, dev, tokenizer.pad, stage.folder, stage.runtime, stage.progress, config.watch.patience
    )  # fmt: skip


def train_towers(
    config: FinetuneConfig, stage: Stage, preparation: Preparation, data: TrainingSet, watch: DevRetrieval | None
) -> dict[str, float]:
    options, runtime, towers, tokenizer = config.optimize, stage.runtime, preparation.towers, preparation.tokenizer
    grouping = Grouping(GROUPED[runtime.device.type], options.chunk, segmentation(towers.settings, tokenizer))
    batches = ContrastiveBatches(
        data, tokenizer.pad, options.batch_size, config.negatives.hard, options.seed, config.loss.loss, grouping,
        config.negatives.take, not config.negatives.ance_compat,
    )  # fmt: skip
    steps = options.steps or math.ceil(options.epochs * batches.items / options.batch_size)
    if towers.settings.similarity == "cosine" and config.loss.temperature == 1 and config.loss.loss == "in-batch":
        stage.progress.say("cosines lie between -1 and 1, which tells little apart: --temperature 0.05 is usual")
    falls = options.schedule_steps or steps
    if falls < steps:
        told = f"--set optimize.schedule_steps={falls}"
        raise ConfigError(f"{told}: the rate would be nothing before the last of {steps:,} steps")
    objective = ContrastiveObjective(towers, chosen_loss(config, towers), options.chunk is not None).to(runtime.device)
    make = {"adamw": adamw, "lamb": lamb}[options.optimizer]
    optimizer = make(objective, options.lr, (options.beta1, options.beta2), options.eps, options.weight_decay)
    passages = data.passages.tokens  # most of what is read; queries only have fewer products of token with token
    shape = encoder_shape(towers.passage.backbone.config)
    length = min(len(passages.values) / len(passages), towers.settings.passage_length)
    operations = encoding_operations(shape, length)
    rate = matrix_rate(runtime)
    stage.progress.say(arithmetic(operations, rate))
    save_every = config.saving.save_every
    if config.negatives.negatives == ANCE and config.negatives.ance == "async":
        save_every = min(save_every, config.negatives.refresh)  # what is saved is what the other process searches with
    training = Training(
        steps, warmup_steps(options.warmup, falls, 1_237), options.lr, options.clip, options.seed,
        config.saving.log_every, save_every, "fine-tune", config.saving.keep_last,
        config.saving.tensorboard, config.watch.watch_every, operations, rate, SCHEDULES[options.schedule],
        falls,
    )  # fmt: skip
    with renewing(config, stage, preparation, data, batches) as renewal:
        return train(objective, optimizer, batches, training, stage.folder, runtime, stage.progress, watch, renewal)


def chosen_loss(config: FinetuneConfig, towers: Towers) -> Loss:
    """The loss that the options name, at each width that the model's settings do, the whole one included."""
    options, dimensions = config.loss, towers.settings.dimensions
    widths = tuple(sorted({*dimensions, towers.passage.size})) if dimensions else ()
    return Loss(
        options.loss, options.temperature, options.margin, options.symmetric, options.teacher_temperature, widths,
        towers.settings.similarity == "cosine",
    )  # fmt: skip
