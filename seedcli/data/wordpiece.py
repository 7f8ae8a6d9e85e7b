"""A WordPiece vocabulary from a text: the merges of tokenizers' BPE trainer, in an order that every run repeats.

The library's own WordPiece trainer numbers the "##" pieces in the order of a randomly seeded hash table, and breaks
ties by these numbers, so it gives another vocabulary each time. Here each character inside a word is written as one of
private use before training and as "##" pieces after it; then every number follows from the text.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from seedcli.base.errors import DataError
from seedcli.data.tokenizer import SPECIAL, Tokenizer, pretrained, wordpiece

RULES = 1  # to be raised when another vocabulary would come out of the same text
PRIVATE = 0xF0000  # the first character of Unicode's plane of private use
ALPHABET = 1_000  # characters kept; words with rarer ones are left to [UNK]
DISTINCT = 5_000_000  # words counted at a time; beyond it those seen once are forgotten
SAMPLE = 20_000_000  # words given to the trainer; larger counts are scaled down to it
LONGEST = 100  # characters; WordPiece takes longer words for [UNK]


def train_tokenizer(texts: Iterable[str], size: int, lowercase: bool, length: int) -> Tokenizer:
    """A tokenizer of at most `size` entries for sequences of `length`. Raises DataError when the text is too small."""
    frame = wordpiece({token: row for row, token in enumerate(SPECIAL)}, lowercase)
    words = count_words(texts, frame)
    if not words:
        raise DataError("no words to train a tokenizer on: the text is empty")
    pieces = learn_pieces(words, size - len(SPECIAL), frame)
    vocabulary = {token: row for row, token in enumerate([*SPECIAL, *pieces])}
    return Tokenizer(pretrained(wordpiece(vocabulary, lowercase), length))


def count_words(texts: Iterable[str], frame: Backend) -> Counter[str]:
    """How often each word occurs, as BERT's pre-tokeniser parts them."""
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(frame.normalizer.normalize_str(text).split())
        if len(chunks) > DISTINCT:
            chunks = Counter({chunk: count for chunk, count in chunks.items() if count > 1})
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word, _ in frame.pre_tokenizer.pre_tokenize_str(chunk):
            if len(word) <= LONGEST:
                words[word] += count
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
    lines = (
        " ".join([word[0] + "".join(inner[c] for c in word[1:])] * round(words[word] * scale))
        for word in sorted(words)
        if inner.keys() >= set(word)
    )
    inside = [inner[c] for c in kept if len(count_words(["a" + c], frame)) == 1]  # not marks, which stand alone
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=[*kept, *inside], show_progress=False)
    backend.train_from_iterator(lines, trainer)
    learned = backend.get_vocab()
    return [
        ("##" if piece[0] in outer else "") + "".join(outer.get(c, c) for c in piece)
        for piece in sorted(learned, key=lambda piece: learned[piece])
    ]
