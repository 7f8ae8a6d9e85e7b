"""Rank, device, precision and collectives: the one place that touches torch.distributed."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seedcli.base.errors import ConfigError, SeedError
from seedcli.base.machine import processes

PATIENCE = timedelta(days=2)  # while one process hashes inputs, tokenises or mines, the others wait

Precision = Literal["fp32", "bf16", "fp16", "int8"]  # int8 is a graph's (models/graphs.py): torch computes in fp32
Made = TypeVar("Made")


@dataclass(frozen=True)
class Runtime:
    """This process among those that torchrun started (or alone), its device and its precision."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)
    precision: Precision = "fp32"
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Whether this is the process of its machine that fills the machine's cache."""
        return self.local_rank == 0

    @property
    def dtype(self) -> torch.dtype:
        """What torch computes matrix products in."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)

    def autocast(self) -> AbstractContextManager[Any]:
        full = self.dtype == torch.float32
        return nullcontext() if full else torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """A loss scaler, which does nothing unless the precision is fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over the processes when there are several."""
        if self.world == 1:
            return module
        return DistributedDataParallel(module, device_ids=[self.device] if self.device.type == "cuda" else None)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def cached(self, make: Callable[[], Made]) -> Made:
        """What `make` gives and keeps in the machine's cache: the first process there makes it, the others find it.

        What it raises in one process is raised in all: none waits for another that is gone.
        """
        if self.world == 1:
            return make()
        outcome = _outcome(make) if self.first_here else [None, None]
        failures: list[Any] = [None] * self.world
        dist.all_gather_object(failures, [None, outcome[1]])
        _settled(failures)
        return cast(Made, outcome[0]) if self.first_here else make()

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def gather(self, make: Callable[[], Made]) -> list[Made]:
        """What `make` gives in each process, by rank, in the first one; in the others their own alone.

        A mistake in one process is raised there and in the first one, which tells it.
        """
        if self.world == 1:
            return [make()]
        own = _outcome(make)
        outcomes: list[Any] | None = [None] * self.world if self.first else None
        dist.gather_object(own, outcomes)
        _settled(outcomes or [own])
        return [value for value, _ in outcomes or [own]]

    def share(self, make: Callable[[], Made]) -> Made:
        """What `make` gives in the first process, in every process; what it raises there, too."""
        if self.world == 1:
            return make()
        box: list[Any] = [None, None]
        if self.first:
            box = _outcome(make)
        dist.broadcast_object_list(box, src=0)
        return cast(Made, _settled([box]))


def _outcome(make: Callable[[], Any]) -> list[Any]:
    """What a function gives, and the user's mistake that it raises instead."""
    try:
        return [make(), None]
    except SeedError as error:
        return [None, error]


def _settled(outcomes: list[list[Any]]) -> Any:
    """The value of the first outcome. Raises the first mistake among them."""
    for _, mistake in outcomes:
        if mistake is not None:
            raise mistake
    return outcomes[0][0]


@contextmanager
def runtime(device: str, precision: Precision, threads: int | None = None) -> Iterator[Runtime]:
    """The process group, joined while the block runs. Raises ConfigError when the device can't do what is asked."""
    rank, world = int(os.environ.get("RANK", 0)), processes()
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU here; use --device cpu")
    if name == "cpu" and precision == "fp16":
        raise ConfigError("--precision fp16 is for GPUs; use fp32 or bf16 on a CPU")
    if name == "cuda" and precision == "int8":
        raise ConfigError("--precision int8 is for CPUs; use bf16 or fp16 on a GPU, or --device cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    place = torch.device(name, local_rank) if name == "cuda" else torch.device(name)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if threads:
        torch.set_num_threads(threads)
    elif world > 1 and place.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", world))))
    if world > 1:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Runtime(rank, world, place, precision, local_rank)
    finally:
        if world > 1:
            dist.destroy_process_group()


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes in rank order, [n, ...] -> [N, ...], and where this one's begin; gradients flow back.

    Ranks may hold different numbers of rows. Backward sums each row's gradients over the ranks that used it.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows, 0
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = [int(count) for count in counts]
    gathered = _Gather.apply(rows, sizes) if rows.requires_grad else _gathered(rows, sizes)  # type: ignore[no-untyped-call]
    return gathered, sum(sizes[: dist.get_rank()])


class _Gather(torch.autograd.Function):
    """All-gather forward, reduce-scatter backward (as an all-reduce, which gloo has for every shape)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return _gathered(rows, sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        begin = sum(ctx.sizes[: dist.get_rank()])
        return total[begin : begin + ctx.sizes[dist.get_rank()]], None


def _gathered(rows: Tensor, sizes: list[int]) -> Tensor:
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
