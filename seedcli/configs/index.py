"""Options of seed index."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Le

from seedcli.base.config import INCIDENTAL, INPUT, RARE
from seedcli.configs.groups import Problems


@dataclass(frozen=True)
class IndexConfig:
    """Build an index: flat over encoded vectors (exact search), or bm25 over a corpus (Lucene, through Pyserini).

    With --store the vectors go to Milvus, on this machine or on others.
    """

    out: Annotated[Path, Doc("The folder to leave the index in.")]
    kind: Annotated[
        Literal["flat", "bm25", "hnsw", "ivf", "ivfpq"],
        Doc("flat: every vector is compared; bm25: words. With --store also hnsw, ivf and ivfpq, as Milvus has them."),
    ] = "flat"
    vectors: Annotated[str | None, Doc("flat: the folder that seed encode left."), INPUT] = None
    corpus: Annotated[str | None, Doc("bm25: a collection of passages."), INPUT] = None
    store: Annotated[
        str | None,
        Doc(
            "Put the vectors into Milvus: milvus:PATH.db is kept there by milvus-lite, milvus:http://HOST:19530 is a "
            "server. MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD, are read from the environment alone."
        ),
    ] = None
    problems: Problems = "report"
    k1: Annotated[float, Ge(0), Doc("bm25: how soon repeated words count no more."), RARE] = 0.9
    b: Annotated[float, Ge(0), Le(1), Doc("bm25: how much long passages are held back."), RARE] = 0.4
    heap: Annotated[str, Doc("bm25: the largest heap of Java, such as 2g."), RARE, INCIDENTAL] = "2g"
    collection: Annotated[
        str | None, Doc("--store: the collection's name; left out: one made of the vectors'."), RARE
    ] = None
    patience: Annotated[
        float, Ge(0), Doc("--store: seconds to go on asking a server that is away."), RARE, INCIDENTAL
    ] = 60.0
