"""The training loop: accumulation, mixed precision, clipping, schedule, records, and stops that lose nothing."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from seedcli.base.errors import Interrupted, SeedError
from seedcli.base.interruption import deferred
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.training.checkpoint import CHECKPOINTS, TrainingState, load_checkpoint, save_checkpoint
from seedcli.training.divergence import GUESS, Health, refuse
from seedcli.training.log import NEVER_THE_SAME, Log, Window, means_by_name, told
from seedcli.training.optimizers import Schedule, linear_schedule


class Batch(Protocol):
    @property
    def counts(self) -> Tensor:
        """How many items each loss term, and each figure beside them, sums over [terms + figures]."""
        ...

    @property
    def tokens(self) -> int:
        """Real ones that the model reads; asked for before the batch goes to its device."""
        ...

    def to(self, device: torch.device) -> Self: ...


Batches = Callable[[int, int, int], Iterator[Any]]  # (step, rank, world) -> this rank's micro-batches
# Where they have a method rows(step) -> [(epoch, row)], and a `unit` that these are called, a breakdown names them.


class Watch(Protocol):
    """A look from time to time at what the model can do."""

    @property
    def enough(self) -> bool:
        """Whether training may end here."""
        ...

    def __call__(self, step: int) -> Mapping[str, float]:
        """Values for the record of a step. A resumed run doesn't look again at a step that a checkpoint has passed."""
        ...


class Renewal(Protocol):
    """Batches that change while training, by what the weights have become."""

    def due(self, step: int) -> bool:
        """Whether the batch after `step` steps can't be drawn before the weights of that step are there."""
        ...

    def __call__(self, step: int, asked: Callable[[], int]) -> Mapping[str, float]:
        """Called in every process before the first batch, and after each step; values for the record, if there is news.

        `asked`: the number of the signal that asked this process to stop, or 0. Raises Interrupted, in all processes,
        when one was.
        """
        ...


@dataclass(frozen=True)
class Training:
    """How long and how to train."""

    steps: int
    warmup: int
    lr: float
    clip: float
    seed: int
    log_every: int
    save_every: int
    title: str
    keep_last: int = 1
    tensorboard: bool = False
    watch_every: int = 1_000
    operations: float = 0.0  # floating-point ones a token, forward and backward; 0: unknown
    rate: float = 0.0  # of them a second that the devices of all processes reach in matrix products; 0: unknown
    schedule: Schedule = linear_schedule
    schedule_steps: int = 0  # until the rate is nothing; 0: all


