"""seed pretrain: text -> tokenizer -> blocks -> an encoder, trained by masked words and a weak decoder."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import cache_folder, made_whole
from seedcli.base.manifest import digest
from seedcli.base.progress import Progress, measured
from seedcli.configs.pretrain import PretrainConfig
from seedcli.data import blocks, wordpiece
from seedcli.data.batches import PretrainingBatches
from seedcli.data.masking import Masking
from seedcli.data.ragged import Ragged
from seedcli.data.sources import source_path
from seedcli.data.survey import survey_passages
from seedcli.data.text import collection_of, read_documents, text_files
from seedcli.data.tokenizer import Tokenizer, open_tokenizer
from seedcli.models.decoder import WeakDecoder
from seedcli.models.encoder import (
    SIZES,
    EncoderSettings,
    longest_input,
    model_folder,
    new_masked_lm,
    open_masked_lm,
    read_config,
    save_model,
)
from seedcli.models.seed import SeedModel, embedding_of
from seedcli.stages.estimates import CHECKPOINTED, announce, rounded, text_bytes, training_memory
from seedcli.stages.stage import Outcome, Stage, check_batch
from seedcli.training.checkpoint import CHECKPOINT
from seedcli.training.loop import Training, train
from seedcli.training.losses import CHUNK
from seedcli.training.objectives import PretrainingObjective
from seedcli.training.optimizers import adamw, warmup_steps

TOKEN = 5  # bytes of text a token, in English with 8,000 to 32,000 sub-words


def inputs(config: PretrainConfig, progress: Progress) -> dict[str, Path]:
    """The text, the model to go on from and the tokenizer, by name."""
    if (config.model.init is None) == (config.words.tokenizer is None):
        raise ConfigError("give either --init MODEL, or --tokenizer train (or a folder, a hub name, a vocab.txt)")
    if not config.text:
        raise ConfigError("--text is empty: name files, folders or collections")
    paths = {f"text.{row}": source_path(source, progress) for row, source in enumerate(config.text)}
    for path in paths.values():
        if not collection_of(path):
            text_files(path)
    if config.model.init is not None:
        paths["init"] = model_folder(config.model.init)
    if config.words.tokenizer not in {None, "train"}:
        given = Path(str(config.words.tokenizer))
        paths["tokenizer"] = given if given.is_file() else model_folder(str(given))
    return paths


def run(config: PretrainConfig, stage: Stage) -> Outcome:
    check_batch(config.optimize.batch_size, stage.runtime)
    expect(config, stage)
    tokenizer = choose_tokenizer(config, stage)
    model = build_model(config, stage, tokenizer)
    metrics = dict[str, float]()
    if config.optimize.steps:
        metrics = train_model(config, stage, model, blocks_of(config, stage, tokenizer), tokenizer)
    length = min(config.words.length, longest_input(model.encoder.config))
    settings = EncoderSettings(query_length=min(64, length), passage_length=length)
    files = save_model(stage.folder, model.encoder, tokenizer, settings) if stage.runtime.first else []
    parameters = sum(parameter.numel() for parameter in model.encoder.parameters())
    metrics = {"parameters": parameters, "vocabulary": tokenizer.size, **metrics}
    return Outcome(files, metrics, scratch=[stage.folder / CHECKPOINT])


def expect(config: PretrainConfig, stage: Stage) -> None:
    """Tell what is to come. Files are not read for it, but collections are, once."""
    words, options = config.words, config.optimize
    tokens = text_size(stage) / TOKEN
    layers, hidden, vocabulary, weights = shape(config, stage)
    micro = options.micro_batch * words.length
    logits = min(CHUNK, micro * vocabulary) + words.mask * micro * vocabulary  # of the decoder, of masked words
    announce(
        stage,
        f"about {rounded(tokens)} tokens of text",
        training_memory(weights, micro, hidden, layers) + round(12 * logits),  # with their softmax and gradient
        {cache_folder(): 0 if blocks_made(config, stage) else round(2 * tokens), stage.folder: CHECKPOINTED * weights},
    )
    batch = options.batch_size * words.length
    stage.progress.say(f"{options.steps:,} steps of at most {batch:,} tokens: {options.steps * batch:,} in all")


def text_size(stage: Stage) -> int:
    """Bytes of the text, or characters of collections; of packed files an estimate."""
    total = 0
    for name in text_names(stage):
        path, identity = Path(stage.inputs[name].path), stage.inputs[name].identity
        if collection := collection_of(path):
            survey = partial(survey_passages, collection, identity, stage.progress)
            total += stage.runtime.cached(survey).characters
        else:
            total += sum(map(text_bytes, text_files(path)))
    return total


class Shape(NamedTuple):
    """Encoder and decoder together, before they are made; `weights` counts numbers."""

    layers: int
    hidden: int
    vocabulary: int
    weights: int


def shape(config: PretrainConfig, stage: Stage) -> Shape:
    if config.model.init is None:
        layers, hidden = SIZES[config.model.size]
        trained = config.words.tokenizer == "train"
        vocabulary = config.words.vocabulary if trained else choose_tokenizer(config, stage).size
        positions = config.words.length
    else:
        built = read_config(Path(stage.inputs["init"].path))
        layers, hidden = int(built.num_hidden_layers), int(built.hidden_size)
        vocabulary, positions = int(built.vocab_size), longest_input(built)
    layers += config.model.decoder_layers if config.model.decoder == "weak" else 0
    return Shape(layers, hidden, vocabulary, (vocabulary + positions) * hidden + 12 * layers * hidden**2)


def choose_tokenizer(config: PretrainConfig, stage: Stage) -> Tokenizer:
    """The tokenizer that the options name; a trained one is kept in the cache, by what it was trained on."""
    words = config.words
    if words.tokenizer != "train":
        given = Path(stage.inputs["init" if config.model.init is not None else "tokenizer"].path)
        return open_tokenizer(given, words.lowercase)
    kept, total = trained_folder(config, stage), text_size(stage)

    def make() -> Path:
        if not kept.is_dir():
            with stage.progress.track("tokenizer", total, "characters") as advance, made_whole(kept) as aside:
                lines = (line for document in read_documents(text_paths(stage), words.field) for line in document)
                trained = wordpiece.train_tokenizer(
                    measured(lines, advance), words.vocabulary, words.lowercase, words.length
                )
                trained.save(aside)
        return kept

    return open_tokenizer(stage.runtime.cached(make))


def trained_folder(config: PretrainConfig, stage: Stage) -> Path:
    """Where the cache keeps a trained tokenizer."""
    words = config.words
    key = digest([wordpiece.RULES, texts(stage), words.vocabulary, words.lowercase, words.field])
    return cache_folder() / f"tokenizer-{key[:16]}"


def blocks_folder(config: PretrainConfig, stage: Stage, tokenizer: Tokenizer) -> Path:
    """Where the cache keeps blocks, by text, tokenizer and length."""
    words = config.words
    key = digest([blocks.RULES, texts(stage), tokenizer.backend.to_str(), words.length, words.pack, words.field])
    return cache_folder() / f"blocks-{key[:16]}"


def blocks_made(config: PretrainConfig, stage: Stage) -> bool:
    """Whether the cache has the blocks, as far as can be told before a tokenizer is trained."""
    kept = trained_folder(config, stage)
    if config.words.tokenizer == "train" and not kept.is_dir():
        return False
    tokenizer = open_tokenizer(kept) if config.words.tokenizer == "train" else choose_tokenizer(config, stage)
    return blocks_folder(config, stage, tokenizer).is_dir()


def blocks_of(config: PretrainConfig, stage: Stage, tokenizer: Tokenizer) -> Ragged:
    """The text as blocks, from the cache."""
    words, kept, total = config.words, blocks_folder(config, stage, tokenizer), text_size(stage)

    def make() -> Ragged:
        documents = read_documents(text_paths(stage), words.field)
        return blocks.make_blocks(documents, tokenizer, words.length, words.pack, kept, stage.progress, total)

    made = stage.runtime.cached(make)
    stage.progress.say(f"{len(made):,} blocks of {len(made.values) / len(made):.0f} tokens on average")
    return made


def build_model(config: PretrainConfig, stage: Stage, tokenizer: Tokenizer) -> SeedModel:
    """Encoder and decoder, of the weights that --init or the seed gives. Raises DataError when --init can't serve."""
    options = config.model
    torch.manual_seed(config.optimize.seed)
    if options.init is None:
        encoder = new_masked_lm(options.size, tokenizer.size, config.words.length, tokenizer.pad, options.dropout)
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
    decoder = WeakDecoder(hidden, heads, wide, options.decoder_layers, window, config.words.length, options.dropout)
    return SeedModel(encoder, decoder)


