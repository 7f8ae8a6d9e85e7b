"""Kinds of indexes over the same vectors, side by side: each in a folder of its own, one table, one plot."""

import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from seedcli.base.errors import ConfigError
from seedcli.base.files import write_json
from seedcli.base.machine import give_back_memory, resident
from seedcli.base.progress import Silent
from seedcli.configs.index import IndexConfig
from seedcli.evaluation.plots import Curve, curves, decimals
from seedcli.retrieval import exact
from seedcli.retrieval.design import KINDS, TAKES, Asked, written
from seedcli.retrieval.recall import BATCH, DEPTH
from seedcli.stages.measuring import Unindexed, sampled
from seedcli.stages.stage import Outcome, Stage, perform

REPEATS = 5  # searches whose median is told of exact search


def kinds_of(config: IndexConfig) -> list[IndexConfig]:
    """The index of each kind in the folder of a comparison, or the one index; with the options that its kind takes.

    Raises ConfigError for kinds that can't be compared, and for an option that none of them takes.
    """
    if not config.compare:
        return [config]
    if config.kind != "flat":
        raise ConfigError("--compare names the kinds itself: leave --kind out")
    if not config.faiss.measure:
        raise ConfigError("--compare needs what --measure finds")
    kinds = list(dict.fromkeys(kind for words in config.compare for kind in parted(words)))
    if "bm25" in kinds:
        raise ConfigError("--compare bm25: it compares indexes of vectors")
    if "flat" in kinds and config.faiss.metric == "cosine":
        raise ConfigError("--compare flat: it compares by inner products, and --metric cosine is asked for")
    given = {name for name in Asked._fields if getattr(config.faiss, name) is not None}
    if lost := given - set().union(*map(takes, kinds)):
        raise ConfigError(f"{written(min(lost))}: none of {', '.join(kinds)} has that")
    return [of_kind(config, kind) for kind in kinds]


def parted(words: str) -> list[str]:
    """flat,hnsw,ivfpq as three kinds; IVF4096,PQ48 is one."""
    kinds = [kind.strip() for kind in words.split(",")]
    return [words.strip()] if any(re.search("[A-Z]", kind) for kind in kinds) else kinds


def takes(kind: str) -> set[str]:
    """The options that make sense for a kind; of one of faiss's own as its name tells."""
    if kind == "flat" or kind in KINDS:
        return TAKES.get(kind, set())
    return {"train"} | ({"probes"} if "IVF" in kind else {"ef_search", "ef_construction"} if "HNSW" in kind else set())


def of_kind(config: IndexConfig, kind: str) -> IndexConfig:
    name = re.sub(r"[^\w.]+", "-", kind).strip("-")
    own = replace(config, kind=kind, compare=[], out=config.out / name)
    if kind == "flat":
        return replace(own, queries=None, faiss=type(config.faiss)())
    left: dict[str, Any] = dict.fromkeys(set(Asked._fields) - takes(kind))
    if not takes(kind) & {"probes", "ef_search"}:
        left["target_recall"] = None
    return replace(own, faiss=replace(config.faiss, **left))


def compare(config: IndexConfig, stage: Stage) -> Outcome:
    """Build each kind, unless it is there already, and hold them against each other."""
    rows = dict[str, dict[str, Any]]()
    for each in kinds_of(config):
        made = perform("index", each, stage.progress)
        rows[each.out.name] = exactly(config, stage) if each.kind == "flat" else figures(made.metrics)
    whole = stage.folder / "compare.json"
    write_json(whole, {"kinds": rows})
    drawn = {name: curve(row) for name, row in rows.items()}
    taken = [single for line in drawn.values() for single in line.x]
    plots = curves(
        stage.folder / "compare", drawn, "milliseconds of a query alone", "recall@100",
        ticks=decimals(min(taken), max(taken)), log_x=True, y_range=(0.5, 1),
    )  # fmt: skip
    told = {name: {key: value for key, value in row.items() if key != "points"} for name, row in rows.items()}
    return Outcome([], {"kinds": told}, variable=[whole, *plots])


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """What a finished index tells of itself."""
    measured, seconds = metrics["measured"], metrics["seconds"]
    knob = next((knob for knob in ("probes", "ef_search") if knob in metrics), None)
    setting = f"{knob} {metrics[knob]}" if knob else ""
    refined = f"refine {metrics['refine']}" if metrics["refine"] else ""
    return {
        "factory": metrics["factory"], "setting": ", ".join(filter(None, [setting, refined])),
        "seconds": round(sum(seconds.values()), 1), "recall@10": metrics["recall@10"],
        "recall@100": metrics["recall@100"], "milliseconds": measured["milliseconds"],
        "milliseconds_64": measured["milliseconds_64"], "disk": measured["disk"], "memory": measured["memory"],
        "points": measured["points"],
    }  # fmt: skip


def exactly(config: IndexConfig, stage: Stage) -> dict[str, Any]:
    """The same of exact search, which reads the vectors themselves."""
    source = Unindexed(Path(stage.inputs["vectors"].path), stage.runtime)
    sample, stored = sampled(config, stage, source), sum(shard.bytes for shard in source.shards)
    give_back_memory()
    before = resident()
    single, batch = (1e3 * statistics.median(seconds(sample.vectors[:count], source)) for count in (1, BATCH))
    held = resident() - before
    point = {"setting": None, "recall_10": [1.0, 0.0], "recall_100": [1.0, 0.0], "single": single, "batch": batch}
    return {
        "factory": "exact search", "setting": "", "seconds": 0.0, "recall@10": 1.0, "recall@100": 1.0,
        "milliseconds": single, "milliseconds_64": batch, "disk": stored, "memory": held, "points": [point],
    }  # fmt: skip


def seconds(vectors: Any, source: Unindexed) -> Iterator[float]:
    """Of some exact searches, after one that doesn't count: it reads the vectors."""
    names = [str(row) for row in range(len(vectors))]
    for number in range(REPEATS + 1):
        began = time.perf_counter()
        list(exact.search(names, vectors, source.matrix, DEPTH, Silent(), source.each))
        if number:
            yield time.perf_counter() - began


def curve(row: dict[str, Any]) -> Curve:
    return Curve([point["single"] for point in row["points"]], [point["recall_100"][0] for point in row["points"]])
