"""A WordPiece vocabulary from a text: the merges of tokenizers' BPE trainer, in an order that every run repeats.

The library's own WordPiece trainer numbers the "##" pieces in the order of a randomly seeded hash table, and breaks
ties by these numbers, so it gives another vocabulary each time. Here each character inside a word is written as one of
private use before training and as "##" pieces after it; then every number follows from the text.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import chain, islice, repeat

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from seedcli.base.errors import DataError
from seedcli.base.machine import give_back_memory
from seedcli.data.tokenizer import SPECIAL, Tokenizer, pretrained, wordpiece
from seedcli.data.worker import splitter
from seedcli.data.workers import answers

RULES = 2  # to be raised when another vocabulary would come out of the same text
PRIVATE = 0xF0000  # the first character of Unicode's plane of private use
ALPHABET = 1_000  # characters kept; words with rarer ones are left to [UNK]
DISTINCT = 1_300_000  # words counted at a time, some 170 MB; beyond it those seen once are forgotten
SAMPLE = 20_000_000  # words given to the trainer; larger counts are scaled down to it
AT_ONCE = 100  # words given to the trainer as one text, which it holds in far more memory than theirs


def train_tokenizer(
    texts: Iterable[str], size: int, lowercase: bool, length: int, workers: int | None = None
) -> Tokenizer:
    """A tokenizer of at most `size` entries for sequences of `length`. Raises DataError when the text is too small."""
    frame = wordpiece({token: row for row, token in enumerate(SPECIAL)}, lowercase)
    words = count_words(texts, frame, workers)
    if not words:
        raise DataError("no words to train a tokenizer on: the text is empty")
    pieces = learn_pieces(words, size - len(SPECIAL), frame)
    del words
    give_back_memory()
    vocabulary = {token: row for row, token in enumerate([*SPECIAL, *pieces])}
    return Tokenizer(pretrained(wordpiece(vocabulary, lowercase), length))


def count_words(texts: Iterable[str], frame: Backend, workers: int | None = None) -> Counter[str]:
    """How often each word occurs, as BERT's pre-tokeniser parts them; by processes, one per core, eight at most."""
    words: Counter[str] = Counter()
    for found, counts in answers(texts, frame.to_str(), workers, task="count"):
        for word, count in zip(found.decode().split(), np.frombuffer(counts, np.uint64).tolist(), strict=True):
            words[word] = words.get(word, 0) + count
        if len(words) > DISTINCT:
            words = Counter({word: count for word, count in words.items() if count > 1})
    return words


def learn_pieces(words: Counter[str], size: int, frame: Backend) -> list[str]:
    """At most `size` WordPiece entries: every character kept, first and inside, then merges, the commonest first."""
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    kept = sorted(sorted(characters, key=lambda c: (-characters[c], c))[: min(ALPHABET, size // 2)])
    inner = {character: chr(PRIVATE + row) for row, character in enumerate(kept)}
    outer = {private: character for character, private in inner.items()}
    scale = min(1.0, SAMPLE / words.total())
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    often = chain.from_iterable(
        repeat(word[0] + "".join(inner[c] for c in word[1:]), round(words[word] * scale))
        for word in sorted(words)
        if inner.keys() >= set(word)
    )
    lines = iter(lambda: " ".join(islice(often, AT_ONCE)), "")
    split = splitter(frame)
    inside = [inner[c] for c in kept if len(split("a" + c)) == 1]  # not marks, which stand alone
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=[*kept, *inside], show_progress=False)
    backend.train_from_iterator(lines, trainer)
    learned = backend.get_vocab()
    return [
        ("##" if piece[0] in outer else "") + "".join(outer.get(c, c) for c in piece)
        for piece in sorted(learned, key=lambda piece: learned[piece])
    ]
