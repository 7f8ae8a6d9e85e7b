"""seed search: one index or several, and queries -> run.trec; or a question -> its first hits."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import Manifest, finished, located, read_manifest
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.search import SearchConfig
from seedcli.data.ragged import Ragged
from seedcli.data.records import Passage, Query, clean
from seedcli.data.sources import open_collection, source_path
from seedcli.data.survey import survey
from seedcli.models.towers import open_tower
from seedcli.retrieval import exact
from seedcli.retrieval.encoding import TextEncoder
from seedcli.retrieval.fusion import reciprocal_rank
from seedcli.retrieval.hits import Hit as Hit
from seedcli.retrieval.lucene import WordSearcher, heap_bytes
from seedcli.retrieval.runs import Ranking, run_of, write_run
from seedcli.retrieval.vectors import open_shards, read_ids
from seedcli.stages.candidates import candidates_path, known_rows, read_candidates
from seedcli.stages.estimates import LIBRARIES, announce
from seedcli.stages.stage import Outcome, Stage, joined

DEPTH, ANSWERS = 1_000, 10
BATCH_TOKENS = 8_192
LINE = 48  # bytes of a line of a run


class Questions(NamedTuple):
    """What is searched for: texts, or vectors [Q, D] that seed encode left, with the identity of their model."""

    queries: list[Query]
    vectors: NDArray[np.float32] | None = None
    model: str = ""

    def at(self, places: NDArray[np.int64]) -> "Questions":
        """Some of them."""
        vectors = None if self.vectors is None else self.vectors[places]
        return Questions([self.queries[place] for place in places.tolist()], vectors, self.model)


class FlatIndex:
    """Vectors, and the model that encoded them, which is loaded when words are asked for the first time."""

    unit = "vectors"

    def __init__(self, folder: Path, manifest: Manifest, runtime: Runtime):
        self.vectors = located(folder, manifest, "vectors")
        self.encoded = finished(self.vectors, "encode")
        self.shards = open_shards(self.vectors)
        self.runtime = runtime

    def corpus(self) -> Path:
        """The collection whose passages it finds."""
        return located(self.vectors, self.encoded, "collection")

    @cached_property
    def model(self) -> TextEncoder:
        encoder, tokenizer = open_tower(located(self.vectors, self.encoded, "model"), "query")
        return TextEncoder(encoder, tokenizer, self.runtime, BATCH_TOKENS, width=self.shards[0].width)

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        names = [query.id for query in questions.queries]
        return exact.search(names, self.encode(questions), self.shards, depth, self.runtime.device, progress)

    def encode(self, questions: Questions) -> NDArray[np.float32]:
        """The questions as vectors [Q, D]. Raises DataError when they were encoded by another model."""
        if questions.vectors is None:
            return self.model.encode([item.text for item in self.model.items(questions.queries)], "query")
        if questions.model != self.encoded.inputs["model"].identity:
            raise DataError(f"{self.vectors}: encoded by another model than the queries")
        if (width := self.shards[0].width) != questions.vectors.shape[1]:
            told = f"vectors of {width} numbers, and those of the queries have {questions.vectors.shape[1]}"
            raise DataError(f"{self.vectors}: {told}; encode the queries with --dim {width}")
        return questions.vectors

    @property
    def size(self) -> int:
        return sum(shard.size for shard in self.shards)

    @property
    def passages(self) -> int:
        """How many there are; older folders don't tell, and have a vector of each."""
        return int(self.encoded.metrics.get("passages", self.size))

    def memory(self, questions: int) -> int:
        """Bytes that a search of so many questions holds beside the libraries: a block of scores, and the ids."""
        names = 24 + 8 * (self.passages < self.size)  # and which rows are one passage's
        return 8 * exact.BLOCK * min(questions, exact.QUERIES) + names * self.size

    def close(self) -> None:
        """Nothing but memory is held."""


