"""Options of seed finetune."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt, Le, Lt

from seedcli.base.config import INCIDENTAL, INPUT, RARE, WORD
from seedcli.configs.groups import Machine, Problems, Saving


@dataclass(frozen=True)
class Tower:
    """Encoder (what is left out stays as the model has it)"""

    pooling: Annotated[
        Literal["cls", "mean", "last"] | None,
        Doc("The vector of a text: of [CLS], the tokens' mean, or of the last token (decoders)."),
    ] = None
    similarity: Annotated[Literal["dot", "cosine"] | None, Doc("What compares two vectors.")] = None
    head: Annotated[
        Literal["linear", "none"] | None,
        Doc("What stands after pooling: a linear layer and a layer norm, as in the MS MARCO runs, or nothing."),
    ] = None
    untied: Annotated[
        bool | None,
        Doc("An encoder of its own for queries and for passages, as in the Natural Questions runs."),
        RARE,
    ] = None
    query_length: Annotated[int | None, Ge(4), Doc("Tokens of a query; longer ones are cut.")] = None
    passage_length: Annotated[int | None, Ge(4), Doc("Tokens of a passage; longer ones are cut.")] = None
    segments: Annotated[
        int | None,
        Ge(1),
        Doc(
            "MaxP: cut a passage into at most so many segments of passage_length tokens; the best one scores it. "
            "1: its first tokens alone (FirstP)."
        ),
        RARE,
    ] = None
    segment_overlap: Annotated[int | None, Ge(0), Doc("Tokens that neighbouring segments share."), RARE] = None
    token_vectors: Annotated[
        int | None,
        Ge(1),
        Doc("Vectors of a passage, or of each segment: those of its first tokens; the best one scores it (ME-BERT)."),
        RARE,
    ] = None
    dimensions: Annotated[
        list[Annotated[int, Ge(1)]] | None,
        Doc("Widths that vectors may later be cut to (Matryoshka), such as [64, 128], beside the whole. []: none."),
        RARE,
    ] = None
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
            "Where hard negatives come from: bm25 (searched here), ance (what the model in training ranks first), a "
            "run (a file, or a folder of seed search), file (those that the examples of --data bring), or a file of "
            "triples of ids, which are the examples then."
        ),
        INPUT,
        WORD + "ance",
    ] = "bm25"
    negative_depth: Annotated[
        int | str,
        Doc("Which passages of a ranking, or of an example's negatives, are candidates: the first 100, or 10:200 for "
            "the 11th to the 200th."),
    ] = 100  # fmt: skip
    hard: Annotated[
        int,
        Ge(0),
        Doc("Hard negatives a query; the other queries' passages come on top. With a loss of triples, a triple each."),
    ] = 1
    take: Annotated[
        Literal["random", "first"],
        Doc("Which candidates become negatives: drawn ones, or the first of the ranking."),
        RARE,
    ] = "random"
    refresh: Annotated[
        int,
        Ge(1),
        Doc("ance: steps from one search for negatives to the next; async: at most so many between checkpoints."),
    ] = 5_000
    ance: Annotated[
        Literal["in-turn", "async"],
        Doc("Whether training waits while negatives are searched for (the same result each time), or goes on (as "
            "published): a second process searches with the newest weights."),
    ] = "in-turn"  # fmt: skip
    refresh_share: Annotated[
        float, Gt(0), Le(1), Doc("ance: the share of the queries that one search covers, and the next steps train on."),
        RARE,
    ] = 1.0  # fmt: skip
    staleness: Annotated[
        int | None, Ge(1), Doc("async: training waits while its negatives are older than so many steps."), RARE
    ] = None
    role: Annotated[
        Literal["both", "trainer", "refresher"],
        Doc("async: do both, or one alone; then start the other with the same options, in the same --out."),
        INCIDENTAL,
    ] = "both"
    ance_compat: Annotated[
        bool, Doc("ance, as released: one positive of a query is known, the others and equal texts may be negatives.")
    ] = False
    drop_answers: Annotated[bool, Doc("Leave out candidates that hold an answer of the query (NQ)."), RARE] = False
    absolute_margin: Annotated[
        float | None, Ge(0), Doc("Leave out candidates that score above the positive's score less this."), RARE
    ] = None
    relative_margin: Annotated[
        float | None,
        Ge(0),
        Doc("Leave out candidates that score above the positive's score less this share of it, such as 0.05."),
        RARE,
    ] = None


@dataclass(frozen=True)
class Losses:
    """Loss"""

    loss: Annotated[
        Literal["in-batch", "triplet", "pairwise", "margin-mse", "kl"],
        Doc(
            "in-batch: the positive among all passages of the batch (DPR). triplet, pairwise: above one negative by a "
            "margin, or in likelihood. margin-mse, kl: as a teacher scored them, in the examples' file."
        ),
    ] = "in-batch"
    temperature: Annotated[float, Gt(0), Doc("What scores are divided by; 0.05 is usual for cosine.")] = 1.0
    margin: Annotated[float, Ge(0), Doc("triplet: how far the positive is to be above."), RARE] = 1.0
    symmetric: Annotated[
        bool, Doc("in-batch: tell passages from the batch's queries, too; the mean of both."), RARE
    ] = False
    teacher_temperature: Annotated[float, Gt(0), Doc("kl: what the teacher's scores are divided by."), RARE] = 1.0


@dataclass(frozen=True)
class Optimize:
    """Optimisation"""

    steps: Annotated[int | None, Ge(1), Doc("Steps of the optimiser; left out: optimize.epochs (40) decide.")] = None
    epochs: Annotated[float, Gt(0), Doc("Passes over the training queries, when --steps is left out."), RARE] = 40.0
    batch_size: Annotated[
        int, Ge(2), Doc("Queries (or triples) a step, over all processes. Each query is told from all passages of the "
                        "batch at once; adding up gradients of smaller batches would not be the same.")
    ] = 128  # fmt: skip
    chunk: Annotated[
        int | None,
        Ge(1),
        Doc("Texts encoded at a time; the rest of a batch holds its vectors alone, and is computed once more for the "
            "same gradient (but for dropout's draws): less memory, a third more operations."),
        INCIDENTAL,
    ] = None  # fmt: skip
    optimizer: Annotated[
        Literal["adamw", "lamb"],
        Doc("adamw (DPR), or lamb without bias correction (the MS MARCO and MIND runs)."),
        RARE,
    ] = "adamw"
    lr: Annotated[float, Gt(0), Doc("Peak rate.")] = 2e-5
    schedule: Annotated[Literal["linear", "cosine"], Doc("How the rate falls to nothing after warm-up."), RARE] = (
        "linear"
    )
    schedule_steps: Annotated[
        int | None,
        Ge(1),
        Doc("Steps in which the rate would come to nothing, where training ends before; left out: all steps."),
        RARE,
    ] = None
    warmup: Annotated[
        int | None, Ge(0), Doc("Steps in which the rate rises; left out: a tenth of all, at most DPR's 1,237.")
    ] = None
    clip: Annotated[float, Gt(0), Doc("Largest norm of the gradient."), RARE] = 2.0
    weight_decay: Annotated[float, Ge(0), Doc("Decoupled decay; AdamW's of matrices alone."), RARE] = 0.0
    beta1: Annotated[float, Ge(0), Lt(1), Doc("Decay of the first moment."), RARE] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1), Doc("Decay of the second moment."), RARE] = 0.999
    eps: Annotated[float, Gt(0), Doc("Added to the denominator."), RARE] = 1e-8
    seed: Annotated[int, Ge(0), Doc("Of order, negatives, dropout and new weights.")] = 0


@dataclass(frozen=True)
class Watching:
    """Watching retrieval (off unless --dev names a split)"""

    dev: Annotated[
        str | None,
        Doc(
            "A split, such as dev: search now and then for the queries that its qrels judge (MRR@10 in 10,000 "
            "passages); leaves the best model, and the last in last/."
        ),
    ] = None
    dev_data: Annotated[str | None, Doc("The collection of --dev; left out: --data."), INPUT, RARE] = None
    watch_every: Annotated[int, Ge(1), Doc("Steps between looks.")] = 500
    dev_queries: Annotated[int | None, Ge(1), Doc("Queries looked at, drawn by the seed; none: all."), RARE] = 500
    dev_passages: Annotated[
        int | None,
        Ge(1),
        Doc("Passages they are searched in: those that are right, and more by the seed; none: all."),
        RARE,
    ] = 10_000
    patience: Annotated[int | None, Ge(1), Doc("End after so many looks without a better one."), RARE] = None


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tune an encoder into a retriever: each query is told from its negatives and from the batch's (DPR).

    Rate, batch, warm-up and epochs are those of Karpukhin et al. 2020 on Natural Questions. Leaves a model folder that
    sentence-transformers opens too. Under torchrun, several processes train one model, on a batch over all of them.
    """

    out: Annotated[Path, Doc("The folder to leave the model in.")]
    model: Annotated[str, Doc("The model to start from: a folder, or a name of the Hugging Face hub."), INPUT]
    data: Annotated[
        str, Doc("Passages, queries and qrels: a collection; or a file of examples (triples, DPR's JSON)."), INPUT
    ]
    split: Annotated[str, Doc("The qrels to train on.")] = "train"
    fraction: Annotated[
        float, Gt(0), Le(1), Doc("The share of the training queries to use; a larger share holds the smaller.")
    ] = 1.0
    max_queries: Annotated[int | None, Ge(1), Doc("Training queries at most, drawn in the same way.")] = None
    problems: Problems = "report"
    tower: Tower = field(default_factory=Tower)
    negatives: Negatives = field(default_factory=Negatives)
    loss: Losses = field(default_factory=Losses)
    optimize: Optimize = field(default_factory=Optimize)
    watch: Watching = field(default_factory=Watching)
    saving: Saving = field(default_factory=Saving)
    machine: Machine = field(default_factory=Machine)
