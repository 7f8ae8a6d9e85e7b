"""Pre-training blocks: [CLS], then whole lines or sentences until full, [SEP] after each; memory-mapped."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import DataError
from seedcli.base.files import made_whole
from seedcli.base.progress import Progress, measured
from seedcli.data.ragged import Ragged, RaggedWriter
from seedcli.data.text import Document
from seedcli.data.tokenizer import Tokenizer
from seedcli.data.workers import answers

RULES = 2  # to be raised when other blocks would come out of the same text


def make_blocks(
    documents: Iterable[Document], tokenizer: Tokenizer, length: int, pack: bool, folder: Path, progress: Progress,
    total: int | None = None, workers: int | None = None,
) -> Ragged:  # fmt: skip
    """The blocks of a text in `folder`, made there unless they are already. `pack` fills blocks across documents.

    `total` is about how many characters the text has; `workers` processes make them: one per core, eight at
    most, unless it says.
    """
    if not folder.is_dir():
        with (
            made_whole(folder) as aside,
            RaggedWriter(aside, "blocks", tokenizer.dtype) as writer,
            progress.track("blocks", total, "characters") as advance,
            closing(blocks((measured(document, advance) for document in documents), tokenizer, length, pack, workers))
            as made,
        ):  # fmt: skip
            for values, counts in made:
                writer.extend_flat(values, counts)
    kept = Ragged.open(folder, "blocks")
    if not len(kept):
        raise DataError("the text holds no words: nothing to pre-train on")
    return kept


def blocks(
    documents: Iterable[Document], tokenizer: Tokenizer, length: int, pack: bool, workers: int | None = None
) -> Generator[tuple[NDArray[Any], list[int]]]:
    """The token ids of some blocks one after the other, and how many each block has, at most `length`; and so on."""
    cls = np.array(tokenizer.prefix, tokenizer.dtype)
    open_ = cls  # the ids of the block that is not yet full
    filled, begins = len(cls), False  # a document begins with the next unit
    for counts, ids in _units(documents, tokenizer, length, workers):
        starts, sizes, at = [], [], 0
        for count in counts.tolist():
            if not count:
                begins = True
                continue
            if filled > len(cls) and (filled + count > length or (begins and not pack)):
                starts.append(at)
                sizes.append(filled)
                filled = len(cls)
            filled, at, begins = filled + count, at + count, False
        places = np.array(starts, np.int64).repeat(len(cls))
        flat = np.concatenate([open_, np.insert(ids, places, np.tile(cls, len(starts)))])
        end = sum(sizes)
        yield flat[:end], sizes
        open_ = flat[end:]
    if filled > len(cls):
        yield open_, [filled]


def _units(
    documents: Iterable[Document], tokenizer: Tokenizer, length: int, workers: int | None
) -> Iterator[tuple[NDArray[np.uint32], NDArray[Any]]]:
    """How many ids the next units have, [SEP] included, 0 where a document begins; and all these ids."""
    cls, sep, dtype = tokenizer.prefix, tokenizer.suffix, np.dtype(tokenizer.dtype)
    for counts, ids in answers(
        _lines(documents), tokenizer.backend.to_str(), workers,
        task="tokenise", leaks=sorted(tokenizer.leaks), suffix=sep, room=length - len(cls) - len(sep), code=dtype.char,
    ):  # fmt: skip
        yield np.frombuffer(counts, np.uint32), np.frombuffer(ids, dtype)


def _lines(documents: Iterable[Document]) -> Iterator[str]:
    """The lines of all documents, an empty one before each document and nowhere else."""
    for document in documents:
        yield ""
        yield from filter(None, document)
