"""Checkpoints, how many stay, and training that goes on from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from seedcli.base.errors import DataError
from seedcli.training import checkpoint
from seedcli.training.checkpoint import TrainingState, checkpoints, load_checkpoint, save_checkpoint
from seedcli.training.optimizers import adamw, lamb


def state(seed: int, width: int = 6, optimizer: Any = adamw) -> TrainingState:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.Linear(width, 2))
    return TrainingState(module, optimizer(module, 0.01, (0.9, 0.98), 1e-6, 0.1), torch.amp.GradScaler("cpu"))


def train(training: TrainingState, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        training.module(inputs).square().sum().backward()
        training.optimizer.step()
        training.optimizer.zero_grad()


def weights(training: TrainingState) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in training.module.parameters()]


@pytest.mark.parametrize(
    ("optimizer", "keys"), [(adamw, {"step", "exp_avg", "exp_avg_sq"}), (lamb, {"exp_avg", "exp_avg_sq"})]
)
def test_training_goes_on_from_a_checkpoint_to_the_bit(tmp_path: Path, optimizer: Any, keys: set[str]) -> None:
    straight, first, second = (state(seed, optimizer=optimizer) for seed in (0, 0, 1))
    train(straight, range(7))
    train(first, range(4))
    first.scaler.load_state_dict(first.scaler.state_dict() | {"scale": 128.0})
    save_checkpoint(tmp_path, first, 4)
    assert load_checkpoint(tmp_path, second) == 4
    assert second.scaler.state_dict() == first.scaler.state_dict()
    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        held, given = first.optimizer.state[one], second.optimizer.state[other]
        assert held.keys() == given.keys() == keys
        assert all(torch.equal(held[key], given[key]) and held[key].dtype == given[key].dtype for key in held)
    train(second, range(4, 7))
    assert all(torch.equal(one, other) for one, other in zip(weights(straight), weights(second), strict=True))


def test_a_checkpoint_before_the_first_step_holds_no_moments(tmp_path: Path) -> None:
    first, second = state(0), state(1)
    save_checkpoint(tmp_path, first, 0)
    assert load_checkpoint(tmp_path, second) == 0
    for training in (first, second):
        train(training, range(3))
    assert all(torch.equal(one, other) for one, other in zip(weights(first), weights(second), strict=True))


def test_without_a_checkpoint_nothing_changes(tmp_path: Path) -> None:
    training = state(0)
    before = [weight.clone() for weight in weights(training)]
    assert load_checkpoint(tmp_path, training) == 0
    assert all(torch.equal(one, other) for one, other in zip(weights(training), before, strict=True))


@pytest.mark.parametrize("kept", [0, 5, 100, 900, -1])
def test_a_truncated_checkpoint_is_told_by_name(tmp_path: Path, kept: int) -> None:
    training = state(0)
    train(training, range(2))
    save_checkpoint(tmp_path, training, 2)
    ((step, path),) = checkpoints(tmp_path)
    assert step == 2
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"0000002\.safetensors: not a checkpoint .*; remove it to begin anew"):
        load_checkpoint(tmp_path, state(1))


def test_a_checkpoint_of_another_model_is_told_by_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(0), 2)
    with pytest.raises(DataError, match=r"0000002\.safetensors: not a checkpoint of this model"):
        load_checkpoint(tmp_path, state(0, width=5))
    save_file({"weight/0.weight": torch.zeros(2)}, tmp_path / "0000003.safetensors")
    with pytest.raises(DataError, match=r"0000003\.safetensors: not a checkpoint of this model"):
        load_checkpoint(tmp_path, state(0))


@pytest.mark.parametrize(("keep", "kept"), [(1, [12_345_678]), (2, [900, 12_345_678]), (9, [8, 90, 900, 12_345_678])])
def test_the_newest_checkpoints_stay(tmp_path: Path, keep: int, kept: list[int]) -> None:
    training = state(0)
    for step in (8, 90, 900, 12_345_678):
        save_checkpoint(tmp_path, training, step, keep)
    assert [found.step for found in checkpoints(tmp_path)] == kept
    assert sorted(tmp_path.iterdir()) == sorted(found.path for found in checkpoints(tmp_path))
    assert load_checkpoint(tmp_path, state(1)) == 12_345_678


def test_without_the_newest_checkpoint_training_goes_on_from_the_one_before(tmp_path: Path) -> None:
    straight, first, second = state(0), state(0), state(1)
    train(straight, range(7))
    for step in (2, 4):
        train(first, range(step - 2, step))
        save_checkpoint(tmp_path, first, step, keep=2)
    damaged = checkpoints(tmp_path)[-1].path
    damaged.write_bytes(damaged.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"0000004\.safetensors: .*; remove it to go on from step 2$"):
        load_checkpoint(tmp_path, second)
    damaged.unlink()
    assert load_checkpoint(tmp_path, second) == 2
    train(second, range(2, 7))
    assert all(torch.equal(one, other) for one, other in zip(weights(straight), weights(second), strict=True))


def test_an_old_checkpoint_goes_when_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, state(0), 1)

    def half_written(_: dict[str, Tensor], path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", half_written)
    told = r"0000002\.safetensors: No space left on device; the checkpoint of step 1 is whole, repeat the command"
    with pytest.raises(DataError, match=told):
        save_checkpoint(tmp_path, state(0), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["0000001.safetensors"]
