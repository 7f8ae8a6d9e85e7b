"""The weak decoder kept in its encoder's folder: decoder/config.json and decoder/model.safetensors."""

import dataclasses
from pathlib import Path
from typing import Annotated

import pydantic
from annotated_types import Ge, Lt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from seedcli.base.errors import DataError
from seedcli.base.files import read_json, write_json, written_whole
from seedcli.models.decoder import STD, DecoderLayer, WeakDecoder

DECODER = "decoder"  # its folder's name

Count = Annotated[int, Ge(1)]


@dataclasses.dataclass(frozen=True)
class DecoderShape:
    """What a WeakDecoder is made of, by the names of its parameters."""

    hidden: Count
    heads: Count
    intermediate: Count
    layers: Count
    window: Count | None
    positions: Count
    dropout: Annotated[float, Ge(0), Lt(1)]

    def new(self, std: float = STD) -> WeakDecoder:
        """A decoder of random weights, N(0, std)."""
        return WeakDecoder(**dataclasses.asdict(self), std=std)


def shape_of(decoder: WeakDecoder) -> DecoderShape:
    positions, hidden = decoder.positions.weight.shape
    layer = decoder.layers[0]
    assert isinstance(layer, DecoderLayer)
    wide = layer.up.out_features
    return DecoderShape(hidden, layer.heads, wide, len(decoder.layers), layer.window, positions, layer.rate)


def keeps_decoder(folder: Path) -> bool:
    """Whether a model folder has its decoder."""
    return _files(folder)[0].is_file()


def keep_decoder(folder: Path, decoder: WeakDecoder) -> list[Path]:
    """Leave the decoder in a model folder; the files written."""
    settings, weights = _files(folder)
    write_json(settings, dataclasses.asdict(shape_of(decoder)))
    with written_whole(weights) as aside:
        save_file({name: tensor.contiguous() for name, tensor in decoder.state_dict().items()}, aside)
    return [settings, weights]


def open_decoder(folder: Path, hidden: int) -> WeakDecoder:
    """The decoder in a model folder, whose encoder is `hidden` wide. Raises DataError when it is missing or broken."""
    settings, path = _files(folder)
    if not keeps_decoder(folder):
        raise DataError(f"{folder}: no decoder in it; seed pretrain leaves one with --keep-decoder")
    try:
        shape = pydantic.TypeAdapter(DecoderShape).validate_python(read_json(settings))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{settings}: names no decoder ({where}: {first['msg']})") from None
    if shape.hidden != hidden or hidden % shape.heads:
        raise DataError(
            f"{settings}: a decoder {shape.hidden} wide of {shape.heads} heads; the encoder is {hidden} wide"
        )
    decoder = shape.new()
    try:
        decoder.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"{path}: not the weights of this decoder ({reason:.200})") from None
    return decoder


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / DECODER / "config.json", folder / DECODER / "model.safetensors"
