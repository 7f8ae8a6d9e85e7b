"""Options of seed index."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Le

from seedcli.base.config import INCIDENTAL, INPUT, RARE, WORD
from seedcli.configs.groups import Device, Problems

Boost = Annotated[float | None, Ge(0)]


@dataclass(frozen=True)
class Words:
    """Words (bm25)"""

    k1: Annotated[float, Ge(0), Doc("How soon repeated words count no more."), RARE] = 0.9
    b: Annotated[float, Ge(0), Le(1), Doc("How much long passages are held back."), RARE] = 0.4
    language: Annotated[
        str, Doc("The language of the texts, which tells how words are made: en, de, zh, and others.")
    ] = "en"
    stemmer: Annotated[
        Literal["porter", "krovetz", "none"], Doc("What takes endings off English words; other languages have theirs.")
    ] = "porter"
    stop_words: Annotated[
        str,
        Doc("English words that are left out: default (Lucene's 33), none, or a file with one a line."),
        INPUT, WORD + "default", WORD + "none",
    ] = "default"  # fmt: skip
    title_boost: Annotated[
        Boost, Doc("What the title's score counts for; given one boost, title and text are scored apart, and added.")
    ] = None
    text_boost: Annotated[Boost, Doc("What the text's score counts for beside the title's.")] = None
    rm3: Annotated[bool, Doc("Keep the words of each passage, which seed search --rm3 reads.")] = False
    expansions: Annotated[
        str | None,
        Doc('Queries to append to passages (doc2query): JSONL, {"id": "p1", "queries": ["...", ...]} a line.'),
        INPUT,
    ] = None


@dataclass(frozen=True)
class Expander:
    """Queries by a model (bm25)"""

    expander: Annotated[
        str | None,
        Doc("A sequence-to-sequence model whose queries are appended to passages: a folder, or a name of the hub."),
        INPUT,
    ] = None
    written: Annotated[int, Ge(1), Doc("Queries of a passage."), RARE] = 10
    sampled: Annotated[
        int, Ge(0), Doc("Each token is drawn from so many, the likeliest ones; 0: a search by beams."), RARE
    ] = 10
    query_length: Annotated[int, Ge(1), Doc("Tokens of a query, at most."), RARE] = 64
    passage_length: Annotated[int, Ge(1), Doc("Tokens that are read of a passage, at most."), RARE] = 512
    expander_batch: Annotated[int, Ge(1), Doc("Passages at a time."), RARE] = 16
    expander_seed: Annotated[int, Ge(0), Doc("The seed of what is drawn."), RARE] = 0
    expander_precision: Annotated[Literal["fp32", "bf16"], Doc("What the model computes in."), RARE] = "fp32"
    expander_device: Annotated[Device, RARE] = "auto"


@dataclass(frozen=True)
class Tuning:
    """Tuning (bm25)"""

    tune: Annotated[
        str | None, Doc("Queries and qrels to choose k1 and b by, and with --rm3 its settings: a collection."), INPUT
    ] = None
    tune_split: Annotated[str, Doc("The qrels to tune on."), RARE] = "dev"
    tune_measure: Annotated[str, Doc("What is to be best."), RARE] = "mrr@10"
    tune_queries: Annotated[
        int, Ge(1), Doc("Queries to tune on, at most; drawn by a seed where there are more."), RARE
    ] = 1_000
    tune_seed: Annotated[int, Ge(0), Doc("The seed of that."), RARE] = 0
    try_k1: Annotated[list[float], Doc("Values of k1 to try."), RARE] = field(
        default_factory=lambda: [0.6, 0.9, 1.2, 1.8, 2.7]
    )
    try_b: Annotated[list[float], Doc("Values of b to try."), RARE] = field(
        default_factory=lambda: [0.2, 0.4, 0.6, 0.8, 1.0]
    )
    try_documents: Annotated[list[int], Doc("Values of seed search's words.rm3_documents to try."), RARE] = field(
        default_factory=lambda: [5, 10]
    )
    try_terms: Annotated[list[int], Doc("Values of words.rm3_terms to try."), RARE] = field(
        default_factory=lambda: [10, 20]
    )
    try_weight: Annotated[list[float], Doc("Values of words.rm3_weight to try."), RARE] = field(
        default_factory=lambda: [0.5, 0.7, 0.9]
    )


@dataclass(frozen=True)
class IndexConfig:
    """Build an index: flat over encoded vectors (exact search), or bm25 over a corpus (Lucene, through Pyserini)."""

    out: Annotated[Path, Doc("The folder to leave the index in.")]
    kind: Annotated[Literal["flat", "bm25"], Doc("flat: every vector is compared; bm25: words.")] = "flat"
    vectors: Annotated[str | None, Doc("flat: the folder that seed encode left."), INPUT] = None
    corpus: Annotated[str | None, Doc("bm25: a collection of passages."), INPUT] = None
    problems: Problems = "report"
    heap: Annotated[str, Doc("bm25: the largest heap of Java, such as 2g."), RARE, INCIDENTAL] = "2g"
    words: Words = field(default_factory=Words)
    expander: Expander = field(default_factory=Expander)
    tuning: Tuning = field(default_factory=Tuning)
