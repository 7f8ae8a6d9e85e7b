"""The verbs as functions: each does what its command does, and returns what lies in the folder then."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from seedcli.api.keywords import MANNER, described, keyed, plain_values, signature
from seedcli.api.results import RESULTS, Index, Inspection, Model, Report, Result, Run, StrPath, Vectors
from seedcli.base.config import read_recipe, resolve
from seedcli.base.progress import Progress, Silent
from seedcli.configs import VERBS

Function = TypeVar("Function", bound=Callable[..., Any])


def verb(function: Function) -> Function:
    """Give a verb's function the signature and the help of its options."""
    name = function.__name__
    function.__doc__ = described(name, function.__doc__ or "")
    function.__signature__ = signature(name, RESULTS[name].__name__)  # type: ignore[attr-defined]
    return function


@verb
def pretrain(**given: Any) -> Model:
    """Pre-train an encoder on plain text: masked words, and a weak decoder that sees the text through [CLS] alone."""
    config = perform("pretrain", given)
    return Model(config.out, config.machine)


@verb
def finetune(**given: Any) -> Model:
    """Fine-tune an encoder into a retriever: each query is told from its negatives and from the batch's (DPR)."""
    config = perform("finetune", given)
    return Model(config.out, config.machine)


@verb
def encode(**given: Any) -> Vectors:
    """Encode a corpus, or queries, into vectors on disk. For texts in memory there is Model.encode."""
    return Vectors(perform("encode", given).out)


@verb
def index(**given: Any) -> Index:
    """Build an index: flat over encoded vectors (exact search), or bm25 over a corpus."""
    return Index(perform("index", given).out)


@verb
def search(**given: Any) -> Run:
    """Search one index for many queries, or several and fuse their rankings. For a question there is Index.search."""
    return Run(perform("search", given).out)


@verb
def evaluate(**given: Any) -> Report:
    """Compare runs with relevance judgements: a table, with a permutation test against a baseline."""
    return Report(perform("evaluate", given).out)


@verb
def inspect(**given: Any) -> Inspection:
    """Compare the vectors of models: how alike random texts look to each, by length, and how the space is filled."""
    return Inspection(perform("inspect", given).out)


@verb
def convert(**given: Any) -> Model:
    """Convert a released SEED checkpoint into a model folder, or a model folder into an ONNX graph."""
    return Model(perform("convert", given).out)


def run(
    recipe: StrPath,
    *,
    out: StrPath | None = None,
    until: str | None = None,
    only: str | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Result]:
    """Run the stages of a recipe in order; what is done stays, what was interrupted goes on. Stage -> its result.

    `out` is the folder for all stages, `until` and `only` choose among them, and `options` changes some, such as
    {"finetune.optimize.lr": 1e-5}. A stage whose options or inputs have changed is made anew; its old folder is kept
    as NAME.old-1. Raises ConfigError for a wrong recipe, and what the stages raise.
    """
    from seedcli.stages import run as stages

    told, folder = progress or screen(), Path(out) if out is not None else None
    steps = stages.read_steps(read_recipe(Path(recipe)), folder, plain_values(options or {}), os.fspath(recipe))
    made: dict[str, Result] = {}
    for step in stages.chosen(steps, only, until):
        verdict = stages.judge(step, set(), told)
        if verdict.state != "done":
            stages.make(step, verdict, told)
        made[step.name] = RESULTS[step.verb](step.config.out)
    return made


def perform(verb: str, given: dict[str, Any]) -> Any:
    """Do what the command does; the config it was done with."""
    from seedcli.stages import stage

    manner = {name: given.pop(name, None) for name in MANNER}
    flags = keyed(verb, plain_values(given)) | plain_values(manner["options"] or {})
    config: Any = resolve(VERBS[verb], {}, flags, f"seed.{verb}")
    stage.perform(verb, config, manner["progress"] or screen(), bool(manner["overwrite"]))
    return config


def screen() -> Progress:
    """The command's screen where someone watches, else silence."""
    if not sys.stderr.isatty():
        return Silent()
    from seedcli.console import Screen

    return Screen()
