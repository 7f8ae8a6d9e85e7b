"""The state of training in a safetensors file a checkpoint, written whole: weights, optimiser, loss scaler and step."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor, nn

from seedcli.base.errors import DataError, telling_refusals
from seedcli.base.files import written_whole

CHECKPOINTS = "checkpoints"  # their folder in that of a stage
WEIGHT = "weight/"  # how the names of weights begin


class TrainingState(NamedTuple):
    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


class Checkpoint(NamedTuple):
    step: int
    path: Path


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Those in a folder, the newest last."""
    return sorted(Checkpoint(int(path.stem), path) for path in folder.glob("*.safetensors") if path.stem.isdigit())


def save_checkpoint(folder: Path, state: TrainingState, step: int, keep: int = 1) -> None:
    """Leave the state after `step` steps; of the older ones, so many stay that there are `keep` in all (0: all stay).

    They go when the new one is whole. Raises DataError when the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in state.module.named_parameters():
        tensors[f"{WEIGHT}{name}"] = parameter.detach().contiguous()
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value.contiguous()
    numbers = {"step": step, "scaler": state.scaler.state_dict()}
    path, before = folder / f"{step:07}.safetensors", checkpoints(folder)
    kept = [f"the checkpoint of step {newest.step:,} is whole" for newest in before[-1:]]
    with telling_refusals(path, *kept), written_whole(path) as aside:
        save_file(tensors, aside, metadata={"training": json.dumps(numbers)})
    for old in checkpoints(folder)[:-keep] if keep else []:
        old.path.unlink()


def load_checkpoint(folder: Path, state: TrainingState) -> int:
    """Put the newest saved state into the given modules; the step it was saved at, 0 where there is none."""
    found = checkpoints(folder)
    if not found:
        return 0
    try:
        with safe_open(found[-1].path, framework="pt") as file:
            numbers = json.loads(file.metadata()["training"])
            names = set(file.keys())
            with torch.no_grad():
                for name, parameter in state.module.named_parameters():
                    parameter.copy_(file.get_tensor(f"{WEIGHT}{name}"))
                    keys = [
                        key.split("/")[1] for key in names if key.startswith("optimizer/") and key.endswith(f"/{name}")
                    ]
                    state.optimizer.state[parameter] = {
                        key: _placed(key, file.get_tensor(f"optimizer/{key}/{name}"), parameter) for key in keys
                    }
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        rest = f"go on from step {found[-2].step:,}" if len(found) > 1 else "begin anew"
        raise DataError(f"{found[-1].path}: not a checkpoint of this model ({error}); remove it to {rest}") from None
    state.scaler.load_state_dict(numbers["scaler"])
    return int(numbers["step"])


def _placed(key: str, value: Tensor, parameter: Tensor) -> Tensor:
    """A fused optimiser keeps its step count where the parameter is."""
    return value.to(parameter.device) if key == "step" else value.to(parameter.device, parameter.dtype)


def save_weights(checkpoint: Path, path: Path) -> None:
    """Leave the weights of a checkpoint alone, which may go at any time. Raises FileNotFoundError when it is gone."""
    tensors = load(checkpoint.read_bytes())  # a mapped file that goes on another machine ends this process
    save_file({name.removeprefix(WEIGHT): value for name, value in tensors.items() if name.startswith(WEIGHT)}, path)


def load_weights(path: Path, module: nn.Module) -> None:
    """Put weights that save_weights left into a module."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(file.get_tensor(name))
