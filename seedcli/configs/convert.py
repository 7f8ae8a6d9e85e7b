"""Options of seed model convert."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge

from seedcli.base.config import ARGUMENT, INPUT


@dataclass(frozen=True)
class ConvertConfig:
    """Convert a released SEED checkpoint into a model folder, or a model folder into an ONNX graph.

    Checkpoints are read in fairseq's layout, in that of its port to Hugging Face, and fine-tuned with their head.
    """

    source: Annotated[
        str,
        Doc("A released checkpoint, or the folder it is in; to onnx: a model folder, or a name of the hub."),
        ARGUMENT,
        INPUT,
    ]
    out: Annotated[Path, Doc("The folder to leave the model in.")]
    to: Annotated[
        Literal["seed", "onnx"], Doc("seed: a model folder. onnx: model.onnx, from token ids to vectors.")
    ] = "seed"
    vocabulary: Annotated[
        Path | None, Doc("A checkpoint's vocab.txt, or fairseq's dict.txt; left out: the one beside it."), INPUT
    ] = None
    heads: Annotated[
        int | None, Ge(1), Doc("A checkpoint's attention heads; left out: as it tells, else one for 64 values.")
    ] = None
