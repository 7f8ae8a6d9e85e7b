"""The state of training in one safetensors file, replaced whole: weights, optimiser, loss scaler and step."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from seedcli.base.errors import DataError
from seedcli.base.files import written_whole

CHECKPOINT = "checkpoint.safetensors"  # its name in a stage's folder


class TrainingState(NamedTuple):
    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


def save_checkpoint(path: Path, state: TrainingState, step: int) -> None:
    """Leave the state after `step` steps."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in state.module.named_parameters():
        tensors[f"weight/{name}"] = parameter.detach().contiguous()
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value.contiguous()
    numbers = {"step": step, "scaler": state.scaler.state_dict()}
    with written_whole(path) as aside:
        save_file(tensors, aside, metadata={"training": json.dumps(numbers)})


def load_checkpoint(path: Path, state: TrainingState) -> int:
    """Put a saved state into the given modules; the step it was saved at, 0 where there is none."""
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            numbers = json.loads(file.metadata()["training"])
            names = set(file.keys())
            with torch.no_grad():
                for name, parameter in state.module.named_parameters():
                    parameter.copy_(file.get_tensor(f"weight/{name}"))
                    keys = [
                        key.split("/")[1] for key in names if key.startswith("optimizer/") and key.endswith(f"/{name}")
                    ]
                    state.optimizer.state[parameter] = {
                        key: _placed(key, file.get_tensor(f"optimizer/{key}/{name}"), parameter) for key in keys
                    }
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{path}: not a checkpoint of this model ({error}); remove it to begin anew") from None
    state.scaler.load_state_dict(numbers["scaler"])
    return int(numbers["step"])


def _placed(key: str, value: Tensor, parameter: Tensor) -> Tensor:
    """A fused optimiser keeps its step count where the parameter is."""
    return value.to(parameter.device) if key == "step" else value.to(parameter.device, parameter.dtype)
