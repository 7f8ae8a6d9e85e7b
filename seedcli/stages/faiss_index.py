"""Vectors that are searched approximately, by faiss: built, measured against exact search, and opened.

Letters: Q queries, D width.
"""

import difflib
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedcli.base.config import options
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import cache_folder
from seedcli.base.machine import bytes_of, give_back_memory, resident
from seedcli.base.manifest import Manifest, digest, finished, result_options
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.index import Faiss, IndexConfig
from seedcli.configs.search import SearchConfig
from seedcli.data.batches import permuted
from seedcli.retrieval import ann, exact, recall
from seedcli.retrieval.ann import AT_ONCE, Ann, Rows
from seedcli.retrieval.design import KINDS, Asked, Design, design
from seedcli.retrieval.matrix import FLOATS, HELD, Matrix
from seedcli.retrieval.recall import DEPTH, Point, Sample
from seedcli.retrieval.run_files import read_run, write_run
from seedcli.retrieval.runs import Ranking
from seedcli.retrieval.vectors import names_of, open_shards
from seedcli.stages.estimates import LIBRARIES, announce
from seedcli.stages.flat_index import FlatIndex
from seedcli.stages.questions import Questions, read_questions
from seedcli.stages.stage import Outcome, Stage, hush_libraries
from seedcli.stages.vector_index import VectorIndex

FILE = "index.faiss"
PARTS = "parts"  # what a killed command goes on with
KNOWN = ("flat", "bm25", *KINDS)
RULES = 1  # to be raised when exact search for a sample would bring something else


class FaissIndex(VectorIndex):
    """An index of faiss, mapped from its file."""

    def __init__(self, folder: Path, manifest: Manifest, config: SearchConfig, runtime: Runtime):
        if config.memory is not None:
            told = "it is mapped from its file, of which the system holds in memory what there is room for"
            raise ConfigError(f"--memory is for flat indexes, and {folder} is approximate: {told}")
        super().__init__(folder, manifest, config, runtime)
        self.path, built = folder / FILE, manifest.metrics
        self.rows = Rows(self.shards, manifest.config["faiss"]["metric"] == "cosine")
        self.documents = int(built["documents"])
        given = next((getattr(config, knob) for knob in ("probes", "ef_search") if knob in built), None)
        self.setting: int | None = given or built.get("probes") or built.get("ef_search")
        self.refine = int(built["refine"] if config.refine is None else config.refine)

    @cached_property
    def ann(self) -> Ann:
        """The index, with its knob as it was asked for."""
        opened = Ann(self.path, self.rows, self.size / self.documents, self.runtime.device)
        if self.setting is not None:
            opened.turn(self.setting)
        return opened

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        vectors = self.encode(questions)
        if not np.isfinite(vectors).all():
            raise DataError("a query's vector holds NaN or an infinite number; look for it in the model's weights")
        with progress.track("search", len(vectors), "queries") as advance:
            for begin in range(0, len(vectors), AT_ONCE):
                found = self.ann.search(vectors[begin : begin + AT_ONCE], depth, self.refine)
                for query, hits in zip(questions.queries[begin : begin + AT_ONCE], found, strict=True):
                    yield hits.ranking(query.id)
                advance(len(found))

    def memory(self) -> int:
        """Bytes of the file, all of which may come to be held, and of the ids."""
        return self.path.stat().st_size + sum(shard.id_bytes for shard in self.shards)


class Unindexed(FlatIndex):
    """The vectors that an index is being built of."""

    def __init__(self, folder: Path, runtime: Runtime):
        self.vectors, self.encoded, self.shards = folder, finished(folder, "encode"), open_shards(folder)
        self.granted, self.runtime = None, runtime

    @cached_property
    def documents(self) -> int:
        """Different ids."""
        return len(np.unique(names_of(self.shards).at()))

    @property
    def each(self) -> float:
        """Vectors of a document on average."""
        return self.size / self.documents


