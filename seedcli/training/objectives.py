"""What is trained: modules that turn a micro-batch into sums of losses, so that one loop serves them all."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seedcli.base.runtime import gather_rows
from seedcli.data.batches import PretrainingBatch, Sequences
from seedcli.models.dropout import quicken
from seedcli.models.encoder import Encoder
from seedcli.models.seed import SeedModel
from seedcli.training.losses import in_batch_nll, linear_cross_entropy


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
    """Queries [Q] and passages [P], of which the first Q are the queries' positives in their order."""

    queries: Sequences
    passages: Sequences
    texts: Tensor  # [P] a number each, equal for equal texts
    known: Tensor  # [Q, r] numbers of all texts that are right for a query, filled up with -1
    counts: Tensor  # [1]

    @property
    def tokens(self) -> int:
        """Real ones, as the encoder reads them."""
        return int(self.queries.attention.sum()) + int(self.passages.attention.sum())

    def to(self, device: torch.device) -> "ContrastiveBatch":
        return ContrastiveBatch(
            self.queries.to(device),
            self.passages.to(device),
            *(tensor.to(device, non_blocking=True) for tensor in self[2:]),
        )


class ContrastiveObjective(nn.Module):
    """DPR's loss: every local query against the passages of the global batch, gathered with their gradients."""

    terms = ("nll",)

    def __init__(self, encoder: Encoder, temperature: float):
        super().__init__()
        quicken(encoder)
        self.encoder = encoder
        self.temperature = temperature

    def forward(self, batch: ContrastiveBatch) -> Tensor:
        """The summed loss of the local queries in nats [1]."""
        queries, passages = self.encoder(batch.queries), self.encoder(batch.passages)
        everyone, begin = gather_rows(passages)  # [P of all ranks, D]
        texts, _ = gather_rows(batch.texts)
        own = torch.arange(len(queries), device=queries.device)
        excluded = (texts == batch.known.unsqueeze(-1)).any(1)  # [Q, P]: right, so no negative
        excluded[own, own + begin] = False
        return in_batch_nll(queries, everyone, own + begin, excluded, self.temperature).unsqueeze(0)
