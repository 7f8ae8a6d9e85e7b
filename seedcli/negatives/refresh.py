"""A search for the negatives of ANCE: all passages and the training queries, encoded with the weights as they are.

Every process encodes its share of the passages and searches for its share of the queries. Vectors lie on disk, in
shards, so that a search that was interrupted goes on where it was. Letters: E examples, S of them, D width.
"""

import shutil
import signal
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from seedcli.base.errors import Interrupted, telling_refusals
from seedcli.base.files import written_whole
from seedcli.base.progress import Advance, Progress
from seedcli.base.runtime import Runtime
from seedcli.data.ragged import Ragged
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.towers import Towers
from seedcli.negatives.ance import Found, joined
from seedcli.negatives.examples import TrainingSet
from seedcli.retrieval.encoding import encode_rows
from seedcli.retrieval.exact import nearest, scored
from seedcli.retrieval.matrix import Matrix, open_matrix
from seedcli.retrieval.vectors import Shard, open_shards, shard_path, write_shard

SHARD = 1 << 14  # passages of a shard at most
SHARES = 16  # shards and blocks there are at least
BLOCK = {"cpu": 1 << 10, "cuda": 1 << 14}  # queries searched for at a time; all vectors pass for each block
TOKENS = {"cpu": 1_024, "cuda": 1 << 17}  # encoded at a time, padding included


class Search(NamedTuple):
    """What is searched and with what; `data` brings the texts, `folder` is on a disk that all processes share."""

    data: TrainingSet
    towers: Towers
    tokenizer: Tokenizer
    depth: int
    folder: Path
    runtime: Runtime
    progress: Progress


def find(search: Search, examples: NDArray[np.int64], step: int, asked: Callable[[], int]) -> Found | None:
    """The `depth` passages that score best for each of the examples [S]; None but in the first process.

    `step` tells the weights: what was encoded with those of another is thrown away. Raises Interrupted, in all
    processes, when one was asked to stop.
    """
    here, folder = search.runtime, search.folder / f"{step:07}"
    here.share(lambda: _clear(search.folder, folder))
    training = search.towers.training
    search.towers.eval()
    try:
        shards = encode(search, folder, asked)
        return searched(search, shards, folder, examples, asked)
    finally:
        search.towers.train(training)


