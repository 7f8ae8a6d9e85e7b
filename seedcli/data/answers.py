"""Whether a passage holds an answer, as DPR judges it for open-domain QA (Karpukhin et al. 2020, Chen et al. 2017)."""

from collections.abc import Iterable
from typing import NewType
from unicodedata import normalize

import regex

Tokens = NewType("Tokens", str)  # each with a space on either side; "" for none

TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")  # letters, numbers and marks in a run; else one by one


def answer_tokens(text: str) -> Tokens:
    """The tokens of a passage or an answer, decomposed (NFD) and uncased."""
    found = TOKEN.findall(normalize("NFD", text))
    return Tokens(f" {' '.join(found)} ".lower() if found else "")


def holds_answer(passage: Tokens, answers: Iterable[Tokens]) -> bool:
    """Whether one of the answers stands in the passage as whole tokens in a row; one without tokens never does."""
    return any(answer and answer in passage for answer in answers)
