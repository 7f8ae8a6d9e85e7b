"""A look at retrieval while training: dev queries against a corpus, or a sample of it, and the weights that did best.

Letters: Q queries, P passages, N of them at a time, S segments of these, m vectors of a passage, r positives of a query
at most, D width.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from seedcli.base.errors import telling_refusals
from seedcli.base.files import written_whole
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.data.batches import Sequences, padded, token_batches
from seedcli.data.ragged import Ragged
from seedcli.data.segments import WHOLE, Rows, Segmentation, cut_rows, lengths_of, own_counts, places_of, vector_counts
from seedcli.models.towers import Towers
from seedcli.training.checkpoint import CHECKPOINTS, checkpoints
from seedcli.training.losses import all_scores, best

MEASURE = "dev_mrr@10"  # decides which weights did best
TOKENS = 8_192  # encoded at a time, padding included
SCORES = 1 << 25  # held at a time


class DevSet(NamedTuple):
    """Texts as the towers read them, and which passages are right for a query."""

    queries: Rows  # [Q]
    texts: Ragged  # of all passages
    searched: NDArray[np.int64]  # [P] rows of them
    right: list[list[int]]  # [Q] places among the searched, at least one
    cut: Segmentation = WHOLE  # of passages

    def passages(self, places: Iterable[int]) -> Rows:
        return [self.texts[row] for row in self.searched[list(places)].tolist()]


class Look(NamedTuple):
    step: int
    value: float  # of MEASURE


class DevRetrieval:
    """A look for the training loop. Each process encodes a share; all get the same values.

    The weights that did best are kept among the checkpoints in `folder`, until better ones and a checkpoint that knows
    of them are there: a resumed run never lacks them. After `patience` looks without a better one it has seen enough.
    """

    def __init__(
        self, towers: Towers, dev: DevSet, pad: int, folder: Path, runtime: Runtime, progress: Progress,
        patience: int | None = None,
    ):  # fmt: skip
        self.towers, self.dev, self.pad, self.folder = towers, dev, pad, folder
        self.runtime, self.progress, self.patience = runtime, progress, patience
        self._looks: list[Look] | None = None

    @property
    def looks(self) -> list[Look]:
        """Those of the log, and later ones."""
        if self._looks is None:
            self._looks = self.runtime.share(lambda: logged(self.folder / "log.jsonl"))
        return self._looks

    @property
    def best(self) -> Look:
        return best_of(self.looks)

    @property
    def enough(self) -> bool:
        since = [look for look in self.looks if look.step > self.best.step] if self.looks else []
        return self.patience is not None and len(since) >= self.patience

    def __call__(self, step: int) -> dict[str, float]:
        training = self.towers.training
        self.towers.eval()
        try:
            with torch.no_grad():
                values = self.measures()
        finally:
            self.towers.train(training)
        before = self.best if self.looks else None
        self.looks.append(Look(step, values[MEASURE]))
        if self.best.step == step:
            self.runtime.share(self.keep)
        told = ", ".join(f"{name.removeprefix('dev_')} {value:.4f}" for name, value in values.items())
        rest = "" if before is None else f"; best so far {before.value:.4f} at step {before.step:,}"
        self.progress.say(f"step {step:,}: dev {told}{', the best so far' if self.best.step == step else rest}")
        return values

    def measures(self) -> dict[str, float]:
        """MRR@10 and recall@100. A passage that scores as a positive does, or no number, stands before it."""
        width = max(map(len, self.dev.right))
        right = torch.tensor([[*rows, *[-1] * (width - len(rows))] for rows in self.dev.right])  # [Q, r]
        positives = sorted({row for rows in self.dev.right for row in rows})
        place = {row: number for number, row in enumerate(positives)}
        queries = self.encode(self.towers.query, self.dev.queries).squeeze(1)
        found, there = self.passages(positives)  # [positives, m, D]
        own = torch.tensor([[place.get(row, -1) for row in rows] for rows in right.tolist()]).to(queries.device)
        real = (right >= 0).to(queries.device)
        columns = [  # [Q] each: one positive of every query at a time
            best((queries.unsqueeze(1) * found[column]).sum(-1), None if there is None else there[column])
            for column in own.T
        ]
        scores = torch.stack(columns, 1).masked_fill(~real, float("-inf"))  # [Q, r]
        above = (scores.unsqueeze(1) > scores.unsqueeze(2)).sum(-1)  # other positives that score more
        held = len(queries) * max(width, self.dev.cut.segments * self.dev.cut.vectors)
        size, total = max(1, SCORES // max(1, held)), len(self.dev.searched)
        for begin in range(0, total, size):
            block = range(begin, min(begin + size, total))
            others = all_scores(queries, *self.passages(block))  # [Q, N]
            inside = (right >= begin) & (right < block.stop)
            asking, number = inside.nonzero(as_tuple=True)
            others[asking.to(others.device), (right[asking, number] - begin).to(others.device)] = float("-inf")
            above += (~(others.unsqueeze(1) < scores.unsqueeze(2))).sum(-1)
        ranks = above + 1  # [Q, r]
        first = ranks.masked_fill(~real, 1 << 40).amin(1)
        recall = ((ranks <= 100) & real).sum(1) / real.sum(1)
        mrr = torch.where(first <= 10, 1 / first, 0.0)
        return {MEASURE: float(mrr.double().mean()), "dev_recall@100": float(recall.double().mean())}

    def passages(self, places: Iterable[int]) -> tuple[Tensor, Tensor | None]:
        """The vectors of some passages [N, m, D], and which of them are real [N, m]; None: all are."""
        rows, cut = self.dev.passages(places), self.dev.cut
        parts, counts = cut_rows(rows, cut), vector_counts(lengths_of(rows), cut)
        found = self.encode(self.towers.passage.passages, parts, cut.vectors).flatten(0, 1)
        starts = cut.vectors * np.arange(len(parts))
        where, real = places_of(starts, own_counts(parts, cut), counts, int(counts.max()))
        return found[where.to(found.device)], real if real is None else real.to(found.device)

    def encode(self, encode: Callable[[Sequences], Tensor], rows: Rows, each: int = 1) -> Tensor:
        """`each` vectors of a row, [S, each, D]; every process fills in its own, and their sum has them all."""
        vectors = torch.zeros(len(rows), each, self.towers.passage.size, device=self.runtime.device)
        batches = list(token_batches([len(row) for row in rows], TOKENS))
        for batch in batches[self.runtime.rank :: self.runtime.world]:
            texts = padded([rows[row] for row in batch], self.pad).to(vectors.device)
            with self.runtime.autocast():  # here alone: scores in half precision would make ties
                encoded = encode(texts)
            encoded = encoded.view(len(batch), -1, encoded.shape[-1])
            vectors[torch.from_numpy(batch).to(vectors.device), : encoded.shape[1]] = encoded
        return self.runtime.sum(vectors)

    def keep(self) -> None:
        """Leave the weights as the best so far; of older ones, those stay that were best at a checkpoint, or at 0."""
        kept, path = self.folder / CHECKPOINTS, self.place(self.best)
        tensors = {name: value.detach().contiguous() for name, value in self.towers.named_parameters()}
        with telling_refusals(path), written_whole(path) as aside:
            save_file(tensors, aside)
        starts = [0, *(checkpoint.step for checkpoint in checkpoints(kept))]
        known = ([look for look in self.looks if look.step <= start] for start in starts)
        wanted = {path, *(self.place(best_of(looks)) for looks in known if looks)}
        for other in set(kept.glob("best-*.safetensors")) - wanted:
            other.unlink()

    def restore(self) -> Look:
        """Put the best weights into the towers."""
        tensors = load_file(self.place(self.best))
        with torch.no_grad():
            for name, parameter in self.towers.named_parameters():
                parameter.copy_(tensors[name])
        return self.best

    def place(self, look: Look) -> Path:
        return self.folder / CHECKPOINTS / f"best-{look.step:07}.safetensors"


def best_of(looks: Sequence[Look]) -> Look:
    """The first of the best."""
    return max(looks, key=lambda look: (look.value, -look.step))


def logged(path: Path) -> list[Look]:
    """The looks of a log, which the loop has cut to what its checkpoint knows of."""
    records = map(json.loads, path.read_text().splitlines() if path.is_file() else [])
    return [Look(record["step"], record[MEASURE]) for record in records if MEASURE in record]


def sampled(total: int, positives: Sequence[int], size: int | None, seed: int) -> NDArray[np.int64]:
    """Rows of `size` passages, all positives among them, ascending; all `total` rows without a size."""
    if size is None or size >= total:
        return np.arange(total)
    chosen = np.zeros(total, dtype=bool)
    chosen[list(positives)] = True
    others = np.flatnonzero(~chosen)
    more = max(0, size - (total - len(others)))
    chosen[np.random.default_rng(seed).choice(others, min(more, len(others)), replace=False)] = True
    return np.flatnonzero(chosen)
