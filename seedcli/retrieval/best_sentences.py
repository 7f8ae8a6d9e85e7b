"""The sentence of a text that answers a question best: by a model's vectors, or by words.

Letters: S sentences of all texts, V vectors of them, D their width.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.data.records import Passage
from seedcli.data.sentences import Sentence, sentences, shared_words
from seedcli.data.templates import render

if TYPE_CHECKING:
    from seedcli.retrieval.encoding import TextEncoder

# Sentences that are encoded for a question: some 1,000 tokens, a fifth of a second on two cores for a model of MiniLM's
# size. Of ten hits that is three each: on 547 questions to right passages of SQuAD, the best sentence of all, and of
# three, held the answer in 80%.
ENCODED = 30


class Scored(NamedTuple):
    """A sentence, and how well it answers."""

    sentence: Sentence
    score: float


def by_words(question: str, texts: Sequence[str]) -> list[list[Scored]]:
    """The sentences of each text that share words with the question, scored by these."""
    return [[scored for scored in own if scored.score > 0] for own in _all_by_words(question, texts)]


def by_vectors(
    question: str, query: NDArray[np.float32], passages: Sequence[Passage], model: "TextEncoder"
) -> list[list[Scored]]:
    """Sentences of each text, scored by a question's vector [D] as if each were all that its passage says.

    Of many, those that share most words with the question; behind the first passages, all, by words.
    """
    texts = [passage.text for passage in passages]
    first, each = passages[:ENCODED], max(2, ENCODED // max(1, len(passages)))
    split = [_likeliest(own, each) for own in _all_by_words(question, texts[:ENCODED])]
    parts = [
        passage._replace(text=passage.text[slice(*sentence)])
        for passage, own in zip(first, split, strict=True)
        for sentence in own
    ]
    scores = iter(_scores(query, parts, model) if parts else [])
    encoded = [[Scored(sentence, next(scores)) for sentence in own] for own in split]
    return encoded + by_words(question, texts[ENCODED:])


def _scores(query: NDArray[np.float32], passages: Sequence[Passage], model: "TextEncoder") -> list[float]:
    """The inner product of a query [D] with each passage, with the best of its vectors where it has several."""
    template = model.encoder.settings.passage_template
    texts = [render(template if "{text" in template else "{text}", passage) for passage in passages]
    vectors, counts = model.vectors(texts, "passage")  # [V, D], [S]
    scores: list[float] = np.maximum.reduceat(vectors @ query, np.cumsum(counts) - counts).tolist()
    return scores


def best(scored: Sequence[Scored]) -> Sentence | None:
    """The first of those that score highest."""
    return max(scored, key=lambda one: one.score).sentence if scored else None


def _all_by_words(question: str, texts: Sequence[str]) -> list[list[Scored]]:
    split = [sentences(text) for text in texts]
    written = [text[slice(*sentence)] for text, own in zip(texts, split, strict=True) for sentence in own]
    scores = iter(shared_words(question, written))
    return [[Scored(sentence, next(scores)) for sentence in own] for own in split]


def _likeliest(scored: Sequence[Scored], count: int) -> list[Sentence]:
    """The best of them in the order of the text, the earlier of equal ones."""
    ranked = sorted(scored, key=lambda one: -one.score)
    return sorted(one.sentence for one in ranked[:count])
