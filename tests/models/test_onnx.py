"""ONNX graphs give their encoder's vectors, for any batch and length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from seedcli.base.errors import ConfigError, DataError
from seedcli.data.batches import padded
from seedcli.data.tokenizer import Tokenizer
from seedcli.models import onnx
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.models.heads import dense_head

pytest.importorskip("onnxscript", reason='the export needs pip install "seedcli[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime")


def encoder_of(config: Any, model: Any, settings: EncoderSettings, head: nn.Sequential | None, size: int) -> Encoder:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    backbone = model(config(vocab_size=size, max_position_embeddings=64, initializer_range=0.2, **sizes))
    return Encoder(backbone, settings, head).eval()


CASES: dict[str, Callable[[int], Encoder]] = {
    "bert": lambda size: encoder_of(BertConfig, BertModel, EncoderSettings("cls", "dot", 8, 62), None, size),
    "roberta": lambda size: encoder_of(
        RobertaConfig, RobertaModel, EncoderSettings("mean", "cosine", 8, 62),
        dense_head([nn.Linear(32, 16), nn.LayerNorm(16)]), size,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("case", "files"), [("bert", ["model.onnx"]), ("roberta", ["model.onnx", "model.onnx.data"])])
def test_a_graph_gives_the_vectors_of_its_encoder(
    case: str, files: list[str], wordpiece: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a large one, whose weights stand beside its graph."""
    if len(files) == 2:
        monkeypatch.setattr(onnx, "LARGEST", 1_000)
    encoder = CASES[case](wordpiece.size)
    assert onnx.write_graph(tmp_path, encoder) == [tmp_path / name for name in files]
    assert onnx.largest_difference(tmp_path, encoder, wordpiece) < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    described = [(value.name, value.shape, value.type) for value in (*session.get_inputs(), *session.get_outputs())]
    assert described == [
        ("input_ids", ["batch", "length"], "tensor(int64)"),
        ("attention_mask", ["batch", "length"], "tensor(int64)"),
        ("embedding", ["batch", encoder.size], "tensor(float)"),
    ]
    for texts in (["it"], ["the heron eats frogs and eels", "the otter", ""], ["a call " * 20] * 7):
        batch = padded(wordpiece.encode(texts, 62), wordpiece.pad)
        inputs = {"input_ids": batch.tokens.numpy(), "attention_mask": batch.attention.long().numpy()}
        with torch.inference_mode():
            np.testing.assert_allclose(session.run(["embedding"], inputs)[0], encoder(batch), atol=1e-5)
    assert b"site-packages" not in (tmp_path / "model.onnx").read_bytes()  # nor any other place of this machine

    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight[:, 0] += 1
    with pytest.raises(DataError, match=r"model\.onnx: its vectors are up to .* from the model's, over 0\.0001"):
        onnx.largest_difference(tmp_path, encoder, wordpiece)
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(DataError, match=r"its vectors are up to nan from the model's"):
        onnx.largest_difference(tmp_path, encoder, wordpiece)


def test_the_graph_is_probed_alone_and_padded_up_to_its_lengths(wordpiece: Tokenizer) -> None:
    batches = list(onnx.probes(CASES["bert"](wordpiece.size), wordpiece))
    shapes = [tuple(batch.tokens.shape) for batch in batches]
    assert shapes == [(1, 8), (2, 8), (5, 8), (1, 62), (2, 62), (5, 62)]
    assert not all(batch.attention.all() for batch in batches)


def test_a_missing_package_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.check_packages("--to onnx")
    monkeypatch.setattr(onnx.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ConfigError, match=r'--to onnx needs onnxscript: pip install "seedcli\[onnx\]"'):
        onnx.check_packages("--to onnx")
