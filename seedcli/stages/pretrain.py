"""seed pretrain: text -> tokenizer -> blocks -> an encoder, trained by masked words and a weak decoder."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import cache_folder
from seedcli.base.progress import Progress
from seedcli.base.speed import matrix_rate
from seedcli.configs.pretrain import PretrainConfig
from seedcli.data.batches import PretrainingBatches
from seedcli.data.masking import Masking
from seedcli.data.sources import source_path
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.decoder import STD, WeakDecoder
from seedcli.models.encoder import (
    SIZES,
    EncoderSettings,
    Size,
    longest_input,
    model_folder,
    new_masked_lm,
    open_masked_lm,
    read_config,
    save_model,
)
from seedcli.models.flops import Decoder, encoder_shape, pretraining_operations
from seedcli.models.kept import DecoderShape, keep_decoder, keeps_decoder, open_decoder, shape_of
from seedcli.models.seed import SeedModel, embedding_of
from seedcli.stages.estimates import (
    announce,
    arithmetic,
    checkpointed,
    device_memory,
    lower,
    rounded,
    telling_memory,
    training_memory,
)
from seedcli.stages.pretraining_text import (
    HELD_OUT,
    VOCABULARY,
    blocks_made,
    blocks_of,
    choose_tokenizer,
    files_of_text,
    held_out_blocks,
    held_out_of,
    refuse_copies,
    refuse_shared,
    text_size,
    texts_of,
)
from seedcli.stages.stage import Outcome, Stage, check_batch
from seedcli.training.checkpoint import CHECKPOINTS
from seedcli.training.loop import Training, train
from seedcli.training.losses import CHUNK
from seedcli.training.objectives import PretrainingObjective
from seedcli.training.optimizers import adamw, warmup_steps
from seedcli.training.watching import WATCHED, Watching

SIZE: Size = "base"  # of a new model, unless --size says otherwise
TOKEN = 5  # bytes of text a token, in English with 8,000 to 32,000 sub-words


def inputs(config: PretrainConfig, progress: Progress) -> dict[str, Path]:
    """The text, what is held out, the model to go on from and the tokenizer, by name."""
    check_options(config)
    texts = [source_path(source, progress) for source in config.text]
    for path in texts:
        files_of_text(path)
    paths = {f"text.{row}": path for row, path in enumerate(texts)}
    if config.watch.held_out is not None:
        paths[HELD_OUT] = source_path(config.watch.held_out, progress)
        refuse_shared(paths[HELD_OUT], texts)
    if config.model.init is not None:
        paths["init"] = model_folder(config.model.init)
    if config.words.tokenizer not in {None, "train"}:
        given = Path(str(config.words.tokenizer))
        paths["tokenizer"] = given if given.is_file() else model_folder(str(given))
    return paths


def check_options(config: PretrainConfig) -> None:
    """Raises ConfigError for options that don't go together."""
    model, words, watch = config.model, config.words, config.watch
    for wrong, problem in [
        (
            (model.init is None) == (words.tokenizer is None),
            "give either --init MODEL, or --tokenizer train (or a folder, a hub name, a vocab.txt)",
        ),
        (not config.text, "--text is empty: name files, folders or collections"),
        (
            model.init is not None and model.size is not None,
            f"--size {model.size} is for a new model; that of --init has its own",
        ),
        (
            words.vocabulary is not None and words.tokenizer != "train",
            f"--vocabulary {words.vocabulary} is for --tokenizer train",
        ),
        (watch.held_out is not None and watch.held_out_share > 0, "give either --held-out or --held-out-share"),
        (model.keep_decoder and model.decoder == "none", "--keep-decoder: with --decoder none there is none to keep"),
    ]:
        if wrong:
            raise ConfigError(problem)


