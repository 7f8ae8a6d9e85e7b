"""seed run: the stages of one recipe in order, each into its own folder; done ones are left as they are."""

import importlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from seedcli import __version__
from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError, SeedError
from seedcli.base.machine import processes
from seedcli.base.manifest import Manifest, alone, changed_output, differences, plan_of, read_manifest
from seedcli.base.progress import Progress
from seedcli.base.verbs import typed
from seedcli.configs import VERBS
from seedcli.stages.stage import identified, perform

REFERENCE = re.compile(r"\$\{([^}]*)\}")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")  # how environment variables are named, and stages are not
KEYS = {"out", "stages", "about", "expect"}


@dataclass(frozen=True)
class Step:
    """A stage of a recipe: its verb, its options, and the stages whose folders it reads."""

    name: str
    verb: str
    config: Any
    needs: list[str]


class Verdict(NamedTuple):
    """What is to be done with a stage, and why."""

    state: Literal["done", "new", "resume", "remake", "waits", "blocked"]
    reason: str


def read_steps(
    recipe: Mapping[str, Any], out: Path | None, assignments: Mapping[str, str], where: str,
    unset: dict[str, str] | None = None,
) -> list[Step]:  # fmt: skip
    """The stages of a recipe, checked in full. `assignments` (STAGE.KEY -> value) win over it.

    In any value, ${NAME} stands for the folder of an earlier stage, or else for an environment variable. One that isn't
    set is a mistake, unless `unset` is given: it then stays as written, and goes in there with the place that names it.
    """
    if unknown := sorted(map(str, recipe.keys() - KEYS)):
        raise ConfigError(f"{where}: no key {unknown[0]}; a recipe of stages has {', '.join(sorted(KEYS))}")
    stages = recipe.get("stages")
    if not isinstance(stages, dict) or not stages:
        raise ConfigError(f"{where}: no stages; expected 'stages:' with a mapping of names to options")
    root = out or Path(str(recipe.get("out", Path(where).stem)))
    if unknown := [key for key in assignments if key.split(".")[0] not in map(str, stages)]:
        raise ConfigError(f"--set {unknown[0]}: expected STAGE.KEY=VALUE; the stages are {', '.join(map(str, stages))}")
    steps: list[Step] = []
    for name, options in ((str(name), options) for name, options in stages.items()):
        spot = f"{where}: {name}"
        if not re.fullmatch(r"\w[\w-]*", name) or not isinstance(options, dict):
            raise ConfigError(f"{spot}: a stage is a name of letters, digits, '-' and '_' with a mapping of options")
        verb = str(options.get("verb", name))
        if verb not in VERBS:
            raise ConfigError(f"{spot}: no verb {verb!r}; 'verb:' is one of {', '.join(VERBS)}")
        folders = {step.name: step.config.out for step in steps}
        needs: list[str] = []
        own = {key.partition(".")[2]: value for key, value in assignments.items() if key.split(".")[0] == name}
        written, own = (
            {
                key: _filled(value, folders, needs, f"{spot}: {key}", unset)
                for key, value in given.items()
                if key != "verb"
            }
            for given in (options, own)
        )
        config: Any = resolve(VERBS[verb], {"out": str(root / name), **written}, own, spot)
        if config.out in folders.values():
            raise ConfigError(f"{spot}: another stage has the folder {config.out} too")
        steps.append(Step(name, verb, config, list(dict.fromkeys(needs))))
    return steps


def verdicts(steps: Sequence[Step], progress: Progress) -> Iterator[tuple[Step, Verdict]]:
    """What each stage's folder says, without running anything."""
    undone: set[str] = set()
    for step in steps:
        verdict = judge(step, undone, progress)
        if verdict.state != "done":
            undone.add(step.name)
        yield step, verdict


def judge(step: Step, undone: set[str], progress: Progress) -> Verdict:
    manifest = read_manifest(step.config.out)
    if manifest is None:
        return Verdict("new", "not made yet")
    if waiting := [name for name in step.needs if name in undone]:
        return Verdict("waits", f"made, but {', '.join(waiting)} before it comes first")
    module = importlib.import_module(f"seedcli.stages.{step.verb}")
    try:
        plan = plan_of(step.verb, step.config, identified(module.inputs(step.config, progress)))
    except SeedError as error:
        return Verdict("blocked", str(error))
    if manifest.verb != step.verb:
        return Verdict("remake", f"it was {typed(manifest.verb)}")
    if manifest.plan != plan:
        return Verdict("remake", "; ".join(differences(manifest, step.config)) or "its inputs have changed")
    if manifest.status != "finished":
        return Verdict("resume", "begun, not finished")
    if changed := changed_output(step.config.out, manifest):
        return Verdict("remake", f"{changed} is missing or was changed")
    if manifest.version != __version__:
        return Verdict("done", f"same options, same inputs; made by seed {manifest.version}")
    return Verdict("done", "same options, same inputs")


def make(step: Step, verdict: Verdict, progress: Progress) -> Manifest:
    """Do what a verdict says. A folder of another plan is moved aside, never lost. Raises ConfigError when blocked."""
    if verdict.state == "blocked":
        raise ConfigError(f"{step.name}: {verdict.reason}")
    if verdict.state == "remake":
        progress.say(f"the old folder is kept as {set_aside(step.config.out)}")
    return perform(step.verb, step.config, progress)


def chosen(steps: Sequence[Step], only: str | None, until: str | None) -> list[Step]:
    """The steps that --only or --until leave. Raises ConfigError under torchrun."""
    if processes() > 1:
        raise ConfigError("seed run is one process; call its verbs under torchrun themselves")
    names = [step.name for step in steps]
    for flag, name in [("--only", only), ("--until", until)]:
        if name is not None and name not in names:
            raise ConfigError(f"{flag} {name}: no such stage; there are {', '.join(names)}")
    if only is not None:
        return [steps[names.index(only)]]
    return list(steps[: names.index(until) + 1] if until is not None else steps)


def set_aside(folder: Path) -> Path:
    """Move a folder to NAME.old-1, -2, ... beside it, where the relative paths of its inputs still lead to them."""
    numbers = itertools.count(1)
    free = next(path for n in numbers if not (path := folder.with_name(f"{folder.name}.old-{n}")).exists())
    with alone(folder):
        return folder.rename(free)


def _filled(
    value: Any, folders: Mapping[str, Path], needs: list[str], where: str, unset: dict[str, str] | None
) -> Any:  # fmt: skip
    """A value with its ${...} replaced; the stages it names are added to `needs`."""
    if isinstance(value, dict):
        return {key: _filled(item, folders, needs, where, unset) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, folders, needs, where, unset) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(found: re.Match[str]) -> str:
        name = found[1]
        if name in folders:
            needs.append(name)
            return str(folders[name])
        if name in os.environ:
            return os.environ[name]
        if unset is not None and VARIABLE.fullmatch(name):
            unset.setdefault(name, where)
            return found[0]
        raise ConfigError(
            f"{where}: ${{{name}}} is neither an earlier stage ({', '.join(folders) or 'none'}) nor in the environment"
        )

    return REFERENCE.sub(replacement, value)
