"""Texts to vectors: batches, shards, ranks and restarts change nothing."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig

from seedcli.base.errors import DataError, SeedError
from seedcli.base.progress import Advance, Progress, Silent
from seedcli.base.runtime import Runtime
from seedcli.data.records import Passage, Query
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.models.heads import new_head
from seedcli.retrieval import encoding
from seedcli.retrieval.encoding import Item, TextEncoder, encode_rows, encoded, write_vectors
from seedcli.retrieval.vectors import open_shards, read_ids, shard_path


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


@pytest.mark.parametrize("settings", [{}, {"pooling": "mean", "similarity": "cosine"}, {"token_vectors": 3}])
@pytest.mark.parametrize("head", [False, True])
def test_bfloat16_vectors_are_close(
    wordpiece: Tokenizer, texts: Sequence[str], settings: dict[str, Any], head: bool
) -> None:
    """The weights are kept in half the memory; pooling, the head and scaling are done in float32."""
    models = [text_encoder(wordpiece, **settings) for _ in range(2)]
    if head:
        models = [with_head(model.encoder, wordpiece, Runtime()) for model in models]
    full = models[0].encode(texts, "passage")
    half_model = TextEncoder(models[1].encoder, wordpiece, Runtime(precision="bf16"))
    assert {weight.dtype for weight in half_model.encoder.backbone.parameters()} == {torch.bfloat16}
    half = half_model.encode(texts, "passage")
    assert half.dtype == np.float32
    rounded = np.array_equal(half, torch.from_numpy(half).bfloat16().float().numpy())
    assert rounded == (not head and "pooling" not in settings)  # as the backbone left them
    cosines = (full * half).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(half, axis=1)
    assert cosines.min() > 0.999
    if settings.get("similarity") == "cosine":
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)


def with_head(encoder: Encoder, tokenizer: Tokenizer, runtime: Runtime) -> TextEncoder:
    torch.manual_seed(1)
    return TextEncoder(Encoder(encoder.backbone, encoder.settings, new_head(32, 0.2)), tokenizer, runtime)


def test_weights_in_training_stay_in_float32_whatever_is_computed_in(
    wordpiece: Tokenizer, texts: Sequence[str]
) -> None:
    model = text_encoder(wordpiece)
    rows = wordpiece.encode(texts, 24)
    found = encode_rows(model.encoder, rows, "passage", wordpiece, Runtime(precision="bf16"), 100)
    assert {weight.dtype for weight in model.encoder.parameters()} == {torch.float32}
    full = model.encode(texts, "passage")
    assert 1e-4 < np.abs(found.vectors - full).max() < 0.1


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
        model.budget.tokens = budget
        rows = list(wordpiece.encode_stream(texts, model.length("passage")))
        found = model.encode_rows(rows, "passage", lambda count, *_, **__: told.append(count))
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


def test_a_collection_that_shrinks_while_it_is_read_is_told(
    tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str]
) -> None:
    items = [Item(str(row), text) for row, text in enumerate(texts)]
    with pytest.raises(DataError, match="fewer texts than a moment ago: the collection changes while it is read"):
        write_vectors(items, text_encoder(wordpiece), "passage", tmp_path, 16, 61, Silent())
    assert len(contents(tmp_path)) == 3


class Watched(str):
    """Text that is counted as long as it is held."""

    __slots__ = ()
    held = 0

    def __new__(cls, text: str) -> "Watched":
        Watched.held += 1
        return super().__new__(cls, text)

    def __del__(self) -> None:
        Watched.held -= 1


def test_texts_go_once_they_are_token_ids(
    tmp_path: Path, wordpiece: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a shard has: when one is computed, at most those are held that are being tokenised ahead."""
    monkeypatch.setattr(encoding, "BATCH", 10)
    model = text_encoder(wordpiece)
    held: list[int] = []

    def counting(compute: Any, *rest: Any) -> Any:
        held.append(Watched.held)
        return encoded(compute, *rest)

    monkeypatch.setattr(encoding, "encoded", counting)
    items = (Item(str(row), Watched(f"text {row}")) for row in range(1000))
    write_vectors(items, model, "passage", tmp_path, 200, 1000, Silent())
    assert len(held) == 5
    assert max(held) <= 21  # ten, the one that was read after them, and what the loops hold on to
    assert Watched.held == 0


def test_a_text_beyond_all_bounds_is_tokenised_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "PART", 100)
    sizes = [10, 80, 30, 1000, 5, *[1] * 2500]
    items = [Item(str(row), "x" * size) for row, size in enumerate(sizes)]
    found = list(encoding.portions(items))
    assert [item for some in found for item in some] == items
    assert [len(some) for some in found[:3]] == [3, 1, 96]
    assert max(map(len, found)) <= 1000


