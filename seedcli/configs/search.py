"""Options of seed search."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Le

from seedcli.base.config import ARGUMENT, COMMAND, INCIDENTAL, INPUT, RARE, SHORT
from seedcli.configs.groups import Machine, Problems


@dataclass(frozen=True)
class WordScores:
    """Words (bm25)"""

    rm3: Annotated[
        bool, Doc("Expand queries by words of what they find first (RM3); for an index that was made with --rm3.")
    ] = False
    rm3_documents: Annotated[
        int | None, Ge(1), Doc("RM3: hits that words are taken from; left out: as tuned, or 10."), RARE
    ] = None
    rm3_terms: Annotated[int | None, Ge(1), Doc("RM3: words that are taken; left out: as tuned, or 10."), RARE] = None
    rm3_weight: Annotated[
        float | None, Ge(0), Le(1), Doc("RM3: what the query's own words count for; left out: as tuned, or 0.5."), RARE
    ] = None
    k1: Annotated[float | None, Ge(0), Doc("BM25's k1; left out: that of the index."), RARE] = None
    b: Annotated[float | None, Ge(0), Le(1), Doc("BM25's b; left out: that of the index."), RARE] = None


@dataclass(frozen=True)
class FusionTuning:
    """Weights (fusion)"""

    tune: Annotated[
        str | None,
        Doc("Queries and qrels to choose the weights by: a collection. Not those that are searched for."),
        INPUT,
    ] = None
    tune_split: Annotated[str, Doc("The qrels to tune on.")] = "dev"
    tune_measure: Annotated[str, Doc("What is to be best.")] = "mrr@10"
    tune_queries: Annotated[
        int, Ge(1), Doc("Queries to tune on, at most; drawn by a seed where there are more."), RARE
    ] = 1_000
    tune_seed: Annotated[int, Ge(0), Doc("The seed of that, and of the folds."), RARE] = 0
    folds: Annotated[
        int, Ge(2), Doc("Parts of the queries: weights chosen on the others tell what each part is worth."), RARE
    ] = 5


@dataclass(frozen=True)
class SearchConfig:
    """Search one index, or several indexes and finished runs, whose rankings are fused; leaves a run.

    Under torchrun, processes share the shards of one flat index. With a QUESTION it prints the first hits instead,
    and writes nothing; with -i it asks for more of them.
    """

    index: Annotated[
        list[str],
        Doc("A folder of seed index, or a run (a file, or a folder of seed search); repeat it to fuse several."),
        INPUT,
    ]
    question: Annotated[str | None, Doc("What to ask, in words."), ARGUMENT, COMMAND] = None
    interactive: Annotated[
        bool,
        Doc("Ask at a prompt (:help tells its commands), or a question a line from stdin; --json answers a line each."),
        SHORT + "i", COMMAND, INCIDENTAL,
    ] = False  # fmt: skip
    out: Annotated[Path | None, Doc("The folder to leave the run in.")] = None
    queries: Annotated[
        str | None,
        Doc(
            "A collection, a file of queries, or a folder of queries that seed encode left. Left out: for runs alone, "
            "all of theirs."
        ),
        INPUT,
    ] = None
    split: Annotated[str | None, Doc("Only the queries that these qrels judge.")] = None
    candidates: Annotated[
        str | None,
        Doc(
            "Score these passages alone: a run (a file, or a folder of seed search), or a collection whose qrels of "
            "--split name them for each query, whatever their grade. For one flat index."
        ),
        INPUT,
    ] = None
    predictions: Annotated[
        str | None,
        Doc(
            "A folder of MIND: leave prediction.zip, too, as its leaderboard takes it: the rank of each news that an "
            "impression showed. It needs no clicks."
        ),
        INPUT,
    ] = None
    depth: Annotated[
        int | None, Ge(1), Doc("Hits a query; left out: 1,000, of candidates all, or 10 for a QUESTION.")
    ] = None
    run_format: Annotated[
        Literal["trec", "parquet"],
        Doc("The run's file: run.trec, or run.parquet (query, document, rank, score), smaller and quicker to read."),
    ] = "trec"
    memory: Annotated[
        str | None,
        Doc(
            "flat: the most memory to hold, such as 2g, that of the libraries included: vectors that don't fit are "
            "read from the disk for each few thousand queries. Left out: half of what is free."
        ),
        INCIDENTAL,
    ] = None
    probes: Annotated[
        int | None, Ge(1), Doc("Lists to look into; left out: as the index was built with, or more for many hits.")
    ] = None
    ef_search: Annotated[
        int | None, Ge(1), Doc("hnsw: neighbours to follow, at least the depth; left out: as the index was built with.")
    ] = None
    refine: Annotated[
        int | None,
        Ge(0),
        Doc("Approximate: candidates a hit that are scored anew with the exact vectors; left out: as it was built."),
    ] = None
    problems: Problems = "report"
    fusion: Annotated[
        Literal["rrf", "min-max", "z-score", "sum"],
        Doc(
            "Several: add reciprocal ranks (rrf), or scores made comparable within each query: min-max (0 to 1), "
            "z-score, or sum (0 on, all sum to 1). What an index lacks counts as the last of its hits."
        ),
    ] = "rrf"
    weight: Annotated[
        list[float], Doc("Several: what each index counts for, in their order; left out: 1 each, or as tuned.")
    ] = field(default_factory=list)
    fusion_k: Annotated[int, Ge(0), Doc("rrf: what is added to each rank before its reciprocal."), RARE] = 60
    fusion_depth: Annotated[int, Ge(1), Doc("Fusion: hits taken from each index."), RARE] = 1_000
    heap: Annotated[str, Doc("bm25: the largest heap of Java, such as 2g."), RARE, INCIDENTAL] = "2g"
    patience: Annotated[
        float, Ge(0), Doc("A store: seconds to go on asking a server that is away."), RARE, INCIDENTAL
    ] = 60.0
    accept_deletions: Annotated[bool, Doc("A store: search although vectors were deleted in it."), RARE] = False
    words: WordScores = field(default_factory=WordScores)
    tuning: FusionTuning = field(default_factory=FusionTuning)
    machine: Machine = field(default_factory=Machine)
