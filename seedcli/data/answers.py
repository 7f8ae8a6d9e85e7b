"""Whether a passage holds an answer, as DPR judges it for open-domain QA (Karpukhin et al. 2020, Chen et al. 2017)."""

import math
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Literal, NewType
from unicodedata import normalize

import regex

Kind = Literal["tokens", "regex"]
Tokens = NewType("Tokens", str)  # each with a space on either side; "" for none

TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")  # letters, numbers and marks in a run; else one by one
FLAGS = regex.IGNORECASE | regex.UNICODE | regex.MULTILINE
SECONDS = 1.0  # that a pattern may take over a passage
COUNT = regex.compile(r"\{(?:\d*,)?(\d+),?\}")
REPEATS = 100_000  # that the counts of a pattern may come to, one inside the other: compiling unrolls them


class Found(IntEnum):
    """What a passage has of the answers: none, one, or none as far as a pattern that took too long could tell."""

    NONE = 0
    ONE = 1
    SLOW = 2


Judge = Callable[[str, Iterable[int]], list[Found]]  # a passage, and by which rows of the answers to judge it


def answer_tokens(text: str) -> Tokens:
    """The tokens of a passage or an answer, decomposed (NFD) and uncased."""
    found = TOKEN.findall(normalize("NFD", text))
    return Tokens(f" {' '.join(found)} ".lower() if found else "")


def holds_answer(passage: Tokens, answers: Iterable[Tokens]) -> bool:
    """Whether one of the answers stands in the passage as whole tokens in a row; one without tokens never does."""
    return any(answer and answer in passage for answer in answers)


def answer_pattern(answer: str) -> "regex.Pattern[str] | None":
    """A regular expression as CuratedTREC has them; None for one that is broken, or too large."""
    try:
        large = math.prod(map(int, COUNT.findall(answer))) > REPEATS
        return None if large else regex.compile(normalize("NFD", answer), FLAGS)
    except (regex.error, ValueError, RecursionError, OverflowError, MemoryError):
        return None


def finds_answer(passage: str, patterns: Iterable["regex.Pattern[str] | None"]) -> Found:
    """Whether one of the patterns is somewhere in the passage, which is decomposed (NFD); a broken one never is."""
    found = Found.NONE
    for pattern in filter(None, patterns):
        try:
            if pattern.search(passage, timeout=SECONDS):
                return Found.ONE
        except TimeoutError:
            found = Found.SLOW
    return found


def judge(answers: Sequence[Sequence[str]], kind: Kind) -> Judge:
    """What tells which queries' answers a passage holds; each passage is made ready once for all that ask."""
    if kind == "tokens":
        tokens = [[answer_tokens(answer) for answer in own] for own in answers]

        def by_tokens(text: str, rows: Iterable[int]) -> list[Found]:
            passage = answer_tokens(text)
            return [Found(holds_answer(passage, tokens[row])) for row in rows]

        return by_tokens
    patterns = [[answer_pattern(answer) for answer in own] for own in answers]

    def by_patterns(text: str, rows: Iterable[int]) -> list[Found]:
        passage = normalize("NFD", text)
        return [finds_answer(passage, patterns[row]) for row in rows]

    return by_patterns
