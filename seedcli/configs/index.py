"""Options of seed index."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt, Le

from seedcli.base.config import INCIDENTAL, INPUT, RARE, WORD
from seedcli.configs.groups import Device, Problems, Threads

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
        Doc('Queries to append to passages (doc2query): JSONL, {"id": "p1", "queries": ["...", ...]} a passage.'),
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
    try_k1: Annotated[list[Annotated[float, Ge(0)]], Doc("Values of k1 to try."), RARE] = field(
        default_factory=lambda: [0.6, 0.9, 1.2, 1.8, 2.7]
    )
    try_b: Annotated[list[Annotated[float, Ge(0), Le(1)]], Doc("Values of b to try."), RARE] = field(
        default_factory=lambda: [0.2, 0.4, 0.6, 0.8, 1.0]
    )
    try_documents: Annotated[
        list[Annotated[int, Ge(1)]], Doc("Values of seed search's words.rm3_documents to try."), RARE
    ] = field(default_factory=lambda: [5, 10])
    try_terms: Annotated[list[Annotated[int, Ge(1)]], Doc("Values of words.rm3_terms to try."), RARE] = field(
        default_factory=lambda: [10, 20]
    )
    try_weight: Annotated[list[Annotated[float, Ge(0), Le(1)]], Doc("Values of words.rm3_weight to try."), RARE] = (
        field(default_factory=lambda: [0.5, 0.7, 0.9])
    )


@dataclass(frozen=True)
class Faiss:
    """Approximate indexes"""

    memory: Annotated[
        str | None,
        Doc(
            "The most memory that the finished index may take, such as 2g; sizes follow from it. Left out: from the "
            "number of vectors and their width."
        ),
    ] = None
    metric: Annotated[Literal["ip", "cosine"], Doc("Compare by inner product, or by cosine.")] = "ip"
    probes: Annotated[
        int | None,
        Ge(1),
        Doc("Lists that a search looks into; left out: the root of all, or more for many hits."),
    ] = None
    ef_search: Annotated[
        int | None, Ge(1), Doc("hnsw: neighbours that a search follows, or its hits if those are more; left out: 128.")
    ] = None
    refine: Annotated[
        int, Ge(0), Doc("Candidates a hit that are scored anew with the exact vectors; 0: faiss's own scores stand.")
    ] = 0
    target_recall: Annotated[
        float | None,
        Gt(0),
        Le(1),
        Doc("Find the fewest probes, or the lowest ef_search, that reach this recall@100, and search so by default."),
    ] = None
    measure: Annotated[
        bool, Doc("Measure recall@10 and @100 against exact search, time and memory, once the index is built.")
    ] = True
    sample: Annotated[int, Ge(1), Doc("Queries to measure with, at most."), RARE] = 1_000
    train: Annotated[int | None, Ge(1), Doc("Vectors to train on; left out: 40 a list, 16,384 for codes."), RARE] = None
    seed: Annotated[int, Ge(0), Doc("What the vectors to train on, and the queries, are drawn by."), RARE] = 0
    nlist: Annotated[int | None, Ge(1), Doc("Lists; left out: about 4 times the root of all vectors."), RARE] = None
    m: Annotated[int | None, Ge(2), Doc("hnsw: links of a vector (M); left out: 16, or 32 of many."), RARE] = None
    ef_construction: Annotated[
        int | None, Ge(1), Doc("hnsw: neighbours followed to link a vector; left out: 64."), RARE
    ] = None
    code_size: Annotated[
        int | None, Ge(1), Doc("pq, ivfpq, opq: bytes of a code; left out: a sixteenth of the vector's."), RARE
    ] = None


@dataclass(frozen=True)
class Building:
    """Machine"""

    device: Device = "auto"
    threads: Threads = None


@dataclass(frozen=True)
class IndexConfig:
    """Build an index over encoded vectors: flat (exact search), or approximate (faiss), whose recall is measured
    against exact search. Or bm25, over a corpus (Lucene, through Pyserini).

    With --store the vectors go to Milvus, on this machine or on others.
    """

    out: Annotated[Path, Doc("The folder to leave the index in.")]
    kind: Annotated[
        str,
        Doc(
            "flat: every vector is compared; bm25: words; approximate, by faiss: hnsw, ivf, ivfpq, pq, sq, opq, or a "
            "factory string of its own, such as IVF4096,PQ48. With --store flat, hnsw, ivf and ivfpq are Milvus's."
        ),
    ] = "flat"
    vectors: Annotated[str | None, Doc("The folder that seed encode left; for all kinds but bm25."), INPUT] = None
    queries: Annotated[
        str | None,
        Doc(
            "Approximate: measure with these, a collection or encoded queries. Left out: with vectors of the corpus, "
            "which flatters."
        ),
        INPUT,
    ] = None
    compare: Annotated[
        list[str],
        Doc("Build these kinds side by side (flat,hnsw,ivfpq), and tell recall and time; repeat it for a factory's."),
    ] = field(default_factory=list)
    corpus: Annotated[str | None, Doc("bm25: a collection of passages."), INPUT] = None
    store: Annotated[
        str | None,
        Doc(
            "Put the vectors into Milvus: milvus:PATH.db is kept there by milvus-lite, milvus:http://HOST:19530 is a "
            "server. MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD, are read from the environment alone."
        ),
    ] = None
    problems: Problems = "report"
    heap: Annotated[str, Doc("bm25: the largest heap of Java, such as 2g."), RARE, INCIDENTAL] = "2g"
    collection: Annotated[
        str | None, Doc("--store: the collection's name; left out: one made of the vectors'."), RARE
    ] = None
    patience: Annotated[
        float, Ge(0), Doc("--store: seconds to go on asking a server that is away."), RARE, INCIDENTAL
    ] = 60.0
    faiss: Faiss = field(default_factory=Faiss)
    words: Words = field(default_factory=Words)
    expander: Expander = field(default_factory=Expander)
    tuning: Tuning = field(default_factory=Tuning)
    machine: Building = field(default_factory=Building)
