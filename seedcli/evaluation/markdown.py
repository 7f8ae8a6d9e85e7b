"""Markdown of texts that may hold anything: what a name has of its own is never read as a mark, a link or a tag."""

import re
from collections.abc import Iterable, Sequence

MARKS = re.compile(
    r"[\\`*\[\]|~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it is a letter: hit_rate@20
    r"|<(?=\S)|&(?=#?\w+;)"  # that begin a tag or a letter's name; in p < 0.05 and R&D they don't
)


def literal(text: str) -> str:
    """A text on one line, with all that Markdown would read as its own escaped; what begins a line isn't its own."""
    return MARKS.sub(r"\\\g<0>", " ".join(text.split()))


def table(heading: Sequence[str], rules: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of cells, which are Markdown already; `rules` say where each column is aligned (:-- or --:)."""
    return ["| " + " | ".join(cells) + " |" for cells in (heading, rules, *rows)]