def train_model(
    config: PretrainConfig, stage: Stage, model: SeedModel, made: Ragged, tokenizer: Tokenizer
) -> dict[str, float]:
    options, runtime = config.optimize, stage.runtime
    assert tokenizer.mask is not None
    masking = Masking(tokenizer.mask, np.array(tokenizer.special_ids), tokenizer.size, config.words.mask)
    batches = PretrainingBatches(
        made, masking, tokenizer.pad, options.batch_size, options.micro_batch, options.seed
    )  # fmt: skip
    objective = PretrainingObjective(model).to(runtime.device)
    optimizer = adamw(objective, options.lr, (options.beta1, options.beta2), options.eps, options.weight_decay)
    training = Training(
        options.steps, warmup_steps(options.warmup, options.steps, 10_000), options.lr, options.clip, options.seed,
        config.saving.log_every, config.saving.save_every, "pre-train",
    )  # fmt: skip
    return train(objective, optimizer, batches, training, stage.folder, runtime, stage.progress)


def text_paths(stage: Stage) -> list[Path]:
    return [Path(stage.inputs[name].path) for name in text_names(stage)]


def texts(stage: Stage) -> list[str]:
    """What the texts hold, in their order."""
    return [stage.inputs[name].identity for name in text_names(stage)]


def text_names(stage: Stage) -> list[str]:
    return [name for name in stage.inputs if name.startswith("text.")]
