"""seed finetune --role refresher: finds negatives with the newest weights of a training that goes on beside it."""

import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from seedcli.base.errors import FolderError, Interrupted
from seedcli.base.files import written_whole
from seedcli.base.heartbeat import Heartbeat
from seedcli.base.manifest import Manifest, alone, differences, plan_of, read_manifest, remove_parts
from seedcli.configs.finetune import FinetuneConfig
from seedcli.negatives.ance import numbers_of, prune, step_of
from seedcli.negatives.renewal import Miner
from seedcli.stages.ance import FOLDER, end_with_parent
from seedcli.stages.stage import Stage
from seedcli.training.checkpoint import CHECKPOINTS, checkpoints, load_weights, save_weights

KEPT = 3  # sets beside those that later ones are compared with: a slow process may be reading an older one
WAIT = 0.5  # seconds between looks for something to do


class Work(NamedTuple):
    """The next set to make, and the weights to make it with; without a path, those that training began with."""

    number: int
    step: int
    weights: Path | None


def assist(config: FinetuneConfig, stage: Stage, prepared: Callable[[Stage], tuple[nn.Module, Miner]]) -> Manifest:
    """Make sets of negatives until the training in the stage's folder is done; its manifest."""
    here, folder, say = stage.runtime, stage.folder / FOLDER, stage.progress.say
    if here.first:
        end_with_parent()
    manifest = here.share(lambda: begun(config, stage))

    def lost(who: str) -> None:
        say(f"the trainer is silent ({who}); its command, repeated, goes on")

    def found(_: str) -> None:
        say("the trainer is back")

    with ExitStack() as stack:
        if manifest.status != "finished":
            folder.mkdir(exist_ok=True)
            here.share(lambda: stack.enter_context(alone(folder)))
            if here.first:
                remove_parts(folder)
                stack.enter_context(Heartbeat(folder, "refresher", "trainer", lost, found))
            objective, made = prepared(stage._replace(folder=folder))
            refresh(stage, objective, made, manifest.plan)
    here.barrier()
    return here.share(lambda: _left(stage.folder, folder, manifest.plan))


def begun(config: FinetuneConfig, stage: Stage) -> Manifest:
    """The manifest of the training to assist, once it has begun. Raises FolderError when that is another one."""
    plan, told = plan_of("finetune", config, stage.inputs), False
    while (manifest := read_manifest(stage.folder)) is None:
        if not told:
            stage.progress.say(f"waiting for a trainer in {stage.folder}: the same options, and --role trainer")
            told = True
        time.sleep(WAIT)
    if manifest.plan != plan:
        difference = "; ".join(differences(manifest, config)) or "its inputs differ"
        raise FolderError(f"{stage.folder}: holds the training of another plan ({difference}); give the same options")
    return manifest


def refresh(stage: Stage, objective: nn.Module, made: Miner, plan: str) -> None:
    """Set after set, each of the newest weights, until training is done."""
    here, looked = stage.runtime, 0.0
    first = [parameter.detach().clone() for parameter in objective.parameters()]  # what training begins with

    def asked() -> int:
        nonlocal looked
        if here.first and time.monotonic() - looked > WAIT:
            looked = time.monotonic()
            return signal.SIGTERM if _over(stage.folder, plan) else 0
        return 0

    with suppress(Interrupted):  # training is over: nobody wants this set
        while (work := here.share(lambda: next_work(stage, made, plan))) is not None:
            if work.weights is not None:
                load_weights(work.weights, objective)
            else:
                with torch.no_grad():
                    for parameter, value in zip(objective.parameters(), first, strict=True):
                        parameter.copy_(value)
            number = made.make(work.number, work.step, asked).number
            here.share(lambda kept=number - KEPT - made.parts: prune(made.sets, kept + 1))  # type: ignore[misc]


def next_work(stage: Stage, made: Miner, plan: str) -> Work | None:
    """Waits for weights that are newer than those of the newest set; None when training is over."""
    while not _over(stage.folder, plan):
        number = max(numbers_of(made.sets), default=-1)
        last = step_of(made.sets, number) if number >= 0 else -1
        found = checkpoints(stage.folder / CHECKPOINTS)
        step = found[-1].step if found else 0
        if step > last:
            with suppress(FileNotFoundError):  # a newer one came meanwhile
                return Work(number + 1, step, _kept_weights(found[-1].path, made.sets) if found else None)
        time.sleep(WAIT)
    return None


def _kept_weights(checkpoint: Path, folder: Path) -> Path:
    """The weights of a checkpoint, which may be removed at any time, where all processes of this role can read them."""
    path = folder / "weights.safetensors"
    with written_whole(path) as aside:
        save_weights(checkpoint, aside)
    return path


def _over(out: Path, plan: str) -> bool:
    """Whether a training is done, or another one has taken its place."""
    manifest = read_manifest(out)
    return manifest is None or manifest.status == "finished" or manifest.plan != plan


def _left(out: Path, folder: Path, plan: str) -> Manifest:
    """The manifest of the training; of its scratch nothing stays behind when that is done."""
    manifest = read_manifest(out)
    if manifest is None or manifest.plan != plan:
        raise FolderError(f"{out}: its training was taken away, or begun anew with other options")
    if manifest.status == "finished":
        shutil.rmtree(folder, ignore_errors=True)
    return manifest
