"""Texts to vectors: batches, shards, ranks and restarts change nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig

from seedcli.base.progress import Advance, Progress, Silent
from seedcli.base.runtime import Runtime
from seedcli.data.records import Passage, Query
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.retrieval.encoding import Item, TextEncoder, write_vectors
from seedcli.retrieval.vectors import open_shards, read_ids


def text_encoder(tokenizer: Tokenizer, batch_tokens: int = 100, runtime: Any = None, **settings: Any) -> TextEncoder:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    chosen = EncoderSettings(**({"query_length": 8, "passage_length": 24} | settings))
    return TextEncoder(Encoder(AutoModel.from_config(config), chosen), tokenizer, runtime or Runtime(), batch_tokens)


def test_batches_do_not_change_the_vectors_nor_their_order(wordpiece: Tokenizer, texts: Sequence[str]) -> None:
    one_by_one = np.concatenate([text_encoder(wordpiece).encode([text], "passage") for text in texts])
    assert one_by_one.dtype == np.float32
    for budget in (1, 60, 100_000):
        together = text_encoder(wordpiece, budget).encode(texts, "passage")
        np.testing.assert_allclose(together, one_by_one, atol=2e-6)
    assert text_encoder(wordpiece).encode([], "passage").shape == (0, 32)


def test_queries_and_passages_have_lengths_and_templates_of_their_own(wordpiece: Tokenizer) -> None:
    model = text_encoder(wordpiece, query_template="find: {text}", passage_template="{title} - {text}")
    assert list(model.items([Query("q", "the otter")])) == [Item("q", "find: the otter")]
    passages = [Passage("p", "Otter", "it eats"), Passage("n", "", "x")]
    assert list(model.items(passages)) == [Item("p", "Otter - it eats"), Item("n", "- x")]
    text = "the otter eats fish and the heron eats frogs and eels all day"
    cut = wordpiece.encode([text], 8)[0]
    with torch.inference_mode():
        expected = model.encoder.backbone(input_ids=torch.tensor(cut.astype(int)).unsqueeze(0)).last_hidden_state[:, 0]
    np.testing.assert_allclose(model.encode([text], "query"), expected.numpy(), atol=1e-6)
    assert np.abs(model.encode([text], "query") - model.encode([text], "passage")).max() > 1e-3


def test_encoding_is_without_dropout_and_leaves_no_gradient(wordpiece: Tokenizer, texts: Sequence[str]) -> None:
    model = text_encoder(wordpiece)
    assert not model.encoder.training
    assert np.array_equal(model.encode(texts, "passage"), model.encode(texts, "passage"))


def test_bfloat16_vectors_are_close(wordpiece: Tokenizer, texts: Sequence[str]) -> None:
    full = text_encoder(wordpiece).encode(texts, "passage")
    half = text_encoder(wordpiece, runtime=Runtime(precision="bf16")).encode(texts, "passage")
    assert half.dtype == np.float32
    cosines = (full * half).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(half, axis=1)
    assert cosines.min() > 0.999


def write(
    folder: Path,
    wordpiece: Tokenizer,
    texts: Sequence[str],
    rank: int = 0,
    world: int = 1,
    progress: Progress | None = None,
) -> None:
    model = text_encoder(wordpiece, runtime=Runtime(rank, world))
    items = (Item(f"d{row}", text) for row, text in enumerate(texts))
    write_vectors(items, model, "passage", folder, 16, len(texts), progress or Silent())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_hold_the_texts_in_order(tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str]) -> None:
    write(tmp_path, wordpiece, texts)
    shards = open_shards(tmp_path)
    assert [shard.size for shard in shards] == [16, 16, 16, 12]
    assert list(read_ids(shards)) == [f"d{row}" for row in range(60)]
    expected = text_encoder(wordpiece).encode(texts, "passage")
    np.testing.assert_allclose(np.concatenate([shard.vectors for shard in shards]), expected, atol=2e-6)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_leave_the_shards_of_one_process_to_the_bit(
    tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str], world: int
) -> None:
    write(tmp_path / "one", wordpiece, texts)
    for rank in range(world):
        write(tmp_path / "many", wordpiece, texts, rank, world)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_a_restart_makes_only_missing_shards(tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str]) -> None:
    write(tmp_path, wordpiece, texts)
    whole = contents(tmp_path)
    (tmp_path / "vectors-00002.safetensors").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write(tmp_path, wordpiece, texts)
    assert contents(tmp_path) == whole
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in times} == times


class Bars(Silent):
    """Remembers of each bar the total, what was behind, and what was done."""

    def __init__(self) -> None:
        self.seen: list[list[int | None]] = []

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        advances: list[int] = []
        yield advances.append
        self.seen.append([total, done, sum(advances)])


def test_shards_that_are_there_count_as_done_and_not_for_the_speed(
    tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str]
) -> None:
    bars = Bars()
    write(tmp_path, wordpiece, texts, progress=bars)
    for name in ("vectors-00001.safetensors", "vectors-00003.safetensors"):
        (tmp_path / name).unlink()
    write(tmp_path, wordpiece, texts, progress=bars)
    write(tmp_path, wordpiece, texts, 0, 2, bars)
    assert bars.seen == [[60, 0, 60], [60, 32, 28], [60, 60, 0]]
