"""Heads between pooling and normalisation: plain computation, and folders that sentence-transformers reads alike."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense as TheirDense
from torch import nn
from transformers import AutoModel, BertConfig, BertModel

from seedcli.base.errors import DataError
from seedcli.base.runtime import Runtime
from seedcli.data.batches import padded
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder, EncoderSettings, open_encoder, save_model
from seedcli.models.heads import dense_head, read_head
from seedcli.retrieval.encoding import TextEncoder

KINDS = [("cls", "dot"), ("mean", "cosine")]


@pytest.fixture(scope="module")
def backbone(wordpiece: Tokenizer) -> BertModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=wordpiece.size, max_position_embeddings=64, initializer_range=0.2, **sizes)
    return BertModel(config).eval()


@pytest.fixture
def head() -> nn.Sequential:
    """From 32 values to 24, with a norm that does something."""
    torch.manual_seed(1)
    norm = nn.LayerNorm(24)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return dense_head([nn.Linear(32, 24), norm])


def encoded(folder: Path, texts: Sequence[str]) -> Any:
    return TextEncoder(*open_encoder(folder), Runtime(), 500).encode(texts, "passage")


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_read_alike_here_and_by_sentence_transformers(
    kind: tuple[Any, Any], tmp_path: Path, backbone: BertModel, wordpiece: Tokenizer, texts: Sequence[str],
    head: nn.Sequential,
) -> None:  # fmt: skip
    settings = EncoderSettings(*kind, query_length=16, passage_length=16)
    ours = Encoder(backbone, settings, head)
    files = save_model(tmp_path / "model", backbone, wordpiece, settings, ours.head)
    assert {"2_Dense/model.safetensors", "3_LayerNorm/config.json", "1_Pooling/config.json"} <= {
        str(path.relative_to(tmp_path / "model")) for path in files
    }
    with torch.inference_mode():
        rows = wordpiece.encode(texts[:5], 16)
        expected = ours(padded(rows, wordpiece.pad)).numpy()
        states = [backbone(input_ids=torch.tensor([row.tolist()]))[0][0] for row in rows]
        pooled = torch.stack([state[0] if kind[0] == "cls" else state.mean(0) for state in states])
        plain = head[1](pooled @ head[0].linear.weight.T + head[0].linear.bias)
        plain = plain / plain.norm(dim=1, keepdim=True) if kind[1] == "cosine" else plain
    np.testing.assert_allclose(expected, plain, atol=1e-5)
    assert expected.shape == (5, 24)
    np.testing.assert_allclose(encoded(tmp_path / "model", texts[:5]), expected, atol=1e-5)
    others = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(others.encode(list(texts[:5])), expected, atol=1e-5)
    others.save(str(tmp_path / "again"))  # as today's sentence-transformers writes it
    np.testing.assert_allclose(encoded(tmp_path / "again", texts[:5]), expected, atol=1e-5)
    AutoModel.from_pretrained(tmp_path / "model")


def test_a_dense_layer_of_sentence_transformers_with_tanh_is_applied(
    tmp_path: Path, backbone: BertModel, wordpiece: Tokenizer, texts: Sequence[str]
) -> None:
    save_model(tmp_path / "plain", backbone, wordpiece, EncoderSettings(passage_length=16, query_length=16))
    theirs = SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    theirs.append(TheirDense(32, 8, bias=False))
    theirs.save(str(tmp_path / "dense"))
    found = encoded(tmp_path / "dense", texts[:5])
    np.testing.assert_allclose(found, theirs.encode(list(texts[:5])), atol=1e-5)
    encoder, tokenizer = open_encoder(tmp_path / "dense")
    save_model(tmp_path / "ours", encoder.backbone, tokenizer, encoder.settings, encoder.head)
    again = SentenceTransformer(str(tmp_path / "ours"), device="cpu").encode(list(texts[:5]))
    np.testing.assert_allclose(again, found, atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path, backbone: BertModel, wordpiece: Tokenizer, head: nn.Sequential) -> Path:
    save_model(tmp_path, backbone, wordpiece, EncoderSettings("cls", "cosine", 16, 16), head)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"in_features": 16}, r"2_Dense/config\.json: takes vectors of 16 values, where the model gives 32"),
        ({"out_features": 20}, r"2_Dense/model\.safetensors: not the weights of this Dense"),
        ({"out_features": "wide"}, r"2_Dense/config\.json: doesn't describe a Dense"),
        ({"activation_function": "torch.nn.modules.activation.ReLU"}, "not a dense layer that seed can apply"),
        ({"use_residual": True}, "not a dense layer that seed can apply"),
        ({"module_input_name": "token_embeddings"}, "not a dense layer that seed can apply"),
    ],
)
def test_a_dense_layer_that_does_not_fit_is_refused(folder: Path, changed: dict[str, Any], message: str) -> None:
    described = folder / "2_Dense" / "config.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | changed))
    with pytest.raises(DataError, match=message):
        read_head(folder, 32)


def test_weights_that_are_gone_or_others_are_refused(folder: Path) -> None:
    weights = folder / "3_LayerNorm" / "model.safetensors"
    assert load_file(weights).keys() == {"norm.weight", "norm.bias"}
    save_file({"norm.weight": torch.zeros(24)}, weights)
    with pytest.raises(DataError, match=r"model\.safetensors: not the weights of this LayerNorm"):
        read_head(folder, 32)
    weights.unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: no such file; other weight formats can run code"):
        read_head(folder, 32)


def test_a_head_after_the_normalisation_is_refused(folder: Path) -> None:
    listed = folder / "modules.json"
    lines = json.loads(listed.read_text())
    assert [line["path"] for line in lines] == ["", "1_Pooling", "2_Dense", "3_LayerNorm", "4_Normalize"]
    for order in ([0, 1, 2, 4, 3], [0, 2, 3, 1, 4]):
        listed.write_text(json.dumps([lines[row] for row in order]))
        with pytest.raises(DataError, match=r"modules\.json: a Dense stands elsewhere than right after the pooling"):
            read_head(folder, 32)
    listed.write_text("[{}]")
    with pytest.raises(DataError, match=r"modules\.json: not a folder of sentence-transformers"):
        read_head(folder, 32)


def test_most_models_have_no_head(tmp_path: Path, backbone: BertModel, wordpiece: Tokenizer) -> None:
    save_model(tmp_path / "model", backbone, wordpiece, EncoderSettings(passage_length=16, query_length=16))
    assert read_head(tmp_path / "model", 32) is None
    assert read_head(tmp_path, 32) is None
