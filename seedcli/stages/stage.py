"""What all verbs share: a stage identifies its inputs, takes its folder, does its work, and leaves a manifest."""

import importlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from seedcli import __version__
from seedcli.base.errors import ConfigError
from seedcli.base.machine import processes
from seedcli.base.manifest import Folder, Input, Manifest, identify, open_folder, read_manifest
from seedcli.base.packages import install, installed
from seedcli.base.progress import Progress, Silent
from seedcli.base.runtime import Runtime, runtime
from seedcli.base.verbs import typed
from seedcli.stages.told import sources


class Stage(NamedTuple):
    """A stage at work: its folder, what its inputs hold, and where it computes and reports.

    `overwrite`: what it keeps outside its folder goes, too.
    """

    folder: Path
    inputs: Mapping[str, Input]
    runtime: Runtime
    progress: Progress
    overwrite: bool = False


class Outcome(NamedTuple):
    """What a stage leaves: files, and figures worth telling.

    `variable` files differ each time they are made; folders in `scratch` served to go on, and go once the stage is
    finished.
    """

    outputs: Sequence[Path]
    metrics: Mapping[str, Any]
    variable: Sequence[Path] = ()
    scratch: Sequence[Path] = ()


def perform(verb: str, config: Any, progress: Progress, overwrite: bool = False) -> Manifest:
    """Run a stage, go on with an interrupted one, or find that it is done; its manifest."""
    module = importlib.import_module(f"seedcli.stages.{verb}")
    check_tensorboard(config)
    with joined(verb, config) as here, ExitStack() as stack:
        told = progress if here.first else Silent()
        inputs = here.share(lambda: identified(module.inputs(config, told)))
        if verb == "finetune" and module.assists(config):
            return module.assist(config, Stage(config.out, inputs, here, told))  # type: ignore[no-any-return]
        begun = here.first and not overwrite and read_manifest(config.out) is not None
        folders: list[Folder] = []  # the first process's alone

        def opened() -> Manifest:
            folders.append(stack.enter_context(open_folder(config.out, verb, config, inputs, overwrite)))
            return folders[0].manifest

        manifest = here.share(opened)
        done = manifest.status == "finished"
        told.begin(verb, config.out, "done" if done else "resumed" if begun else "new", sources(inputs))
        if done:
            if manifest.version != __version__:
                told.say(f"{config.out} was made by seed {manifest.version}; --overwrite makes it anew")
            return concluded(module, config, manifest, told)
        outcome = module.run(config, Stage(config.out, inputs, here, told, overwrite))
        here.barrier()

        def finished() -> Manifest:
            made = folders[0].finish(outcome.outputs, outcome.metrics, outcome.variable)
            for path in outcome.scratch:
                shutil.rmtree(path, ignore_errors=True)
            return made

        return concluded(module, config, here.share(finished), told)


def concluded(module: ModuleType, config: Any, manifest: Manifest, progress: Progress) -> Manifest:
    """What a verb does with its finished folder each time, made now or before; the folder's manifest."""
    if conclude := getattr(module, "conclude", None):
        conclude(config, manifest, progress)
    return manifest


def check_batch(size: int, here: Runtime) -> None:
    """Raises ConfigError when a global batch leaves a process without a share."""
    if size < here.world:
        raise ConfigError(f"--batch-size {size}: fewer than the {here.world} processes")


def check_tensorboard(config: Any) -> None:
    """Raises ConfigError when its package is asked for and missing."""
    if getattr(getattr(config, "saving", None), "tensorboard", False) and installed("tensorboard") is None:
        raise ConfigError(f"--tensorboard needs a package: {install('tensorboard')}")


def identified(paths: Mapping[str, Path]) -> dict[str, Input]:
    return {name: identify(path) for name, path in paths.items()}


@contextmanager
def joined(verb: str, config: Any) -> Iterator[Runtime]:
    """The runtime of a config's machine. A verb without one runs as a single process."""
    machine = getattr(config, "machine", None)
    if processes() > 1 and verb not in {"pretrain", "finetune", "encode", "search"}:
        raise ConfigError(f"{typed(verb)} runs as one process: call it without torchrun")
    if machine is None:
        yield Runtime()
        return
    if verb != "index":  # which seldom needs them
        hush_libraries()
    with runtime(machine.device, getattr(machine, "precision", "fp32"), machine.threads) as here:
        yield here


def hush_libraries() -> None:
    """transformers draws bars of its own and warns of weights that open_encoder checks itself."""
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
