"""Text to token ids, with the tokenizer that a model came with or one of WordPiece."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from seedcli.base.errors import DataError
from seedcli.data.records import SEPARATOR

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BATCH = 1_000  # texts handed to the tokenizer's threads at a time
LETTERS = 6  # characters of a text that are read for each token wanted of it: English has four or five a token


class Tokenizer:
    """A Hugging Face fast tokenizer, used so that text never yields special tokens: those come from here alone."""

    def __init__(self, pretrained: "PreTrainedTokenizerBase"):
        if not pretrained.is_fast:
            raise DataError(f"{pretrained.name_or_path}: has no fast tokenizer (tokenizer.json)")
        self.pretrained = pretrained
        self.backend: Backend = pretrained.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = True
        self.prefix, self.suffix = self._frame()
        self.leaks = self._leaks()
        self.parts_at_blanks = self._parts_at_blanks()

    @property
    def size(self) -> int:
        """How many ids there are, added ones included."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    @property
    def special_ids(self) -> list[int]:
        return sorted(self.pretrained.all_special_ids)

    @property
    def pad(self) -> int:
        return int(self.pretrained.pad_token_id or 0)

    @property
    def mask(self) -> int | None:
        return self.pretrained.mask_token_id  # type: ignore[no-any-return]

    @property
    def separator(self) -> int:
        """The id that parts the fields of a text. Raises DataError when the tokenizer has none."""
        for id_ in (self.pretrained.sep_token_id, self.pretrained.eos_token_id):
            if id_ is not None:
                return int(id_)
        problem = "its tokenizer has no token that separates, which a template with [SEP] and MIND's histories need"
        raise DataError(f"{self.pretrained.name_or_path}: {problem}")

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        return np.uint16 if self.size <= 1 << 16 else np.uint32

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """The bare token ids of each text, on all cores; SEPARATOR alone gives a special one, that of `separator`."""
        if any(SEPARATOR in text for text in texts):
            return self._parted([text.split(SEPARATOR) for text in texts])
        found = [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]
        return [[id_ for id_ in ids if id_ not in self.leaks] for ids in found] if self.leaks else found

    def encode(self, texts: Sequence[str], length: int) -> list[NDArray[Any]]:
        """Each text as a model reads it: [CLS], its first tokens, [SEP]; at most `length` ids in all."""
        room = length - len(self.prefix) - len(self.suffix)
        found = self.first_words(texts, room)
        return [np.array(self.prefix + ids[:room] + self.suffix, dtype=self.dtype) for ids in found]

    def first_words(self, texts: Sequence[str], count: int) -> list[list[int]]:
        """Of each text the first `count` bare token ids, and maybe more; what comes after isn't read if it can be."""
        if not self.parts_at_blanks:
            return self.words(texts)
        ends = [text.rfind(" ", 0, LETTERS * count) if len(text) > LETTERS * count else -1 for text in texts]
        found = self.words([text if end < 0 else text[:end] for text, end in zip(texts, ends, strict=True)])
        short = [row for row, end in enumerate(ends) if end >= 0 and len(found[row]) < count]
        for row, ids in zip(short, self.words([texts[row] for row in short]), strict=True):
            found[row] = ids
        return found

    def encode_stream(self, texts: Iterable[str], length: int) -> Iterator[NDArray[Any]]:
        """`encode` over any number of texts, a batch held at a time."""
        rest = iter(texts)
        while batch := list(islice(rest, BATCH)):
            yield from self.encode(batch, length)

    def save(self, folder: Path) -> None:
        self.pretrained.save_pretrained(folder)

    def _parted(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """The ids of texts in parts, the separator between any two."""
        separator = self.separator
        parts = iter(self.words([part for text in texts for part in text]))
        return [[id_ for _ in text for id_ in (separator, *next(parts))][1:] for text in texts]

    def _parts_at_blanks(self) -> bool:
        """Whether no token holds a blank between letters, so that what comes after one changes no id before it."""
        if self.backend.pre_tokenizer is None:
            return False
        probe = "ab cd ef"
        pieces = [probe[slice(*span)] for _, span in self.backend.pre_tokenizer.pre_tokenize_str(probe)]
        added = [token.content for token in self.backend.get_added_tokens_decoder().values()]
        return not any(" " in piece.strip(" ") for piece in (*pieces, *added))

    def _frame(self) -> tuple[list[int], list[int]]:
        """The special ids that stand before and after a single text."""
        bare = self.backend.encode("a", add_special_tokens=False).ids
        framed = self.backend.encode("a", add_special_tokens=True).ids
        for start in range(len(framed) - len(bare) + 1):
            if framed[start : start + len(bare)] == bare:
                return framed[:start], framed[start + len(bare) :]
        raise DataError(f"{self.pretrained.name_or_path}: its tokenizer changes a text when it adds special tokens")

    def _leaks(self) -> frozenset[int]:
        """Special ids that text yields all the same: those of Unigram models (XLM-R) are words of the model too."""
        names = self.pretrained.all_special_tokens
        found = {id_ for name in names for id_ in self.backend.encode(name, add_special_tokens=False).ids}
        return frozenset(found.intersection(self.special_ids) - {self.pretrained.unk_token_id})


def open_tokenizer(folder: Path, lowercase: bool = True) -> Tokenizer:
    """The tokenizer in a model folder, or of a vocab.txt file of WordPiece lines, which doesn't say its `lowercase`."""
    from transformers import AutoTokenizer

    if folder.is_file():
        return Tokenizer(pretrained(wordpiece(_read_vocabulary(folder), lowercase), 512))
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json")):
        raise DataError(f"{folder}: no tokenizer in it (tokenizer.json)")
    try:
        opened = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing narrower
        raise DataError(f"{folder}: can't be opened as a tokenizer ({error!s:.200})") from None
    return Tokenizer(opened)


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8") as file:  # str.splitlines() would part lines that BERT's vocabularies have
            vocabulary = {line.rstrip("\n"): row for row, line in enumerate(file)}
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
    if missing := [token for token in SPECIAL if token not in vocabulary]:
        raise DataError(f"{path}: not a WordPiece vocabulary; it lacks {', '.join(missing)}")
    return vocabulary


def wordpiece(vocabulary: dict[str, int], lowercase: bool = True) -> Backend:
    """BERT's normaliser, pre-tokeniser and frame around a WordPiece vocabulary."""
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return backend


def pretrained(backend: Backend, length: int) -> "PreTrainedTokenizerBase":
    from transformers import PreTrainedTokenizerFast

    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=length, **names)  # type: ignore[no-untyped-call]
