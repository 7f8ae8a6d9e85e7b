"""The training loop: accumulation, mixed precision, clipping, schedule, log and exact resume."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from seedcli.base.errors import SeedError
from seedcli.base.files import write_text
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.training.checkpoint import CHECKPOINT, TrainingState, load_checkpoint, save_checkpoint
from seedcli.training.optimizers import linear_schedule


class Batch(Protocol):
    @property
    def counts(self) -> Tensor:
        """How many items each loss term sums over [terms]."""
        ...

    @property
    def tokens(self) -> int:
        """Real ones that the model reads; asked for before the batch goes to its device."""
        ...

    def to(self, device: torch.device) -> Self: ...


Batches = Callable[[int, int, int], Iterator[Any]]  # (step, rank, world) -> this rank's micro-batches


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


def train(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    training: Training,
    folder: Path,
    runtime: Runtime,
    progress: Progress,
) -> dict[str, float]:
    """Train `objective`, from the checkpoint in `folder` if there is one; the last logged values.

    Each loss term is its sum divided by its count over the whole global batch: all micro-batches, all processes.
    """
    scaler = runtime.scaler()
    state = TrainingState(objective, optimizer, scaler)
    start = load_checkpoint(folder / CHECKPOINT, state)
    if int(runtime.sum(torch.tensor(start, device=runtime.device))) != start * runtime.world:
        raise SeedError(
            f"{folder / CHECKPOINT}: not seen by every process; --out must be a folder that all of them share"
        )
    log = Log(folder / "log.jsonl", start) if runtime.first else None
    module = runtime.parallel(objective)
    module.train()
    last: dict[str, float] = {}
    with (
        ThreadPoolExecutor(1) as ahead,
        progress.track(training.title, training.steps, "steps", start) as advance,
    ):
        upcoming = ahead.submit(lambda: list(batches(start, runtime.rank, runtime.world)))
        began = time.monotonic()
        for step in range(start, training.steps):
            micro_batches = upcoming.result()
            upcoming = ahead.submit(lambda s=step + 1: list(batches(s, runtime.rank, runtime.world)))  # type: ignore[misc]
            for group in optimizer.param_groups:
                group["lr"] = training.lr * linear_schedule(step, training.warmup, training.steps)
            sums, counts = accumulate(module, micro_batches, scaler, runtime, [training.seed, step])
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(objective.parameters(), training.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            saves = done % training.save_every == 0 and done < training.steps
            if done % training.log_every == 0 or done == training.steps or saves:  # nothing unseen is saved
                rate = (done - start) / (time.monotonic() - began)
                last = logged(objective, runtime.sum(sums), counts)
                last |= {"gradient_norm": float(norm), "lr": optimizer.param_groups[0]["lr"]}
                refuse_divergence(last, done, folder, scaled=scaler.is_enabled())
                if log is not None:
                    log.write({"step": done, **last, "steps_per_second": rate})
            if runtime.first and saves:
                save_checkpoint(folder / CHECKPOINT, state, done)
            advance(1)
    return last


def accumulate(
    module: nn.Module, micro_batches: list[Any], scaler: torch.amp.GradScaler, runtime: Runtime, key: list[int]
) -> tuple[Tensor, Tensor]:
    """Gradients of one global batch; local loss sums and global counts [terms].

    DDP averages gradients over W ranks, so each back-propagates W * local sum / global count.
    """
    counts = runtime.sum(torch.stack([batch.counts for batch in micro_batches]).sum(0).to(runtime.device))
    sums = torch.zeros_like(counts)
    for number, batch in enumerate(micro_batches):
        torch.manual_seed(dropout_seed(*key, runtime.rank, number))
        unsynced = number < len(micro_batches) - 1 and runtime.world > 1
        with module.no_sync() if unsynced else nullcontext():  # type: ignore[operator]
            with runtime.autocast():
                local = module(batch.to(runtime.device))
            loss = (local * (runtime.world / counts.clamp(min=1)).to(local.dtype)).sum()
            scaler.scale(loss).backward()
        sums += local.detach()
    return sums, counts


def dropout_seed(*key: int) -> int:
    """(seed, step, rank, micro-batch) as one number for torch's generators."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def logged(objective: nn.Module, sums: Tensor, counts: Tensor) -> dict[str, float]:
    """The means of the loss terms, in nats."""
    means = (sums / counts.clamp(min=1)).tolist()
    values = dict(zip(objective.terms, means, strict=True))  # type: ignore[arg-type]
    perplexity = {"decoder_perplexity": float(np.exp(values["decoder"]))} if values.get("decoder") else {}
    return {"loss": sum(means)} | values | perplexity


def refuse_divergence(values: dict[str, float], step: int, folder: Path, scaled: bool) -> None:
    """Raises SeedError when training broke down; under a loss scaler, a step of infinite gradient is only skipped."""
    loss, norm = values["loss"], values["gradient_norm"]
    if not np.isfinite(loss) or not (scaled or np.isfinite(norm)):
        raise SeedError(
            f"{folder}: the loss became {loss} by step {step}; lower --lr or raise --warmup "
            f"in another --out (the gradient's norm is {norm:.3g}). The last checkpoint is kept"
        )


class Log:
    """log.jsonl: a record every few steps. A resumed run drops what its checkpoint doesn't know of."""

    def __init__(self, path: Path, start: int):
        self.path = path
        if path.is_file():
            lines = path.read_text().splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= start]
            write_text(path, "".join(f"{line}\n" for line in kept))

    def write(self, record: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({k: v if np.isfinite(v) else None for k, v in record.items()}) + "\n")
