"""What is trained: modules that turn a micro-batch into sums of losses, so that one loop serves them all."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seedcli.base.runtime import gather_rows
from seedcli.data.batches import Groups, PretrainingBatch, Sequences
from seedcli.models.dropout import quicken
from seedcli.models.seed import SeedModel
from seedcli.models.towers import Towers
from seedcli.training.divergence import GUESS
from seedcli.training.losses import (
    all_scores,
    in_batch_nll,
    kl_distillation,
    linear_cross_entropy,
    margin_mse,
    own_scores,
    pairwise_nll,
    triplet,
    turned_scores,
)


class PretrainingObjective(nn.Module):
    """L_MLM + L_dec (Lu et al. 2021, eq. 10): the encoder reads the masked text, the decoder the text as written."""

    terms = ("mlm", "decoder")

    def __init__(self, model: SeedModel):
        super().__init__()
        quicken(model)
        self.model = model

    def forward(self, batch: PretrainingBatch) -> Tensor:
        """Summed losses in nats [2]: of the masked words, and of the decoder's."""
        masked, h0 = masked_word_loss(self.model, batch)
        decoded = torch.zeros_like(masked) if self.model.decoder is None else decoder_loss(self.model, batch, h0)
        return torch.stack([masked, decoded])


def masked_word_loss(model: SeedModel, batch: PretrainingBatch) -> tuple[Tensor, Tensor]:
    """The loss of the masked words, summed, and h0 [B, D]."""
    tokens, attention = batch.original
    states, h0 = model.encode(batch.masked, None if batch.real is None else attention, batch.chosen)
    weight, bias = model.projection.weight, model.projection.bias
    return linear_cross_entropy(states, weight, tokens.flatten()[batch.chosen], bias), h0


def decoder_loss(model: SeedModel, batch: PretrainingBatch, h0: Tensor) -> Tensor:
    """The decoder's loss over the text as written, summed, when it is told h0 [B, D]."""
    tokens = batch.original.tokens
    states, words = model.decode(tokens[:, :-1], h0).flatten(0, 1), tokens[:, 1:].flatten()
    if batch.real is not None:
        states, words = states[batch.real], words[batch.real]
    return linear_cross_entropy(states, model.embedding, words)


class ContrastiveBatch(NamedTuple):
    """Queries [Q] and passages [P, m]: first the queries' positives in their order, then h hard negatives of each."""

    queries: Groups
    passages: Groups
    texts: Tensor  # [P] a number each, equal for equal texts
    right: Tensor  # [Q, r] numbers of all texts that are right for a query, filled up with -1
    usable: Tensor  # [Q, h] whether a hard negative is wrong for its query, and scored where a teacher is asked
    taught: Tensor | None  # [Q, 1 + h] the teacher's scores of a query's positive and hard negatives
    counts: Tensor  # [3]: items of the loss, queries, queries

    @property
    def tokens(self) -> int:
        """Real ones, as the encoders read them."""
        return self.queries.tokens + self.passages.tokens

    def to(self, device: torch.device) -> "ContrastiveBatch":
        placed = (part if part is None else part.to(device, non_blocking=True) for part in self[2:])
        return ContrastiveBatch(self.queries.to(device), self.passages.to(device), *placed)  # type: ignore[arg-type]


LossName = Literal["in-batch", "triplet", "pairwise", "margin-mse", "kl"]
TRIPLES: frozenset[LossName] = frozenset({"triplet", "pairwise", "margin-mse"})  # whose items are triples, not queries
NATS: frozenset[LossName] = frozenset({"in-batch", "pairwise", "kl"})  # of which it is known what guessing costs
TAUGHT: frozenset[LossName] = frozenset({"margin-mse", "kl"})  # which need a teacher's scores


@dataclass(frozen=True)
class Loss:
    """What is asked of scores; spec and papers in losses.py. `dimensions`: the loss is the mean over these widths."""

    name: LossName = "in-batch"
    temperature: float = 1.0  # what scores are divided by
    margin: float = 1.0
    symmetric: bool = False  # in-batch: passages are told from queries, too, and the two losses averaged
    teacher_temperature: float = 1.0
    dimensions: tuple[int, ...] = ()
    cosine: bool = False  # whether vectors that are cut are scaled to length 1 again


