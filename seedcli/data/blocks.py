"""Pre-training blocks: [CLS], then whole lines or sentences until full, [SEP] after each; memory-mapped."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.base.files import made_whole
from seedcli.base.progress import Progress, measured
from seedcli.data.ragged import Ragged, RaggedWriter
from seedcli.data.text import Document
from seedcli.data.tokenizer import BATCH, Tokenizer

RULES = 2  # to be raised when other blocks would come out of the same text
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")


def make_blocks(
    documents: Iterable[Document], tokenizer: Tokenizer, length: int, pack: bool, folder: Path, progress: Progress,
    total: int | None = None,
) -> Ragged:  # fmt: skip
    """The blocks of a text in `folder`, made there unless they are already. `pack` fills blocks across documents.

    `total` is about how many characters the text has.
    """
    if not folder.is_dir():
        with (
            made_whole(folder) as aside,
            RaggedWriter(aside, "blocks", tokenizer.dtype) as writer,
            progress.track("blocks", total, "characters") as advance,
        ):
            read = (list(measured(document, advance)) for document in documents)
            for block in blocks(read, tokenizer, length, pack):
                writer.append(block)
    made = Ragged.open(folder, "blocks")
    if not len(made):
        raise DataError("the text holds no words: nothing to pre-train on")
    return made


def blocks(documents: Iterable[Document], tokenizer: Tokenizer, length: int, pack: bool) -> Iterator[list[int]]:
    """Token ids of each block, at most `length` of them."""
    cls, sep = tokenizer.prefix, tokenizer.suffix
    block: list[int] = [*cls]
    for opens, words in _units(documents, tokenizer, length - len(cls) - len(sep)):
        full = len(block) + len(words) + len(sep) > length
        if len(block) > len(cls) and (full or (opens and not pack)):
            yield block
            block = [*cls]
        block += [*words, *sep]
    if len(block) > len(cls):
        yield block


def _units(documents: Iterable[Document], tokenizer: Tokenizer, room: int) -> Iterator[tuple[bool, list[int]]]:
    """Lines that fit into a block, else their sentences, else pieces of these; True where a document begins."""
    lines = ((number == 0, line) for document in documents for number, line in enumerate(document))
    begins = False
    while batch := list(islice(lines, BATCH)):
        for (first, line), words in zip(batch, tokenizer.words([line for _, line in batch]), strict=True):
            begins |= first  # until a unit follows: a first line may hold no words
            for unit in [words] if len(words) <= room else _sentences(line, tokenizer, room):
                if unit:
                    yield begins, unit
                    begins = False


def _sentences(line: str, tokenizer: Tokenizer, room: int) -> Iterator[list[int]]:
    for words in tokenizer.words(SENTENCE.split(line)):
        for begin in range(0, len(words), room):
            yield words[begin : begin + room]
