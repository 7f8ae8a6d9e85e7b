"""When the negatives of ANCE are made anew while a model trains: in turn with it, or beside it by another process."""

import json
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seedcli.base.errors import DataError, Interrupted
from seedcli.base.files import read_json, write_json
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
    parts: int  # of the examples, of which a set covers one
    seed: int
    sift: Callable[[TrainingSet], tuple[TrainingSet, dict[str, int]]]
    sets: Path  # the folder they are published in

    def make(self, number: int, step: int, asked: Asked) -> NegativeSet:
        """Publish a set of the weights as they are after `step` steps; every process calls this."""
        here, data, began = self.search.runtime, self.search.data, time.monotonic()
        found = find(self.search, covered(len(data.trained), self.parts, number, self.seed), step, asked)

        def publish() -> None:
            if found is not None:
                last = number - self.parts  # the newest that covers the same examples
                before = read_set(self.sets, last) if set_path(self.sets, last).is_file() else None
                made = negative_set(number, step, data, found, self.places, before, self.sift)
                seconds = {"refresh_seconds": time.monotonic() - began}
                write_set(self.sets, made._replace(told=dict(made.told) | seconds))

        here.share(publish)
        made = read_set(self.sets, number)
        here.barrier()
        if here.first:
            shutil.rmtree(self.search.folder, ignore_errors=True)
        self.search.progress.say(describe(made))
        return made


def describe(made: NegativeSet) -> str:
    """A set in words, for a person."""
    told = [f"{made.told['overlap']:.0%} as before"] if "overlap" in made.told else []
    told += [f"{made.told['above_positive']:.0%} above the positive"] if "above_positive" in made.told else []
    told += [f"dropped: {count:,} {name}" for name, count in made.dropped.items() if count]
    queries, candidates = len(made.examples), len(made.negatives.values)
    counts = f"{candidates:,} candidates of {queries:,} queries in {made.told['refresh_seconds']:.0f} s"
    return f"negatives of step {made.step:,}: {counts}" + (f" ({', '.join(told)})" if told else "")


def values_of(made: NegativeSet) -> dict[str, float]:
    """What the log has of a set."""
    return {"negatives_step": made.step, **{f"negatives_{name}": value for name, value in made.told.items()}}


def write_report(folder: Path, told: Mapping[str, Any]) -> None:
    """Write to negatives.json what is known, in the place of what it says of the same, and keep the rest."""
    path = folder / "negatives.json"
    known = dict(read_json(path)) if path.is_file() else {}
    write_json(path, known | dict(told))


def report(folder: Path, made: NegativeSet) -> None:
    """Add a set to negatives.json, in the place of those of the same number and later ones."""
    known = read_json(folder / "negatives.json")
    sets = [told for told in known.get("sets", []) if told["number"] < made.number]
    counts = {"queries": len(made.examples), "candidates": len(made.negatives.values), "dropped": dict(made.dropped)}
    told = {name: value for name, value in made.told.items() if not name.endswith("seconds")}
    new = {"number": made.number, "step": made.step, **counts, **told}
    write_report(folder, {"sets": [*sets, new]})


class InTurn:
    """Every so many steps training waits for a new set; the step is saved before, so that a resumed run has the same
    sets."""

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
        there, logged = here.share(lambda: self._state(number, step))
        trained = {"training_seconds": time.monotonic() - self.since} if self.current is not None else {}
        if there:
            self.current = read_set(sets, number)
        elif self.due(step):
            self.current = self.miner.make(number, step, asked)
        else:
            raise DataError(
                f"{set_path(sets, number)}: gone, and can't be made again from step {step:,}; --overwrite begins anew"
            )
        made = self.current
        self.batches.data = made.of(self.miner.search.data)
        here.share(lambda: self._settle(made))
        self.since = time.monotonic()
        return {} if logged else values_of(made) | trained

    def _state(self, number: int, step: int) -> tuple[bool, bool]:
        """Whether a set is there, and in the log; those after it are of steps that a killed run lost, and go."""
        sets, log = self.miner.sets, self.folder / "log.jsonl"
        for later in (other for other in numbers_of(sets) if other > number):
            set_path(sets, later).unlink()
        records = map(json.loads, log.read_text().splitlines() if log.is_file() else [])
        return set_path(sets, number).is_file(), any(record.get("negatives_step") == step for record in records)

    def _settle(self, made: NegativeSet) -> None:
        """Report a set, and keep no more than a checkpoint may go on with, or a later set be compared with."""
        report(self.folder, made)
        steps = [checkpoint.step for checkpoint in checkpoints(self.folder / CHECKPOINTS)]
        prune(self.miner.sets, min(steps, default=0) // self.every - self.miner.parts)


class Beside:
    """Another process makes sets of the newest checkpoint; the newest set is taken, and training goes on meanwhile.

    It waits for the first set, and before a step whose negatives would be more than `staleness` steps old; what was
    trained until then is saved before, for the other process. The first process calls `attend` now and then.
    """

    def __init__(
        self, sets: Path, data: TrainingSet, batches: ContrastiveBatches, staleness: int | None, runtime: Runtime,
        progress: Progress, attend: Callable[[], None], folder: Path,
    ):  # fmt: skip
        self.sets, self.data, self.batches, self.staleness = sets, data, batches, staleness
        self.runtime, self.progress, self.attend, self.folder = runtime, progress, attend, folder
        self.current: NegativeSet | None = None

    def due(self, step: int) -> bool:
        return self.current is not None and self.staleness is not None and step - self.current.step > self.staleness

    def __call__(self, step: int, asked: Asked) -> dict[str, float]:
        if self.current is not None and step % POLL and not self.due(step):
            return {}
        values: dict[str, float] = {}
        began = time.monotonic()
        while True:
            number = self.runtime.share(lambda: self._newest(step, asked))
            if number is None:
                told = "stopped while waiting for negatives; repeat the command to go on"
                raise Interrupted(told, asked() or signal.SIGTERM)
            if self.current is not None and number <= self.current.number:
                return values
            made = self.current = read_set(self.sets, number)
            self.batches.data = made.of(self.data)
            self.runtime.share(lambda made=made: report(self.folder, made))  # type: ignore[misc]
            values = values_of(made) | {"negatives_staleness": step - made.step}
            values["waiting_seconds"] = time.monotonic() - began
            self.progress.say(f"step {step:,}: {describe(made)}")

    def _newest(self, step: int, asked: Asked) -> int | None:
        """The number of the newest set, once it is new enough; None when asked to stop before it was."""
        told = False
        while True:
            self.attend()
            newest, current = max(numbers_of(self.sets), default=None), self.current
            if newest is not None and (current is None or newest > current.number):
                return newest
            if current is not None and not self.due(step):
                return current.number
            if asked():
                return None
            if not told:
                self.progress.say("waiting for negatives")
                told = True
            time.sleep(WAIT)
