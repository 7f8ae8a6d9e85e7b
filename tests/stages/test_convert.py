"""seed model convert: a released checkpoint becomes a folder that everything else reads; a folder becomes a graph."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, RobertaConfig, RobertaForMaskedLM

from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import Manifest, finished
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.configs.convert import ConvertConfig
from seedcli.data.batches import padded
from seedcli.models.convert import encoder_names
from seedcli.models.encoder import EncoderSettings, open_encoder
from seedcli.retrieval.encoding import TextEncoder
from seedcli.stages.stage import perform as perform_stage


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, verb: str, folder: Path, state: str, inputs: Any) -> None:  # noqa: ARG002
        self.lines.append(state)

    def say(self, line: str) -> None:
        self.lines.append(line)


def converted(told: Told | None = None, **flags: Any) -> Manifest:
    given = {name: str(value) for name, value in flags.items()}
    return perform_stage("convert", resolve(ConvertConfig, {}, given, "a test"), told or Silent())


class Release(NamedTuple):
    folder: Path
    model: RobertaForMaskedLM
    head: list[Any]  # the fine-tuned one's layers


@pytest.fixture
def release(tmp_path: Path, texts: list[str]) -> Release:
    """A model under fairseq's names (tests/models/test_convert.py proves those), with a vocabulary of the texts."""
    words = sorted({word.strip(".,").lower() for text in texts for word in text.split()})
    (tmp_path / "released").mkdir()
    lines = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", ".", ",", *words]
    (tmp_path / "released" / "vocab.txt").write_text("".join(f"{line}\n" for line in lines))
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(lines) + 1, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5, initializer_range=0.2,
    )  # fmt: skip
    model = RobertaForMaskedLM(config).eval()
    nn.init.zeros_(model.roberta.embeddings.token_type_embeddings.weight)
    norm = nn.LayerNorm(32)
    nn.init.normal_(norm.weight)
    return Release(tmp_path / "released", model, [nn.Linear(32, 32), norm])


def named(model: RobertaForMaskedLM, prefix: str) -> dict[str, Tensor]:
    own = model.roberta.state_dict()
    return {prefix + name: own[place] for name, place in encoder_names(2).items()}


def pretrained(release: Release) -> dict[str, Tensor]:
    parts = {name: weight for name, weight in release.model.state_dict().items() if name.startswith("lm_head.")}
    decoder = {"decoder.embed_tokens.weight": release.model.get_input_embeddings().weight.detach()}
    return named(release.model, "encoder.sentence_encoder.") | decoder | {
        f"encoder.{name}": weight for name, weight in parts.items() if ".decoder." not in name
    }  # fmt: skip


def tuned(release: Release) -> dict[str, Tensor]:
    linear, norm = release.head
    parts = {f"embeddingHead.{name}": weight for name, weight in linear.state_dict().items()}
    parts |= {f"norm.{name}": weight for name, weight in norm.state_dict().items()}
    return named(release.model, "module.encoder.") | {f"module.{name}": weight for name, weight in parts.items()}


@pytest.fixture
def fairseq(release: Release) -> Path:
    args = argparse.Namespace(encoder_attention_heads=4, activation_fn="gelu")
    torch.save({"args": args, "model": pretrained(release)}, release.folder / "checkpoint.pt")
    return release.folder


@pytest.fixture
def fine_tuned(release: Release) -> Path:
    torch.save(tuned(release), release.folder / "SEED-Encoder-pass-440000.pt")
    return release.folder


