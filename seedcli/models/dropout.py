"""Dropout at less cost on a CPU, where torch draws a random number after the other and attention loses its fast path.

Letters: B sequences, H heads, n tokens, d width of a head, R = B * H.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "seed"  # of the attention below, as transformers knows it
LEVELS = 1 << 16  # a rate is rounded to a multiple of 1 / LEVELS: 0.1 to 0.100006
TILE = 1 << 19  # attention weights worked on at a time, which caches hold


def quicken(model: nn.Module) -> None:
    """Make all dropout in `model` the quicker one, its attention's too where transformers lets it be chosen."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    for module in list(model.modules()):
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == "sdpa":
            module.set_attn_implementation(NAME)
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float = 0.0,
    scaling: float | None = None, **rest: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """As transformers asks for it: [B, H, n, d] -> [B, n, H, d]."""
    usual = scaling is None or math.isclose(scaling, query.shape[-1] ** -0.5)
    told = rest.get("is_causal")
    causal = getattr(module, "is_causal", True) if told is None else told  # as transformers understands it
    if (
        not dropout
        or causal
        or query.device.type != "cpu"
        or query.dtype != torch.float32
        or not usual
        or query.shape != key.shape
    ):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **rest)
    bias = None
    if attention_mask is not None:
        of_keys = attention_mask[:, 0, 0]  # [B, n]
        if attention_mask.dtype != torch.bool or not (attention_mask == of_keys[:, None, None]).all():
            return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **rest)
        bias = torch.zeros(of_keys.shape).masked_fill_(~of_keys, float("-inf"))
    return attention_with_dropout(query, key, value, bias, dropout).transpose(1, 2).contiguous(), None


def kept(shape: tuple[int, ...], rate: float) -> tuple[Tensor, float]:
    """Which elements stay, drawn four to a random number, and what they are multiplied by so that the mean stays."""
    count = torch.Size(shape).numel()
    bits = torch.empty(count // 4 + 1, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    dropped = round(rate * LEVELS)
    return (bits[:count] >= dropped - LEVELS // 2).view(shape), LEVELS / (LEVELS - dropped)


def dropout(states: Tensor, rate: float) -> Tensor:
    """`states` with a share of `rate` set to 0, as torch does it."""
    if not rate:
        return states
    if states.device.type != "cpu" or rate >= 1 or states.dtype != torch.float32:
        return F.dropout(states, rate)
    keep, scale = kept(tuple(states.shape), rate)
    return _Dropout.apply(states, keep, scale)  # type: ignore[no-any-return, no-untyped-call]


class Dropout(nn.Dropout):
    """nn.Dropout by the quicker way."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (its name in the class above)
        return dropout(input, self.p) if self.training else input


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return keep.to(states.dtype).mul_(scale).mul_(states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return keep.to(gradients[0].dtype).mul_(ctx.scale).mul_(gradients[0]), None, None


def attention_with_dropout(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, rate: float) -> Tensor:
    """softmax(query @ key.T / sqrt(d) + bias) with dropout, @ value; [B, H, n, d] each.

    `bias` is [B, n] of the keys, or [1, n, n]. Weights are made a tile at a time and once more for the gradient, so
    that [R, n, n] of them are never held, only which were kept (a byte each).
    """
    rows = [part.reshape(-1, *part.shape[2:]) for part in (query, key, value)]  # [R, n, d]
    if bias is not None and bias.ndim == 2:
        bias = bias[:, None, None].expand(-1, query.shape[1], -1, -1).reshape(len(rows[0]), 1, -1)  # [R, 1, n]
    keep, scale = kept((len(rows[0]), query.shape[2], key.shape[2]), rate)
    mixed = _Attention.apply(*rows, bias, keep, scale)  # type: ignore[no-untyped-call]
    return mixed.view_as(query)  # type: ignore[no-any-return]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, keep: Tensor, scale: float
    ) -> Tensor:
        mixed, query = torch.empty_like(query), query * query.shape[-1] ** -0.5
        weights, stay = _buffers(keep, query.dtype, 2)
        for rows in _tiles(keep):
            tile = _softmax(weights, query[rows], key[rows], _of(bias, rows))
            tile.mul_(stay[: len(tile)].copy_(keep[rows]))
            torch.bmm(tile, value[rows], out=mixed[rows])
        mixed.mul_(scale)
        ctx.save_for_backward(query, key, value, bias, keep, mixed)
        ctx.scale = scale
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, keep, mixed = ctx.saved_tensors
        told = gradients[0].contiguous()
        to_query, to_key, to_value = (torch.empty_like(part) for part in (query, key, value))
        inner = (told * mixed).sum(-1, keepdim=True)  # [R, n, 1]: each row of weights with its gradients
        scaled = told * ctx.scale
        weights, stay, dropped = _buffers(keep, query.dtype, 3)
        for rows in _tiles(keep):
            tile = _softmax(weights, query[rows], key[rows], _of(bias, rows))
            mask = stay[: len(tile)].copy_(keep[rows])
            used = torch.mul(tile, mask, out=dropped[: len(tile)])
            torch.bmm(used.transpose(1, 2), scaled[rows], out=to_value[rows])
            to_scores = torch.bmm(scaled[rows], value[rows].transpose(1, 2), out=used)
            to_scores.mul_(mask).sub_(inner[rows]).mul_(tile)
            torch.bmm(to_scores, key[rows], out=to_query[rows])
            torch.bmm(to_scores.transpose(1, 2), query[rows], out=to_key[rows])
        return to_query.mul_(query.shape[-1] ** -0.5), to_key, to_value, None, None, None


def _tiles(keep: Tensor) -> list[slice]:
    size = _at_once(keep)
    return [slice(begin, begin + size) for begin in range(0, len(keep), size)]


def _at_once(keep: Tensor) -> int:
    return min(len(keep), max(1, TILE // keep[0].numel()))


def _buffers(keep: Tensor, dtype: torch.dtype, count: int) -> list[Tensor]:
    return [torch.empty(_at_once(keep), *keep.shape[1:], dtype=dtype) for _ in range(count)]


def _of(bias: Tensor | None, rows: slice) -> Tensor | None:
    return bias if bias is None or len(bias) == 1 else bias[rows]


def _softmax(weights: Tensor, query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """The attention weights of a tile [r, n, n], in the memory of `weights`."""
    scores = torch.bmm(query, key.transpose(1, 2), out=weights[: len(query)])
    if bias is not None:
        scores += bias
    return torch.softmax(scores, -1, out=scores)
