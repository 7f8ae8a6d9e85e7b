"""The weak decoder of SEED-Encoder: attention in a short window, and the encoder's [CLS] output at every position.

Lu et al., "Less is More" (EMNLP 2021), section 3.4. Letters: B sequences, n tokens, D hidden size, H heads, d = D / H,
k window.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedcli.models.dropout import Dropout, attention_with_dropout, dropout

STD = 0.02  # of the initial weights, as in BERT


class WeakDecoder(nn.Module):
    """A shallow Transformer whose attention reaches back `window` tokens (None: all of them); equation 9.

    A stack of L layers sees L(k - 1) + 1 tokens back (three layers of window 2: 4), as the published model does.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        intermediate: int,
        layers: int,
        window: int | None,
        positions: int,
        dropout: float,
        std: float = STD,
    ):
        super().__init__()
        self.positions = nn.Embedding(positions, hidden)
        self.norm_in = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(DecoderLayer(hidden, heads, intermediate, window, dropout) for _ in range(layers))
        self.norm_out = nn.LayerNorm(hidden)
        self.dropout = Dropout(dropout)
        self.apply(lambda module: _initialise(module, std))

    def forward(self, embedded: Tensor, h0: Tensor) -> Tensor:
        """Token embeddings [B, n, D] and the encoder's [CLS] output [B, D] -> states [B, n, D]."""
        states = self.dropout(self.norm_in(embedded + self.positions.weight[: embedded.shape[1]]))
        for layer in self.layers:
            states = layer(states, h0)
        return self.norm_out(states)  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Pre-norm block: attention in a window, h0 added to every position, feed-forward.

    Cross-attention over the single vector h0 has one weight, 1, whatever the query: what it adds is
    out(value(h0)), computed once a sequence. The released model also drops out that weight; this one doesn't.
    """

    def __init__(self, hidden: int, heads: int, intermediate: int, window: int | None, dropout: float):
        super().__init__()
        self.heads, self.window, self.rate = heads, window, dropout
        self.norm_attention = nn.LayerNorm(hidden)
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.attention_out = nn.Linear(hidden, hidden)
        self.h0_value = nn.Linear(hidden, hidden)
        self.h0_out = nn.Linear(hidden, hidden)
        self.norm_forward = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, intermediate)
        self.down = nn.Linear(intermediate, hidden)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, h0: Tensor) -> Tensor:
        """States [B, n, D] and h0 [B, D] -> states."""
        states = states + self.dropout(self.attend(self.norm_attention(states)))
        told = self.h0_out(self.h0_value(h0))  # [B, D]
        states = states + self.dropout(told.unsqueeze(1).expand_as(states))
        return states + self.dropout(self.down(F.gelu(self.up(self.norm_forward(states)))))  # type: ignore[no-any-return]

    def attend(self, states: Tensor) -> Tensor:
        parts = self.query_key_value(states).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in parts)  # [B, n, H, d]
        rate = self.rate if self.training else 0.0
        if self.window is None:
            mixed = causal_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), rate)
            mixed = mixed.transpose(1, 2)
        else:
            mixed = window_attention(query, key, value, self.window, rate)
        return self.attention_out(mixed.flatten(2))  # type: ignore[no-any-return]


def causal_attention(query: Tensor, key: Tensor, value: Tensor, rate: float) -> Tensor:
    """Attention of each position to itself and all before it; [B, H, n, d] each."""
    if not rate or query.device.type != "cpu" or query.dtype != torch.float32:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
    n = query.shape[2]
    return attention_with_dropout(query, key, value, torch.full((1, n, n), float("-inf")).triu(1), rate)


def window_attention(query: Tensor, key: Tensor, value: Tensor, window: int, rate: float = 0.0) -> Tensor:
    """Attention of position i to j with 0 <= i - j < window, and to 0; [B, n, H, d] each, at a cost of n * window."""
    scores: Tensor = _WindowScores.apply(query * query.shape[-1] ** -0.5, key, window)  # type: ignore[no-untyped-call]
    weights = dropout(scores.float().softmax(-1).to(value.dtype), rate)
    return _WindowMix.apply(weights, value)  # type: ignore[no-any-return, no-untyped-call]


class _WindowScores(torch.autograd.Function):
    """Products of a query with the keys 0 ... window - 1 back, then with the first: [B, n, H, window + 1].

    Written out so that no more than one [B, n, H, d] of products is held at a time, and none for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, window: int) -> Tensor:
        ctx.save_for_backward(query, key)
        n = query.shape[1]
        scores = query.new_full((*query.shape[:3], window + 1), float("-inf"))
        for back in range(min(window, n)):
            scores[:, back:, :, back] = (query[:, back:] * key[:, : n - back]).sum(-1)
        scores[:, window:, :, window] = (query[:, window:] * key[:, :1]).sum(-1)  # the windows before hold it already
        return scores

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        query, key = ctx.saved_tensors
        told = gradients[0]
        n, window = query.shape[1], told.shape[-1] - 1
        to_query = torch.zeros_like(query)
        to_key = torch.zeros_like(key)
        for back in range(min(window, n)):
            part = told[:, back:, :, back : back + 1]
            to_query[:, back:].addcmul_(part, key[:, : n - back])
            to_key[:, : n - back].addcmul_(part, query[:, back:])
        part = told[:, window:, :, window:]
        to_query[:, window:].addcmul_(part, key[:, :1])
        to_key[:, :1] += (part * query[:, window:]).sum(1, keepdim=True)
        return to_query, to_key, None


class _WindowMix(torch.autograd.Function):
    """Sums of values by weights [B, n, H, window + 1] that stand as in the scores: [B, n, H, d]."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(weights, value)
        n, window = value.shape[1], weights.shape[-1] - 1
        mixed = weights[..., :1] * value
        for back in range(1, min(window, n)):
            mixed[:, back:].addcmul_(weights[:, back:, :, back : back + 1], value[:, : n - back])
        mixed[:, window:].addcmul_(weights[:, window:, :, window:], value[:, :1])
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        weights, value = ctx.saved_tensors
        told = gradients[0]
        n, window = value.shape[1], weights.shape[-1] - 1
        to_weights = torch.zeros_like(weights)
        to_value = weights[..., :1] * told
        to_weights[..., 0] = (told * value).sum(-1)
        for back in range(1, min(window, n)):
            part = told[:, back:]
            to_weights[:, back:, :, back] = (part * value[:, : n - back]).sum(-1)
            to_value[:, : n - back].addcmul_(weights[:, back:, :, back : back + 1], part)
        part = told[:, window:]
        to_weights[:, window:, :, window] = (part * value[:, :1]).sum(-1)
        to_value[:, :1] += (weights[:, window:, :, window:] * part).sum(1, keepdim=True)
        return to_weights, to_value


def _initialise(module: nn.Module, std: float) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
