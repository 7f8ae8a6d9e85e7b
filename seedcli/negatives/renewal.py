"""When the negatives of ANCE are made anew while a model trains: in turn with it, or beside it by another process."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from seedcli.base.errors import DataError, Interrupted
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.negatives.ance import NegativeSet, covered, negative_set, numbers_of, prune, read_set, set_path, write_set
from seedcli.negatives.examples import TrainingSet
from seedcli.negatives.refresh import Search, find
from seedcli.negatives.sampling import ContrastiveBatches
from seedcli.training.checkpoint import CHECKPOINTS, checkpoints

Asked = Callable[[], int]
POLL = 5  # steps between looks for a new set
WAIT = 0.2  # seconds between looks while there is nothing else to do


class Miner(NamedTuple):
    """What makes sets of negatives: a search, the places of its rankings that count, and filters."""

    search: Search
    places: slice
    share: float  # of the examples, that a set covers
    seed: int
    sift: Callable[[TrainingSet], tuple[TrainingSet, dict[str, int]]]
    sets: Path  # the folder they are published in

    def make(self, number: int, step: int, before: NegativeSet | None, asked: Asked) -> NegativeSet:
        """Publish a set of the weights as they are after `step` steps; every process calls this."""
        here, data, began = self.search.runtime, self.search.data, time.monotonic()
        found = find(self.search, covered(len(data.trained), self.share, number, self.seed), step, asked)

        def publish() -> dict[str, int]:
            made, dropped = negative_set(number, step, data, found, self.places, before, self.sift)
            seconds = {"refresh_seconds": time.monotonic() - began}
            write_set(self.sets, made._replace(told=dict(made.told) | seconds))
            shutil.rmtree(self.search.folder, ignore_errors=True)
            return dropped

        dropped = here.share(publish)
        made = read_set(self.sets, number)
        self.search.progress.say(describe(made, dropped))
        return made


def describe(made: NegativeSet, dropped: dict[str, int]) -> str:
    """A set in words, for a person."""
    told = [f"{made.told['overlap']:.0%} as before"] if "overlap" in made.told else []
    told += [f"{made.told['above_positive']:.0%} above the positive"] if "above_positive" in made.told else []
    told += [f"{count:,} {name}" for name, count in dropped.items() if count]
    queries, candidates = len(made.examples), len(made.negatives.values)
    counts = f"{candidates:,} candidates of {queries:,} queries in {made.told['refresh_seconds']:.0f} s"
    return f"negatives of step {made.step:,}: {counts}" + (f" ({', '.join(told)})" if told else "")


def values_of(made: NegativeSet) -> dict[str, float]:
    """What the log has of a set."""
    return {"negatives_step": made.step, **{f"negatives_{name}": value for name, value in made.told.items()}}


class InTurn:
    """Every so many steps training waits for a new set. What a set is made from is saved before, so that a resumed run
    has the same sets."""

    def __init__(self, miner: Miner, batches: ContrastiveBatches, every: int, folder: Path):
        self.miner, self.batches, self.every, self.folder = miner, batches, every, folder
        self.current: NegativeSet | None = None
        self.since = time.monotonic()

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def __call__(self, step: int, asked: Asked) -> dict[str, float]:
        if self.current is not None and not self.due(step):
            return {}
        here, sets, number = self.miner.search.runtime, self.miner.sets, step // self.every
        before = self.current or here.share(lambda: self._before(number))
        there = here.share(lambda: set_path(sets, number).is_file())
        values: dict[str, float] = {}
        if there:
            self.current = read_set(sets, number)
            values = {} if here.share(lambda: self._logged(step)) else values_of(self.current)
        elif not self.due(step):
            raise DataError(
                f"{set_path(sets, number)}: gone, and can't be made again from step {step:,}; --overwrite begins anew"
            )
        else:
            trained = time.monotonic() - self.since
            self.current = self.miner.make(number, step, before, asked)
            values = values_of(self.current) | ({"training_seconds": trained} if number and before else {})
        self.batches.data = self.current.of(self.miner.search.data)
        here.share(self._prune)
        self.since = time.monotonic()
        return values

    def _before(self, number: int) -> NegativeSet | None:
        """The set before one; those after it are of steps that a killed run lost."""
        sets = self.miner.sets
        for later in (other for other in numbers_of(sets) if other > number):
            set_path(sets, later).unlink()
        return read_set(sets, number - 1) if set_path(sets, number - 1).is_file() else None

    def _logged(self, step: int) -> bool:
        records = map(json.loads, (self.folder / "log.jsonl").read_text().splitlines())
        return any(record.get("negatives_step") == step for record in records)

    def _prune(self) -> None:
        """Keep the sets that a checkpoint may go on with."""
        steps = [checkpoint.step for checkpoint in checkpoints(self.folder / CHECKPOINTS)]
        prune(self.miner.sets, min(steps, default=0) // self.every)


class Beside:
    """Another process makes sets of the newest checkpoint; the newest set is taken, and training goes on meanwhile.

    It waits for the first set, and while the negatives are older than `staleness` steps. The first process calls
    `attend` now and then.
    """

    def __init__(
        self, sets: Path, data: TrainingSet, batches: ContrastiveBatches, staleness: int | None, runtime: Runtime,
        progress: Progress, attend: Callable[[], None],
    ):  # fmt: skip
        self.sets, self.data, self.batches, self.staleness = sets, data, batches, staleness
        self.runtime, self.progress, self.attend = runtime, progress, attend
        self.current: NegativeSet | None = None

    def due(self, step: int) -> bool:  # noqa: ARG002  (as the protocol has it)
        return False

    def __call__(self, step: int, asked: Asked) -> dict[str, float]:
        if self.current is not None and step % POLL:
            return {}
        values: dict[str, float] = {}
        while True:
            number = self.runtime.share(lambda: self._newest(step, asked))
            if number is None:
                raise Interrupted("stopped while waiting for negatives; repeat the command to go on", signal.SIGTERM)
            if self.current is not None and number <= self.current.number:
                return values
            self.current = read_set(self.sets, number)
            self.batches.data = self.current.of(self.data)
            late = step - self.current.step
            values = values_of(self.current) | {"negatives_staleness": late}
            self.progress.say(f"step {step:,}: {describe(self.current, {})}")

    def _newest(self, step: int, asked: Asked) -> int | None:
        """The number of the newest set, once it is new enough; None when asked to stop before there was any."""
        told = False
        while True:
            self.attend()
            newest = max(numbers_of(self.sets), default=None)
            current = self.current
            if newest is not None and (current is None or newest > current.number):
                return newest
            late = current is None or (self.staleness is not None and step - current.step > self.staleness)
            if not late or asked():
                return None if current is None else current.number
            if not told:
                self.progress.say("waiting for negatives")
                told = True
            time.sleep(WAIT)
