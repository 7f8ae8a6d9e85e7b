"""Hits: passages that were found, with their scores."""

from typing import NamedTuple

from seedcli.data.records import Passage


class Hit(NamedTuple):
    """A passage that was found, and its score: `hit.id`, `hit.title`, `hit.text` are the passage's."""

    passage: Passage
    score: float

    @property
    def id(self) -> str:
        return self.passage.id

    @property
    def title(self) -> str:
        return self.passage.title

    @property
    def text(self) -> str:
        return self.passage.text