def states(release: Release, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        return release.model.roberta(input_ids=torch.tensor([ids]))[0][0]


def encoded(folder: Path, texts: list[str]) -> Any:
    return TextEncoder(*open_encoder(folder), Runtime(), 500).encode(texts, "passage")


def test_a_released_checkpoint_becomes_a_folder_that_all_read_alike(
    fairseq: Path, release: Release, tmp_path: Path, texts: list[str]
) -> None:
    out = tmp_path / "model"
    manifest = converted(source=fairseq, out=out)
    size = release.model.config.vocab_size
    expected = {"layers": 2, "width": 32, "heads": 4, "vocabulary": size, "brings": "a masked-word head"}
    assert manifest.metrics == expected
    assert set(manifest.inputs) == {"checkpoint", "vocabulary"}
    assert finished(out, "convert").identity == manifest.identity
    encoder, tokenizer = open_encoder(out)
    assert encoder.settings == EncoderSettings("cls", "dot", 64, 64)
    few = texts[:8]
    rows = [row.tolist() for row in tokenizer.encode(few, 64)]
    assert all(3 not in row for row in rows)
    vectors = np.stack([states(release, row)[0].numpy() for row in rows])
    np.testing.assert_allclose(encoded(out, few), vectors, atol=1e-5)
    np.testing.assert_allclose(SentenceTransformer(str(out), device="cpu").encode(few), vectors, atol=1e-5)
    inputs = AutoTokenizer.from_pretrained(out)(few, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = AutoModel.from_pretrained(out)(**inputs).last_hidden_state[:, 0]
        logits = AutoModelForMaskedLM.from_pretrained(out)(**inputs).logits
        own = release.model(**inputs).logits
    np.testing.assert_allclose(theirs, vectors, atol=1e-5)
    torch.testing.assert_close(logits[0], own[0], rtol=0, atol=1e-4)


def test_a_fine_tuned_checkpoint_brings_its_head(
    fine_tuned: Path, release: Release, tmp_path: Path, texts: list[str], perform: Callable[..., Manifest], beir: Path
) -> None:
    told = Told()
    out = tmp_path / "model"
    manifest = converted(told, source=fine_tuned / "SEED-Encoder-pass-440000.pt", out=out, heads=4)
    assert manifest.metrics["brings"] == "an embedding head"
    assert "it has no masked-word head: further pre-training begins one anew" in told.lines
    assert {"2_Dense/model.safetensors", "3_LayerNorm/model.safetensors"} <= manifest.outputs.keys()
    _, tokenizer = open_encoder(out)
    linear, norm = release.head
    first = torch.stack([states(release, row.tolist())[0] for row in tokenizer.encode(texts[:8], 64)])
    with torch.no_grad():
        vectors = norm(linear(first)).numpy()
    np.testing.assert_allclose(encoded(out, texts[:8]), vectors, atol=1e-5)
    np.testing.assert_allclose(SentenceTransformer(str(out), device="cpu").encode(texts[:8]), vectors, atol=1e-5)
    assert perform("encode", out=tmp_path / "vectors", model=out, corpus=beir).metrics["width"] == 32


def test_the_port_is_read_with_its_config(release: Release, tmp_path: Path) -> None:
    state = {f"seed_encoder.{name}": weight for name, weight in pretrained(release).items() if "lm_head" not in name}
    state |= {
        name.removeprefix("encoder."): weight for name, weight in pretrained(release).items() if "lm_head" in name
    }
    torch.save(state, release.folder / "pytorch_model.bin")
    (release.folder / "config.json").write_text(json.dumps({"encoder_attention_heads": 4, "activation_fn": "gelu"}))
    manifest = converted(source=release.folder, out=tmp_path / "model")
    assert set(manifest.inputs) == {"checkpoint", "vocabulary", "config"}
    assert (manifest.metrics["heads"], manifest.metrics["brings"]) == (4, "a masked-word head")


def test_pre_training_goes_on_from_what_was_converted(
    fairseq: Path, tmp_path: Path, perform: Callable[..., Manifest], beir: Path
) -> None:
    converted(source=fairseq, out=tmp_path / "model")
    steps = {"optimize.steps": 2, "optimize.batch_size": 4, "optimize.micro_batch": 4, "words.length": 32}
    told = perform("pretrain", out=tmp_path / "more", text=[str(beir)], **{"model.init": tmp_path / "model"}, **steps)
    assert told.status == "finished"
    encoder, tokenizer = open_encoder(tmp_path / "more")
    assert (tokenizer.mask, tokenizer.pad) == (encoder.backbone.config.vocab_size - 1, 1)


def test_what_is_done_is_left_alone_and_a_change_is_noticed(fairseq: Path, tmp_path: Path) -> None:
    told = Told()
    first = converted(told, source=fairseq, out=tmp_path / "model")
    again = converted(told, source=fairseq / "checkpoint.pt", out=tmp_path / "model", vocabulary=fairseq / "vocab.txt")
    assert (again.identity, told.lines[0], told.lines[-1]) == (first.identity, "new", "done")


@pytest.mark.slow
def test_a_folder_becomes_a_graph(fine_tuned: Path, tmp_path: Path, texts: list[str]) -> None:
    pytest.importorskip("onnxscript", reason='the export needs pip install "seedcli[onnx]"')
    onnxruntime = pytest.importorskip("onnxruntime")
    converted(source=fine_tuned, out=tmp_path / "model", heads=4)
    out = tmp_path / "graph"
    manifest = converted(source=tmp_path / "model", out=out, to="onnx")
    assert manifest.metrics["width"] == 32
    assert 0 <= manifest.metrics["largest_difference"] < 1e-4
    assert set(manifest.outputs) == {"model.json", "model.onnx", "tokenizer.json", "tokenizer_config.json"}
    assert json.loads((out / "model.json").read_text())["pooling"] == "cls"
    encoder, tokenizer = open_encoder(tmp_path / "model")
    inputs = AutoTokenizer.from_pretrained(out)(texts[:8], padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["embedding"], {name: inputs[name] for name in ("input_ids", "attention_mask")})
    with torch.inference_mode():
        expected = encoder.eval()(padded(tokenizer.encode(texts[:8], 64), tokenizer.pad))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ({"source": "nowhere"}, DataError, "nowhere: no such file or folder; give a released checkpoint"),
        ({"vocabulary": "nowhere"}, DataError, "--vocabulary nowhere: no such file"),
        ({"vocabulary": "."}, DataError, "--vocabulary .: no such file; name the vocab.txt or dict.txt itself"),
        ({"to": "onnx", "heads": 4}, ConfigError, "--vocabulary and --heads are for released checkpoints"),
        ({"to": "onnx"}, DataError, "no model in it"),
        ({"heads": 5}, DataError, "5 attention heads can't share 32 values; give --heads"),
    ],
)
def test_what_can_not_be_converted_is_told(
    fairseq: Path, tmp_path: Path, flags: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        converted(**{"source": fairseq, "out": tmp_path / "model"} | flags)


def test_a_vocabulary_of_another_size_is_told(fairseq: Path, tmp_path: Path) -> None:
    (fairseq / "other.txt").write_text("[CLS]\n[PAD]\n[SEP]\n[UNK]\n")
    with pytest.raises(DataError, match=r"other\.txt: 5 ids with <mask>, where the checkpoint has"):
        converted(source=fairseq, out=tmp_path / "model", vocabulary=fairseq / "other.txt")