def run(config: PretrainConfig, stage: Stage) -> Outcome:
    check_batch(config.optimize.batch_size, stage.runtime)
    refuse_copies(stage)
    expect(config, stage)
    tokenizer = choose_tokenizer(config, stage)
    model = build_model(config, stage, tokenizer)
    metrics = dict[str, float]()
    if config.optimize.steps:
        metrics = train_model(config, stage, model, tokenizer)
    length = min(config.words.length, longest_input(model.encoder.config))
    settings = EncoderSettings(query_length=min(64, length), passage_length=length)
    files = save_model(stage.folder, model.encoder, tokenizer, settings) if stage.runtime.first else []
    if config.model.keep_decoder and model.decoder is not None and stage.runtime.first:
        files += keep_decoder(stage.folder, model.decoder)
    parameters = sum(parameter.numel() for parameter in model.encoder.parameters())
    metrics = {"parameters": parameters, "vocabulary": tokenizer.size, **metrics}
    return Outcome(files, metrics, scratch=[stage.folder / CHECKPOINTS])


def expect(config: PretrainConfig, stage: Stage) -> None:
    """Tell what is to come. Files are not read for it, but collections are, once."""
    words, options = config.words, config.optimize
    texts = [given for given in (texts_of(stage), held_out_of(stage)) if given]
    tokens = [text_size(stage, given) / TOKEN for given in texts]
    unmade = [n for given, n in zip(texts, tokens, strict=True) if not blocks_made(config, stage, given)]
    weights = shape(config, stage).weights
    announce(
        stage,
        f"about {rounded(sum(tokens))} tokens of text",
        held(config, stage, options.micro_batch),
        {cache_folder(): round(2 * sum(unmade)), stage.folder: checkpointed(weights, config.saving.keep_last)},
    )
    batch = options.batch_size * words.length
    stage.progress.say(f"{options.steps:,} steps of at most {batch:,} tokens: {options.steps * batch:,} in all")


def held(config: PretrainConfig, stage: Stage, micro_batch: int) -> int:
    """About how many bytes a process holds that computes so many blocks at a time."""
    layers, hidden, vocabulary, weights = shape(config, stage)
    micro = micro_batch * config.words.length
    chunk = min(CHUNK[stage.runtime.device.type], micro * vocabulary)
    logits = chunk + config.words.mask * micro * vocabulary  # of the decoder, of masked words
    return training_memory(weights, micro, hidden, layers) + round(12 * logits)  # with their softmax and gradient


class Shape(NamedTuple):
    """Encoder and decoder together, before they are made; `weights` counts numbers."""

    layers: int
    hidden: int
    vocabulary: int
    weights: int


def shape(config: PretrainConfig, stage: Stage) -> Shape:
    if config.model.init is None:
        layers, hidden = SIZES[config.model.size or SIZE]
        trained = config.words.tokenizer == "train"
        vocabulary = config.words.vocabulary or VOCABULARY if trained else choose_tokenizer(config, stage).size
        positions = config.words.length
    else:
        built = read_config(Path(stage.inputs["init"].path))
        layers, hidden = int(built.num_hidden_layers), int(built.hidden_size)
        vocabulary, positions = int(built.vocab_size), longest_input(built)
    layers += config.model.decoder_layers if config.model.decoder == "weak" else 0
    return Shape(layers, hidden, vocabulary, (vocabulary + positions) * hidden + 12 * layers * hidden**2)


def build_model(config: PretrainConfig, stage: Stage, tokenizer: Tokenizer) -> SeedModel:
    """Encoder and decoder, of the weights that --init or the seed gives. Raises DataError when --init can't serve."""
    options = config.model
    torch.manual_seed(config.optimize.seed)
    if options.init is None:
        encoder = new_masked_lm(
            options.size or SIZE, tokenizer.size, config.words.length, tokenizer.pad, options.dropout, options.std
        )
    else:
        encoder, headed = open_masked_lm(Path(stage.inputs["init"].path))
        if not headed:
            stage.progress.say(f"{options.init} brings no masked-word head: it begins anew")
    hidden = int(encoder.config.hidden_size)
    entries, width = embedding_of(encoder).shape
    for lacks, problem in [
        (tokenizer.mask is None, "its tokenizer has no mask token"),
        (not tokenizer.prefix, "its texts begin without a [CLS] token"),
        (width != hidden, f"its embeddings are {width} wide, its hidden states {hidden}"),
        (tokenizer.size > entries, "its tokenizer has more entries than embeddings"),
    ]:
        if lacks:
            raise DataError(f"{options.init or config.words.tokenizer}: can't be pre-trained here: {problem}")
    if config.words.length > longest_input(encoder.config):
        raise ConfigError(f"--length {config.words.length}: this model reads at most {longest_input(encoder.config)}")
    if options.decoder == "none":
        return SeedModel(encoder, None)
    window = None if options.window == "none" else options.window
    heads, wide = encoder.config.num_attention_heads, getattr(encoder.config, "intermediate_size", 4 * hidden)
    wanted = DecoderShape(hidden, heads, wide, options.decoder_layers, window, config.words.length, options.dropout)
    return SeedModel(encoder, build_decoder(config, stage, wanted, getattr(encoder.config, "initializer_range", STD)))


