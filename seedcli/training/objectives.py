"""What is trained: modules that turn a micro-batch into sums of losses, so that one loop serves them all."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedcli.base.runtime import gather_rows
from seedcli.data.batches import PretrainingBatch, Sequences
from seedcli.models.encoder import Encoder
from seedcli.models.seed import SeedModel
from seedcli.training.losses import in_batch_nll, linear_cross_entropy


class PretrainingObjective(nn.Module):
    """L_MLM + L_dec (Lu et al. 2021, eq. 10): the encoder reads the masked text, the decoder the text as written."""

    terms = ("mlm", "decoder")

    def __init__(self, model: SeedModel):
        super().__init__()
        self.model = model

    def forward(self, batch: PretrainingBatch) -> Tensor:
        """Summed losses in nats [2]: of the masked words, and of the decoder's."""
        tokens, attention = batch.original
        logits, h0 = self.model.encode(batch.masked, attention, batch.chosen)
        masked = F.cross_entropy(logits.float(), tokens[batch.chosen], reduction="sum")
        if self.model.decoder is None:
            return torch.stack([masked, torch.zeros_like(masked)])
        states = self.model.decode(tokens[:, :-1], h0)
        real = attention[:, 1:]
        decoded = linear_cross_entropy(states[real], self.model.embedding, tokens[:, 1:][real])
        return torch.stack([masked, decoded])


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
