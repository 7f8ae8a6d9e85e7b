"""Optimisers over a module's parameters, and the schedules of their rate."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

Schedule = Callable[[int, int, int], float]  # (step, warmup, steps) -> the share of the peak rate
LARGEST_NORM = 10.0  # of a weight, as LAMB sees it


def adamw(module: nn.Module, lr: float, betas: tuple[float, float], eps: float, decay: float) -> torch.optim.AdamW:
    """AdamW with decoupled decay; vectors (biases, layer norms) are not decayed."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al. 2020, algorithm 2) as published dense retrieval used it: without bias correction.

    Each tensor's step of Adam is scaled by the norm of the weight, at most 10, over that of the step; by 1 where
    either is 0. Decay is a part of the step, for every tensor alike.
    """

    def __init__(self, params: ParamsT, lr: float, betas: tuple[float, float], eps: float, decay: float):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """All tensors of a group at once, without waiting for a GPU."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            if weights := [weight for weight in group["params"] if weight.grad is not None]:
                self._step(weights, group)
        return loss

    def _step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients: list[Any] = [weight.grad for weight in weights]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
        means = [self.state[weight]["exp_avg"] for weight in weights]
        squares = [self.state[weight]["exp_avg_sq"] for weight in weights]

        first, second = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        updates = torch._foreach_sqrt(squares)
        torch._foreach_add_(updates, group["eps"])
        updates = torch._foreach_div(means, updates)
        if group["weight_decay"]:
            torch._foreach_add_(updates, weights, alpha=group["weight_decay"])

        sizes = torch.stack(torch._foreach_norm(weights)).clamp(max=LARGEST_NORM)
        lengths = torch.stack(torch._foreach_norm(updates))
        trust = torch.where((sizes > 0) & (lengths > 0), sizes / lengths, 1.0)  # [tensors]
        torch._foreach_mul_(updates, trust.unbind())
        torch._foreach_add_(weights, updates, alpha=-group["lr"])


def lamb(module: nn.Module, lr: float, betas: tuple[float, float], eps: float, decay: float) -> Lamb:
    """LAMB over all that is trained; vectors (biases, layer norms) are treated like matrices, as published."""
    return Lamb([parameter for parameter in module.parameters() if parameter.requires_grad], lr, betas, eps, decay)


def linear_schedule(step: int, warmup: int, steps: int) -> float:
    """The share of the peak rate at a step (from 0): up over `warmup` steps, then down to nothing at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def cosine_schedule(step: int, warmup: int, steps: int) -> float:
    """As the linear one, but down along half a cosine."""
    share = linear_schedule(step, warmup, steps)
    return share if step < warmup else (1 - math.cos(math.pi * share)) / 2


SCHEDULES: dict[str, Schedule] = {"linear": linear_schedule, "cosine": cosine_schedule}


def warmup_steps(given: int | None, steps: int, most: int) -> int:
    """The steps of warm-up: as given, else a tenth of all, at most `most`."""
    return min(steps // 10, most) if given is None else given
