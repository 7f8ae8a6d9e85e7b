"""Options of seed encode."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge

from seedcli.base.config import INPUT, RARE
from seedcli.configs.groups import Machine, Problems


@dataclass(frozen=True)
class EncodeConfig:
    """Encode a corpus, or queries, into shards of vectors. Under torchrun, the processes share the shards.

    Templates, lengths, pooling and similarity are the model's own (model.json).
    """

    out: Annotated[Path, Doc("The folder to leave the vectors in.")]
    model: Annotated[str, Doc("The encoder: a folder, or a name of the Hugging Face hub."), INPUT]
    corpus: Annotated[
        str | None,
        Doc("Encode the passages of this collection (see README: folders, files, irds:ID, hf:NAME, pydocs)."),
        INPUT,
    ] = None
    queries: Annotated[str | None, Doc("Encode the queries of this collection."), INPUT] = None
    split: Annotated[str | None, Doc("Only the queries that these qrels judge.")] = None
    problems: Problems = "report"
    batch_tokens: Annotated[
        int | None,
        Ge(1),
        Doc(
            "Tokens computed at a time, padding included; left out: 1,024 on a CPU, 65,536 on a GPU. Where a GPU's "
            "memory gives out, fewer are."
        ),
    ] = None
    storage: Annotated[
        Literal["float32", "float16", "int8"],
        Doc("How numbers are stored; float16 takes half the room, int8 (with a scale a vector) a quarter."),
    ] = "float32"
    shard_size: Annotated[int, Ge(1), Doc("Texts a shard; what a killed run may lose."), RARE] = 20_000
    machine: Machine = field(default_factory=Machine)
