"""Options of seed model inspect."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge

from seedcli.base.config import ARGUMENT, INPUT, RARE
from seedcli.configs.groups import Machine


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """Compare the vectors of models: how alike random texts look to each, by length, and how the space is filled.

    Where pre-training kept its decoder, also how near its states stay to h0. Leaves a table and plots.
    """

    out: Annotated[Path, Doc("The folder to leave table and plots in.")]
    model: Annotated[
        list[str],
        Doc("A model, as NAME=MODEL or MODEL: a folder, or a name of the Hugging Face hub; one or several."),
        ARGUMENT,
        INPUT,
    ]
    texts: Annotated[
        list[str],
        Doc("Text files and folders (.txt, .jsonl, .gz, .zst), or collections, whose passages are read; repeatable."),
        INPUT,
    ]
    field: Annotated[str, Doc("The field of JSONL records that holds the text.")] = "text"
    pooling: Annotated[
        Literal["cls", "mean"] | None, Doc("The vector of a text, the same for all models; left out: each one's own.")
    ] = None
    pairs: Annotated[int, Ge(30), Doc("Pairs of random texts at each length.")] = 500
    sample: Annotated[int, Ge(60), Doc("Texts drawn from all, to choose those pairs from."), RARE] = 10_000
    seed: Annotated[int, Ge(0), Doc("Of the texts that are drawn.")] = 0
    batch_tokens: Annotated[int, Ge(1), Doc("Tokens computed at a time, padding included."), RARE] = 8_192
    machine: Machine = dataclasses.field(default_factory=Machine)
