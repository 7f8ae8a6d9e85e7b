"""Graphs that ONNX Runtime computes: the encoder's vectors, or near ones in int8; made once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, BertConfig, DistilBertConfig, ModernBertConfig, MPNetConfig, RobertaConfig

from seedcli.base.errors import ConfigError, SeedError
from seedcli.data.batches import padded
from seedcli.data.tokenizer import Tokenizer
from seedcli.models import graphs, onnx
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.models.heads import dense_head

pytest.importorskip("onnxscript", reason='graphs need pip install "seedcli[onnx]"')
onnx_files = pytest.importorskip("onnx")
pytestmark = pytest.mark.slow
CONFIGS: dict[str, Any] = {
    "bert": BertConfig, "distilbert": DistilBertConfig, "roberta": RobertaConfig, "mpnet": MPNetConfig,
    "modernbert": ModernBertConfig,
}  # fmt: skip


def encoder_of(kind: str, words: int, **settings: Any) -> Encoder:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 128, "max_position_embeddings": 80}
    if kind == "distilbert":
        sizes = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "max_position_embeddings": 80}
    config = CONFIGS[kind](vocab_size=words, initializer_range=0.2, pad_token_id=0, **sizes)
    chosen = EncoderSettings(**{"query_length": 8, "passage_length": 62} | settings)
    head = dense_head([nn.Linear(64, 16), nn.LayerNorm(16)]) if kind == "roberta" else None
    return Encoder(AutoModel.from_config(config), chosen, head).eval()


def batches(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Any]:
    rows = tokenizer.encode([*texts, "it", "", "a call " * 30], 62)
    return [padded(some, tokenizer.pad) for some in (rows[:1], rows[:7], rows[7:20], rows[-3:], rows[-1:])]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_graph_gives_the_vectors_of_its_encoder_in_any_thread(
    kind: str, wordpiece: Tokenizer, texts: Sequence[str]
) -> None:
    pooling = {"pooling": "mean", "similarity": "cosine"} if kind in {"roberta", "mpnet"} else {}
    encoder = encoder_of(kind, wordpiece.size, **pooling)
    folder = graphs.kept_graph(encoder, wordpiece, f"vectors of {kind}", "fp32")
    compute = graphs.open_graph(folder)
    asked = batches(wordpiece, texts) * 4
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(compute, asked))
    with torch.inference_mode():
        for batch, vectors in zip(asked, found, strict=True):
            assert vectors.shape == (len(batch.tokens), 1, encoder.size)
            np.testing.assert_allclose(vectors.squeeze(1), encoder(batch), atol=2e-5)
    operators = [node.op_type for node in onnx_files.load(folder / "model.onnx").graph.node]
    one = kind not in {"mpnet", "modernbert"}  # an attention of its own; and rotations that ONNX Runtime refuses then
    assert operators.count("Attention") == (2 if one else 0)
    assert operators.count("Softmax") == (0 if one else 2)


@pytest.mark.parametrize("large", [False, True])
def test_int8_gives_near_vectors_from_weights_of_a_byte(
    wordpiece: Tokenizer, texts: Sequence[str], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a large model, whose weights stand beside its graph. Each column has a scale of its own."""
    if large:
        monkeypatch.setattr(onnx, "LARGEST", 1_000)
    encoder = encoder_of("bert", wordpiece.size)
    folder = graphs.kept_graph(encoder, wordpiece, f"int8 {large}", "int8")
    files = sorted(path.name for path in folder.iterdir())
    assert files == (["model.onnx", "model.onnx.data"] if large else ["model.onnx"])
    weights = {weight.name: weight for weight in onnx_files.load(folder / "model.onnx").graph.initializer}
    small = [weight for weight in weights.values() if weight.data_type == onnx_files.TensorProto.INT8]
    matrices = [weight for weight in small if len(weight.dims) == 2]
    assert len(matrices) == 12  # query, key, value, what joins the heads, up and down: of two layers
    scales = [weight for name, weight in weights.items() if name.endswith("_scale")]
    assert sorted(weight.dims[0] for weight in scales) == [64] * 10 + [128] * 2
    compute = graphs.open_graph(folder)
    with torch.inference_mode():
        for batch in batches(wordpiece, texts):
            expected, found = encoder(batch), compute(batch).squeeze(1)
            assert torch.cosine_similarity(expected, found).min() > 0.98
            assert (expected - found).abs().max() > 1e-4


@pytest.mark.parametrize(("exact", "most"), [(True, 127), (False, 64)])
def test_processors_that_sum_int8_in_sixteen_bits_get_weights_of_seven(
    wordpiece: Tokenizer, exact: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "adds_int8_exactly", lambda: exact)
    folder = graphs.kept_graph(encoder_of("bert", wordpiece.size), wordpiece, "bits", "int8")
    weights = onnx_files.load(folder / "model.onnx").graph.initializer
    values = [np.abs(onnx_files.numpy_helper.to_array(w).astype(int)).max() for w in weights if w.data_type == 3]
    assert max(values) == most


def test_a_graph_is_made_once(wordpiece: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("bert", wordpiece.size)
    folder = graphs.kept_graph(encoder, wordpiece, "made once", "fp32")
    monkeypatch.setattr(graphs, "write_graph", lambda *_, **__: pytest.fail("made again"))
    assert graphs.kept_graph(encoder, wordpiece, "made once", "fp32") == folder
    assert folder != graphs.graph_folder("made once", "int8") != graphs.graph_folder("another model", "int8")


def test_a_graph_that_is_wrong_or_fails_is_not_kept(
    wordpiece: Tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(folder: Path, encoder: Encoder, *_: Any) -> list[Path]:
        files = onnx.write_graph(folder, encoder)
        with torch.no_grad():
            encoder.backbone.get_input_embeddings().weight[:, 0] += 1
        return files

    def failing(folder: Path, *_: Any) -> list[Path]:
        (folder / "model.onnx").write_text("half")
        raise RuntimeError("no such operator\nand more")

    encoder = encoder_of("bert", wordpiece.size)
    for write, reason in ((wrong, "up to .* from the model's"), (failing, "no such operator")):
        monkeypatch.setattr(graphs, "write_graph", write)
        with pytest.raises(SeedError, match=rf"can't compute this model; take --runtime torch \(.*{reason}.*\)$"):
            graphs.kept_graph(encoder, wordpiece, "no", "fp32")
        assert not graphs.graph_folder("no", "fp32").exists()
        assert not list(cache.glob(".graph-*"))


def test_several_vectors_of_a_segment_are_none_of_a_graphs(wordpiece: Tokenizer) -> None:
    graphs.check_graph(encoder_of("bert", wordpiece.size, segments=3), "--runtime onnx")
    told = r"--runtime onnx: this model keeps the vectors of 2 tokens \(token_vectors\), and a graph gives one"
    with pytest.raises(ConfigError, match=told):
        graphs.check_graph(encoder_of("bert", wordpiece.size, token_vectors=2), "--runtime onnx")
