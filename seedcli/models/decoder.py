"""The weak decoder of SEED-Encoder: attention in a short window, and the encoder's [CLS] output at every position.

Lu et al., "Less is More" (EMNLP 2021), section 3.4. Letters: B sequences, n tokens, D hidden size, H heads, d = D / H,
k window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    ):
        super().__init__()
        self.positions = nn.Embedding(positions, hidden)
        self.norm_in = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(DecoderLayer(hidden, heads, intermediate, window, dropout) for _ in range(layers))
        self.norm_out = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.apply(_initialise)

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
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, h0: Tensor) -> Tensor:
        """States [B, n, D] and h0 [B, D] -> states."""
        states = states + self.dropout(self.attend(self.norm_attention(states)))
        told = self.h0_out(self.h0_value(h0))  # [B, D]
        states = states + self.dropout(told.unsqueeze(1).expand_as(states))
        return states + self.dropout(self.down(F.gelu(self.up(self.norm_forward(states)))))  # type: ignore[no-any-return]

    def attend(self, states: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, n, d]
            for part in self.query_key_value(states).chunk(3, dim=-1)
        )
        rate = self.rate if self.training else 0.0
        if self.window is None:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        else:
            mixed = window_attention(query, key, value, self.window, rate)
        return self.attention_out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def window_attention(query: Tensor, key: Tensor, value: Tensor, window: int, dropout: float = 0.0) -> Tensor:
    """Attention of position i to j with 0 <= i - j < window, and to 0; [B, H, n, d] each, at a cost of n * window."""
    n, scale = query.shape[2], query.shape[3] ** -0.5
    query = query * scale
    reach = min(window, n)
    scores = [
        F.pad((query[:, :, back:] * key[:, :, : n - back]).sum(-1), (back, 0), value=float("-inf"))
        for back in range(reach)
    ]
    first = (query @ key[:, :, 0].unsqueeze(-1)).squeeze(-1)  # [B, H, n]
    near = torch.arange(n, device=query.device) < window  # whose window already holds position 0
    scores.append(first.masked_fill(near, float("-inf")))
    weights = F.dropout(torch.stack(scores, -1).float().softmax(-1).to(value.dtype), dropout)  # [B, H, n, reach + 1]
    mixed = weights[..., -1:] * value[:, :, :1]
    for back in range(reach):
        mixed = mixed + F.pad(weights[:, :, back:, back : back + 1] * value[:, :, : n - back], (0, 0, back, 0))
    return mixed


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
