"""Losses as functions of tensors, each a sum over its items: who calls them knows by what count to divide.

Letters: T tokens, D hidden size, V vocabulary, Q queries, P passages.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = {"cpu": 1 << 24, "cuda": 1 << 28}  # logits held at a time; a GPU wants larger products to be busy
MOST = 8_192  # rows of a chunk: what they add up to must fit in fp16


def linear_cross_entropy(states: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """Sum of cross-entropies of states @ weight.T + bias; [T, D], [V, D], [T], [V] -> scalar, never holding [T, V].

    The gradient is made chunk by chunk in the forward pass, so nothing is computed twice.
    """
    if not torch.is_grad_enabled():  # which the function below is not told
        weight, bias = weight.detach(), bias if bias is None else bias.detach()
    if torch.is_autocast_enabled(states.device.type):
        states = states.to(torch.get_autocast_dtype(states.device.type))
    with torch.autocast(states.device.type, enabled=False):
        return _LinearCrossEntropy.apply(states, weight, targets, bias)  # type: ignore[no-any-return, no-untyped-call]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        cast = weight.to(states.dtype)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        to_states = torch.empty_like(states) if wanted else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if wanted and bias is not None else None
        size = min(len(states), max(1, CHUNK[states.device.type] // len(weight)), MOST)
        held = states.new_empty(size, len(weight))  # one for all chunks: fresh memory costs time on a CPU
        for begin in range(0, len(states), size or 1):
            part, answers = states[begin : begin + size], targets[begin : begin + size]
            logits = torch.mm(part, cast.T, out=held[: len(part)]).float()
            if bias is not None:
                logits += bias
            torch.log_softmax(logits, -1, out=logits)
            total -= logits.gather(1, answers.unsqueeze(1)).sum()
            if to_states is None or to_weight is None:
                continue
            logits.exp_()
            logits[torch.arange(len(part), device=part.device), answers] -= 1
            difference = logits.to(states.dtype)
            torch.mm(difference, cast, out=to_states[begin : begin + size])
            if difference.dtype == torch.float32:
                to_weight.addmm_(difference.T, part)
            else:
                to_weight += (difference.T @ part).float()
            if to_bias is not None:
                to_bias += logits.sum(0)
        ctx.save_for_backward(to_states, to_weight, to_bias)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, Tensor | None]:
        to_states, to_weight, to_bias = ctx.saved_tensors
        (told,) = gradients
        return (
            to_states * told.to(to_states.dtype),
            (to_weight * told).to(ctx.dtype),
            None,
            to_bias if to_bias is None else (to_bias * told).to(ctx.dtype),
        )


def in_batch_nll(queries: Tensor, passages: Tensor, positives: Tensor, excluded: Tensor, temperature: float) -> Tensor:
    """Softmax over all passages; [Q, D], [P, D], [Q] -> scalar (Karpukhin et al. 2020, eq. 2, summed).

    `excluded` [Q, P] leaves passages out that are no negatives of a query, such as its positive drawn a second time.
    """
    with torch.autocast(queries.device.type, enabled=False):  # in the hundreds, bfloat16 knows whole numbers alone
        scores = queries @ passages.T / temperature  # [Q, P]
    return F.cross_entropy(scores.masked_fill(excluded, float("-inf")), positives, reduction="sum")
