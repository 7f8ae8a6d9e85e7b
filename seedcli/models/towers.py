"""The towers of a retriever: one encoder that serves queries and passages, or an encoder of its own for each."""

from pathlib import Path
from typing import Literal, get_args

from torch import nn

from seedcli.base.errors import DataError
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder, EncoderSettings, open_encoder, save_model

Role = Literal["query", "passage"]


class Towers(nn.Module):
    """What encodes queries and what encodes passages: the same encoder where they are shared."""

    def __init__(self, query: Encoder, passage: Encoder | None = None):
        super().__init__()
        self.query = query
        self.passage = query if passage is None else passage

    @property
    def untied(self) -> bool:
        return self.query is not self.passage

    @property
    def settings(self) -> EncoderSettings:
        return self.passage.settings

    @property
    def different(self) -> list[Encoder]:
        """Each encoder once."""
        return [self.query, self.passage] if self.untied else [self.query]


def untied(folder: Path) -> bool:
    """Whether a model folder holds an encoder for each role, in folders of their names."""
    return not (folder / "config.json").is_file() and all(
        (folder / role / "config.json").is_file() for role in get_args(Role)
    )


def tower_folder(folder: Path, role: Role) -> Path:
    """Where the encoder of a role stands in a model folder."""
    return folder / role if untied(folder) else folder


def open_tower(folder: Path, role: Role) -> tuple[Encoder, Tokenizer]:
    """The encoder of a role, and its tokenizer."""
    return open_encoder(tower_folder(folder, role))


def open_towers(folder: Path) -> tuple[Towers, Tokenizer]:
    """The towers in a model folder. Raises DataError when the two of it don't belong together."""
    query, tokenizer = open_tower(folder, "query")
    if not untied(folder):
        return Towers(query), tokenizer
    passage, other = open_tower(folder, "passage")
    same_words = tokenizer.backend.to_str() == other.backend.to_str()
    if query.settings != passage.settings or query.size != passage.size or not same_words:
        raise DataError(f"{folder}: query/ and passage/ differ in model.json, tokenizer or width; they must be equal")
    return Towers(query, passage), tokenizer


def save_towers(folder: Path, towers: Towers, tokenizer: Tokenizer) -> list[Path]:
    """Leave a model folder, or in it query/ and passage/, each a whole one; the files written."""
    places = {folder / "query": towers.query, folder / "passage": towers.passage} if towers.untied else {
        folder: towers.query
    }  # fmt: skip
    return [
        path
        for place, tower in places.items()
        for path in save_model(place, tower.backbone, tokenizer, tower.settings, tower.head)
    ]