def share_size(total: int, most: int) -> int:
    """Passages of a shard, or queries of a block: the same for any number of processes, and some for each."""
    return min(most, max(1, total // SHARES))


def encode(search: Search, folder: Path, asked: Callable[[], int]) -> list[Shard]:
    """All passages, by their rows; each process writes every W-th shard that is not there yet."""
    here, total = search.runtime, len(search.data.passages.tokens)
    size = share_size(total, SHARD)
    shards = [range(begin, min(begin + size, total)) for begin in range(0, total, size)]
    there = {number for number in range(len(shards)) if shard_path(folder, number).is_file()}
    with search.progress.track("encode", total, "passages", sum(len(shards[number]) for number in there)) as advance:
        for begin in range(0, len(shards), here.world):
            for number in sorted(set(range(begin, min(begin + here.world, len(shards)))) - there):
                if number % here.world == here.rank:
                    encode_shard(search, shards[number], shard_path(folder, number), advance)
                else:
                    advance(len(shards[number]))
            heed(here, asked)
    here.barrier()
    return open_shards(folder)


def encode_shard(search: Search, rows: range, path: Path, advance: Advance) -> None:
    """Some passages, whose rows stand for their ids."""
    tokens, here = [search.data.passages.tokens[row] for row in rows], search.runtime
    budget = TOKENS[here.device.type]
    vectors, counts = encode_rows(search.towers.passage, tokens, "passage", search.tokenizer, here, budget, advance)
    with telling_refusals(path):
        write_shard(path, [f"{row:012}" for row in np.repeat(rows, counts).tolist()], vectors)


def searched(
    search: Search, shards: Sequence[Shard], folder: Path, examples: NDArray[np.int64], asked: Callable[[], int]
) -> Found | None:
    """What is found for the examples [S], in the first process: each searches for every W-th block of them.

    Shards and blocks are the same for any number of processes, and so is what is found.
    """
    here = search.runtime
    matrix = open_matrix(shards, here.device)
    passage_of = np.concatenate([shard.names().at() for shard in shards]).astype(np.int64)
    size = share_size(len(examples), BLOCK[here.device.type])
    blocks = [examples[begin : begin + size] for begin in range(0, len(examples), size)]
    parts: list[Found] = []
    with search.progress.track("search", len(examples), "queries") as advance:
        for round_ in range(0, len(blocks), here.world):
            own = blocks[round_ : round_ + here.world][here.rank : here.rank + 1]
            parts += [searched_block(search, matrix, passage_of, block) for block in own]
            advance(sum(map(len, blocks[round_ : round_ + here.world])))
            heed(here, asked)
    if here.world == 1:
        return joined(parts)
    names = [f"found-{rank}-of-{here.world}.safetensors" for rank in range(min(here.world, len(blocks)))]
    if parts:
        _save(folder / names[here.rank], joined(parts))
    here.barrier()
    return joined([_load(folder / name) for name in names]) if here.first else None


def searched_block(search: Search, matrix: Matrix, passage_of: NDArray[np.int64], examples: NDArray[np.int64]) -> Found:
    """What is found for some examples, which are encoded together; `passage_of` has the passage of each vector."""
    data, here = search.data, search.runtime
    tokens = [data.queries.tokens[row] for row in data.trained[examples].tolist()]
    vectors, _ = encode_rows(search.towers.query, tokens, "query", search.tokenizer, here, TOKENS[here.device.type])
    each = matrix.size / len(data.passages.tokens)
    found = list(chain.from_iterable(nearest(vectors, matrix, search.depth, lambda _, *__: None, each)))
    queries = torch.from_numpy(vectors).to(here.device)
    positives = [
        positive_scores(queries[place : place + 1], data.positives[example], matrix, passage_of)
        for place, example in enumerate(examples.tolist())
    ]
    return Found(
        examples,
        Ragged.of((passage_of[hits.rows] for hits in found), np.int64),
        Ragged.of((hits.scores for hits in found), np.float32),
        Ragged.of(positives, np.float32),
    )


def positive_scores(
    query: Tensor, passages: NDArray[np.int64], matrix: Matrix, passage_of: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The score of each passage for a query [1, D]: that of the best of its vectors."""
    begins, ends = (np.searchsorted(passage_of, passages, side=side) for side in ("left", "right"))
    rows = np.concatenate([np.arange(*each) for each in zip(begins.tolist(), ends.tolist(), strict=True)])
    scores = scored(query, np.zeros(len(rows), np.int64), rows, matrix).scores
    best: NDArray[np.float32] = np.maximum.reduceat(scores, np.cumsum(ends - begins) - (ends - begins))
    return best


def heed(here: Runtime, asked: Callable[[], int]) -> None:
    """Raises Interrupted, in all processes, when one was asked to stop."""
    if int(here.sum(torch.tensor(asked(), device=here.device))):
        raise Interrupted("stopped in the search for negatives; repeat the command to go on", asked() or signal.SIGTERM)


def _clear(folder: Path, kept: Path) -> None:
    """Remove the vectors of other weights."""
    for other in folder.glob("[0-9]*"):
        if other != kept:
            shutil.rmtree(other, ignore_errors=True)
    kept.mkdir(parents=True, exist_ok=True)


def _save(path: Path, found: Found) -> None:
    tensors = {"examples": found.examples}
    for name, ragged in zip(Found._fields[1:], found[1:], strict=True):
        tensors |= {name: ragged.values, f"{name}.offsets": ragged.offsets}
    with telling_refusals(path), written_whole(path) as aside:
        save_file(tensors, aside)


def _load(path: Path) -> Found:
    tensors = load_file(path)
    ragged = (Ragged(tensors[name], tensors[f"{name}.offsets"]) for name in Found._fields[1:])
    return Found(tensors["examples"], *ragged)
