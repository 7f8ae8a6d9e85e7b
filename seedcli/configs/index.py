"""Options of seed index."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt, Le

from seedcli.base.config import INCIDENTAL, INPUT, RARE
from seedcli.configs.groups import Device, Problems, Threads


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
    probes: Annotated[int | None, Ge(1), Doc("Lists that a search looks into; left out: the root of all.")] = None
    ef_search: Annotated[int | None, Ge(1), Doc("hnsw: neighbours that a search follows; left out: 128.")] = None
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
    """

    out: Annotated[Path, Doc("The folder to leave the index in.")]
    kind: Annotated[
        str,
        Doc(
            "flat: every vector is compared; bm25: words; approximate, by faiss: hnsw, ivf, ivfpq, pq, sq, opq, or a "
            "factory string of its own, such as IVF4096,PQ48."
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
    problems: Problems = "report"
    faiss: Faiss = field(default_factory=Faiss)
    k1: Annotated[float, Ge(0), Doc("bm25: how soon repeated words count no more."), RARE] = 0.9
    b: Annotated[float, Ge(0), Le(1), Doc("bm25: how much long passages are held back."), RARE] = 0.4
    heap: Annotated[str, Doc("bm25: the largest heap of Java, such as 2g."), RARE, INCIDENTAL] = "2g"
    machine: Building = field(default_factory=Building)
