"""Vectors that are searched approximately, by faiss: built, measured against exact search, and opened."""

import difflib
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from seedcli.base.config import options
from seedcli.base.errors import ConfigError
from seedcli.base.machine import bytes_of, give_back_memory, resident
from seedcli.base.manifest import Manifest, result_options
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.index import Faiss, IndexConfig
from seedcli.configs.search import SearchConfig
from seedcli.retrieval import ann, recall
from seedcli.retrieval.ann import HITS, Ann, Rows
from seedcli.retrieval.design import KINDS, Asked, Design, design
from seedcli.retrieval.matrix import FLOATS, HELD
from seedcli.retrieval.recall import DEPTH, Point
from seedcli.retrieval.runs import Ranking
from seedcli.stages.estimates import LIBRARIES, announce
from seedcli.stages.measuring import Unindexed, sampled, told_measured
from seedcli.stages.questions import Questions
from seedcli.stages.stage import Outcome, Stage
from seedcli.stages.vector_index import VectorIndex, by_calls

FILE = "index.faiss"
PARTS = "parts"  # what a killed command goes on with
LARGE = 20  # a share of all vectors, of which scoring one by one takes as long as multiplying all
MANY = 64  # queries from which on it pays to read the whole file first
HELD_HIT = 128  # bytes of a candidate, while its id and its score are looked up
KNOWN = ("flat", "bm25", *KINDS)


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
        knob = next((knob for knob in ("probes", "ef_search") if knob in built), None)
        self.asked: int | None = getattr(config, knob) if knob else None
        self.setting: int | None = self.asked or (built[knob] if knob else None)
        self.refine = int(built["refine"] if config.refine is None else config.refine)

    @cached_property
    def ann(self) -> Ann:
        """The index, with its knob as it was asked for."""
        opened = Ann(self.path, self.rows, self.size / self.documents, self.runtime.device)
        if self.setting is not None:
            opened.turn(self.setting)
        return opened

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        vectors, ann, short = self.encode(questions), self.ann, 0
        if len(vectors) >= MANY:
            ann.fetch()
        if ann.knob == "probes" and self.asked is None and depth > DEPTH:  # more than it was measured by
            ann.turn(max(ann.setting, ann.probes(depth, self.refine)))
        if self.refine and (candidates := ann.candidates(depth, self.refine)) > self.size // LARGE:
            told = f"{candidates:,} candidates a query, of {self.size:,} vectors"
            progress.say(f"{self.path.parent}: --refine scores {told}: a flat index would be as quick, and exact")
        wanted, several = min(depth, self.documents), ann.at_once(depth, self.refine)
        for ranking in by_calls(
            questions, vectors, several, lambda some: ann.search(some, depth, self.refine), progress
        ):
            short += len(ranking.documents) < wanted
            yield ranking
        if short:
            told = f"{short:,} of {len(vectors):,} queries have fewer than {wanted:,} hits"
            more = f"--probes above {ann.setting} finds more" if ann.knob == "probes" else "no more were found"
            progress.say(f"{self.path.parent}: {told}; {more}")

    def memory(self) -> int:
        """Bytes of the file, all of which may come to be held, of the ids, and of a call's candidates."""
        return self.path.stat().st_size + sum(shard.id_bytes for shard in self.shards) + HELD_HIT * HITS


def check_exact(config: IndexConfig) -> None:
    """Raises ConfigError for an option of approximate indexes."""
    if given := given_of_faiss(config):
        first = next(iter(given.values()))
        raise ConfigError(f"{first}: for approximate indexes, such as --kind hnsw; {config.kind} takes none of that")


def given_of_faiss(config: IndexConfig) -> dict[str, str]:
    """The options of approximate indexes that aren't as they come: their keys, and how each is typed."""
    plain, typed = result_options(IndexConfig(config.out)), {each.key: each.typed for each in options(IndexConfig)}
    given = [key for key, value in result_options(config).items() if key.startswith("faiss.") and value != plain[key]]
    return {key: typed[key] for key in (*given, *(["queries"] if config.queries is not None else []))}


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
    searched = recall.searched(sample, recall.turned(opened, made.setting, refine))
    held = resident() - before
    chosen = recall.judged(sample, made.setting, searched, recall.exact_scores(opened, sample, searched.found))
    points = recall.points(opened, sample, chosen, refine, target or 0.0, stage.progress)
    if target is not None:
        chosen = recall.cheapest(opened, sample, points, refine, target, stage.progress)
        points = sorted({*points, chosen}, key=lambda point: point.setting or 0)
        stopped = (points[-1].setting or 0) < recall.furthest(opened, refine)
        stage.progress.say(told_target(target, chosen, made, refine, stopped))
    found = told_measured(config, sample, chosen, points, {"disk": path.stat().st_size, "memory": held})
    return found | ({made.knob: chosen.setting} if made.knob else {})


def told_target(target: float, chosen: Point, made: Design, refine: int, stopped: bool) -> str:
    """Whether a target is reached, and what else can be done; `stopped`: slower settings weren't tried."""
    mean, error = chosen.recall_100
    finds = f"{made.knob} {chosen.setting} finds {mean:.3f} ±{error:.3f} of the exact first 100"
    if mean >= target:
        return f"--target-recall {target:g}: {finds}, and is what searches begin with"
    more = f"--refine {2 * refine or 4} scores more candidates exactly" + (
        ", --set faiss.code_size makes codes longer" if "PQ" in made.factory else ""
    )
    more = more if made.knob == "probes" else f"--set faiss.ef_construction and faiss.m link more; {more}"
    reached = f"not reached within {recall.LONG:.0f} s a setting" if stopped else "out of reach"
    return f"--target-recall {target:g}: {reached}: {finds}, the most, and is kept; {more}"
