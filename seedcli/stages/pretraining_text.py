"""The text of seed pretrain: its tokenizer and its blocks, from the cache, and the blocks that are held out."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.files import cache_folder, made_whole
from seedcli.base.manifest import Input, digest
from seedcli.base.progress import measured
from seedcli.configs.pretrain import PretrainConfig
from seedcli.data import blocks, wordpiece
from seedcli.data.heldout import Rest, spread, taken
from seedcli.data.ragged import Ragged
from seedcli.data.survey import survey_passages
from seedcli.data.text import collection_of, read_documents, text_files
from seedcli.data.tokenizer import Tokenizer, open_tokenizer
from seedcli.stages.estimates import text_bytes
from seedcli.stages.stage import Stage

VOCABULARY = 32_768  # entries of a trained tokenizer, unless --vocabulary says otherwise
HELD_OUT = "held-out"  # the input's name

Texts = Sequence[Input]


def texts_of(stage: Stage) -> list[Input]:
    """What --text names, in its order."""
    return [given for name, given in stage.inputs.items() if name.startswith("text.")]


def held_out_of(stage: Stage) -> list[Input]:
    """What --held-out names, if anything."""
    return [given for name, given in stage.inputs.items() if name == HELD_OUT]


def refuse_shared(held_out: Path, texts: Sequence[Path]) -> None:
    """Raises ConfigError when text that is held out is trained on, too."""
    held, read = files_of_text(held_out), {file for text in texts for file in files_of_text(text)}
    for path in sorted(held | read):
        if all(places & {path, *path.parents} for places in (held, read)):
            raise ConfigError(f"--held-out {held_out}: {path} is in --text too, so it would be trained on")


def refuse_copies(stage: Stage) -> None:
    """Raises ConfigError when text that is held out is trained on under another name."""
    for held in held_out_of(stage):
        if held.identity in identities(texts_of(stage)):
            raise ConfigError(f"--held-out {held.path}: its content is in --text too, and trained on")


def files_of_text(source: Path) -> set[Path]:
    """The files that are read; a collection stands for its own. Raises DataError when there is no text."""
    return {source.resolve()} if collection_of(source) else {path.resolve() for path in text_files(source)}


def text_size(stage: Stage, texts: Texts) -> int:
    """Bytes of the texts, or characters of collections; of packed files an estimate."""
    total = 0
    for path, identity in ((Path(text.path), text.identity) for text in texts):
        if collection := collection_of(path):
            survey = partial(survey_passages, collection, identity, stage.progress)
            total += stage.runtime.cached(survey).characters
        else:
            total += sum(map(text_bytes, text_files(path)))
    return total


def choose_tokenizer(config: PretrainConfig, stage: Stage) -> Tokenizer:
    """The tokenizer that the options name; a trained one is kept in the cache, by what it was trained on."""
    words = config.words
    if words.tokenizer != "train":
        given = Path(stage.inputs["init" if config.model.init is not None else "tokenizer"].path)
        return open_tokenizer(given, words.lowercase)
    kept, texts = trained_folder(config, stage), texts_of(stage)
    total = text_size(stage, texts)

    def make() -> Path:
        if not kept.is_dir():
            with stage.progress.track("tokenizer", total, "characters") as advance, made_whole(kept) as aside:
                lines = (line for document in read_documents(paths(texts), words.field) for line in document)
                trained = wordpiece.train_tokenizer(
                    measured(lines, advance), words.vocabulary or VOCABULARY, words.lowercase, words.length,
                    config.machine.threads,
                )  # fmt: skip
                trained.save(aside)
        return kept

    return open_tokenizer(stage.runtime.cached(make))


def trained_folder(config: PretrainConfig, stage: Stage) -> Path:
    """Where the cache keeps a trained tokenizer."""
    words = config.words
    rules = [words.vocabulary or VOCABULARY, words.lowercase, words.field]
    return cache_folder() / f"tokenizer-{digest([wordpiece.RULES, identities(texts_of(stage)), *rules])[:16]}"


def blocks_folder(config: PretrainConfig, texts: Texts, tokenizer: Tokenizer) -> Path:
    """Where the cache keeps blocks, by text, tokenizer and length."""
    words = config.words
    rules = [tokenizer.backend.to_str(), words.length, words.pack, words.field]
    return cache_folder() / f"blocks-{digest([blocks.RULES, identities(texts), *rules])[:16]}"


def blocks_made(config: PretrainConfig, stage: Stage, texts: Texts) -> bool:
    """Whether the cache has the blocks, as far as can be told before a tokenizer is trained."""
    kept = trained_folder(config, stage)
    if config.words.tokenizer == "train" and not kept.is_dir():
        return False
    tokenizer = open_tokenizer(kept) if config.words.tokenizer == "train" else choose_tokenizer(config, stage)
    return blocks_folder(config, texts, tokenizer).is_dir()


def blocks_of(config: PretrainConfig, stage: Stage, tokenizer: Tokenizer, texts: Texts) -> Ragged:
    """The texts as blocks, from the cache."""
    words, kept, total = config.words, blocks_folder(config, texts, tokenizer), text_size(stage, texts)

    def make() -> Ragged:
        documents = read_documents(paths(texts), words.field)
        return blocks.make_blocks(
            documents, tokenizer, words.length, words.pack, kept, stage.progress, total, config.machine.threads
        )

    return stage.runtime.cached(make)


def held_out_blocks(
    config: PretrainConfig, stage: Stage, tokenizer: Tokenizer, made: Ragged, most: int
) -> tuple[Ragged | Rest, Ragged | None]:
    """What of the blocks made is trained on, and at most so many that are watched, if any.

    What is set aside depends on the text and the share alone. Raises ConfigError when that leaves either side empty.
    """
    share = config.watch.held_out_share
    if texts := held_out_of(stage):
        held_out = blocks_of(config, stage, tokenizer, texts)
        return made, taken(held_out, spread(len(held_out), most))
    if not share:
        return made, None
    aside = spread(len(made), round(share * len(made)))
    if not 0 < len(aside) < len(made):
        side = "train on" if len(aside) else "watch"
        raise ConfigError(f"--held-out-share {share}: of {len(made):,} blocks that leaves none to {side}")
    return Rest(made, aside), taken(made, aside[spread(len(aside), most)])


def paths(texts: Texts) -> list[Path]:
    return [Path(text.path) for text in texts]


def identities(texts: Texts) -> list[str]:
    """What the texts hold, in their order."""
    return [text.identity for text in texts]