def build_decoder(config: PretrainConfig, stage: Stage, wanted: DecoderShape, std: float) -> WeakDecoder:
    """The decoder that --init kept, if it is such a one as is wanted; else a new one."""
    given = stage.inputs.get("init")
    if given is None or not keeps_decoder(Path(given.path)):
        return wanted.new(std)
    kept = open_decoder(Path(given.path), wanted.hidden)
    brought = shape_of(kept)
    fitting = dataclasses.replace(wanted, positions=max(wanted.positions, brought.positions))
    if dataclasses.replace(brought, dropout=wanted.dropout) != fitting:
        had = f"{brought.layers} layers, window {brought.window or 'none'} and {brought.positions} positions"
        stage.progress.say(f"{config.model.init} brings a decoder of {had}: another one begins anew")
        return wanted.new(std)
    stage.progress.say(f"{config.model.init} brings its decoder, which goes on too")
    decoder = fitting.new()
    decoder.load_state_dict(kept.state_dict())
    return decoder


def train_model(config: PretrainConfig, stage: Stage, model: SeedModel, tokenizer: Tokenizer) -> dict[str, float]:
    options, runtime, progress = config.optimize, stage.runtime, stage.progress
    made = blocks_of(config, stage, tokenizer, texts_of(stage))
    progress.say(f"{len(made):,} blocks of {len(made.values) / len(made):.0f} tokens on average")
    trained, held_out = held_out_blocks(config, stage, tokenizer, made, WATCHED)
    assert tokenizer.mask is not None
    masking = Masking(tokenizer.mask, np.array(tokenizer.special_ids), tokenizer.size, config.words.mask)
    batches = PretrainingBatches(
        trained, masking, tokenizer.pad, options.batch_size, options.micro_batch, options.seed
    )  # fmt: skip
    watch = None
    if held_out is not None:
        watched = PretrainingBatches(held_out, masking, tokenizer.pad, len(held_out), options.micro_batch, seed=0)
        watch = Watching(model, watched, tokenizer, runtime, progress)
        progress.say(f"watched every {config.watch.watch_every:,} steps: {watch.about}")
    objective = PretrainingObjective(model).to(runtime.device)
    operations = operations_of(config, model, len(made.values) / len(made))
    rate = matrix_rate(runtime)
    progress.say(arithmetic(operations, rate))
    optimizer = adamw(objective, options.lr, (options.beta1, options.beta2), options.eps, options.weight_decay)
    training = Training(
        options.steps, warmup_steps(options.warmup, options.steps, 10_000), options.lr, options.clip, options.seed,
        config.saving.log_every, config.saving.save_every, "pre-train", config.saving.keep_last,
        config.saving.tensorboard, config.watch.watch_every, operations, rate,
    )  # fmt: skip
    advice = lower("--micro-batch", options.micro_batch, partial(held, config, stage), device_memory(runtime))
    with telling_memory(advice):
        return train(objective, optimizer, batches, training, stage.folder, runtime, stage.progress, watch)


def operations_of(config: PretrainConfig, model: SeedModel, length: float) -> float:
    """A token, forward and backward, in blocks of `length` tokens on average."""
    options = config.model
    window = None if options.window == "none" else options.window
    decoder = None if model.decoder is None else Decoder(options.decoder_layers, window)
    return pretraining_operations(encoder_shape(model.encoder.config), decoder, length, config.words.mask)