def check_exact(config: IndexConfig) -> None:
    """Raises ConfigError for an option of approximate indexes."""
    plain = result_options(IndexConfig(config.out))
    given = [key for key, value in result_options(config).items() if key.startswith("faiss.") and value != plain[key]]
    if given or config.queries is not None:
        flag = next(option.typed for option in options(IndexConfig) if option.key == (given or ["queries"])[0])
        raise ConfigError(f"{flag}: for approximate indexes, such as --kind hnsw; {config.kind} takes none of that")


def designed(config: IndexConfig, vectors: int, width: int) -> Design:
    """How the index is to be built. Raises ConfigError for a kind that there isn't, and for what it doesn't have."""
    asked, given = Asked(**asked_of(config.faiss)), config.faiss
    if config.kind not in KINDS and not re.search("[A-Z]", config.kind):
        near = difflib.get_close_matches(config.kind, KNOWN, n=1)
        meant = f", did you mean {near[0]}?" if near else "."
        known = f"There are {', '.join(KNOWN)}, and faiss's own, such as IVF4096,PQ48"
        raise ConfigError(f"--kind {config.kind}: no such kind{meant} {known}")
    ann.need_faiss()
    if config.kind in KINDS:
        made = design(config.kind, vectors, width, asked)
    else:
        made = ann.own_design(config.kind, vectors, width, asked)
    if given.target_recall is not None and not given.measure:
        raise ConfigError("--target-recall needs what --measure finds")
    if given.target_recall is not None and made.knob is None:
        told = "has neither probes nor ef_search to turn; --refine makes it find more"
        raise ConfigError(f"--target-recall: {config.kind} {told}")
    return made


def asked_of(given: Faiss) -> dict[str, Any]:
    asked = {name: getattr(given, name) for name in Asked._fields}
    return asked | {"memory": None if given.memory is None else bytes_of("--memory", given.memory)}


def build_faiss(config: IndexConfig, stage: Stage) -> Outcome:
    """An index of faiss over all vectors, and what it finds."""
    source = Unindexed(Path(stage.inputs["vectors"].path), stage.runtime)
    rows = Rows(source.shards, config.faiss.metric == "cosine")
    made = designed(config, rows.size, rows.width)
    for reason in made.reasons:
        stage.progress.say(reason)
    expect(made, rows, config.faiss, stage)
    path, parts = stage.folder / FILE, stage.folder / PARTS
    spent = ann.built(path, parts, made, rows, config.faiss.seed, stage.runtime.device, stage.progress)
    metrics: dict[str, Any] = {
        "passages": source.passages, "vectors": rows.size, "width": rows.width, "documents": source.documents,
        "factory": made.factory, "refine": config.faiss.refine, "seconds": spent._asdict(),
    }  # fmt: skip
    metrics |= {made.knob: made.setting} if made.knob else {}
    if config.faiss.measure:
        metrics |= measure(config, stage, source, path, rows, made)
    return Outcome([path], metrics, scratch=[parts])


def expect(made: Design, rows: Rows, given: Faiss, stage: Stage) -> None:
    """Tell what is to come: a save while the index is filled, another one beside it, the vectors to train on, and exact
    search for the queries that it is measured with.
    """
    whole = made.bytes or 4 * rows.size * rows.width
    filling, training = whole + 3 * 4 * rows.width * ann.BATCH, 2 * 4 * rows.width * made.train
    measuring = HELD * min(FLOATS["cpu"], rows.size * max(rows.width, given.sample)) if given.measure else 0
    holds = LIBRARIES + max(filling, training, measuring)
    announce(stage, f"{rows.size:,} vectors of {rows.width} numbers", holds, {stage.folder: 2 * whole})


