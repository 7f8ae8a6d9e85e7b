"""A step of each optimiser, by pencil and against slow sums, and the rate over the steps."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seedcli.training.optimizers import SCHEDULES, Lamb, adamw, lamb


def test_decay_is_for_matrices_alone() -> None:
    """Without a gradient's push, a step of AdamW leaves w (1 - lr * decay) of a matrix and all of a vector."""
    module = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    before = [weight.clone() for weight in module.parameters()]
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    adamw(module, 0.01, (0.9, 0.98), 1e-6, 0.1).step()
    for weight, old in zip(module.parameters(), before, strict=True):
        kept = 1 - 0.01 * 0.1 if old.ndim > 1 else 1.0
        torch.testing.assert_close(weight, old * kept, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("make", "sizes"), [(adamw, [1, 0]), (lamb, [1])])
def test_every_trained_parameter_is_optimised_once_and_frozen_ones_are_not(make: Any, sizes: list[int]) -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    module[1].weight = module[0].weight
    frozen = nn.Linear(2, 2).requires_grad_(False)
    optimizer = make(nn.ModuleList([module, frozen]), 0.1, (0.9, 0.999), 1e-8, 0.0)
    assert [len(group["params"]) for group in optimizer.param_groups] == sizes


Weights = list[Tensor]


def step(optimizer: Lamb, weights: Weights, *gradients: Tensor) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient.clone()
    optimizer.step()


@pytest.mark.parametrize(
    ("size", "decay", "signs"),
    [
        # From means of nothing, with betas .9 and .99 and no eps, the step of Adam is .1 g / sqrt(.01 g^2): g's sign.
        (2.0, 0.0, 2.0),  # norms 4 and 2: trust 2
        (20.0, 0.0, 5.0),  # norms 40, taken as 10, and 2: trust 5
        (0.0, 0.0, 1.0),  # no norm: trust 1
        (0.0, 0.5, 1.0),
    ],
)
def test_the_first_step_of_lamb_by_pencil(size: float, decay: float, signs: float) -> None:
    weight = torch.full((2, 2), size, requires_grad=True)
    gradient = torch.tensor([[0.3, -4.0], [7.0, -0.01]])
    step(Lamb([weight], 0.1, (0.9, 0.99), 0.0, decay), [weight], gradient)
    torch.testing.assert_close(weight.detach(), size - 0.1 * signs * gradient.sign(), rtol=0, atol=1e-5)


def test_lamb_leaves_a_weight_without_a_push_unless_it_decays() -> None:
    """No gradient's push: no step. With decay d the step is d w, whose trust is |w| / (d |w|): w loses lr w."""
    for decay, kept in ((0.0, 1.0), (0.5, 0.9)):
        weight = torch.tensor([3.0, 4.0], requires_grad=True)
        step(Lamb([weight], 0.1, (0.9, 0.999), 1e-8, decay), [weight], torch.zeros(2))
        torch.testing.assert_close(weight.detach(), kept * torch.tensor([3.0, 4.0]))


def by_hand(weights: Weights, gradients: list[Weights], lr: float, eps: float, decay: float) -> list[Any]:
    """Each weight after LAMB's steps, one after the other in float64; betas .8 and .95."""
    after = []
    for row, weight in enumerate(weights):
        w = weight.detach().numpy().astype(np.float64)
        m, v = np.zeros_like(w), np.zeros_like(w)
        for given in gradients:
            g = given[row].numpy().astype(np.float64)
            m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
            update = m / (np.sqrt(v) + eps) + decay * w
            norm, length = min(10.0, np.sqrt((w * w).sum())), np.sqrt((update * update).sum())
            w = w - lr * (norm / length if norm and length else 1.0) * update
        after.append(w)
    return after


