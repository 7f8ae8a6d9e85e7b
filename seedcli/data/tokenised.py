"""Texts as a model reads them, on disk: token ids, a number that equal texts share, and the row of each id."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.files import Closing
from seedcli.data.ids import Ids, IdWriter, fingerprint, open_ids
from seedcli.data.ragged import Ragged, RaggedWriter, mapped
from seedcli.data.records import Passage, Query
from seedcli.data.templates import render
from seedcli.data.tokenizer import BATCH, Tokenizer

RULES = 2  # to be raised when other files would come out of the same texts


class Texts(NamedTuple):
    """N texts, memory-mapped."""

    ids: Ids
    tokens: Ragged  # [N]
    numbers: NDArray[np.int64]  # [N], fingerprints of the texts before they are cut; see `sameness`


def write_texts(
    folder: Path, records: Iterable[Passage | Query], template: str, tokenizer: Tokenizer, length: int
) -> Texts:
    """The records in a folder, each written out by the template and cut to `length` tokens."""
    rest = iter(records)
    with TextWriter(folder, tokenizer, length) as writer:
        while batch := list(islice(rest, BATCH)):
            texts = [render(template, record) for record in batch]
            writer.extend([record.id for record in batch], texts, list(map(sameness, batch, texts)))
    return open_texts(folder)


def sameness(record: Passage | Query, text: str) -> str:
    """What a number is made of: the text, but the id of a query that says nothing.

    What one reader without a history clicks on is not right for all of them (MIND).
    """
    return record.id if isinstance(record, Query) and not record.text.strip() else text


def open_texts(folder: Path) -> Texts:
    return Texts(open_ids(folder), Ragged.open(folder, "tokens"), mapped(folder / "numbers", np.int64))


class TextWriter(Closing):
    """Appends texts to a folder, and holds none of them."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, length: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer, self.length = tokenizer, length
        self.ids = IdWriter(folder)
        self.tokens = RaggedWriter(folder, "tokens", tokenizer.dtype)
        self.numbers = (folder / "numbers").open("wb")

    @property
    def rows(self) -> int:
        return self.tokens.rows

    def extend(self, ids: Sequence[str], texts: Sequence[str], same: Sequence[str] | None = None) -> NDArray[np.int64]:
        """The numbers of the texts: equal where these are, or where what is given as `same` is."""
        numbers = np.array(list(map(fingerprint, same or texts)), dtype=np.int64)
        self.tokens.extend(self.tokenizer.encode(texts, self.length))
        self.numbers.write(numbers.tobytes())
        self.ids.extend(ids)
        return numbers

    def close(self) -> None:
        self.tokens.close()
        self.numbers.close()
        self.ids.close()
