"""Sentences of a text by where they stand in it, and how many of a question's words they share."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import regex

LONGEST = 300  # characters; what goes on for longer is cut at a blank

CLOSING = r"[\"'”’»)\]」』）]*"
ABBREVIATION = r"(?<!\b(?:\p{Lu}|Dr|Mr|Mrs|Ms|Prof|St|No|Fig|vs|cf|al|e\.g|i\.e))"
END = regex.compile(
    rf"{ABBREVIATION}[.!?…]{CLOSING}(?=\s+\P{{Ll}})"  # a small letter goes on with the sentence
    rf"|[。！？]{CLOSING}"
    r"|(?=\n[^\S\n]*\n)"
)
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # where no blank parts the words
WORD = regex.compile(rf"[{UNSPACED}]\p{{M}}*|[\p{{L}}\p{{N}}\p{{M}}--[{UNSPACED}]]+", regex.V1)
ENDING = regex.compile(r"(?<=\w{3})(?:ings?|ied|ies|ers?|ed|es|ly|[sey])$")


class Sentence(NamedTuple):
    """A part of a text, from one character to before another: text[begin:end]."""

    begin: int
    end: int


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text without the blanks around them, none longer than LONGEST."""
    ends = [*(match.end() for match in END.finditer(text)), len(text)]
    parts = (stripped(text, begin, end) for begin, end in zip([0, *ends], ends, strict=False))
    return [piece for part in parts if part.begin < part.end for piece in pieces(text, part)]


def stripped(text: str, begin: int, end: int) -> Sentence:
    part = text[begin:end]
    return Sentence(end - len(part.lstrip()), begin + len(part.rstrip()))


def pieces(text: str, sentence: Sentence) -> Iterator[Sentence]:
    """A sentence in parts of at most LONGEST characters, cut at a blank of their later half if there is one."""
    begin, end = sentence
    while end - begin > LONGEST:
        blanks = (at for at in range(begin + LONGEST, begin + LONGEST // 2, -1) if text[at].isspace())
        cut = next(blanks, begin + LONGEST)
        yield stripped(text, begin, cut)
        begin = next(at for at in range(cut, end) if not text[at].isspace())
    yield Sentence(begin, end)


def words(text: str) -> Iterator[str]:
    """The words of a text uncased and without common endings of English; single characters where no blank parts them.

    Rough, and enough to compare texts by: Lucene and the models have rules of their own.
    """
    return (ENDING.sub("", word) for word in WORD.findall(text.casefold()))


def shared_words(question: str, texts: Sequence[str]) -> list[float]:
    """For each text, the words of the question that it has: the rarer they are among the texts, the more they count."""
    asked = set(words(question))
    held = [asked.intersection(words(text)) for text in texts]
    frequency = Counter(word for own in held for word in own)
    return [sum(math.log(1 + len(texts) / frequency[word]) for word in sorted(own)) for own in held]
