"""What the screen tells around a stage: where its inputs come from, and what can be typed next."""

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from seedcli.base.errors import DataError
from seedcli.base.files import cache_folder
from seedcli.base.manifest import Input, read_manifest
from seedcli.base.progress import Source
from seedcli.data.collections import Collection
from seedcli.data.sources import open_collection

QUESTION = "your question"
READ = {"evaluate": "report.md", "inspect": "inspect.md"}  # what a verb leaves to be read
SPLITS = ("test", "dev", "val", "")  # how the split begins that is searched next, the first that there is


def sources(inputs: Mapping[str, Input]) -> list[Source]:
    """The inputs as a person is told of them."""
    told = []
    for key, given in inputs.items():
        made = read_manifest(Path(given.path))
        origin = f"{made.verb} {given.identity[:8]}" if made else given.identity[:8]
        told.append(Source(called(key), place(given.path), origin))
    return told


def called(key: str) -> str:
    """ "runs.0.bm25" is the one of the runs that is called bm25."""
    return " ".join(part for place, part in enumerate(key.split(".", 2)) if place != 1 or not part.isdigit())


def place(path: str) -> str:
    """A path as it was given; what the hub or this tool keeps in a cache by the name it has there."""
    if model := re.search(r"models--([^/]+)/snapshots/", path):
        return model[1].replace("--", "/")
    cache = cache_folder()
    return str(Path(path).relative_to(cache)) if Path(path).is_relative_to(cache) else path


def next_steps(verb: str, config: Any) -> list[tuple[str, str]]:
    """What can be done after a stage: "next" or "or" with a command to paste, or "read" with a file.

    A word in capitals stands for what the stage can't know.
    """
    if verb in READ:
        page = [("open", str(config.out / "report.html"))] if verb == "evaluate" and config.showing.page else []
        return [*page, ("read", str(config.out / READ[verb]))]
    return [("or" if row else "next", command) for row, command in enumerate(next_commands(verb, config))]


def after_recipe(stages: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    """A question to what the last search of a recipe's stages (verb, config) was in, or to its last index."""
    for verb, config in reversed(stages):
        if verb in {"index", "search"}:
            return [("next", ask(config.index if verb == "search" else [str(config.out)]))]
    return []


def next_commands(verb: str, config: Any) -> list[str]:
    out = str(config.out)
    match verb:
        case "convert" if config.to == "onnx":
            return []
        case "pretrain" | "convert":
            return [seed("finetune", model=out, data="DATA", out=beside(config.out, "retriever"))]
        case "finetune":
            held = collection(config.data)
            corpus = config.data if held is None or held.passage_reader else None
            return [seed("encode", model=out, corpus=corpus, out=beside(config.out, "vectors"))]
        case "encode" if config.corpus:
            return [seed("index", vectors=out, out=beside(config.out, "index"))]
        case "encode":
            return [seed("search", index="INDEX", queries=out, out=beside(config.out, "run"))]
        case "index":
            source = asked(config.corpus or made_from(config.vectors, "corpus"))
            if config.compare:
                kinds = read_manifest(config.out)
                out = str(config.out / next(reversed(kinds.metrics["kinds"]))) if kinds else out
            run = beside(config.out, "run")
            return [seed("search", index=out, **source, out=run), ask([out])]
        case "search":
            queries, split = config.queries, config.split
            if queries and read_manifest(Path(queries)):
                queries, split = made_from(queries, "queries"), made_from(queries, "split")
            report, held = beside(config.out, "report"), collection(queries)
            qrels = queries if held is None or held.qrels_readers else None
            return [seed("evaluate", runs=out, qrels=qrels, **({"split": split} if split else {}), out=report)]
        case _:
            raise ValueError(verb)


def collection(source: str | None) -> Collection | None:
    """What lies at a path; None for a name such as hf:NAME, which is not asked for again, and for no collection."""
    try:
        return open_collection(source) if source and Path(source).exists() else None
    except DataError:
        return None


def asked(source: str | None) -> dict[str, str | None]:
    """A collection's queries of the split test, or of the one it has in its place; a file of passages holds none."""
    held = collection(source)
    if held is None:
        return {"queries": source, "split": "test"}
    splits = held.qrels_readers or held.query_readers
    if not held.query_readers or Path(held.source).is_file():
        return {"queries": None}
    if "" in splits:
        return {"queries": source}
    ranked = (name for begin in SPLITS for name in sorted(splits) if name.startswith(begin))
    return {"queries": source, "split": next(ranked)}


def ask(indexes: Sequence[str]) -> str:
    """The command that answers a question from one index or several."""
    folders = [word for folder in indexes for word in ("--index", folder)]
    return shlex.join(["seed", "search", *folders, QUESTION])


def seed(verb: str, **flags: str | None) -> str:
    words = [word for flag, value in flags.items() for word in (f"--{flag}", value or flag.upper())]
    return shlex.join(["seed", verb, *words])


def made_from(folder: str | None, option: str) -> str | None:
    """What the stage that left a folder was given as an option."""
    manifest = read_manifest(Path(folder)) if folder else None
    return manifest.config.get(option) if manifest else None


def beside(folder: Path, name: str) -> str:
    """A free name for a folder beside another."""
    names = (folder.with_name(name if number == 1 else f"{name}-{number}") for number in count(1))
    return str(next(path for path in names if not path.exists()))
