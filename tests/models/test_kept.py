"""A decoder kept in a model folder comes back as it was, and a broken one is told."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seedcli.base.errors import DataError
from seedcli.models.decoder import WeakDecoder
from seedcli.models.kept import DecoderShape, keep_decoder, keeps_decoder, open_decoder, shape_of

SHAPE = DecoderShape(hidden=32, heads=4, intermediate=48, layers=2, window=3, positions=20, dropout=0.2)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    keep_decoder(tmp_path, SHAPE.new())
    return tmp_path


@pytest.mark.parametrize("window", [3, None])
def test_a_kept_decoder_says_the_same(tmp_path: Path, window: int | None) -> None:
    torch.manual_seed(0)
    decoder = WeakDecoder(32, 4, 48, 2, window, 20, dropout=0.2)
    assert not keeps_decoder(tmp_path)
    files = keep_decoder(tmp_path, decoder)
    assert [str(path.relative_to(tmp_path)) for path in files] == ["decoder/config.json", "decoder/model.safetensors"]
    assert keeps_decoder(tmp_path)
    again = open_decoder(tmp_path, 32)
    assert shape_of(again) == shape_of(decoder) == DecoderShape(32, 4, 48, 2, window, 20, 0.2)
    words, h0 = torch.randn(2, 9, 32), torch.randn(2, 32)
    assert torch.equal(again.eval()(words, h0), decoder.eval()(words, h0))


def test_a_model_without_a_decoder_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no decoder in it; seed pretrain leaves one with --keep-decoder"):
        open_decoder(tmp_path, 32)


def test_a_decoder_of_another_width_is_refused(kept: Path) -> None:
    with pytest.raises(DataError, match=r"config.json: a decoder 32 wide of 4 heads; the encoder is 64 wide"):
        open_decoder(kept, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 3}, r"model.safetensors: not the weights of this decoder \(Missing key"),
        ({"layers": 1}, r"model.safetensors: not the weights of this decoder \(Unexpected key"),
        ({"positions": 21}, r"model.safetensors: not the weights of this decoder \(size mismatch for positions"),
        ({"heads": 5}, "config.json: a decoder 32 wide of 5 heads"),
        ({"window": 0}, r"config.json: names no decoder \(window: .* greater than or equal to 1"),
        ({"layers": "two"}, r"config.json: names no decoder \(layers: "),
        ({"window": ...}, r"config.json: names no decoder \(window: Field required"),
    ],
)
def test_settings_that_are_none_are_told(kept: Path, change: dict[str, object], message: str) -> None:
    path = kept / "decoder" / "config.json"
    settings = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not ...}))
    with pytest.raises(DataError, match=message):
        open_decoder(kept, 32)


def test_weights_that_are_torn_or_gone_are_told(kept: Path) -> None:
    path = kept / "decoder" / "model.safetensors"
    save_file({name: tensor[:1] for name, tensor in load_file(path).items()}, path)
    with pytest.raises(DataError, match="not the weights of this decoder"):
        open_decoder(kept, 32)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="not the weights of this decoder"):
        open_decoder(kept, 32)
    path.unlink()
    with pytest.raises(DataError, match="not the weights of this decoder"):
        open_decoder(kept, 32)
