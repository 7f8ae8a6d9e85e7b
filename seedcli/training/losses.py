"""Losses as functions of tensors, each a sum over its items: who calls them knows by what count to divide.

Letters: T tokens, D hidden size, V vocabulary, Q queries, P passages.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1 << 24  # logits held at a time


def linear_cross_entropy(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum of cross-entropies of states @ weight.T; [T, D], [V, D], [T] -> scalar, never holding [T, V].

    The gradient is made chunk by chunk in the forward pass, so nothing is computed twice.
    """
    if torch.is_autocast_enabled(states.device.type):
        states = states.to(torch.get_autocast_dtype(states.device.type))
    with torch.autocast(states.device.type, enabled=False):
        return _LinearCrossEntropy.apply(states, weight, targets)  # type: ignore[no-any-return, no-untyped-call]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        cast = weight.to(states.dtype)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        to_states = torch.empty_like(states) if wanted else None
        to_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wanted else None
        size = max(1, CHUNK // len(weight))
        for begin in range(0, len(states), size):
            part, answers = states[begin : begin + size], targets[begin : begin + size]
            logits = (part @ cast.T).float()
            total += F.cross_entropy(logits, answers, reduction="sum")
            if to_states is None or to_weight is None:
                continue
            logits = logits.softmax(-1)
            logits[torch.arange(len(part), device=part.device), answers] -= 1
            difference = logits.to(states.dtype)
            to_states[begin : begin + size] = difference @ cast
            to_weight += (difference.T @ part).float()
        ctx.save_for_backward(to_states, to_weight)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        to_states, to_weight = ctx.saved_tensors
        return to_states * gradients[0].to(to_states.dtype), (to_weight * gradients[0]).to(ctx.dtype), None


def in_batch_nll(queries: Tensor, passages: Tensor, positives: Tensor, excluded: Tensor, temperature: float) -> Tensor:
    """Softmax over all passages; [Q, D], [P, D], [Q] -> scalar (Karpukhin et al. 2020, eq. 2, summed).

    `excluded` [Q, P] leaves passages out that are no negatives of a query, such as its positive drawn a second time.
    """
    with torch.autocast(queries.device.type, enabled=False):  # in the hundreds, bfloat16 knows whole numbers alone
        scores = queries @ passages.T / temperature  # [Q, P]
    return F.cross_entropy(scores.masked_fill(excluded, float("-inf")), positives, reduction="sum")
