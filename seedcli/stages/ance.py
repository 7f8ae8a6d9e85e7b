"""seed finetune with negatives of ANCE: made in turn with training, or beside it by a second process."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen, TimeoutExpired

import torch

from seedcli.base.children import module_process
from seedcli.base.config import dump_yaml, plain
from seedcli.base.errors import SeedError
from seedcli.base.files import write_text
from seedcli.base.heartbeat import Heartbeat
from seedcli.configs.finetune import FinetuneConfig
from seedcli.negatives.ance import as_released, numbers_of
from seedcli.negatives.examples import TrainingSet
from seedcli.negatives.refresh import Search
from seedcli.negatives.renewal import Beside, InTurn, Miner
from seedcli.negatives.sampling import ContrastiveBatches
from seedcli.stages.stage import Stage
from seedcli.stages.training_set import ANCE, Preparation, places
from seedcli.training.loop import Renewal

LOG = "refresher.log"  # in the folder below
FOLDER = "ance"  # in that of the stage: sets of negatives, vectors, and who is at work
PARENT = "SEED_PARENT"  # in the environment of a refresher that ends with the process that started it
TRIES = 3  # a refresher that ends so often without a new set is not started again


def known(config: FinetuneConfig, data: TrainingSet) -> TrainingSet:
    """What is known of the training set when negatives are looked for."""
    return as_released(data) if config.negatives.ance_compat else data


def miner(config: FinetuneConfig, stage: Stage, folder: Path, preparation: Preparation, data: TrainingSet) -> Miner:
    """What makes the sets of negatives in `folder`."""
    options, where = config.negatives, places(config.negatives.negative_depth)
    search = Search(
        data,
        preparation.towers,
        preparation.tokenizer,
        where.stop,
        folder / "vectors",
        stage.runtime,
        stage.progress,
    )
    parts = round(1 / options.refresh_share)
    return Miner(search, where, parts, config.optimize.seed, preparation.sifted, folder)


@contextmanager
def renewing(
    config: FinetuneConfig, stage: Stage, preparation: Preparation, data: TrainingSet, batches: ContrastiveBatches
) -> Iterator[Renewal | None]:
    """What gives the batches new negatives while a block trains on them; None unless they are those of ANCE."""
    options, folder = config.negatives, stage.folder / FOLDER
    if options.negatives != ANCE:
        yield None
    elif options.ance == "in-turn":
        made = miner(config, stage, folder, preparation, data)
        yield InTurn(made, batches, options.refresh, stage.folder)
    else:
        looks_after = beside(config, stage) if stage.runtime.first else nullcontext(lambda: None)
        with half_the_threads(config, stage), looks_after as attend:
            yield Beside(folder, data, batches, options.staleness, stage.runtime, stage.progress, attend, stage.folder)


class Refresher:
    """The second process, where this one starts it; it is started again when it dies."""

    def __init__(self, config: FinetuneConfig, stage: Stage):
        self.folder, self.stage = stage.folder / FOLDER, stage
        write_text(self.folder / "refresher.yaml", dump_yaml(plain(config)))
        self.threads = config.machine.threads or torch.get_num_threads()
        self.log = self.folder / LOG
        self.deaths, self.sets = 0, -1
        self.process = self._start()

    def _start(self) -> "Popen[bytes]":
        gpu = min(gpus_taken(self.stage), max(0, torch.cuda.device_count() - 1))
        given = module_process("seedcli", RANK="0", WORLD_SIZE="1", LOCAL_RANK=str(gpu), **{PARENT: str(os.getpid())})
        flags = ["--recipe", str(self.folder / "refresher.yaml"), "--role", "refresher", "--threads", str(self.threads)]
        given["args"] += ["finetune", *flags]
        if gpus_taken(self.stage):
            shared = ", which training uses too" if gpu < gpus_taken(self.stage) else ""
            self.stage.progress.say(f"negatives are searched for on GPU {gpu}{shared}")
        with self.log.open("ab") as log:
            return Popen(**given, stdin=PIPE, stdout=log, stderr=STDOUT)

    def attend(self) -> None:
        """Start it again if it died. Raises SeedError when that doesn't help."""
        code = self.process.poll()
        if code is None:
            return
        sets = max(numbers_of(self.folder), default=-1)
        self.deaths = self.deaths + 1 if sets == self.sets else 1
        self.sets = sets
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("error:")][-1:] or lines[-1:] or [""]
        if self.deaths >= TRIES:
            raise SeedError(
                f"the search for negatives ended {TRIES} times (exit code {code}): {said[0]}; see {self.log}"
            )
        self.stage.progress.say(
            f"the search for negatives died (exit code {code}); it is started again; see {self.log}"
        )
        time.sleep(self.deaths - 1)
        self.process = self._start()

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]  # it ends with that
        try:
            self.process.wait(10)
        except TimeoutExpired:
            self.process.kill()
            self.process.wait()


def gpus_taken(stage: Stage) -> int:
    """How many GPUs of this machine the training takes."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", stage.runtime.world)) if stage.runtime.device.type == "cuda" else 0


@contextmanager
def beside(config: FinetuneConfig, stage: Stage) -> Iterator[Callable[[], None]]:
    """A function to call now and then while training: it sees to it that someone searches for negatives."""
    folder, say, alone = stage.folder / FOLDER, stage.progress.say, config.negatives.role == "trainer"
    folder.mkdir(exist_ok=True)

    def lost(who: str) -> None:
        start = "start it with the same options and --role refresher" if alone else f"see {folder / LOG}"
        say(f"the search for negatives is silent ({who}); {start}")

    def found(who: str) -> None:
        say(f"{who} searches for negatives")

    with Heartbeat(folder, "trainer", "refresher", lost, found):
        if alone:
            yield lambda: None
            return
        child = Refresher(config, stage)
        try:
            yield child.attend
        finally:
            child.close()


@contextmanager
def half_the_threads(config: FinetuneConfig, stage: Stage) -> Iterator[None]:
    """Of a CPU, unless their number is given: the other half is the second process's."""
    before = torch.get_num_threads()
    if stage.runtime.device.type == "cpu" and not config.machine.threads and config.negatives.role == "both":
        torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def end_with_parent() -> None:
    """End this process when the one that started it does: its end closes the pipe that this one reads."""
    if PARENT not in os.environ:
        return

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)  # nothing is written but whole files

    threading.Thread(target=wait, daemon=True).start()
