"""Options of seed finetune."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt, Lt

from seedcli.base.config import INPUT, RARE
from seedcli.configs.groups import Machine, Problems, Saving


@dataclass(frozen=True)
class Tower:
    """Encoder (what is left out stays as the model has it)"""

    pooling: Annotated[Literal["cls", "mean"] | None, Doc("The vector of a text: of [CLS], or the tokens' mean.")] = (
        None
    )
    similarity: Annotated[Literal["dot", "cosine"] | None, Doc("What compares two vectors.")] = None
    query_length: Annotated[int | None, Ge(4), Doc("Tokens of a query; longer ones are cut.")] = None
    passage_length: Annotated[int | None, Ge(4), Doc("Tokens of a passage; longer ones are cut.")] = None
    query_template: Annotated[str | None, Doc("How a query is written, such as 'query: {text}'."), RARE] = None
    passage_template: Annotated[
        str | None,
        Doc("How a passage is written, such as '{title} [SEP] {text}', or a name: beir, msmarco-document, nq, mind."),
        RARE,
    ] = None


@dataclass(frozen=True)
class Negatives:
    """Negatives"""

    negatives: Annotated[
        str,
        Doc(
            "Where hard negatives come from: bm25 (searched here), a run (a file, or a folder of seed search), file "
            "(those that the examples of --data bring), or a file of triples of ids, which are the examples then."
        ),
        INPUT,
    ] = "bm25"
    depth: Annotated[int, Ge(1), Doc("How many of the first passages of a ranking are candidates.")] = 100
    hard: Annotated[int, Ge(0), Doc("Hard negatives a query; the other queries' passages come on top.")] = 1


@dataclass(frozen=True)
class Optimize:
    """Optimisation"""

    steps: Annotated[int | None, Ge(1), Doc("Steps of the optimiser; left out: as many as --epochs take.")] = None
    epochs: Annotated[float, Gt(0), Doc("Passes over the training queries, when --steps is left out.")] = 40.0
    batch_size: Annotated[
        int, Ge(2), Doc("Queries a step, over all processes. Each is told from all passages of the batch at once; "
                        "adding up gradients of smaller batches would not be the same.")
    ] = 128  # fmt: skip
    temperature: Annotated[float, Gt(0), Doc("What scores are divided by; about 0.05 for cosine.")] = 1.0
    lr: Annotated[float, Gt(0), Doc("Peak rate of AdamW; it falls linearly to zero.")] = 2e-5
    warmup: Annotated[
        int | None, Ge(0), Doc("Steps in which the rate rises; left out: a tenth of all, at most DPR's 1,237.")
    ] = None
    clip: Annotated[float, Gt(0), Doc("Largest norm of the gradient.")] = 2.0
    weight_decay: Annotated[float, Ge(0), Doc("Decoupled decay of matrices."), RARE] = 0.0
    beta1: Annotated[float, Ge(0), Lt(1), Doc("AdamW: decay of the first moment."), RARE] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1), Doc("AdamW: decay of the second moment."), RARE] = 0.999
    eps: Annotated[float, Gt(0), Doc("AdamW: added to the denominator."), RARE] = 1e-8
    seed: Annotated[int, Ge(0), Doc("Of order, negatives and dropout.")] = 0


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tune an encoder into a retriever: each query is told from its negatives and from the batch's (DPR).

    The loss is that of Karpukhin et al. 2020 over the passages of all processes; rate, batch, warm-up and epochs are
    its Natural Questions settings; one tower serves queries and passages. Leaves a model folder that
    sentence-transformers opens too. Under torchrun, several processes train one model.
    """

    out: Annotated[Path, Doc("The folder to leave the model in.")]
    model: Annotated[str, Doc("The model to start from: a folder, or a name of the Hugging Face hub."), INPUT]
    data: Annotated[
        str, Doc("Passages, queries and qrels: a collection; or a file of examples (triples, DPR's JSON)."), INPUT
    ]
    split: Annotated[str, Doc("The qrels to train on.")] = "train"
    problems: Problems = "report"
    tower: Tower = field(default_factory=Tower)
    negatives: Negatives = field(default_factory=Negatives)
    optimize: Optimize = field(default_factory=Optimize)
    saving: Saving = field(default_factory=Saving)
    machine: Machine = field(default_factory=Machine)
