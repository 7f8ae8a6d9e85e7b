"""Optimisers over a module's parameters, and the schedule of their rate."""

import torch
from torch import nn


def adamw(module: nn.Module, lr: float, betas: tuple[float, float], eps: float, decay: float) -> torch.optim.AdamW:
    """AdamW with decoupled decay; vectors (biases, layer norms) are not decayed."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def linear_schedule(step: int, warmup: int, steps: int) -> float:
    """The share of the peak rate at a step (from 0): up over `warmup` steps, then down to nothing at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def warmup_steps(given: int | None, steps: int, most: int) -> int:
    """The steps of warm-up: as given, else a tenth of all, at most `most`."""
    return min(steps // 10, most) if given is None else given