def measure(
    config: IndexConfig, stage: Stage, source: Unindexed, path: Path, rows: Rows, made: Design
) -> dict[str, Any]:
    """Recall, time, disk and memory, at the default setting and at others; the default that a target asks for."""
    refine, target = config.faiss.refine, config.faiss.target_recall
    sample = sampled(config, stage, source)
    give_back_memory()  # what is let go of meanwhile would count against the index
    before = resident()
    opened = Ann(path, rows, source.each, stage.runtime.device)
    searched = recall.searched(opened, sample, made.setting, refine)
    held = resident() - before
    chosen = recall.judged(opened, sample, made.setting, searched)
    points = recall.points(opened, sample, chosen, refine, target or 0.0, stage.progress)
    if target is not None:
        chosen = recall.cheapest(opened, sample, points, refine, target, stage.progress)
        points = sorted({*points, chosen}, key=lambda point: point.setting or 0)
        stage.progress.say(told_target(target, chosen, made, refine))
    told = {
        "queries": len(sample.names), "of": "queries" if config.queries else "corpus",
        "milliseconds": chosen.single, "milliseconds_64": chosen.batch, "disk": path.stat().st_size, "memory": held,
        "points": [point._asdict() for point in points],
    }  # fmt: skip
    found = {"recall@10": chosen.recall_10.mean, "recall@100": chosen.recall_100.mean, "measured": told}
    return found | ({made.knob: chosen.setting} if made.knob else {})


def told_target(target: float, chosen: Point, made: Design, refine: int) -> str:
    """Whether a target is reached, and what else can be done."""
    mean, error = chosen.recall_100
    finds = f"{made.knob} {chosen.setting} finds {mean:.3f} ±{error:.3f} of the exact first 100"
    if mean >= target:
        return f"--target-recall {target:g}: {finds}, and is what searches begin with"
    more = f"--refine {2 * refine or 4} scores more candidates exactly" + (
        ", --set faiss.code_size makes codes longer" if "PQ" in made.factory else ""
    )
    more = more if made.knob == "probes" else f"--set faiss.ef_construction and faiss.m link more; {more}"
    return f"--target-recall {target:g}: out of reach: {finds}, the most, and is kept; {more}"


def sampled(config: IndexConfig, stage: Stage, source: Unindexed) -> Sample:
    """Queries, or vectors of the corpus in their place, with what exact search finds for them, kept in the cache."""
    given, count = config.faiss, config.faiss.sample
    if config.queries is None:
        rows = Rows(source.shards)
        vectors = rows.at(rows.sample(count, given.seed, 2))
        stage.progress.say(
            f"measured with {len(vectors):,} vectors of the corpus, which find themselves: questions find less, "
            "and --queries takes some"
        )
    else:
        vectors = encoded(read_questions(config.queries, None), count, given.seed, source)
        stage.progress.say(f"measured with {len(vectors):,} of the queries of {config.queries}")
    asked = stage.inputs["queries"].identity if config.queries else None
    key = [RULES, stage.inputs["vectors"].identity, asked, count, given.seed, given.metric, DEPTH]
    kept, names = cache_folder() / f"exact-{digest(key)[:16]}.parquet", [str(row) for row in range(len(vectors))]
    if not kept.is_file():
        write_run(kept, truth(source, vectors, given.metric == "cosine", stage), "exact")
    return Sample(names, vectors, read_run(kept))


def encoded(questions: Questions, count: int, seed: int, source: Unindexed) -> NDArray[np.float32]:
    """Some of the queries as vectors [Q, D], drawn by the seed."""
    total = len(questions.queries)
    drawn = np.sort(permuted(np.arange(min(count, total), dtype=np.int64), total, seed, 3))
    if questions.vectors is None:
        hush_libraries()
    return source.encode(questions.at(drawn.tolist()))


def truth(source: Unindexed, vectors: NDArray[np.float32], unit: bool, stage: Stage) -> Iterator[Ranking]:
    """What exact search finds."""
    matrix = Matrix(source.shards, stage.runtime.device, FLOATS[stage.runtime.device.type], unit=unit)  # read once
    asked = Rows(source.shards, unit).of_length(vectors)
    names = [str(row) for row in range(len(asked))]
    return exact.search(names, asked, matrix, DEPTH, stage.progress, source.each)
