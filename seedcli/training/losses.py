"""Losses as functions of tensors, each a sum over its items: who calls them knows by what count to divide.

Letters: T tokens, D hidden size, V vocabulary, Q queries, h hard negatives of a query, P passages, m vectors of one at
most.
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


def best(scores: Tensor, real: Tensor | None) -> Tensor:
    """The score of each passage: that of its best vector, [..., m] -> [...] (MaxP); `real` tells which there are.

    Its gradient is that vector's alone.
    """
    if real is None:
        return scores.squeeze(-1)
    return scores.masked_fill(~real, float("-inf")).max(-1).values


def all_scores(queries: Tensor, passages: Tensor, real: Tensor | None) -> Tensor:
    """Scores of all passages for each query, by inner products: [Q, D], [P, m, D], [P, m] -> [Q, P]."""
    with torch.autocast(queries.device.type, enabled=False):  # in the hundreds, bfloat16 knows whole numbers alone
        scores = queries @ passages.flatten(0, 1).T  # [Q, P m]
    return best(scores.view(len(queries), *passages.shape[:2]), real)


def turned_scores(passages: Tensor, queries: Tensor, real: Tensor | None) -> Tensor:
    """The same by passages, [P, m, D], [Q, D], [P, m] -> [P, Q]."""
    with torch.autocast(queries.device.type, enabled=False):
        scores = passages.flatten(0, 1) @ queries.T  # [P m, Q]
    scores = scores.view(*passages.shape[:2], len(queries)).transpose(1, 2)  # [P, Q, m]
    return best(scores, None if real is None else real.unsqueeze(1))


def own_scores(queries: Tensor, passages: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scores of each query's own passages: the positives come first, then h negatives of each query.

    [Q, D], [P, m, D], [P, m] -> [Q], [Q, h], where P is Q (1 + h).
    """
    count, most, width = len(queries), *passages.shape[1:]
    positives, negatives = passages[:count], passages[count:].reshape(count, -1, width)  # [Q, m, D], [Q, h m, D]
    with torch.autocast(queries.device.type, enabled=False):
        right = (queries.unsqueeze(1) * positives).sum(-1)  # [Q, m]
        wrong = torch.einsum("qd,qhd->qh", queries, negatives)  # [Q, h m]
    scores = best(torch.cat([right, wrong.view(-1, most)]), real)
    return scores[:count], scores[count:].view(count, -1)


def in_batch_nll(scores: Tensor, positives: Tensor, excluded: Tensor) -> Tensor:
    """Softmax over all passages; [Q, P], [Q] -> scalar (Karpukhin et al. 2020, eq. 2, summed).

    `excluded` [Q, P] leaves passages out that are no negatives of a query, such as its positive drawn a second time.
    With queries and passages in each other's place it tells each passage from all queries (the symmetric loss).
    """
    return F.cross_entropy(scores.masked_fill(excluded, float("-inf")), positives, reduction="sum")


# The losses below take scores of the right passages [Q] and of wrong ones [Q, h]; where `known` [Q, h] is false, a
# wrong passage doesn't count.


def triplet(right: Tensor, wrong: Tensor, known: Tensor, margin: float) -> Tensor:
    """Sum of relu(margin - (s+ - s-)) over all triples (Lu et al. 2021, section 4.2, with a margin of 1)."""
    return F.relu(margin - (right.unsqueeze(1) - wrong))[known].sum()


def pairwise_nll(right: Tensor, wrong: Tensor, known: Tensor) -> Tensor:
    """Sum of -log(e^s+ / (e^s+ + e^s-)) over all triples (Xiong et al. 2021, and the release of Lu et al. 2021)."""
    return F.softplus(wrong - right.unsqueeze(1))[known].sum()


def margin_mse(right: Tensor, wrong: Tensor, known: Tensor, taught: tuple[Tensor, Tensor]) -> Tensor:
    """Sum of squared differences from the teacher's margins t+ - t- (Hofstaetter et al. 2020, eq. 2).

    `taught` are the teacher's scores of the right passages [Q] and of the wrong ones [Q, h].
    """
    margins, wanted = right.unsqueeze(1) - wrong, taught[0].unsqueeze(1) - taught[1]
    return (margins - wanted)[known].square().sum()


def kl_distillation(
    right: Tensor, wrong: Tensor, known: Tensor, taught: tuple[Tensor, Tensor], temperature: float
) -> Tensor:
    """Sum over queries of KL(teacher || model), both softmax over a query's own passages [1 + h] (Hinton et al. 2015).

    The teacher's scores are divided by `temperature`; the model's stand as they are. A query none of whose wrong
    passages counts leaves no trace.
    """
    asked = known.any(1)
    kept = torch.cat([asked.unsqueeze(1), known], 1)[asked]
    model, teacher = (
        torch.cat([first.unsqueeze(1), rest], 1)[asked].masked_fill(~kept, float("-inf"))
        for first, rest in ((right, wrong), (taught[0] / temperature, taught[1] / temperature))
    )
    model, teacher = (scores.log_softmax(1).masked_fill(~kept, 0.0) for scores in (model, teacher))
    return (teacher.exp() * (teacher - model))[kept].sum()
