"""Texts to vectors: batches of like length under a token budget, shard by shard, tokenised ahead of the model.

Letters: N texts, V vectors of all, B segments of a batch, n tokens of its longest, m vectors of each, D their width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedcli.base.ahead import ahead, side_by_side
from seedcli.base.errors import DataError, SeedError, telling_refusals
from seedcli.base.progress import Advance, Progress
from seedcli.base.runtime import Runtime
from seedcli.data.batches import Sequences, padded
from seedcli.data.records import Passage, Query
from seedcli.data.segments import WHOLE, Rows, cut_rows, lengths_of, own_counts, segment_counts, vector_counts
from seedcli.data.templates import render
from seedcli.data.tokenizer import BATCH, Tokenizer
from seedcli.models.encoder import Encoder, Similarity, segmentation
from seedcli.models.towers import Role
from seedcli.retrieval.vectors import Kind, shard_path, write_shard

TOKENS = {"cpu": 1_024, "cuda": 1 << 16}  # of a batch: what a core's caches hold, what keeps a GPU busy
WORKERS = 16  # batches at a time: more would wait for each other in Python
PART = 1 << 20  # characters tokenised at a time, but for a text that has more

Compute = Callable[[Sequences], Tensor]  # token ids [B, n] -> vectors [B, m, D]


class Item(NamedTuple):
    """A text to encode, and the id of its vectors."""

    id: str
    text: str


class Encoded(NamedTuple):
    """The vectors of N texts, one text's after the other's."""

    vectors: NDArray[np.float32]  # [V, D]
    counts: NDArray[np.int64]  # [N], of each text


class Batch(NamedTuple):
    """Some rows, by their places, and their vectors."""

    rows: NDArray[np.intp]  # [B]
    vectors: Tensor  # [B, m, D]


class Part(NamedTuple):
    """Some texts of a shard, as token ids."""

    ids: list[str]
    rows: list[NDArray[Any]]


class Budget:
    """Tokens computed at a time, padding included; fewer once the memory of a GPU has given out."""

    def __init__(self, tokens: int, say: Callable[[str], object] | None = None):
        self.tokens = tokens
        self.say = say
        self.given_out = False

    def texts(self, longest: int) -> int:
        """How many are computed at a time, the longest of so many tokens."""
        return max(1, self.tokens // max(1, longest))

    def halve(self, texts: int, longest: int) -> None:
        """Make it half of a batch that didn't fit. Raises SeedError when that was a single text."""
        if texts == 1:
            given = f"a single text of {longest} tokens"
            raise SeedError(f"the GPU has no memory left for {given}: free some of it, or give --device cpu")
        self.tokens = min(self.tokens, texts * longest // 2)
        self.given_out = True

    def tell(self) -> None:
        """Tell once that batches were made smaller, and of what size they are now."""
        if self.given_out and self.say:
            self.say(f"the GPU's memory gave out: at most {self.tokens:,} tokens at a time from here on")
        self.given_out = False


class TextEncoder:
    """An encoder with its tokenizer, ready to turn texts into vectors on one device.

    Its weights are kept in what the runtime computes in; pooling, the head and scaling stay in float32. A `graph`
    computes in the encoder's place. Vectors are cut to `width` numbers.
    """

    def __init__(
        self, encoder: Encoder, tokenizer: Tokenizer, runtime: Runtime, batch_tokens: int | None = None,
        say: Callable[[str], object] | None = None, graph: Compute | None = None, width: int | None = None,
    ):  # fmt: skip
        self.encoder = encoder.eval()
        if graph is None:
            self.encoder.backbone.to(runtime.dtype)  # type: ignore[arg-type]
            self.encoder.to(runtime.device)
        self.tokenizer = tokenizer
        self.runtime = runtime
        self.budget = Budget(batch_tokens or TOKENS[runtime.device.type], say)
        self.graph = graph
        self.width = width or encoder.size

    def items(self, records: Iterable[Passage | Query]) -> Iterator[Item]:
        """Passages or queries, written out by the model's template."""
        settings = self.encoder.settings
        for record in records:
            template = settings.passage_template if isinstance(record, Passage) else settings.query_template
            yield Item(record.id, render(template, record))

    def length(self, role: Role) -> int:
        """Tokens that are read of a text."""
        settings = self.encoder.settings
        return settings.query_length if role == "query" else segmentation(settings, self.tokenizer).longest

    def encode(self, texts: Sequence[str], role: Role) -> NDArray[np.float32]:
        """[N, D] in the order of the texts; of passages that have several vectors each, all of them [V, D]."""
        return self.vectors(texts, role).vectors

    def vectors(self, texts: Sequence[str], role: Role) -> Encoded:
        """All vectors of the texts."""
        return self.encode_rows(list(self.tokenizer.encode_stream(texts, self.length(role))), role)

    def encode_rows(self, rows: Rows, role: Role, advance: Advance | None = None) -> Encoded:
        """All vectors of texts that are token ids already."""
        compute = self.graph or computing(self.encoder, role, self.runtime)
        found = encoded(compute, self.encoder, rows, role, self.tokenizer, self.budget, self.runtime.device, advance)
        return found._replace(vectors=shortened(found.vectors, self.width, self.encoder.settings.similarity))


def encode_rows(
    encoder: Encoder, rows: Rows, role: Role, tokenizer: Tokenizer, runtime: Runtime, budget: int,
    advance: Advance | None = None,
) -> Encoded:  # fmt: skip
    """All vectors of texts that are token ids already, as long as this encoder reads them for their role.

    The encoder is one in training: on the runtime's device, in evaluation mode, and its weights stay in float32. At
    most `budget` tokens are computed at a time.
    """
    compute = computing(encoder, role, runtime)

    def cast(texts: Sequences) -> Tensor:
        with runtime.autocast():  # each thread has its own
            return compute(texts)

    return encoded(cast, encoder, rows, role, tokenizer, Budget(budget), runtime.device, advance)


def computing(encoder: Encoder, role: Role, runtime: Runtime) -> Compute:
    """What turns the texts of a role into vectors, by torch."""

    def compute(texts: Sequences) -> Tensor:
        texts = texts.to(runtime.device)
        return encoder.passages(texts) if role == "passage" else encoder(texts).unsqueeze(1)

    return compute


def encoded(
    compute: Compute, encoder: Encoder, rows: Rows, role: Role, tokenizer: Tokenizer, budget: Budget,
    device: torch.device, advance: Advance | None,
) -> Encoded:  # fmt: skip
    """All vectors of texts, cut as the encoder's settings say and computed by `compute`."""
    cut = segmentation(encoder.settings, tokenizer) if role == "passage" else WHOLE
    parts, lengths = cut_rows(rows, cut), lengths_of(rows)
    counts, segments = vector_counts(lengths, cut), segment_counts(lengths, cut)
    sizes = own_counts(parts, cut)
    begins = np.cumsum(sizes) - sizes
    opens = np.zeros(len(parts), dtype=bool)  # whether a segment is the first of its text
    opens[np.cumsum(segments) - segments] = True
    vectors = np.empty((int(counts.sum()), encoder.size), dtype=np.float32)

    def vectors_of(batch: NDArray[np.intp]) -> list[Batch]:
        return fitting(compute, parts, batch, tokenizer.pad, budget)

    batches = sliced(lengths_of(parts), budget)
    with at_once(vectors_of, batches, workers(parts, budget, device), device) as computed:
        for batch, found in chain.from_iterable(computed):
            within = np.arange(found.shape[1])
            real = within < sizes[batch, None]  # [B, m]
            vectors[(begins[batch, None] + within)[real]] = found.float().cpu().numpy()[real]
            if advance:
                advance(int(opens[batch].sum()))
    return Encoded(vectors, counts)


def shortened(vectors: NDArray[np.float32], width: int, similarity: Similarity) -> NDArray[np.float32]:
    """The first numbers of vectors, [V, D] -> [V, width], of length 1 again under cosine (Kusupati et al. 2022)."""
    if width == vectors.shape[1]:
        return vectors
    kept = vectors[:, :width]
    return kept / np.linalg.norm(kept, axis=1, keepdims=True) if similarity == "cosine" else kept


def sliced(lengths: NDArray[np.int64], budget: Budget) -> Iterator[NDArray[np.intp]]:
    """Rows in batches of like length, the longest first, each within what the budget is by then."""
    rest = np.argsort(-lengths, kind="stable")
    while len(rest):
        batch = rest[: budget.texts(int(lengths[rest[0]]))]
        yield batch
        rest = rest[len(batch) :]


def fitting(compute: Compute, rows: Rows, batch: NDArray[np.intp], pad: int, budget: Budget) -> list[Batch]:
    """The vectors of a batch, in halves where the GPU has too little memory for it."""
    texts = padded([rows[row] for row in batch], pad)
    try:
        with torch.inference_mode():
            return [Batch(batch, compute(texts))]
    except torch.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()  # now that the error holds nothing any more
    budget.halve(*texts.tokens.shape)
    return [part for half in np.array_split(batch, 2) for part in fitting(compute, rows, half, pad, budget)]


def workers(rows: Rows, budget: Budget, device: torch.device) -> int:
    """How many batches are computed at a time.

    On a CPU as many as it has threads: those of one batch would wait for each other at every layer. Each is computed by
    itself, so that the vectors don't depend on how many there are.
    """
    if device.type != "cpu":
        return 1
    batches = -(-sum(map(len, rows)) // budget.tokens)
    return max(1, min(torch.get_num_threads(), batches, WORKERS))


@contextmanager
def at_once(
    vectors_of: Callable[[NDArray[np.intp]], list[Batch]], batches: Iterator[NDArray[np.intp]], count: int,
    device: torch.device,
) -> Iterator[Iterator[list[Batch]]]:  # fmt: skip
    """The vectors of all batches, `count` of them computed at a time, which share this thread's cores.

    A GPU computes the next batch while the vectors of the last are put away.
    """
    if count == 1 and device.type == "cpu":
        yield map(vectors_of, batches)
        return
    threads = torch.get_num_threads()

    def begin() -> None:
        torch.set_num_threads(threads // count)
        if device.type == "cuda":
            torch.cuda.set_device(device)

    try:
        with closing(side_by_side(vectors_of, batches, count, most=2 * count, begin=begin)) as computed:
            yield computed
    finally:
        torch.set_num_threads(threads)  # what threads begin with that start from now on


def write_vectors(
    items: Iterable[Item],
    model: TextEncoder,
    role: Role,
    folder: Path,
    shard_size: int,
    total: int,
    progress: Progress,
    kind: Kind = "float32",
) -> None:
    """Encode `items` into shards of `shard_size` texts, where an id stands once for each vector of its text.

    Each rank writes every W-th; shards that are there already stay as they are, and their texts aren't tokenised. The
    texts of the next shard are, while the model computes. Raises DataError when the disk takes no more.
    """
    runtime = model.runtime
    sizes = [min(shard_size, total - row) for row in range(0, total, shard_size)]
    there = {number for number in range(len(sizes)) if shard_path(folder, number).is_file()}

    def wanted(number: int) -> bool:
        return number % runtime.world == runtime.rank and number not in there

    tokens = tokenised(items, model.tokenizer, model.length(role), shard_size, wanted)
    with (
        progress.track("encode", total, "texts", sum(sizes[number] for number in there)) as advance,
        closing(ahead(tokens, most=-(-shard_size // BATCH))) as parts,
    ):
        for number, size in enumerate(sizes):
            if wanted(number):
                write_encoded(taken(parts, size), model, role, shard_path(folder, number), kind, advance)
            elif number not in there:
                advance(size)


def tokenised(
    items: Iterable[Item], tokenizer: Tokenizer, length: int, shard_size: int, wanted: Callable[[int], bool]
) -> Iterator[Part]:
    """The token ids of all wanted shards' texts."""
    for number, shard in groupby(enumerate(items), key=lambda pair: pair[0] // shard_size):
        if wanted(number):
            for some in portions(item for _, item in shard):
                yield Part([item.id for item in some], tokenizer.encode([item.text for item in some], length))


def taken(parts: Iterator[Part], texts: int) -> list[Part]:
    """The parts of a shard of so many texts. Raises DataError when there are others than these."""
    found = []
    while texts > 0 and (part := next(parts, None)):
        found.append(part)
        texts -= len(part.ids)
    if texts:
        told = "fewer" if texts > 0 else "more"
        raise DataError(f"{told} texts than a moment ago: the collection changes while it is read")
    return found


def portions(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items in lists of at most BATCH, and of about PART characters."""
    some: list[Item] = []
    room = PART
    for item in items:
        some.append(item)
        room -= len(item.text)
        if len(some) == BATCH or room <= 0:
            yield some
            some, room = [], PART
    if some:
        yield some


def write_encoded(
    parts: Sequence[Part], model: TextEncoder, role: Role, path: Path, kind: Kind, advance: Advance
) -> None:
    """Encode the texts of a shard into its file."""
    vectors, counts = model.encode_rows([row for part in parts for row in part.rows], role, advance)
    model.budget.tell()
    names = (id_ for part in parts for id_ in part.ids)
    ids = [id_ for id_, count in zip(names, counts.tolist(), strict=True) for _ in range(count)]
    with telling_refusals(path, "finished shards stay"):
        write_shard(path, ids, vectors, kind)