def drawn(steps: int) -> tuple[Weights, list[Weights]]:
    """A large matrix, a small one, a vector of zeros and one whose gradient is zero; and gradients of each step."""
    rng = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=rng) * scale for shape, scale in (((5, 7), 9.0), ((3, 2), 0.1))]
    weights += [torch.zeros(4), torch.ones(3)]
    gradients = [
        [torch.randn(weight.shape, generator=rng) * scale for weight, scale in zip(weights, (1, 8, 1, 0), strict=True)]
        for _ in range(steps)
    ]
    return weights, gradients


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_lamb_is_what_slow_sums_give_whatever_the_groups(steps: int, decay: float, groups: int) -> None:
    weights, gradients = drawn(steps)
    expected = by_hand(weights, gradients, 0.05, 1e-3, decay)
    trained = [weight.requires_grad_() for weight in weights]
    optimizer = Lamb([{"params": trained[part::groups]} for part in range(groups)], 0.05, (0.8, 0.95), 1e-3, decay)
    for given in gradients:
        step(optimizer, trained, *given)
    for weight, other in zip(trained, expected, strict=True):
        np.testing.assert_allclose(weight.detach().numpy(), other, rtol=1e-5, atol=1e-6)
        assert {value.dtype for value in optimizer.state[weight].values()} == {torch.float32}


def test_lamb_passes_over_what_has_no_gradient() -> None:
    idle, trained = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = lamb(nn.ModuleList([idle, trained]), 0.1, (0.9, 0.999), 1e-8, 0.1)
    before = [weight.clone() for weight in idle.parameters()]
    optimizer.step()
    assert not optimizer.state
    trained(torch.ones(2)).sum().backward()
    optimizer.step()
    assert set(optimizer.state) == set(trained.parameters())
    assert all(torch.equal(weight, old) for weight, old in zip(idle.parameters(), before, strict=True))


def test_a_step_of_lamb_reads_nothing_back_from_the_device() -> None:
    """Tensors of the device meta have no values to read, nor any to branch by."""
    weights = [torch.ones(3, 2, device="meta", requires_grad=True), torch.ones(2, device="meta", requires_grad=True)]
    step(Lamb(weights, 0.1, (0.9, 0.999), 1e-8, 0.1), weights, *map(torch.ones_like, weights))
    with pytest.raises(RuntimeError, match="meta"):
        weights[0].sum().item()


def test_lamb_under_a_loss_scale_steps_as_without_one_and_leaves_out_what_overflows() -> None:
    scaled, plain = (torch.full((3,), 2.0, requires_grad=True) for _ in range(2))
    one, other = (Lamb([weight], 0.1, (0.9, 0.999), 1e-8, 0.0) for weight in (scaled, plain))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for factor, scale in ((1.0, 1024.0), (float("inf"), 512.0), (3.0, 512.0)):
        scaler.scale((scaled * factor).sum()).backward()  # type: ignore[no-untyped-call]
        scaler.step(one)
        scaler.update()
        one.zero_grad()
        assert scaler.get_scale() == scale
        if factor < float("inf"):
            step(other, [plain], torch.full((3,), factor))
        assert torch.equal(scaled, plain)


@pytest.mark.parametrize(
    ("name", "warmup", "steps", "shares"),
    [
        ("linear", 0, 4, [1, 0.75, 0.5, 0.25]),
        ("linear", 2, 6, [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("linear", 4, 4, [0.25, 0.5, 0.75, 1]),
        ("linear", 10, 3, [0.1, 0.2, 0.3]),
        ("cosine", 0, 3, [1, 0.75, 0.25]),  # (1 + cos of 0, 60 and 120 degrees) / 2
        ("cosine", 2, 6, [0.5, 1, 1, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5]),  # of 0, 45, 90, 135
        ("cosine", 4, 4, [0.25, 0.5, 0.75, 1]),
        ("cosine", 10, 3, [0.1, 0.2, 0.3]),
    ],
)
def test_the_rate_goes_up_then_down_to_nothing(name: str, warmup: int, steps: int, shares: list[float]) -> None:
    schedule = SCHEDULES[name]
    assert [schedule(step, warmup, steps) for step in range(steps)] == pytest.approx(shares)
    assert schedule(max(steps, warmup), warmup, steps) == schedule(steps + warmup + 1, warmup, steps) == 0
