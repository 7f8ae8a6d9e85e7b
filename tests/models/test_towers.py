"""Towers: shared or one for each role, pooled by the last token too, in folders that other libraries open."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, BertConfig, GPT2Config, PreTrainedModel, Qwen2Config

from seedcli.base.errors import DataError
from seedcli.base.runtime import Runtime
from seedcli.data.batches import padded
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder, EncoderSettings, open_encoder, pool, save_model
from seedcli.models.heads import new_head
from seedcli.models.towers import Towers, open_tower, open_towers, save_towers, untied
from seedcli.retrieval.encoding import TextEncoder

SETTINGS = EncoderSettings(query_length=12, passage_length=20)


def encoder(tokenizer: Tokenizer, seed: int, head: bool = False, settings: EncoderSettings = SETTINGS) -> Encoder:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tokenizer.size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    return Encoder(AutoModel.from_config(config), settings, new_head(32, 0.2) if head else None).eval()


def vectors(folder: Path, role: Any, texts: Sequence[str]) -> Any:
    return TextEncoder(*open_tower(folder, role), Runtime(), 500).encode(texts, role)


def test_two_towers_are_two_folders_and_each_role_has_its_own(
    wordpiece: Tokenizer, texts: Sequence[str], tmp_path: Path
) -> None:
    towers = Towers(*(encoder(wordpiece, seed, head=True) for seed in (1, 2)))
    files = save_towers(tmp_path, towers, wordpiece)
    assert {path.relative_to(tmp_path).parts[0] for path in files} == {"query", "passage"}
    assert untied(tmp_path)
    opened, _ = open_towers(tmp_path)
    assert opened.untied
    given = dict(towers.named_parameters())
    assert all(torch.equal(value, given[name]) for name, value in opened.named_parameters())
    assert len(given) == len(list(opened.named_parameters()))
    for role in ("query", "passage"):
        alone = TextEncoder(*open_encoder(tmp_path / role), Runtime(), 500).encode(texts[:9], role)  # type: ignore[arg-type]
        assert (vectors(tmp_path, role, texts[:9]) == alone).all()
    assert not np.allclose(vectors(tmp_path, "query", texts[:9]), vectors(tmp_path, "passage", texts[:9]), atol=0.01)


def test_one_tower_is_one_folder_that_serves_both_roles(wordpiece: Tokenizer, tmp_path: Path) -> None:
    towers = Towers(encoder(wordpiece, 1))
    save_towers(tmp_path, towers, wordpiece)
    assert (tmp_path / "config.json").is_file()
    opened, _ = open_towers(tmp_path)
    assert not opened.untied
    assert opened.query is opened.passage
    assert len(list(opened.named_parameters())) == len(list(opened.query.named_parameters()))


def test_a_folder_of_two_is_told_where_one_is_needed(wordpiece: Tokenizer, tmp_path: Path) -> None:
    save_towers(tmp_path, Towers(encoder(wordpiece, 1), encoder(wordpiece, 2)), wordpiece)
    with pytest.raises(DataError, match=r"holds two towers; name one of them, .*query or .*passage"):
        open_encoder(tmp_path)


def test_towers_that_do_not_belong_together_are_refused(wordpiece: Tokenizer, tmp_path: Path) -> None:
    other = replace(SETTINGS, similarity="cosine")
    save_towers(tmp_path, Towers(encoder(wordpiece, 1), encoder(wordpiece, 2, settings=other)), wordpiece)
    with pytest.raises(DataError, match=r"query/ and passage/ differ"):
        open_towers(tmp_path)
    shutil.rmtree(tmp_path / "passage")
    assert not untied(tmp_path)


def test_the_head_is_linear_then_layer_norm_by_plain_computation(wordpiece: Tokenizer, texts: Sequence[str]) -> None:
    tower = encoder(wordpiece, 3, head=True)
    assert tower.head is not None
    dense, norm = tower.head
    (ids,) = wordpiece.encode(texts[:1], 20)
    with torch.no_grad():
        found = tower(padded([ids], wordpiece.pad))[0]
        hidden = tower.backbone(input_ids=torch.tensor([ids.tolist()]))[0][0, 0]
        line = dense.linear.weight @ hidden + dense.linear.bias  # type: ignore[union-attr]
        expected = (line - line.mean()) / (line.var(unbiased=False) + norm.eps).sqrt()  # type: ignore[union-attr]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert dense.linear.bias.abs().max() == 0  # type: ignore[union-attr]
    assert dense.linear.weight.std().item() == pytest.approx(0.2, rel=0.1)  # type: ignore[union-attr]


def test_the_last_token_is_the_last_real_one() -> None:
    hidden = torch.arange(24.0).view(3, 4, 2)
    attention = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    assert pool(hidden, attention, "last").tolist() == [[6, 7], [10, 11], [16, 17]]
    assert pool(hidden, attention, "cls").tolist() == [[0, 1], [8, 9], [16, 17]]
    assert pool(hidden, attention, "mean").tolist() == [[3, 4], [9, 10], [16, 17]]


def decoder(kind: str, tokenizer: Tokenizer) -> PreTrainedModel:
    """A model whose tokens see those before them alone: with rotary positions, or with absolute ones."""
    torch.manual_seed(0)
    common = {"vocab_size": tokenizer.size, "initializer_range": 0.2}
    if kind == "absolute":
        config: Any = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **common)
    else:
        config = Qwen2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
            max_position_embeddings=64, **common,
        )  # fmt: skip
    return AutoModel.from_config(config).eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["rotary", "absolute"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_pools_the_last_token_whatever_side_its_tokenizer_pads(
    kind: str, side: str, wordpiece: Tokenizer, texts: Sequence[str], tmp_path: Path
) -> None:
    settings = EncoderSettings(pooling="last", similarity="cosine", query_length=20, passage_length=20)
    save_model(tmp_path, decoder(kind, wordpiece), wordpiece, settings)
    told = tmp_path / "tokenizer_config.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"padding_side": side}))
    opened, words = open_encoder(tmp_path)
    assert opened.settings.pooling == "last"
    assert words.pretrained.padding_side == side
    mixed = [text[: 5 + 2 * row % 40] for row, text in enumerate(texts)]
    assert len({len(ids) for ids in wordpiece.encode(mixed, 20)}) > 5
    found = vectors(tmp_path, "passage", mixed)
    one_by_one = np.concatenate([vectors(tmp_path, "passage", [text]) for text in mixed])
    np.testing.assert_allclose(found, one_by_one, rtol=0, atol=1e-5)
    if (kind, side) != ("absolute", "left"):  # whose positions padding moves there
        theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(mixed, batch_size=16)
        np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)


def test_a_decoder_holds_no_keys_and_values_for_words_to_come(wordpiece: Tokenizer) -> None:
    tower = Encoder(decoder("rotary", wordpiece), replace(SETTINGS, pooling="last"))
    assert tower.options == {"use_cache": False}
    found = tower.backbone(input_ids=torch.tensor([[5, 6]]), **tower.options)
    assert found.past_key_values is None


def test_sentence_transformers_opens_each_tower_and_its_head(
    wordpiece: Tokenizer, texts: Sequence[str], tmp_path: Path
) -> None:
    save_towers(tmp_path, Towers(encoder(wordpiece, 1, head=True), encoder(wordpiece, 2, head=True)), wordpiece)
    for role in ("query", "passage"):
        theirs = SentenceTransformer(str(tmp_path / role), device="cpu")
        theirs.max_seq_length = 12 if role == "query" else 20
        found = vectors(tmp_path, role, texts)
        np.testing.assert_allclose(found, theirs.encode(list(texts)), rtol=0, atol=2e-5)
