"""Texts to vectors: batches of like length under a token budget, shard by shard.

Letters: N texts, n tokens of the longest in a batch, D vector width.
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
from seedcli.data.templates import render
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder
from seedcli.models.towers import Role
from seedcli.retrieval.vectors import shard_path, write_shard


class Item(NamedTuple):
    """A text to encode, and the id of its vector."""

    id: str
    text: str


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
        """[N, D] in the order of the texts."""
        settings = self.encoder.settings
        length = settings.query_length if role == "query" else settings.passage_length
        rows = list(self.tokenizer.encode_stream(texts, length))
        vectors = np.empty((len(rows), self.encoder.size), dtype=np.float32)
        with torch.inference_mode(), self.runtime.autocast():
            for batch in token_batches([len(row) for row in rows], self.batch_tokens):
                sequences = padded([rows[row] for row in batch], self.tokenizer.pad).to(self.runtime.device)
                vectors[batch] = self.encoder(sequences).float().cpu().numpy()
                if advance:
                    advance(len(batch))
        return vectors


def write_vectors(
    items: Iterable[Item],
    model: TextEncoder,
    role: Role,
    folder: Path,
    shard_size: int,
    total: int,
    progress: Progress,
) -> None:
    """Encode `items` into shards. Each rank writes every W-th; shards that are there already stay as they are."""
    rest, runtime, number = iter(items), model.runtime, 0
    begins = {shard_path(folder, row // shard_size): row for row in range(0, total, shard_size)}
    there = {path: min(shard_size, total - row) for path, row in begins.items() if path.is_file()}
    with progress.track("encode", total, "texts", sum(there.values())) as advance:
        while shard := list(islice(rest, shard_size)):
            path = shard_path(folder, number)
            if number % runtime.world != runtime.rank and path not in there:
                advance(len(shard))
            elif not path.is_file():
                vectors = model.encode([item.text for item in shard], role, advance)
                write_shard(path, [item.id for item in shard], vectors)
            number += 1
