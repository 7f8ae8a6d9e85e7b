"""Released checkpoints: fabricated ones of the true names, against their layout computed from its parts."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor
from transformers import AutoTokenizer, RobertaForMaskedLM

from seedcli.base.errors import DataError
from seedcli.data.batches import padded
from seedcli.models.convert import (
    Checkpoint,
    architecture,
    convert,
    encoder_names,
    encoder_prefix,
    find_checkpoint,
    find_vocabulary,
    masked_word_names,
    read_checkpoint,
    read_vocabulary,
    release_tokenizer,
)
from seedcli.models.encoder import Encoder, EncoderSettings, save_model

FAIRSEQ, TUNED, PORT = "encoder.sentence_encoder.", "module.encoder.", "seed_encoder.encoder.sentence_encoder."
BLOCK = [
    "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "self_attn_layer_norm",
    "fc1", "fc2", "final_layer_norm",
]  # fmt: skip
WORDS = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "the", "otter", "##s", "eat", "caf", "##é", "é", "!", "日", "σ", "ab"]


def encoder_shapes(
    prefix: str, layers: int = 2, hidden: int = 64, wide: int = 96, entries: int = 40, positions: int = 14
) -> dict[str, tuple[int, ...]]:
    """The names and shapes of fairseq's TransformerSentenceEncoder with a norm on its embeddings."""
    sizes = {"fc1": (wide, hidden), "fc2": (hidden, wide)}
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (entries, hidden),
        "embed_positions.weight": (positions, hidden),
        "emb_layer_norm.weight": (hidden,),
        "emb_layer_norm.bias": (hidden,),
    }
    for row in range(layers):
        for module in BLOCK:
            matrix = (hidden,) if "norm" in module else sizes.get(module, (hidden, hidden))
            shapes |= {f"layers.{row}.{module}.weight": matrix, f"layers.{row}.{module}.bias": matrix[:1]}
    return {prefix + name: shape for name, shape in shapes.items()}


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(0)
    around = {name: float("norm" in name and name.endswith("weight")) for name in shapes}
    return {name: around[name] + 0.2 * torch.randn(shape, generator=chance) for name, shape in shapes.items()}


def pretrained() -> dict[str, Tensor]:
    """As in SEED-Encoder-3-decoder-2-attn.pt, under "model"."""
    shapes = encoder_shapes(FAIRSEQ) | {
        "encoder.lm_head.bias": (40,),
        "encoder.lm_head.dense.weight": (64, 64),
        "encoder.lm_head.dense.bias": (64,),
        "encoder.lm_head.layer_norm.weight": (64,),
        "encoder.lm_head.layer_norm.bias": (64,),
        "decoder.version": (1,),
        "decoder.embed_positions.weight": (14, 64),
        "decoder.layernorm_embedding.weight": (64,),
        "decoder.layernorm_embedding.bias": (64,),
        "decoder.layers.0.encoder_attn.v_proj.weight": (64, 64),
    }
    state = random_weights(shapes)
    tied = state[f"{FAIRSEQ}embed_tokens.weight"]
    tied[1] = 0
    names = ("encoder.lm_head.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")
    return state | dict.fromkeys(names, tied)


def tuned() -> dict[str, Tensor]:
    """As in SEED-Encoder-pass-440000.pt, which is the state itself, of a model in DataParallel."""
    shapes = {"module.embeddingHead.weight": (48, 64), "module.embeddingHead.bias": (48,)}
    shapes |= {"module.norm.weight": (48,), "module.norm.bias": (48,)}
    return random_weights(encoder_shapes(TUNED) | shapes)


def port() -> dict[str, Tensor]:
    """As in the pytorch_model.bin of SEEDEncoderForMaskedLM."""
    return {
        name.replace("encoder.lm_head.", "lm_head.") if "lm_head" in name else f"seed_encoder.{name}": weight
        for name, weight in pretrained().items()
    }


def checkpoint(state: dict[str, Tensor], **options: Any) -> Checkpoint:
    return Checkpoint(Path("released.pt"), state, {"encoder_attention_heads": 4} | options)


