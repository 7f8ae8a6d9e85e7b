"""Options that several verbs share, each group once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge

from seedcli.base.config import INCIDENTAL

Problems = Annotated[
    Literal["report", "stop"],
    Doc(
        "Ids that stand twice or that the corpus lacks, empty texts, queries without positives: "
        "report them and go on, or stop."
    ),
    INCIDENTAL,
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], Doc("Where to compute; auto takes a GPU if there is one."), INCIDENTAL
]
Threads = Annotated[
    int | None,
    Ge(1),
    Doc("CPU threads, and processes that tokenise; left out: all cores, shared by the processes."),
    INCIDENTAL,
]


@dataclass(frozen=True)
class Machine:
    """Machine"""

    device: Device = "auto"
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], Doc("Autocast to this type; fp16 scales the loss, and needs a GPU.")
    ] = "fp32"
    threads: Threads = None


@dataclass(frozen=True)
class Saving:
    """Log and checkpoints"""

    log_every: Annotated[int, Ge(1), Doc("Steps between records in log.jsonl."), INCIDENTAL] = 50
    save_every: Annotated[int, Ge(1), Doc("Steps between checkpoints to resume from."), INCIDENTAL] = 500
    keep_last: Annotated[int, Ge(1), Doc("Checkpoints kept until the end, the newest."), INCIDENTAL] = 1
    tensorboard: Annotated[bool, Doc("Write the log for TensorBoard, too."), INCIDENTAL] = False