class WordIndex:
    """A bm25 index, in a Java process that starts with the first question."""

    unit = "passages"

    def __init__(self, folder: Path, manifest: Manifest, config: SearchConfig):
        self.folder, self.manifest, self.config = folder, manifest, config
        k1, b, threads = manifest.config["k1"], manifest.config["b"], config.machine.threads or os.cpu_count() or 1
        self.lucene = WordSearcher(folder / "lucene", k1, b, threads, config.heap)

    def corpus(self) -> Path:
        """The collection whose passages it finds."""
        return located(self.folder, self.manifest, "corpus")

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        if questions.vectors is not None:
            raise ConfigError(f"{self.folder}: bm25 needs the queries' words; give --queries a collection")
        return self.lucene.search(questions.queries, depth, progress, len(questions.queries))

    @property
    def size(self) -> int:
        return int(self.manifest.metrics["passages"])

    def memory(self, questions: int) -> int:  # noqa: ARG002  (as FlatIndex has it)
        """Bytes that a search holds beside the libraries: at most Java's heap."""
        return heap_bytes(self.config.heap)

    def close(self) -> None:
        self.lucene.close()


class Searcher:
    """One index, or several to fuse, opened once for any number of questions.

    Vectors and models stay loaded, and the Java process of bm25 runs, until `close`.
    """

    def __init__(self, config: SearchConfig, runtime: Runtime, progress: Progress):
        self.config, self.progress = config, progress
        self.indexes = [open_index(Path(folder), config, runtime) for folder in config.index]

    def search(self, questions: Questions, depth: int) -> Iterator[Ranking]:
        """The rankings of the one index, or of all, fused by reciprocal rank."""
        if len(self.indexes) == 1:
            return self.indexes[0].search(questions, depth, self.progress)
        runs = [run_of(index.search(questions, self.config.fusion_depth, self.progress)) for index in self.indexes]
        return reciprocal_rank(runs, depth, self.config.fusion_k)

    def hits(self, texts: Sequence[str], depth: int) -> list[list[Hit]]:
        """The first `depth` passages for each text. The corpus is read once for all."""
        if not all(text.strip() for text in texts):
            raise ConfigError("the QUESTION is empty")
        rankings = list(self.search(Questions([Query(str(row), clean(text)) for row, text in enumerate(texts)]), depth))
        wanted = {id_ for ranking in rankings for id_ in ranking.documents}
        passages: dict[str, Passage] = {}
        for corpus in dict.fromkeys(index.corpus() for index in self.indexes):
            passages |= open_collection(corpus).passages_of(wanted)
        return [
            [Hit(passages[id_], float(score)) for id_, score in zip(ranking.documents, ranking.scores, strict=True)]
            for ranking in rankings
        ]

    def close(self) -> None:
        for index in self.indexes:
            index.close()


def inputs(config: SearchConfig, progress: Progress) -> dict[str, Path]:
    """The indexes and the queries, by name."""
    if config.out is None or config.queries is None:
        raise ConfigError("give a QUESTION, or --queries and --out to write a run")
    kinds = [finished(Path(folder), "index").config["kind"] for folder in config.index]
    paths = {f"index.{row}": Path(folder) for row, folder in enumerate(config.index)}
    if read_manifest(Path(config.queries)) is None:
        open_collection(config.queries, progress)
    paths["queries"] = source_path(config.queries)
    if config.candidates is not None:
        if kinds != ["flat"]:
            raise ConfigError("--candidates are scored by the vectors of one index: give --index once, a flat one")
        paths["candidates"] = candidates_path(config.candidates, config.split, progress)
    return paths


def run(config: SearchConfig, stage: Stage) -> Outcome:
    questions = read_questions(str(config.queries), config.split)
    if questions.vectors is None:
        found = survey(lambda: iter(questions.queries), "queries", stage.progress)
        found.problems.settle(str(config.queries), config.problems, stage.progress)
    metrics = find(config, stage, questions) if config.candidates is None else rerank(config, stage, questions)
    return Outcome([stage.folder / "run.trec"], metrics)


