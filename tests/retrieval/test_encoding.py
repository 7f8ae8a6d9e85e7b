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
from seedcli.models.heads import new_head
from seedcli.retrieval.encoding import Item, TextEncoder, encode_rows, write_vectors
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


LONG = "the otter eats fish and the heron eats frogs and eels all day and the lynx hunts hares in the forest at night"


@pytest.mark.parametrize("settings", [{"segments": 3}, {"segments": 3, "segment_overlap": 4}])
def test_a_segment_has_the_vector_of_a_text_of_its_own(wordpiece: Tokenizer, settings: Any) -> None:
    """A passage of one, two and as many segments as there may be, by hand."""
    model = text_encoder(wordpiece, passage_length=10, **settings)
    (words,) = wordpiece.words([LONG])
    stride = 8 - settings.get("segment_overlap", 0)
    assert len(words) > 8 + 3 * stride
    texts, expected, counts = [], [], []
    for length, starts in ((3, [0]), (8, [0]), (9, [0, stride]), (len(words), [0, stride, 2 * stride])):
        texts.append(wordpiece.backend.decode(words[:length]))
        assert wordpiece.words(texts[-1:]) == [words[:length]]
        for start in starts:
            inside = words[start : min(start + 8, length)]
            ids = torch.tensor([[*wordpiece.prefix, *inside, *wordpiece.suffix]])
            with torch.inference_mode():
                expected.append(model.encoder.backbone(input_ids=ids).last_hidden_state[0, 0].numpy())
        counts.append(len(starts))
    told: list[int] = []
    for budget in (1, 50, 10_000):
        model.batch_tokens = budget
        found = model.vectors(texts, "passage", lambda count, *_, **__: told.append(count))
        assert found.counts.tolist() == counts
        np.testing.assert_allclose(found.vectors, np.stack(expected), atol=2e-6)
    assert sum(told) == 3 * 4  # texts, not segments
    assert model.encode(texts, "query").shape == (4, 32)
    assert model.vectors(texts, "query").counts.tolist() == [1] * 4


def test_the_first_tokens_of_a_passage_give_its_vectors(wordpiece: Tokenizer) -> None:
    """A short text has as many as tokens; the head and the norm are each vector's."""
    settings = {"passage_length": 10, "segments": 2, "token_vectors": 4, "similarity": "cosine"}
    model = text_encoder(wordpiece, **settings)
    torch.manual_seed(1)
    model.encoder.head = new_head(32, 0.3)
    (words,) = wordpiece.words([LONG])
    texts = [wordpiece.backend.decode(words[:length]) for length in (1, 6, 9, 16)]
    expected, counts = [], []
    for length, starts in ((1, [0]), (6, [0]), (9, [0, 8]), (16, [0, 8])):
        counts.append(0)
        for start in starts:
            ids = [*wordpiece.prefix, *words[start : min(start + 8, length)], *wordpiece.suffix]
            with torch.inference_mode():
                states = model.encoder.backbone(input_ids=torch.tensor([ids])).last_hidden_state[0, : min(4, len(ids))]
                expected += torch.nn.functional.normalize(model.encoder.head(states), dim=-1)
            counts[-1] += min(4, len(ids))
    found = model.vectors(texts, "passage")
    assert found.counts.tolist() == counts == [3, 4, 7, 8]
    np.testing.assert_allclose(found.vectors, torch.stack(expected).numpy(), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert model.vectors([], "passage").vectors.shape == (0, 32)


def test_tokens_that_are_there_are_encoded_as_their_texts(wordpiece: Tokenizer, texts: Sequence[str]) -> None:
    model = text_encoder(wordpiece, passage_length=9, segments=3, segment_overlap=2, token_vectors=2)
    some = [text[: 7 * row] for row, text in enumerate(texts[:8])]
    rows = wordpiece.encode(some, 19)  # 7 words, and twice 5 more
    found = encode_rows(model.encoder, rows, "passage", wordpiece, Runtime(), 100)
    expected = model.vectors(some, "passage")
    assert found.counts.tolist() == expected.counts.tolist()
    assert len(set(found.counts.tolist())) > 2
    assert np.array_equal(found.vectors, expected.vectors)


def test_an_id_stands_at_a_row_for_each_vector_and_shards_count_texts(tmp_path: Path, wordpiece: Tokenizer) -> None:
    model = text_encoder(wordpiece, passage_length=10, segments=2, token_vectors=2)
    texts = ["the otter", LONG, "", LONG, "the heron eats frogs"]
    items = [Item(f"d{row}", text) for row, text in enumerate(texts)]
    write_vectors(items, model, "passage", tmp_path, 2, 5, Silent())
    shards = open_shards(tmp_path)
    expected = model.vectors(texts, "passage")
    assert expected.counts.tolist() == [2, 4, 2, 4, 2]
    assert [list(read_ids([shard])) for shard in shards] == [
        ["d0"] * 2 + ["d1"] * 4, ["d2"] * 2 + ["d3"] * 4, ["d4"] * 2
    ]  # fmt: skip
    np.testing.assert_allclose(np.concatenate([shard.vectors for shard in shards]), expected.vectors, atol=2e-6)
