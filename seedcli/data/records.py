"""What collections hold: passages, queries, judgements and training examples, whatever file they come from."""

from collections.abc import Sequence
from typing import NamedTuple

Qrels = dict[str, dict[str, int]]  # query -> passage -> grade

SEPARATOR = "\x1e"  # stands in a text where the model is to read [SEP]; only templates and MIND's histories hold it


class Passage(NamedTuple):
    id: str
    title: str
    text: str
    url: str = ""


class Query(NamedTuple):
    id: str
    text: str
    answers: tuple[str, ...] = ()


class Example(NamedTuple):
    """A query with some of its right and wrong passages: each by its id in the corpus, or with its text."""

    query: Query | str
    positives: Sequence[Passage | str]
    negatives: Sequence[Passage | str]
    positive_scores: Sequence[float] = ()  # a teacher's, as many as passages, or none
    negative_scores: Sequence[float] = ()


class Impression(NamedTuple):
    """What a reader of news was shown at once (MIND): ids of news, `history` from the oldest click to the newest."""

    id: str
    user: str
    history: Sequence[str]
    clicked: Sequence[str]
    unclicked: Sequence[str]


class Shown(NamedTuple):
    """What an impression showed, in its order: ids of news, clicked or not."""

    id: str
    news: Sequence[str]


def clean(text: str) -> str:
    """A text that every encoder takes: ? for halves of surrogate pairs, a blank for SEPARATOR."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace(SEPARATOR, " ") if SEPARATOR in text else text
