"""Training that broke down: the first step that went wrong, what was wrong there, and what can be done."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from seedcli.base.errors import SeedError
from seedcli.base.files import write_json
from seedcli.training.checkpoint import checkpoints
from seedcli.training.log import Figures

SKIPPED = 30  # steps of infinite gradients in a row: a healthy loss scale gives way in a few
HIGH = 10  # steps in a row whose loss is far too high: one alone may be chance
RISEN = 3  # times the loss of the first step
GUESS = 12.5  # nats of a term: ln 268,000, more than guessing among any vocabulary or batch in use costs
NAMED = 12  # rows in the message; a file has them all

Rows = Sequence[tuple[int, int]]  # (epoch, row)


class Breakdown(NamedTuple):
    step: int  # the first that went wrong
    what: str


class Health:
    """Judges every step, from record to record.

    An explosion is a loss that stays, ten steps on end, above three times that of the first step, and above what
    guessing costs: a small loss may well jump. `guess` are nats of a term, infinite where that isn't known.
    """

    def __init__(self, terms: Sequence[str], scaled: bool, first: float | None, guess: float = GUESS):
        self.terms, self.scaled, self.first, self.guess = terms, scaled, first, guess
        self.skipped = self.high = 0

    def examine(self, begin: int, figures: Figures) -> Breakdown | None:
        """The first breakdown in steps `begin`, `begin` + 1 ..."""
        for step, (losses, norm) in enumerate(zip(figures.losses, figures.norms, strict=True), begin):
            for term, loss in zip(self.terms, losses, strict=True):
                if not np.isfinite(loss):
                    return Breakdown(step, f"the loss ({term}) became {loss}")
            if not (self.scaled or np.isfinite(norm)):
                return Breakdown(step, f"the gradient's norm became {norm}")
            if self.first is None:
                self.first = float(losses.sum())
            self.skipped = 0 if np.isfinite(norm) else self.skipped + 1
            if self.skipped == SKIPPED:
                what = f"the gradients became infinite for {SKIPPED} steps, however far the loss scale fell"
                return Breakdown(step - SKIPPED + 1, what)
            self.high = self.high + 1 if losses.sum() > self.limit else 0
            if self.high == HIGH:
                what = f"the loss rose above {self.limit:.3g} for {HIGH} steps, from {self.first:.3g} in the beginning"
                return Breakdown(step - HIGH + 1, what)
        return None

    @property
    def limit(self) -> float:
        return np.inf if self.first is None else max(RISEN * self.first, self.guess * len(self.terms))


def refuse(breakdown: Breakdown, batches: Any, folder: Path, scaled: bool, first: bool) -> NoReturn:
    """Raises SeedError. The `first` process leaves the step's global batch, as rows, beside the checkpoints."""
    step, what = breakdown
    found = [checkpoint for checkpoint in checkpoints(folder) if checkpoint.step < step]
    place = folder / "breakdown.json"
    rows, unit = (batches.rows(step - 1), batches.unit) if hasattr(batches, "rows") else ([], "rows")
    if first:
        write_json(place, {"step": step, "what": what, unit: rows})
    batch = f"; its batch: {listed(rows, unit)} ({place} names all)" if rows else ""
    kept = "No checkpoint was saved before"
    if found:
        kept = f"The last good checkpoint is that of step {found[-1].step:,}: {found[-1].path}"
    precision = ", or take --precision bf16" if scaled else ""
    raise SeedError(
        f"{folder.parent}: at step {step:,} {what}{batch}.\n{kept}. The same command would come to the same end: "
        f"lower --lr or raise --warmup{precision}, in another --out; or look at what the batch holds"
    )


def listed(rows: Rows, unit: str) -> str:
    """The first of them, by epoch."""
    epochs: dict[int, list[str]] = {}
    for epoch, row in rows[:NAMED]:
        epochs.setdefault(epoch, []).append(str(row))
    words = [f"{unit} {', '.join(names)} of epoch {epoch}" for epoch, names in epochs.items()]
    return " and ".join(words) + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")
