"""seed search: one index or several, and queries -> run.trec; or a question -> its first hits."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import Manifest, finished, located, read_manifest
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.search import SearchConfig
from seedcli.data.records import Passage, Query
from seedcli.data.sources import open_collection, source_path
from seedcli.models.encoder import open_encoder
from seedcli.retrieval import exact
from seedcli.retrieval.encoding import TextEncoder
from seedcli.retrieval.fusion import reciprocal_rank
from seedcli.retrieval.lucene import search_index
from seedcli.retrieval.runs import Ranking, run_of, write_run
from seedcli.retrieval.vectors import open_shards, read_ids
from seedcli.stages.stage import Outcome, Stage, joined

DEPTH, ANSWERS = 1_000, 10
BATCH_TOKENS = 8_192


class Index(NamedTuple):
    """An index, and what it was built over."""

    folder: Path
    manifest: Manifest

    @property
    def kind(self) -> str:
        return str(self.manifest.config["kind"])

    def source(self) -> Path:
        """Its vectors, or the corpus of bm25."""
        return located(self.folder, self.manifest, "corpus" if self.kind == "bm25" else "vectors")

    def corpus(self) -> Path:
        """The collection whose passages it finds."""
        source = self.source()
        return source if self.kind == "bm25" else located(source, finished(source, "encode"), "collection")


class Questions(NamedTuple):
    """What is searched for: texts, or vectors [Q, D] that seed encode left, with the identity of their model."""

    queries: list[Query]
    vectors: NDArray[np.float32] | None = None
    model: str = ""


class Hit(NamedTuple):
    passage: Passage
    score: float


def inputs(config: SearchConfig, progress: Progress) -> dict[str, Path]:
    """The indexes and the queries, by name."""
    if config.out is None or config.queries is None:
        raise ConfigError("give a QUESTION, or --queries and --out to write a run")
    for folder in config.index:
        finished(Path(folder), "index")
    paths = {f"index.{row}": Path(folder) for row, folder in enumerate(config.index)}
    if read_manifest(Path(config.queries)) is None:
        open_collection(config.queries, progress)
    return paths | {"queries": source_path(config.queries)}


def run(config: SearchConfig, stage: Stage) -> Outcome:
    indexes = [open_index(Path(folder)) for folder in config.index]
    questions = read_questions(str(config.queries), config.split)
    rankings = search(config, indexes, questions, config.depth or DEPTH, stage.runtime, stage.progress)
    write_run(stage.folder / "run.trec", rankings, "seed")
    return Outcome([stage.folder / "run.trec"], {"queries": len(questions.queries)})


def answer(config: SearchConfig, progress: Progress) -> list[Hit]:
    """The first hits of the config's question, with their texts."""
    if config.out is not None or config.queries is not None or config.split is not None:
        raise ConfigError("a QUESTION is answered on the screen: it goes without --queries, --split and --out")
    if not str(config.question).strip():
        raise ConfigError("the QUESTION is empty")
    with joined("search", config) as runtime:
        indexes = [open_index(Path(folder)) for folder in config.index]
        questions = Questions([Query("question", str(config.question))])
        (ranking,) = search(config, indexes, questions, config.depth or ANSWERS, runtime, progress)
        corpora = dict.fromkeys(index.corpus() for index in indexes)
        passages = {
            id_: passage
            for corpus in corpora
            for id_, passage in open_collection(corpus).passages_of(ranking.documents).items()
        }
        return [Hit(passages[id_], float(s)) for id_, s in zip(ranking.documents, ranking.scores, strict=True)]


def open_index(folder: Path) -> Index:
    return Index(folder, finished(folder, "index"))


def read_questions(source: str, split: str | None) -> Questions:
    """The queries of a collection, or those that a folder of seed encode holds as vectors."""
    if read_manifest(Path(source)) is None:
        questions = Questions(list(open_collection(source).queries(split)))
    else:
        manifest, shards = finished(Path(source), "encode"), open_shards(Path(source))
        if manifest.metrics["role"] != "query" or split is not None:
            raise ConfigError(
                f"--queries {source}: holds {manifest.metrics['role']} vectors; give encoded queries, whole"
            )
        queries = [Query(id_, "") for id_ in read_ids(shards)]
        vectors = np.concatenate([shard.vectors for shard in shards])
        questions = Questions(queries, vectors, manifest.inputs["model"].identity)
    if not questions.queries:
        raise DataError(f"{source}: no queries" + (f" judged in {split!r}" if split else ""))
    return questions


def search(
    config: SearchConfig,
    indexes: Sequence[Index],
    questions: Questions,
    depth: int,
    runtime: Runtime,
    progress: Progress,
) -> Iterator[Ranking]:
    """The rankings of one index, or of several, fused."""
    if len(indexes) == 1:
        return ask(config, indexes[0], questions, depth, runtime, progress)
    runs = [run_of(ask(config, index, questions, config.fusion_depth, runtime, progress)) for index in indexes]
    return reciprocal_rank(runs, depth, config.fusion_k)


def ask(
    config: SearchConfig, index: Index, questions: Questions, depth: int, runtime: Runtime, progress: Progress
) -> Iterator[Ranking]:
    """What one index answers to every query."""
    queries = questions.queries
    if index.kind == "bm25":
        if questions.vectors is not None:
            raise ConfigError(f"{index.folder}: bm25 needs the queries' words; give --queries a collection")
        k1, b = index.manifest.config["k1"], index.manifest.config["b"]
        return search_index(
            index.folder / "lucene",
            queries,
            depth,
            progress,
            k1,
            b,
            threads=config.machine.threads or os.cpu_count() or 1,
            total=len(queries),
            heap=config.heap,
        )
    source = index.source()
    shards = open_shards(source)
    vectors = query_vectors(source, questions, runtime)
    if vectors.shape[1] != shards[0].width:
        raise DataError(f"{config.queries}: vectors of width {vectors.shape[1]}; the index has {shards[0].width}")
    return exact.search([query.id for query in queries], vectors, shards, depth, runtime.device, progress)


def query_vectors(vectors: Path, questions: Questions, runtime: Runtime) -> NDArray[np.float32]:
    """The queries [Q, D], encoded by the model that encoded the passages."""
    manifest = finished(vectors, "encode")
    if questions.vectors is not None:
        if questions.model != manifest.inputs["model"].identity:
            raise DataError(f"{vectors}: encoded by another model than the queries")
        return questions.vectors
    encoder, tokenizer = open_encoder(located(vectors, manifest, "model"))
    model = TextEncoder(encoder, tokenizer, runtime, BATCH_TOKENS)
    return model.encode([item.text for item in model.items(questions.queries)], "query")
