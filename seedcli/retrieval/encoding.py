"""Texts to vectors: batches of like length under a token budget, shard by shard.

Letters: N texts, V vectors of all, B segments of a batch, n tokens of its longest, m vectors of each, D their width.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.base.progress import Advance, Progress
from seedcli.base.runtime import Runtime
from seedcli.data.batches import padded, token_batches
from seedcli.data.records import Passage, Query
from seedcli.data.segments import WHOLE, Rows, cut_rows, lengths_of, own_counts, segment_counts, vector_counts
from seedcli.data.templates import render
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder, segmentation
from seedcli.models.towers import Role
from seedcli.retrieval.vectors import shard_path, write_shard


class Item(NamedTuple):
    """A text to encode, and the id of its vectors."""

    id: str
    text: str


class Encoded(NamedTuple):
    """The vectors of N texts, one text's after the other's."""

    vectors: NDArray[np.float32]  # [V, D]
    counts: NDArray[np.int64]  # [N], of each text


class TextEncoder:
    """An encoder with its tokenizer, ready to turn texts into vectors on one device."""

    def __init__(self, encoder: Encoder, tokenizer: Tokenizer, runtime: Runtime, batch_tokens: int):
        self.encoder = encoder.to(runtime.device).eval()
        self.tokenizer = tokenizer
        self.runtime = runtime
        self.batch_tokens = batch_tokens

    def items(self, records: Iterable[Passage | Query]) -> Iterator[Item]:
        """Passages or queries, written out by the model's template."""
        settings = self.encoder.settings
        for record in records:
            template = settings.passage_template if isinstance(record, Passage) else settings.query_template
            yield Item(record.id, render(template, record))

    def encode(self, texts: Sequence[str], role: Role, advance: Advance | None = None) -> NDArray[np.float32]:
        """[N, D] in the order of the texts; of passages that have several vectors each, all of them [V, D]."""
        return self.vectors(texts, role, advance).vectors

    def vectors(self, texts: Sequence[str], role: Role, advance: Advance | None = None) -> Encoded:
        """All vectors of the texts."""
        settings = self.encoder.settings
        length = settings.query_length if role == "query" else segmentation(settings, self.tokenizer).longest
        rows = list(self.tokenizer.encode_stream(texts, length))
        return encode_rows(self.encoder, rows, role, self.tokenizer, self.runtime, self.batch_tokens, advance)


def encode_rows(
    encoder: Encoder, rows: Rows, role: Role, tokenizer: Tokenizer, runtime: Runtime, budget: int,
    advance: Advance | None = None,
) -> Encoded:  # fmt: skip
    """All vectors of texts that are token ids already, as long as this encoder reads them for their role.

    The encoder is on the runtime's device and in evaluation mode; at most `budget` tokens are computed at a time.
    """
    cut = segmentation(encoder.settings, tokenizer) if role == "passage" else WHOLE
    parts, lengths = cut_rows(rows, cut), lengths_of(rows)
    counts, segments = vector_counts(lengths, cut), segment_counts(lengths, cut)
    sizes = own_counts(parts, cut)
    begins = np.cumsum(sizes) - sizes
    opens = np.zeros(len(parts), dtype=bool)  # whether a segment is the first of its text
    opens[np.cumsum(segments) - segments] = True
    vectors = np.empty((int(counts.sum()), encoder.size), dtype=np.float32)
    with torch.inference_mode(), runtime.autocast():
        for batch in token_batches([len(part) for part in parts], budget):
            sequences = padded([parts[row] for row in batch], tokenizer.pad).to(runtime.device)
            found = encoder.passages(sequences) if role == "passage" else encoder(sequences).unsqueeze(1)  # [B, m, D]
            within = np.arange(found.shape[1])
            real = within < sizes[batch, None]  # [B, m]
            vectors[(begins[batch, None] + within)[real]] = found.float().cpu().numpy()[real]
            if advance:
                advance(int(opens[batch].sum()))
    return Encoded(vectors, counts)


def write_vectors(
    items: Iterable[Item],
    model: TextEncoder,
    role: Role,
    folder: Path,
    shard_size: int,
    total: int,
    progress: Progress,
) -> None:
    """Encode `items` into shards of `shard_size` texts, where an id stands once for each vector of its text.

    Each rank writes every W-th; shards that are there already stay as they are.
    """
    rest, runtime, number = iter(items), model.runtime, 0
    begins = {shard_path(folder, row // shard_size): row for row in range(0, total, shard_size)}
    there = {path: min(shard_size, total - row) for path, row in begins.items() if path.is_file()}
    with progress.track("encode", total, "texts", sum(there.values())) as advance:
        while shard := list(islice(rest, shard_size)):
            path = shard_path(folder, number)
            if number % runtime.world != runtime.rank and path not in there:
                advance(len(shard))
            elif not path.is_file():
                vectors, counts = model.vectors([item.text for item in shard], role, advance)
                ids = [item.id for item, count in zip(shard, counts.tolist(), strict=True) for _ in range(count)]
                write_shard(path, ids, vectors)
            number += 1
