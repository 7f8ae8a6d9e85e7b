"""What the screen tells around a stage: where its inputs come from, and what can be typed next."""

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from seedcli.base.files import cache_folder
from seedcli.base.manifest import Input, read_manifest
from seedcli.base.progress import Source

QUESTION = "your question"


def sources(inputs: Mapping[str, Input]) -> list[Source]:
    """The inputs as a person is told of them: "runs.0.bm25" is the one of the runs that is called bm25."""
    told = []
    for key, given in inputs.items():
        name = " ".join(part for part in key.split(".", 2) if not part.isdigit())
        made = read_manifest(Path(given.path))
        origin = f"{made.verb} {given.identity[:8]}" if made else given.identity[:8]
        told.append(Source(name, place(given.path), origin))
    return told


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
    if verb == "evaluate":
        return [("read", str(config.out / "report.md"))]
    first, *others = next_commands(verb, config)
    return [("next", first), *(("or", other) for other in others)]


def after_recipe(stages: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    """A question to what the last search of a recipe's stages (verb, config) was in, or to its last index."""
    for verb, config in reversed(stages):
        if verb in {"index", "search"}:
            return [("next", ask(config.index if verb == "search" else [str(config.out)]))]
    return []


def next_commands(verb: str, config: Any) -> list[str]:
    out = str(config.out)
    match verb:
        case "pretrain":
            return [seed("finetune", model=out, data="DATA", out=beside(config.out, "retriever"))]
        case "finetune":
            return [seed("encode", model=out, corpus=config.data, out=beside(config.out, "vectors"))]
        case "encode" if config.corpus:
            return [seed("index", vectors=out, out=beside(config.out, "index"))]
        case "encode":
            return [seed("search", index="INDEX", queries=out, out=beside(config.out, "run"))]
        case "index":
            queries = config.corpus or made_from(config.vectors, "corpus")
            run = beside(config.out, "run")
            return [seed("search", index=out, queries=queries, split="test", out=run), ask([out])]
        case "search":
            queries, split = config.queries, config.split
            if read_manifest(Path(queries)):
                queries, split = made_from(queries, "queries"), made_from(queries, "split")
            report = beside(config.out, "report")
            return [seed("evaluate", runs=out, qrels=queries, **({"split": split} if split else {}), out=report)]
        case _:
            raise ValueError(verb)


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