class Counting:
    """A tokenizer that remembers what it was given."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.given = tokenizer, list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def encode(self, texts: Sequence[str], length: int) -> Any:
        self.given += texts
        return self.tokenizer.encode(texts, length)


@pytest.mark.parametrize("rank", [0, 1])
def test_only_what_a_rank_will_encode_is_tokenised(
    tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str], rank: int
) -> None:
    """Of four shards the second is there: the first process has the first and the third, the second the fourth."""
    write(tmp_path, wordpiece, texts)
    for number in (0, 2, 3):
        shard_path(tmp_path, number).unlink()
    model = text_encoder(wordpiece, runtime=Runtime(rank, 2))
    model.tokenizer = tokenizer = Counting(wordpiece)  # type: ignore[assignment]
    items = (Item(f"d{row}", text) for row, text in enumerate(texts))
    write_vectors(items, model, "passage", tmp_path, 16, len(texts), Silent())
    assert tokenizer.given == [texts[:16] + texts[32:48], texts[48:]][rank]


def test_tokenising_goes_on_while_the_model_computes(
    tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str]
) -> None:
    """The first shard is not computed before the second one's texts are read: in turn, that would never end."""
    reached, waited = Event(), list[bool]()

    def items() -> Iterator[Item]:
        for row, text in enumerate(texts):
            if row == 31:
                reached.set()
            yield Item(str(row), text)

    model = text_encoder(wordpiece)
    compute = encoding.computing(model.encoder, "passage", Runtime())

    def waiting(batch: Any) -> Any:
        waited.append(reached.wait(10))
        return compute(batch)

    model.graph = waiting
    write_vectors(items(), model, "passage", tmp_path, 16, len(texts), Silent())
    assert all(waited)


@pytest.mark.parametrize("where", ["reading", "computing"])
def test_a_mistake_ends_encoding_with_its_thread_and_keeps_the_shards(
    tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str], where: str
) -> None:
    before = threading.active_count()

    def items() -> Iterator[Item]:
        for row, text in enumerate(texts):
            if row == 40 and where == "reading":
                raise DataError("corpus.jsonl:41: no field 'text'")
            yield Item(f"d{row}", text)

    model = text_encoder(wordpiece)
    compute = encoding.computing(model.encoder, "passage", Runtime())

    def breaking(batch: Any) -> Any:
        if shard_path(tmp_path, 1).is_file() and where == "computing":
            raise KeyboardInterrupt
        return compute(batch)

    model.graph = breaking
    with pytest.raises((DataError, KeyboardInterrupt)):
        write_vectors(items(), model, "passage", tmp_path, 16, len(texts), Silent())
    assert threading.active_count() == before
    made = contents(tmp_path)
    assert list(made) == ["vectors-00000.safetensors", "vectors-00001.safetensors"]
    write(tmp_path, wordpiece, texts)
    assert {name: contents(tmp_path)[name] for name in made} == made
    assert len(contents(tmp_path)) == 4


def small_device(model: TextEncoder, tokens: int) -> list[tuple[int, int]]:
    """Give a model a GPU that has memory for so many tokens at a time; the shapes that it was asked for."""
    compute = encoding.computing(model.encoder, "passage", Runtime())
    asked: list[tuple[int, int]] = []

    def computed(batch: Any) -> Any:
        asked.append(tuple(batch.tokens.shape))
        if batch.tokens.numel() > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(batch)

    model.graph = computed
    return asked


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_threads_change_no_bit_and_are_left_as_they_were(
    wordpiece: Tokenizer, texts: Sequence[str], precision: Any
) -> None:
    """Batches are computed side by side, each by one thread; those of weights in training too."""
    model = text_encoder(wordpiece)
    rows = wordpiece.encode(texts, 24)
    seen: list[tuple[int, str]] = []

    def watched(*_: Any) -> None:
        seen.append((torch.get_num_threads(), threading.current_thread().name))

    model.encoder.backbone.register_forward_hook(watched)
    before = torch.get_num_threads()
    found, used = [], []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            seen.clear()
            found.append(encode_rows(model.encoder, rows, "passage", wordpiece, Runtime(precision=precision), 100))
            used.append({count for count, _ in seen})
            assert torch.get_num_threads() == threads
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(torch.get_num_threads).result() == threads
            assert len({name for _, name in seen}) <= threads
    finally:
        torch.set_num_threads(before)
    assert used == [{1}] * 4
    assert all(np.array_equal(one.vectors, found[0].vectors) for one in found)


def test_a_batch_alone_is_given_all_threads() -> None:
    budget = encoding.Budget(100)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        rows = [np.zeros(10, np.uint16)] * 30
        found = [encoding.workers(rows[:count], budget, torch.device("cpu")) for count in (0, 1, 10, 11, 30)]
        assert found == [1, 1, 1, 2, 3]
        assert encoding.workers(rows, encoding.Budget(1), torch.device("cpu")) == 6
        assert encoding.workers(rows, encoding.Budget(1), torch.device("cuda")) == 1
    finally:
        torch.set_num_threads(before)


def test_when_memory_gives_out_batches_become_smaller_and_stay_so(
    tmp_path: Path, wordpiece: Tokenizer, texts: Sequence[str]
) -> None:
    expected = text_encoder(wordpiece).encode(texts, "passage")
    told: list[str] = []
    model = text_encoder(wordpiece, 100_000)
    model.budget.say = told.append
    asked = small_device(model, 200)
    items = (Item(f"d{row}", text) for row, text in enumerate(texts))
    write_vectors(items, model, "passage", tmp_path, 16, len(texts), Silent())
    np.testing.assert_allclose(np.concatenate([s.vectors for s in open_shards(tmp_path)]), expected, atol=2e-6)
    assert asked[:3] == [(16, 24), (8, 24), (8, 24)]  # 384 tokens are too many, half of them fit
    assert max(rows * length for rows, length in asked[1:]) <= 200
    assert told == ["the GPU's memory gave out: at most 192 tokens at a time from here on"]


def test_a_text_that_does_not_fit_alone_is_told_once(wordpiece: Tokenizer, texts: Sequence[str]) -> None:
    model = text_encoder(wordpiece, 100_000)
    asked = small_device(model, 20)
    with pytest.raises(SeedError, match="no memory left for a single text of 24 tokens: free some of it, or give --d"):
        model.encode(texts, "passage")
    assert [rows for rows, _ in asked] == [60, 30, 15, 8, 4, 2, 1]
