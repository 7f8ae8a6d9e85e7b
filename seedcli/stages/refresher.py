"""seed finetune --role refresher: finds negatives with the newest weights of a training that goes on beside it."""

import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from torch import nn

from seedcli.base.errors import FolderError, Interrupted
from seedcli.base.files import written_whole
from seedcli.base.heartbeat import Heartbeat
from seedcli.base.manifest import Manifest, alone, differences, plan_of, read_manifest
from seedcli.base.runtime import Runtime
from seedcli.configs.finetune import FinetuneConfig
from seedcli.negatives.ance import NegativeSet, numbers_of, prune, read_set
from seedcli.negatives.renewal import Miner
from seedcli.stages.ance import FOLDER, end_with_parent
from seedcli.stages.stage import Stage
from seedcli.training.checkpoint import CHECKPOINTS, checkpoints, load_weights, save_weights

KEPT = 3  # sets: a trainer of several processes may be reading the one before the newest
WAIT = 0.5  # seconds between looks for something to do


class Work(NamedTuple):
    """The next set to make, and the weights to make it with; without a path, those that training began with."""

    number: int
    step: int
    weights: Path | None


def assist(config: FinetuneConfig, stage: Stage, prepared: Callable[[Stage], tuple[nn.Module, Miner]]) -> Manifest:
    """Make sets of negatives until the training in the stage's folder is done; its manifest."""
    here, folder, out = stage.runtime, stage.folder / FOLDER, stage.folder
    if here.first:
        end_with_parent()
    manifest = here.share(lambda: begun(config, stage))
    with ExitStack() as stack:
        if here.first and manifest.status != "finished":
            folder.mkdir(exist_ok=True)
            stack.enter_context(alone(folder))
            say = stage.progress.say
            lost, found = (
                "the trainer is silent ({}); it goes on when the same command is repeated",
                "the trainer is back",
            )
            stack.enter_context(
                Heartbeat(folder, "refresher", "trainer", lambda who: say(lost.format(who)), lambda _: say(found))
            )
        if manifest.status != "finished":
            objective, made = prepared(stage._replace(folder=folder))
            try:
                refresh(stage, objective, made)
            except Exception:
                if not _done(out):  # else the trainer took the folder away, and nobody wants another set
                    raise
    here.barrier()
    return here.share(lambda: _left(out, folder))


def begun(config: FinetuneConfig, stage: Stage) -> Manifest:
    """The manifest of the training to assist, once it has begun. Raises ConfigError when that is another one."""
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


def refresh(stage: Stage, objective: nn.Module, made: Miner) -> None:
    """Set after set, each of the newest weights, until training is done."""
    here: Runtime = stage.runtime
    before: NegativeSet | None = None
    looked = 0.0

    def asked() -> int:
        nonlocal looked
        if here.first and time.monotonic() - looked > WAIT:
            looked = time.monotonic()
            return signal.SIGTERM if _done(stage.folder) else 0
        return 0

    with suppress(Interrupted):  # training is done: nobody wants this set
        while (work := here.share(lambda: next_work(stage, made))) is not None:
            if work.weights is not None:
                load_weights(work.weights, objective)
            before = made.make(work.number, work.step, before or _read(made.sets, work.number - 1), asked)
            here.share(lambda: prune(made.sets, work.number - KEPT + 1))


def next_work(stage: Stage, made: Miner) -> Work | None:
    """Waits for weights that are newer than those of the newest set; None when training is done."""
    while not _done(stage.folder):
        number = max(numbers_of(made.sets), default=-1)
        last = read_set(made.sets, number).step if number >= 0 else -1
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


def _read(folder: Path, number: int) -> NegativeSet | None:
    with suppress(FileNotFoundError):
        return read_set(folder, number)
    return None


def _done(out: Path) -> bool:
    manifest = read_manifest(out)
    return manifest is None or manifest.status == "finished"


def _left(out: Path, folder: Path) -> Manifest:
    """The manifest of the training; of its scratch nothing stays behind when that is over."""
    manifest = read_manifest(out)
    if manifest is None:
        raise FolderError(f"{out}: gone")
    if manifest.status == "finished":
        shutil.rmtree(folder, ignore_errors=True)
    return manifest
