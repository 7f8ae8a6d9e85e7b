"""The log of training: figures gathered without waiting for the device, records of them, and words for a person.

Letters: S steps since the last record, L loss terms, F figures told beside them.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedcli.base.errors import telling_refusals
from seedcli.base.files import Closing, write_text
from seedcli.base.runtime import Runtime

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

NEVER_THE_SAME = {  # what a record has of its own
    "step", "tokens_per_second", "steps_per_second", "utilisation", "negatives_refresh_seconds", "training_seconds",
    "waiting_seconds",
}  # fmt: skip


class Figures(NamedTuple):
    """What steps came to, over all processes."""

    losses: NDArray[np.float64]  # [S, L] in nats
    means: NDArray[np.float64]  # [L + F] over all items of the steps
    norms: NDArray[np.float64]  # [S]


class Window:
    """The steps since the last record. Their figures stay on the device until they are asked for."""

    def __init__(self) -> None:
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []  # local sums [L + F], global counts [L + F], norm
        self.tokens = 0
        self.began = time.monotonic()

    def add(self, sums: Tensor, counts: Tensor, norm: Tensor, tokens: int) -> None:
        self.steps.append((sums, counts, norm))
        self.tokens += tokens

    def figures(self, runtime: Runtime, losses: int) -> Figures:
        """Waits for the device, and for all processes. The first `losses` sums are losses."""
        stacked = [torch.stack(part) for part in zip(*self.steps, strict=True)]
        sums, counts, norms = (part.double().cpu().numpy() for part in (runtime.sum(stacked[0]), *stacked[1:]))
        means = sums.sum(0) / np.maximum(1, counts.sum(0))
        return Figures((sums / np.maximum(1, counts))[:, :losses], means, norms)

    def speed(self, operations: float, rate: float) -> dict[str, float]:
        """Over all processes; `operations` a token, and `rate` of them a second that were measured, 0 when unknown."""
        seconds = time.monotonic() - self.began
        tokens = self.tokens / seconds
        share = {"utilisation": tokens * operations / rate} if operations and rate else {}
        return {"tokens_per_second": tokens, "steps_per_second": len(self.steps) / seconds} | share


def means_by_name(terms: Sequence[str], figures: Sequence[str], means: NDArray[np.float64]) -> dict[str, float]:
    """The loss, its terms, and the figures beside them."""
    values = dict(zip([*terms, *figures], means.tolist(), strict=True))
    perplexity = {"decoder_perplexity": float(np.exp(values["decoder"]))} if values.get("decoder") else {}
    return {"loss": float(means[: len(terms)].sum())} | values | perplexity


def told(values: Mapping[str, float]) -> list[str]:
    """What a person wants to know of a record: loss 5.31, 12.4k tok/s, 61% of peak."""
    speed = values["tokens_per_second"]
    rate = f"{speed / 1000:,.1f}k" if speed >= 10_000 else f"{speed:,.0f}"
    peak = [f"{values['utilisation']:.0%} of peak"] if "utilisation" in values else []
    return [f"loss {values['loss']:.3g}", f"{rate} tok/s", *peak]


class Past(NamedTuple):
    """What the log knows when a run begins or goes on."""

    first: float | None  # the loss in the first record that has one
    last: dict[str, float]  # the newest of each value


class Log(Closing):
    """log.jsonl, and the same for TensorBoard when asked to; the first process alone resumes and writes it."""

    def __init__(self, folder: Path, tensorboard: bool):
        self.path = folder / "log.jsonl"
        self.events = folder / "tensorboard" if tensorboard else None
        self.writer: SummaryWriter | None = None

    def resume(self, start: int) -> Past:
        """Drop what a checkpoint of step `start` doesn't know of, and a line cut short."""
        written = self.path.read_text() if self.path.is_file() else ""
        kept = [line for line in written.splitlines() if line.endswith("}") and json.loads(line)["step"] <= start]
        if written != (whole := "".join(f"{line}\n" for line in kept)):
            with telling_refusals(self.path):
                write_text(self.path, whole)
        if self.events is not None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.writer = SummaryWriter(self.events, purge_step=start + 1)
        records = [json.loads(line) for line in kept]
        last = {name: value for record in records for name, value in record.items() if name not in NEVER_THE_SAME}
        return Past(next((record["loss"] for record in records if "loss" in record), None), last)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A record; a value that is no number stands as null."""
        record = {name: value if np.isfinite(value) else None for name, value in values.items()}
        with telling_refusals(self.path):
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step} | record) + "\n")
            if self.writer is not None:
                for name, value in values.items():
                    self.writer.add_scalar(name, value, step)
                self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