def train(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    training: Training,
    folder: Path,
    runtime: Runtime,
    progress: Progress,
    watch: Watch | None = None,
    renewal: Renewal | None = None,
) -> dict[str, float]:
    """Train `objective`, from the newest checkpoint in `folder` if there is one; the last logged values.

    Each loss term is its sum divided by its count over the whole global batch: all micro-batches, all processes.
    Every process calls `watch` before the first step, each `watch_every` steps and after the last; training ends where
    that has seen enough. Where a `renewal` is due, the step is saved first. Raises Interrupted after Ctrl-C or SIGTERM,
    once the step is done and saved; SeedError when training broke down or the disk is full.
    """
    kept, terms = folder / CHECKPOINTS, list[str](objective.terms)  # type: ignore[arg-type]
    beside = list[str](getattr(objective, "figures", ()))  # sums without a gradient, after the terms
    scaler = runtime.scaler()
    state = TrainingState(objective, optimizer, scaler)
    start = load_checkpoint(kept, state)
    if int(runtime.sum(torch.tensor(start, device=runtime.device))) != start * runtime.world:
        raise SeedError(f"{kept}: not seen by every process; --out must be a folder that all of them share")
    module = runtime.parallel(objective)
    module.train()

    def draw(step: int) -> list[Any]:
        drawn = list(batches(step, runtime.rank, runtime.world))
        return pinned(drawn, runtime.device) if runtime.device.type == "cuda" else drawn

    with (
        Log(folder, training.tensorboard) as log,
        deferred(progress.say) as interruption,
        ThreadPoolExecutor(1) as ahead,
        progress.track(training.title, training.steps, "steps", start) as advance,
    ):
        first, last = runtime.share(partial(log.resume, start))
        if watch is not None and start == 0 and not last:
            last = dict(watch(0))
            runtime.share(partial(log.write, 0, last))
        over = start > 0 and watch is not None and watch.enough

        def renew(step: int) -> dict[str, float]:
            news = {} if renewal is None else dict(renewal(step, lambda: interruption.number))
            if news:
                runtime.share(partial(log.write, step, news))
            return {name: value for name, value in news.items() if name not in NEVER_THE_SAME}

        if not over and start < training.steps:
            last |= renew(start)
        micro_batches = draw(start)
        totals = Totals(micro_batches, False, runtime)
        health = Health(terms, scaler.is_enabled(), first, getattr(objective, "guess", GUESS))
        window, falls = Window(), training.schedule_steps or training.steps
        for step in range(start, start if over else training.steps):
            renews = renewal is not None and step + 1 < training.steps and renewal.due(step + 1)
            upcoming = None if renews else ahead.submit(draw, step + 1)
            for group in optimizer.param_groups:
                group["lr"] = training.lr * training.schedule(step, training.warmup, falls)
            sums = accumulate(module, micro_batches, totals.counts, scaler, runtime, [training.seed, step])
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(objective.parameters(), training.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            window.add(sums, totals.counts, norm, totals.told().tokens)

            done, ends, notes = step + 1, step + 1 == training.steps, list[str]()
            micro_batches = upcoming.result() if upcoming else []
            before, totals = totals, Totals(micro_batches, bool(interruption.number), runtime)
            stops = (totals if ends or runtime.device.type == "cpu" else before).told().asked
            saves = stops or renews or (done % training.save_every == 0 and not ends)
            looks = watch is not None and (ends or done % training.watch_every == 0)
            if ends or saves or looks or done % training.log_every == 0:  # nothing unseen is saved
                figures = window.figures(runtime, len(terms))
                if breakdown := health.examine(done - len(figures.norms) + 1, figures):
                    refuse(breakdown, batches, kept, scaler.is_enabled(), runtime.first)
                speed = window.speed(training.operations, training.rate)
                values = means_by_name(terms, beside, figures.means)
                values |= {"gradient_norm": float(figures.norms[-1]), "lr": optimizer.param_groups[0]["lr"]}
                values |= watch(done) if watch is not None and looks else {}
                runtime.share(partial(log.write, done, values | speed))
                last, notes, window = last | values, told(values | speed), Window()
            if stops or renews or (saves and not health.high):
                runtime.share(partial(save_checkpoint, kept, state, done, 0 if health.high else training.keep_last))
                window = Window()
            advance(1, *notes)
            if stops:
                message = f"stopped after step {done:,}, which is saved; repeat the command to go on"
                raise Interrupted(message, interruption.number or signal.SIGTERM)
            if looks and watch is not None and watch.enough:
                break
            if renewal is not None and not ends:
                paused = time.monotonic()
                last = last | renew(done)
                window.began += time.monotonic() - paused  # no time of training
            if renews:
                micro_batches = draw(done)
                totals = Totals(micro_batches, False, runtime)
    return last


class Told(NamedTuple):
    tokens: int  # of the global batch
    asked: bool  # whether any process was asked to stop before it


class Totals:
    """Of a global batch, by one small sum over all processes; `counts` are the items of each loss term [terms].

    Without micro-batches it tells whether any process was asked to stop, and no more.

    On a GPU the rest comes to the host behind the step before. Once the step's own work is queued, it can be read
    without leaving the GPU idle.
    """

    def __init__(self, micro_batches: Sequence[Batch], asked: bool, runtime: Runtime):
        parts = [batch.counts for batch in micro_batches]
        counts = torch.stack(parts).sum(0) if parts else torch.empty(0, dtype=torch.float64)
        more = torch.tensor([sum(batch.tokens for batch in micro_batches), asked], dtype=counts.dtype)
        packed = torch.cat([counts, more])
        packed = packed.pin_memory() if runtime.device.type == "cuda" else packed
        totals = runtime.sum(packed.to(runtime.device, non_blocking=True))
        self.counts = totals[:-2]
        self._more = totals[-2:].to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if totals.is_cuda else None  # type: ignore[no-untyped-call]
        if self._arrived is not None:
            self._arrived.record()

    def told(self) -> Told:
        """Waits for the way to the host, and for nothing that was queued later."""
        if self._arrived is not None:
            self._arrived.synchronize()
        tokens, asked = self._more.tolist()
        return Told(int(tokens), bool(asked))


def accumulate(
    module: nn.Module,
    micro_batches: Sequence[Any],
    counts: Tensor,
    scaler: torch.amp.GradScaler,
    runtime: Runtime,
    key: Sequence[int],
) -> Tensor:
    """Gradients of one global batch, whose items of each loss term are given; local loss sums [terms].

    DDP averages gradients over W ranks, so each back-propagates W * local sum / global count.
    """
    weights = runtime.world / counts.clamp(min=1)
    sums = torch.zeros_like(counts)
    for number, batch in enumerate(micro_batches):
        torch.manual_seed(dropout_seed(*key, runtime.rank, number))
        unsynced = number < len(micro_batches) - 1 and runtime.world > 1
        with module.no_sync() if unsynced else nullcontext():  # type: ignore[operator]
            with runtime.autocast():
                local = module(batch.to(runtime.device))
            scaler.scale((local * weights.to(local.dtype)).sum()).backward()
        sums += local.detach()
    return sums


def dropout_seed(*key: int) -> int:
    """(seed, step, rank, micro-batch) as one number for torch's generators."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def pinned(batch: Any, device: torch.device) -> Any:
    """A batch, or several, with all tensors in pinned memory: their copies to the GPU need not be waited for."""
    torch.cuda.set_device(device)  # of this thread, or its memory would be that of the first GPU
    if batch is None:
        return None
    if isinstance(batch, Tensor):
        return batch.pin_memory()
    if isinstance(batch, list):
        return [pinned(part, device) for part in batch]
    return type(batch)(*(pinned(part, device) for part in batch))