def states_of(state: dict[str, Tensor], prefix: str, ids: Tensor, heads: int) -> Tensor:
    """The layout from its parts: ids [B, n] -> the last states [B, n, D], norms after each block."""
    weights = {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    real = ids != 1
    positions = torch.cumsum(real, 1) * real + 1
    x = norm("emb_layer_norm", weights["embed_tokens.weight"][ids] + weights["embed_positions.weight"][positions])
    x = x * real.unsqueeze(-1)
    batch, length, hidden = x.shape
    for row in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))):
        layer = f"layers.{row}"
        q, k, v = (
            linear(f"{layer}.self_attn.{name}_proj", x).view(batch, length, heads, -1).transpose(1, 2) for name in "qkv"
        )
        scores = q @ k.transpose(2, 3) / (hidden // heads) ** 0.5
        mixed = scores.masked_fill(~real[:, None, None, :], float("-inf")).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).reshape(batch, length, hidden)
        x = norm(f"{layer}.self_attn_layer_norm", x + linear(f"{layer}.self_attn.out_proj", mixed))
        inner = linear(f"{layer}.fc1", x)
        inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
        x = norm(f"{layer}.final_layer_norm", x + linear(f"{layer}.fc2", inner))
    return x


@pytest.fixture(scope="module")
def ids() -> Tensor:
    """Three texts, two of them padded; the first as long as the position table allows."""
    chance = np.random.default_rng(0)
    return padded([np.array([0, *chance.integers(3, 40, length), 2]) for length in (10, 4, 1)], 1).tokens


