"""What may stand between pooling and normalisation: dense layers and layer norms, kept as sentence-transformers does.

Letters: B texts, D width of a pooled vector.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seedcli.base.errors import DataError
from seedcli.base.files import read_json, write_json, written_whole

WEIGHTS = "model.safetensors"
PARTS = ("Dense", "LayerNorm")
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
}


class Module(NamedTuple):
    """A line of modules.json: the class without its path, and the folder of its files."""

    kind: str
    place: Path


class Dense(nn.Module):
    """A linear layer and what follows it, [B, D] -> [B, D']."""

    def __init__(self, linear: nn.Linear, activation: nn.Module):
        super().__init__()
        self.linear = linear
        self.activation = activation

    def forward(self, pooled: Tensor) -> Tensor:
        return self.activation(self.linear(pooled))  # type: ignore[no-any-return]


def width(head: nn.Sequential) -> int:
    """How wide the vectors are that a head gives."""
    last = head[-1]
    return last.linear.out_features if isinstance(last, Dense) else int(last.normalized_shape[0])  # type: ignore[index]


def read_modules(folder: Path) -> list[Module]:
    """What modules.json lists, nothing where there is none. Raises DataError for a path that leaves the folder."""
    listed = folder / "modules.json"
    try:
        lines = [(str(line["type"]), str(line["path"])) for line in read_json(listed)] if listed.is_file() else []
    except (KeyError, TypeError) as error:
        raise DataError(f"{listed}: not a folder of sentence-transformers ({error!r})") from None
    for _, path in lines:
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{listed}: the path {path!r} lies outside the folder")
    return [Module(kind.rsplit(".", 1)[-1], folder / path) for kind, path in lines]


def read_head(folder: Path, hidden: int) -> nn.Sequential | None:
    """The head in a model folder, None where it has none. Raises DataError when it doesn't fit `hidden` values."""
    modules = read_modules(folder)
    kinds = [module.kind for module in modules]
    parts = [row for row, kind in enumerate(kinds) if kind in PARTS]
    if not parts:
        return None
    if "Pooling" in kinds[parts[0] :] or "Normalize" in kinds[: parts[-1]]:
        raise DataError(f"{folder / 'modules.json'}: a {kinds[parts[0]]} stands elsewhere than right after the pooling")
    head = nn.Sequential()
    for row in parts:
        head.append(_read_part(modules[row], width(head) if head else hidden))
    return head


def write_head(folder: Path, head: nn.Sequential | None) -> list[tuple[str, str]]:
    """Leave a head's files, folders from 2 on; (path, kind) of each part."""
    written = []
    for row, part in enumerate(head or [], start=2):
        kind = "Dense" if isinstance(part, Dense) else "LayerNorm"
        place = folder / f"{row}_{kind}"
        write_json(place / "config.json", _options(part))
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in part.state_dict().items()}
        prefix = "" if kind == "Dense" else "norm."
        with written_whole(place / WEIGHTS) as aside:
            save_file({prefix + name: tensor for name, tensor in tensors.items()}, aside)
        written.append((place.name, kind))
    return written


def new_head(hidden: int, std: float) -> nn.Sequential:
    """Linear(D, D) -> LayerNorm, as the published MS MARCO and MIND runs have it; weights N(0, std), biases 0."""
    linear = nn.Linear(hidden, hidden)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return dense_head([linear, nn.LayerNorm(hidden)])


def is_linear(head: nn.Sequential | None) -> bool:
    """Whether a head is of the kind that new_head makes."""
    parts = list(head or [])
    kinds = [type(part) for part in parts]
    return kinds == [Dense, nn.LayerNorm] and isinstance(parts[0].activation, nn.Identity)


def dense_head(layers: Sequence[nn.Linear | nn.LayerNorm]) -> nn.Sequential:
    """A head of plain layers, without activations."""
    return nn.Sequential(*(Dense(part, nn.Identity()) if isinstance(part, nn.Linear) else part for part in layers))


def _options(part: nn.Module) -> dict[str, Any]:
    """What sentence-transformers wants to know of a part."""
    if not isinstance(part, Dense):
        return {"dimension": int(part.normalized_shape[0])}  # type: ignore[index]
    activation = type(part.activation)
    return {
        "in_features": part.linear.in_features,
        "out_features": part.linear.out_features,
        "bias": part.linear.bias is not None,
        "activation_function": f"{activation.__module__}.{activation.__qualname__}",
    }


def _read_part(module: Module, wide: int) -> Dense | nn.LayerNorm:
    """A part that takes `wide` values."""
    described = module.place / "config.json"
    options = read_json(described)
    try:
        part = _dense(described, options) if module.kind == "Dense" else nn.LayerNorm(int(options["dimension"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{described}: doesn't describe a {module.kind} ({error!r})") from None
    takes = part.linear.in_features if isinstance(part, Dense) else part.normalized_shape[0]
    if takes != wide:
        raise DataError(f"{described}: takes vectors of {takes} values, where the model gives {wide}")
    weights = module.place / WEIGHTS
    if not weights.is_file():
        raise DataError(f"{weights}: no such file; other weight formats can run code and are not read")
    try:
        tensors = {name.removeprefix("norm."): tensor.float() for name, tensor in load_file(weights).items()}
        part.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        raise DataError(
            f"{weights}: not the weights of this {module.kind} ({str(error).splitlines()[-1]:.200})"
        ) from None
    return part


def _dense(described: Path, options: dict[str, Any]) -> Dense:
    name = str(options.get("activation_function", "torch.nn.modules.activation.Tanh"))
    ends = [options.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")]
    if name not in ACTIVATIONS or options.get("use_residual") or ends != ["sentence_embedding"] * 2:
        raise DataError(f"{described}: not a dense layer that seed can apply; after it may stand Tanh or nothing")
    linear = nn.Linear(int(options["in_features"]), int(options["out_features"]), bias=bool(options.get("bias", True)))
    return Dense(linear, ACTIVATIONS[name]())