def find(config: SearchConfig, stage: Stage, questions: Questions) -> dict[str, int]:
    """Write the run of all that the indexes hold; how much it is."""
    depth = config.depth or DEPTH
    with closing(Searcher(config, stage.runtime, stage.progress)) as searcher:
        expect(searcher, stage, len(questions.queries), depth)
        write_run(stage.folder / "run.trec", searcher.search(questions, depth), "seed")
    return {"queries": len(questions.queries)}


def rerank(config: SearchConfig, stage: Stage, questions: Questions) -> dict[str, int]:
    """Write the run of the candidates alone; how much it is."""
    folder, source = Path(config.index[0]), str(config.candidates)
    index = FlatIndex(folder, finished(folder, "index"), stage.runtime)
    names, ids = [query.id for query in questions.queries], exact.encoded_ids(index.shards)
    candidates = read_candidates(Path(stage.inputs["candidates"].path), config.split)
    rows, problems = known_rows(candidates, names, ids)
    if not len(rows.values):
        named = f"{candidates.documents[0].decode()!r:.40} for query {candidates.queries[0]!r:.40}"
        other = f"query {names[0]!r:.40} is asked and {ids[0].decode()!r:.40} is indexed"
        raise DataError(f"{source}: no candidate in {folder} for any query: such as {named}, where {other}")
    problems.settle(source, config.problems, stage.progress)
    questions = questions.at(np.flatnonzero(np.diff(rows.offsets)))
    rows = Ragged(rows.values, np.unique(rows.offsets))  # without those that are empty
    counts = np.add.reduceat(exact.opens(ids)[rows.values], rows.offsets[:-1], dtype=np.int64)  # of candidates
    expect_candidates(index, stage, counts, len(rows.values), config.depth)
    vectors, queries = index.encode(questions), [query.id for query in questions.queries]
    rankings = exact.score(queries, vectors, rows, index.shards, ids, config.depth, stage.progress)
    write_run(stage.folder / "run.trec", rankings, "seed")
    return {"queries": len(queries), "candidates": int(counts.sum())}


def expect(searcher: Searcher, stage: Stage, questions: int, depth: int) -> None:
    """Tell what is to come."""
    sizes = " and ".join(f"{index.size:,} {index.unit}" for index in searcher.indexes)
    holds = LIBRARIES + sum(index.memory(questions) for index in searcher.indexes)
    hits = min(depth, sum(index.size for index in searcher.indexes))
    announce(stage, f"{questions:,} queries, {sizes}", holds, {stage.folder: LINE * questions * hits})


def expect_candidates(
    index: FlatIndex, stage: Stage, counts: NDArray[np.int64], vectors: int, depth: int | None
) -> None:
    """Tell what is to come."""
    reads = f"{len(counts):,} queries, {counts.sum():,} candidates among {index.passages:,} passages"
    hits = int(np.minimum(counts, depth or counts.max()).sum())
    announce(stage, reads, LIBRARIES + 32 * (index.size + vectors), {stage.folder: LINE * hits})


def answer(config: SearchConfig, progress: Progress) -> list[Hit]:
    """The first hits of the config's question, with their texts."""
    if any(given is not None for given in (config.out, config.queries, config.split, config.candidates)):
        told = "it goes without --queries, --split, --candidates and --out"
        raise ConfigError(f"a QUESTION is answered on the screen: {told}")
    with joined("search", config) as runtime, closing(Searcher(config, runtime, progress)) as searcher:
        (hits,) = searcher.hits([str(config.question)], config.depth or ANSWERS)
        return hits


def open_index(folder: Path, config: SearchConfig, runtime: Runtime) -> FlatIndex | WordIndex:
    """The index in a folder, of either kind."""
    manifest = finished(folder, "index")
    if manifest.config["kind"] == "bm25":
        return WordIndex(folder, manifest, config)
    return FlatIndex(folder, manifest, runtime)


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