@pytest.mark.parametrize(("made", "prefix"), [(pretrained, FAIRSEQ), (tuned, TUNED), (port, PORT)])
def test_the_states_are_those_of_the_released_layout(
    made: Callable[[], dict[str, Tensor]], prefix: str, ids: Tensor
) -> None:
    state = made()
    model = convert(checkpoint(state)).model.base_model.eval()
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=ids != 1)[0]
    expected = states_of(state, prefix, ids, heads=4)
    torch.testing.assert_close(found[ids != 1], expected[ids != 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("made", "prefix", "root"), [(pretrained, FAIRSEQ, "encoder."), (port, PORT, "")])
def test_the_masked_word_head_comes_along(
    made: Callable[[], dict[str, Tensor]], prefix: str, root: str, ids: Tensor
) -> None:
    state = made()
    converted = convert(checkpoint(state))
    assert converted.masked_words
    head = {name.removeprefix(f"{root}lm_head."): weight for name, weight in state.items() if "lm_head" in name}
    x = F.gelu(states_of(state, prefix, ids, heads=4) @ head["dense.weight"].T + head["dense.bias"])
    x = F.layer_norm(x, (64,), head["layer_norm.weight"], head["layer_norm.bias"], 1e-5)
    expected = x @ state[f"{prefix}embed_tokens.weight"].T + head["bias"]
    with torch.inference_mode():
        found = converted.model.eval()(input_ids=ids, attention_mask=ids != 1).logits
    torch.testing.assert_close(found[ids != 1], expected[ids != 1], rtol=0, atol=5e-5)


def test_a_head_with_a_matrix_of_its_own_is_left_out() -> None:
    state = pretrained()
    state["encoder.lm_head.weight"] = state["encoder.lm_head.weight"] + 1
    assert not convert(checkpoint(state)).masked_words


def test_the_head_of_a_fine_tuned_one_stands_over_the_cls_state(ids: Tensor) -> None:
    state = tuned()
    converted = convert(checkpoint(state))
    assert not converted.masked_words
    encoder = Encoder(converted.model, EncoderSettings(), converted.head).eval()
    assert encoder.size == 48
    first = states_of(state, TUNED, ids, heads=4)[:, 0]
    dense = first @ state["module.embeddingHead.weight"].T + state["module.embeddingHead.bias"]
    expected = F.layer_norm(dense, (48,), state["module.norm.weight"], state["module.norm.bias"], 1e-5)
    rows = [row[row != 1].numpy() for row in ids]
    with torch.inference_mode():
        torch.testing.assert_close(encoder(padded(rows, 1)), expected, rtol=0, atol=1e-5)


def test_the_released_size_has_its_196_weights_in_a_roberta_of_the_same_shapes() -> None:
    """2 embeddings, a norm of 2, and 12 layers of 8 modules with 2 each."""
    shapes = encoder_shapes(FAIRSEQ, 12, 768, 3072, 32_769, 514)
    names = encoder_names(12)
    assert len(names) == 2 + 2 + 12 * 16 == 196
    assert {FAIRSEQ + name for name in names} == shapes.keys()
    with torch.device("meta"):
        released = Checkpoint(Path("released.pt"), {name: torch.empty(shape) for name, shape in shapes.items()}, {})
        config = architecture(released, encoder_prefix(released), 12, None)
        model = RobertaForMaskedLM(config)
    assert (config.num_hidden_layers, config.num_attention_heads, config.intermediate_size) == (12, 12, 3072)
    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (32_769, 514, 1)
    assert (config.layer_norm_eps, config.hidden_act, config.type_vocab_size) == (1e-5, "gelu", 1)
    places = dict(model.base_model.named_parameters())
    assert places.keys() - names.values() == {"embeddings.token_type_embeddings.weight"}
    assert {FAIRSEQ + name: tuple(places[place].shape) for name, place in names.items()} == shapes
    rest = {name for name, _ in model.named_parameters() if not name.startswith("roberta.")}
    assert set(masked_word_names(checkpoint(pretrained()), FAIRSEQ).values()) == rest


def test_weights_in_fp16_become_fp32_and_segments_nothing() -> None:
    state = pretrained()
    model = convert(checkpoint({name: weight.half() for name, weight in state.items()})).model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not model.base_model.embeddings.token_type_embeddings.weight.any()
    words = state[f"{FAIRSEQ}embed_tokens.weight"]
    assert torch.equal(model.get_input_embeddings().weight, words.half().float())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_fairseq_is_read_with_its_options(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "checkpoint.pt"
    args = argparse.Namespace(encoder_attention_heads=8, activation_fn="gelu", data="wiki", lr=[1e-4], seed=None)
    later = {name.replace("emb_layer_norm", "layernorm_embedding"): weight for name, weight in pretrained().items()}
    whole = {"args": args, "model": later, "extra_state": {"epoch": 3}, "last_optimizer_state": {"step": 2}}
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    assert convert(read).model.config.num_attention_heads == 8
    assert convert(read, heads=2).model.config.num_attention_heads == 2
    assert convert(read._replace(options={})).model.config.num_attention_heads == 1


def test_the_port_tells_its_heads_in_config_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "seed_encoder", "encoder_attention_heads": 16}')
    torch.save(port(), tmp_path / "pytorch_model.bin")
    save_file({name: weight.clone() for name, weight in port().items()}, tmp_path / "model.safetensors")
    for name in ("pytorch_model.bin", "model.safetensors"):
        read = read_checkpoint(tmp_path / name, tmp_path / "config.json")
        assert convert(read).model.config.num_attention_heads == 16


class Code:
    """What runs when it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    torch.save({"model": pretrained(), "args": Code(f"touch {trace}")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"evil\.pt: holds \w+\.system, which could run code and is not read; if you"):
        read_checkpoint(path)
    assert not trace.exists()


def test_objects_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"model": pretrained(), "extra_state": {"loss": np.float64(3)}}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match=r"holds numpy\._core\.multiarray\.scalar, which could run code"):
        read_checkpoint(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x80\x02}q\x00."])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"checkpoint\.pt: not a file of weights that torch can read"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match=r"list\.pt: holds a list, where weights by name were expected"):
        read_checkpoint(tmp_path / "list.pt")


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"layers.1.fc2.bias": None}, {}, "no weight called encoder.sentence_encoder.layers.1.fc2.bias"),
        ({"embed_positions.weight": None}, {}, "no weight called encoder.sentence_encoder.embed_positions.weight"),
        ({"layers.1.fc1.weight": (64, 64)}, {}, r"is of shape \[64, 64\], where the other weights ask for \[96, 64\]"),
        ({"embed_tokens.weight": (40,)}, {}, r"is of shape \[40\], where a matrix was expected"),
        ({"layers.0.self_attn.in_proj_weight": (192, 64)}, {}, "in_proj_weight has no place in SEED's encoder"),
        ({"segment_embeddings.weight": (2, 64)}, {}, "segment_embeddings.weight has no place"),
        ({"embed_tokens.weight": None}, {}, "not a released SEED checkpoint; it has no weight called .* but a decoder"),
        ({"twin.embed_tokens.weight": (40, 64)}, {}, r"2 encoders in it \(encoder.sentence_encoder., encoder"),
        ({}, {"encoder_attention_heads": 7}, "7 attention heads can't share 64 values; give --heads"),
        ({}, {"activation_fn": "gelu_accurate"}, "its activation is gelu_accurate, where SEED's is gelu"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    changes: dict[str, tuple[int, ...] | None], options: dict[str, Any], message: str
) -> None:
    state = pretrained()
    for name, shape in changes.items():
        state.pop(FAIRSEQ + name, None)
        if shape is not None:
            state[FAIRSEQ + name] = torch.zeros(shape)
    with pytest.raises(DataError, match=rf"released\.pt: .*{message}"):
        convert(checkpoint(state, **options))


def test_nothing_of_seed_in_a_file_is_told() -> None:
    with pytest.raises(DataError, match=r"not a released SEED checkpoint; it has no weight called embed_tokens.weight"):
        convert(checkpoint({"bert.embeddings.word_embeddings.weight": torch.zeros(3, 3)}))


def test_a_folder_holds_one_checkpoint_and_its_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pytorch_model.bin, model.safetensors or \*.pt in it"):
        find_checkpoint(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        find_checkpoint(tmp_path / "nothing")
    (tmp_path / "a.pt").touch()
    assert find_checkpoint(tmp_path) == find_checkpoint(tmp_path / "a.pt") == tmp_path / "a.pt"
    (tmp_path / "b.pt").touch()
    with pytest.raises(DataError, match=r"a\.pt, b\.pt in it; give the file of weights itself"):
        find_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert find_checkpoint(tmp_path) == tmp_path / "pytorch_model.bin"
    with pytest.raises(DataError, match=r"a\.pt: no vocab\.txt or dict\.txt beside it; name its vocabulary"):
        find_vocabulary(tmp_path / "a.pt")
    (tmp_path / "dict.txt").touch()
    assert find_vocabulary(tmp_path / "a.pt") == tmp_path / "dict.txt"


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    return tmp_path / "vocab.txt"


TEXTS = [
    "The otters eat!",
    "CAFÉ É e\u0301 cafe",
    "ab\x07 a\x00b\tab 日日 Σ",
    "[SEP] [CLS] <mask> the",
    "",
    "otter" * 60,
]


def test_the_tokenizer_gives_the_ids_of_the_release(vocabulary: Path) -> None:
    """Which lower-cases, then splits by BertWordPieceTokenizer(clean_text=False, strip_accents=False)."""
    tokenizer = release_tokenizer(vocabulary, len(WORDS) + 1)
    theirs = BertWordPieceTokenizer(str(vocabulary), clean_text=False, strip_accents=False, lowercase=False)
    for text in TEXTS[:3] + TEXTS[4:]:
        expected = theirs.encode(text.lower()).ids
        assert tokenizer.encode([text], 200)[0].tolist() == expected, text
    assert tokenizer.encode(["The OTTERS eat café"], 20)[0].tolist() == [0, 4, 5, 6, 7, 8, 9, 2]
    assert tokenizer.words(["e\u0301 cafe"]) == [[3, 3]]  # accents are neither dropped nor composed
    assert (tokenizer.pad, tokenizer.mask, tokenizer.separator) == (1, 15, 2)
    assert tokenizer.special_ids == [0, 1, 2, 3, 15]
    assert not {0, 2, 15} & set(tokenizer.words([TEXTS[3]])[0])


def test_the_tokenizer_is_the_same_when_transformers_opens_it_beside_the_model(
    vocabulary: Path, tmp_path: Path
) -> None:
    tokenizer = release_tokenizer(vocabulary, len(WORDS) + 1)
    expected = [row.tolist() for row in tokenizer.encode(TEXTS[:3], 20)]
    state = {name: weight[:16] if weight.shape[0] == 40 else weight for name, weight in pretrained().items()}
    model = convert(checkpoint(state)).model
    save_model(tmp_path / "model", model, tokenizer, EncoderSettings(query_length=12, passage_length=12))
    opened = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert opened(TEXTS[:3])["input_ids"] == expected
    assert opened("the", "otter")["input_ids"] == [0, 4, 2, 5, 2]
    assert "token_type_ids" not in opened("the", "otter")
    assert (opened.mask_token, opened.mask_token_id, opened.model_max_length) == ("<mask>", 15, 12)
    assert opened("the <mask> eat")["input_ids"] == [0, 4, 15, 7, 2]
    assert len(opened) == 16


def test_a_dictionary_of_fairseq_is_the_same_vocabulary(vocabulary: Path, tmp_path: Path) -> None:
    lines = [f"{word} {100 - row}" for row, word in enumerate(WORDS[4:])]
    (tmp_path / "dict.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = {word: row for row, word in enumerate([*WORDS, "<mask>"])}
    assert read_vocabulary(tmp_path / "dict.txt") == read_vocabulary(vocabulary) == expected
    vocabulary.write_text("\r\n".join([*WORDS, "<mask>"]), encoding="utf-8", newline="")  # as the port saves it
    assert read_vocabulary(vocabulary) == expected


def test_another_vocabulary_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"vocab\.txt: 16 ids with <mask>, where the checkpoint has 32,769"):
        release_tokenizer(vocabulary, 32_769)
    other = tmp_path / "other.txt"
    other.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with pytest.raises(DataError, match=r"other\.txt: not SEED's vocabulary, which begins with \[CLS\], \[PAD\]"):
        read_vocabulary(other)
    other.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"other\.txt: not UTF-8 text"):
        read_vocabulary(other)