class ContrastiveObjective(nn.Module):
    """A retriever's loss over a global batch, whose passages are gathered from all processes with their gradients.

    A passage of several vectors scores as the best of them does. With `recompute`, of each group of texts no more than
    its vectors is held: the rest is computed once more for the gradient (Gao et al. 2021 have the same memory by
    caching gradients).
    """

    figures = ("negatives", "accuracy")  # means over queries: passages each is told from; how many rank theirs first

    def __init__(self, towers: Towers, loss: Loss, recompute: bool = False):
        super().__init__()
        quicken(towers)
        self.towers, self.loss, self.recompute = towers, loss, recompute
        self.terms = (loss.name,)
        self.guess = GUESS if loss.name in NATS else math.inf

    def forward(self, batch: ContrastiveBatch) -> Tensor:
        """Sums over the local queries [3]: the loss, effective negatives, queries whose positive scores best."""
        queries = self.encode(self.towers.query, batch.queries)
        passages = self.encode(self.towers.passage.passages, batch.passages)
        compare = self.told_from_all if self.loss.name == "in-batch" else self.told_from_own
        return compare(queries, passages, batch)

    def encode(self, encode: Callable[[Sequences], Tensor], texts: Groups) -> Tensor:
        """Vectors in the order of the texts, of queries [Q, D], of passages [P, m, D]."""
        parts = [
            checkpoint(encode, part, use_reentrant=False) if self.recompute else encode(part) for part in texts.parts
        ]
        return torch.cat([part.flatten(0, -2) for part in parts])[texts.places]

    def told_from_all(self, queries: Tensor, passages: Tensor, batch: ContrastiveBatch) -> Tensor:
        everyone, begin = gather_rows(passages)  # [P of all ranks, m, D]
        mine = batch.passages.real
        real = None if mine is None else gather_rows(mine.byte())[0].bool()
        texts, _ = gather_rows(batch.texts)
        own = torch.arange(len(queries), device=queries.device)
        excluded = torch.zeros(len(queries), len(texts), dtype=torch.bool, device=queries.device)  # [Q, P]
        for numbers in batch.right.T:  # one at a time: [Q, r, P] may be large
            excluded |= texts == numbers.unsqueeze(1)  # right, so no negative
        excluded[own, own + begin] = False

        def lost(cut: Cut) -> Tensor:
            scores = all_scores(cut(queries), cut(everyone), real)
            return in_batch_nll(scores / self.loss.temperature, own + begin, excluded)

        total = self.over_widths(lost)
        if self.loss.symmetric:
            asking, first = gather_rows(queries)
            others = gather_rows(excluded.byte())[0][:, own + begin].T.bool()  # [Q, Q of all ranks]
            positives, theirs = passages[: len(own)], None if mine is None else mine[: len(own)]

            def turned(cut: Cut) -> Tensor:
                scores = turned_scores(cut(positives), cut(asking), theirs)
                return in_batch_nll(scores / self.loss.temperature, own + first, others)

            total = (total + self.over_widths(turned)) / 2
        with torch.no_grad():
            scores = all_scores(queries, everyone, real).masked_fill(excluded, float("-inf"))
            best = (scores.argmax(1) == own + begin).sum()
        return torch.stack([total, (~excluded).sum() - len(own), best])

    def told_from_own(self, queries: Tensor, passages: Tensor, batch: ContrastiveBatch) -> Tensor:
        real, temperature = batch.passages.real, self.loss.temperature
        taught = None if batch.taught is None else (batch.taught[:, 0], batch.taught[:, 1:])

        def lost(cut: Cut) -> Tensor:
            right, wrong = own_scores(cut(queries), cut(passages), real)
            return self.of_scores(right / temperature, wrong / temperature, batch.usable, taught)

        with torch.no_grad():
            right, wrong = own_scores(queries, passages, real)
            above = right > wrong.masked_fill(~batch.usable, float("-inf")).amax(1)
            best = (above & batch.usable.any(1)).sum()
        return torch.stack([self.over_widths(lost), batch.usable.sum(), best])

    def of_scores(self, right: Tensor, wrong: Tensor, usable: Tensor, taught: tuple[Tensor, Tensor] | None) -> Tensor:
        loss = self.loss
        if loss.name == "triplet":
            return triplet(right, wrong, usable, loss.margin)
        if loss.name == "pairwise":
            return pairwise_nll(right, wrong, usable)
        if taught is None:
            raise ValueError(f"{loss.name} without a teacher's scores")
        if loss.name == "margin-mse":
            return margin_mse(right, wrong, usable, taught)
        return kl_distillation(right, wrong, usable, taught, loss.teacher_temperature)

    def over_widths(self, lost: "Callable[[Cut], Tensor]") -> Tensor:
        """The mean of a loss over the widths that vectors are to serve at (Kusupati et al. 2022, unit weights)."""
        widths = self.loss.dimensions or (None,)
        return torch.stack([lost(partial(narrowed, width=width, cosine=self.loss.cosine)) for width in widths]).mean()


Cut = Callable[[Tensor], Tensor]


def narrowed(vectors: Tensor, width: int | None, cosine: bool) -> Tensor:
    """The first `width` values of each vector, of length 1 again under cosine."""
    if width is None or width == vectors.shape[-1]:
        return vectors
    return F.normalize(vectors[..., :width], dim=-1) if cosine else vectors[..., :width]
