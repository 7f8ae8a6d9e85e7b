"""How fast this machine multiplies matrices: what the speed of training is measured against."""

import time

import torch

from seedcli.base.runtime import Runtime

SIDE = {"cpu": 2_048, "cuda": 8_192}  # of the square matrices: large enough that only arithmetic counts
ROUNDS = 5  # of which the best counts: what else runs here only slows them


def matrix_rate(runtime: Runtime) -> float:
    """Floating-point operations a second in products of square matrices, of all processes at once."""
    side = SIDE[runtime.device.type]
    left, right = (torch.randn(side, side, device=runtime.device).to(runtime.dtype) for _ in range(2))
    runtime.barrier()
    best = min(_seconds(left, right) for _ in range(ROUNDS + 1))
    return float(runtime.sum(torch.tensor(2 * side**3 / best, device=runtime.device)))


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    synchronise(left.device)
    began = time.perf_counter()
    torch.matmul(left, right)
    synchronise(left.device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Wait for what the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
