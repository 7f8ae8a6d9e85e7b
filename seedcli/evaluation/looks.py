"""Models looked at: the texts that all of them read, and what is found of the vectors that one makes of them.

Letters: T texts, N texts of a measure, B of a batch, n tokens of the longest, D width.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from seedcli.base.errors import DataError
from seedcli.base.progress import Advance, Progress
from seedcli.base.runtime import Runtime
from seedcli.data.batches import Sequences, padded, token_batches
from seedcli.data.tokenizer import BATCH, Tokenizer, open_tokenizer
from seedcli.evaluation.inspection import Look
from seedcli.evaluation.representations import (
    DECIMALS,
    Series,
    alignment,
    cosines,
    effective_rank,
    estimate,
    series,
    spectrum,
    uniformity,
    unit,
)
from seedcli.models.encoder import Encoder, Pooling, longest_input, open_encoder, read_config
from seedcli.models.kept import keeps_decoder, open_decoder
from seedcli.models.seed import embedding_of

LENGTHS = (16, 32, 64, 128, 256, 512)  # tokens, as in the paper's figures 1 and 5
FEWEST = 30  # values that a mean is worth telling of
CHARACTERS = 8 * LENGTHS[-1]  # of a text that are kept: more than its first tokens have
HALVED = 1_024  # characters of a text that is parted


class Subject(NamedTuple):
    """A model before its weights are read, and the most tokens it reads."""

    name: str
    folder: Path
    tokenizer: Tokenizer
    longest: int

    def rows(self, texts: Sequence[str], length: int) -> list[NDArray[Any]]:
        """The ids of each text, in no template, cut to so many tokens or to what the model reads."""
        return self.tokenizer.encode(texts, min(length, self.longest))


class Choice(NamedTuple):
    """The texts of each measure, the same for all models."""

    pairs: dict[int, list[str]]  # tokens -> 2 N texts, partners side by side
    halves: list[tuple[str, str]]
    decoded: list[str]

    @property
    def tokens(self) -> int:
        """About how many a model reads."""
        return sum(length * len(texts) for length, texts in self.pairs.items()) + HALVED // 4 * len(self.halves)


def subject(name: str, folder: Path) -> Subject:
    config = read_config(folder)
    return Subject(name, folder, open_tokenizer(folder), longest_input(config))


def choose(
    texts: Sequence[str], models: Sequence[Subject], pairs: int, seed: int, where: str, progress: Progress
) -> Choice:
    """Texts for each measure, drawn by the seed. Raises DataError, naming `where`, when too few are long enough."""
    counts = token_counts(models, texts, progress)  # [models, T]
    longest = np.array([model.longest for model in models], dtype=np.int64)
    order = np.random.default_rng([seed, 1]).permutation(len(texts))

    def fitting(length: int) -> list[str]:
        """Those that are long enough for all models that can read as much."""
        there = np.all(counts[longest >= length] >= length, axis=0)  # [T]
        return [texts[row] for row in order[there[order]][: 2 * pairs]]

    whole = fitting(LENGTHS[0])
    if len(whole) < 2 * FEWEST:
        raise DataError(
            f"{where}: {len(whole)} of {len(texts):,} texts have {LENGTHS[0]} tokens or more; "
            f"to compare pairs of them takes {2 * FEWEST} (in plain files, blank lines part texts)"
        )
    drawn = {length: fitting(length) for length in LENGTHS if length <= longest.max()}
    worth = {length: found[: len(found) // 2 * 2] for length, found in drawn.items() if len(found) >= 2 * FEWEST}
    return Choice(worth, [halves(text) for text in whole], whole[:pairs])


def token_counts(models: Sequence[Subject], texts: Sequence[str], progress: Progress) -> NDArray[np.int64]:
    """[models, T], special tokens included, up to the most that is asked for; once for models that part texts alike."""
    kinds = [model.tokenizer.backend.to_str() for model in models]
    distinct = dict(zip(kinds, models, strict=True))
    with progress.track("measure", len(distinct) * len(texts), "texts") as advance:

        def counts(model: Subject) -> Iterator[int]:
            for begin in range(0, len(texts), BATCH):
                rows = model._replace(longest=LENGTHS[-1]).rows(texts[begin : begin + BATCH], LENGTHS[-1])
                yield from map(len, rows)
                advance(len(rows))

        found = {kind: np.array([*counts(model)], dtype=np.int64) for kind, model in distinct.items()}
    return np.stack([found[kind] for kind in kinds])


def halves(text: str) -> tuple[str, str]:
    """The beginning of a text, parted at the first blank after its middle."""
    begin = text[:HALVED].strip()
    middle = len(begin) // 2
    blank = begin.find(" ", middle)
    place = middle if blank < 0 else blank
    return begin[:place], begin[place:].lstrip()


def look_at(
    model: Subject, choice: Choice, pooling: Pooling | None, batch_tokens: int, runtime: Runtime, progress: Progress
) -> Look:
    """All measures of one model. Raises DataError when its vectors are no numbers."""
    encoder = opened(model, pooling, runtime)
    if encoder.settings.several:
        progress.say(f"{model.name}: gives a passage several vectors; of each text, read whole, the first is looked at")
    alike = {length: texts for length, texts in choice.pairs.items() if length <= model.longest}
    decoded = choice.decoded if keeps_decoder(model.folder) else []
    total = sum(map(len, alike.values())) + 2 * len(choice.halves) + len(decoded)
    with (
        progress.track(f"inspect {model.name}", total, "texts") as advance,
        torch.inference_mode(),
        runtime.autocast(),
    ):
        reader = Reader(model, encoder, batch_tokens, runtime, advance)
        cosine = {length: estimate(reader.pairs(texts, length)) for length, texts in alike.items()}
        first, second = (reader.vectors(part, LENGTHS[-1]) for part in zip(*choice.halves, strict=True))
        decoder = reader.decoder_series(decoded) if decoded else None
    shares = spectrum(unit(first))
    return Look(
        pooling=encoder.settings.pooling,
        width=encoder.size,
        longest=model.longest,
        cosine=series(cosine),
        left_out={length: missing(length, model) for length in LENGTHS if length not in alike},
        alignment=round(alignment(first, second), DECIMALS),
        uniformity=round(uniformity(first), DECIMALS),
        effective_rank=round(effective_rank(shares), DECIMALS),
        norm=round(float(np.linalg.norm(first, axis=1).mean()), DECIMALS),
        spectrum=shares.round(DECIMALS).tolist(),
        decoder=decoder,
    )


def opened(model: Subject, pooling: Pooling | None, runtime: Runtime) -> Encoder:
    """The encoder on its device, its vectors as long as they come: a norm is one of the measures."""
    encoder, _ = open_encoder(model.folder)
    own = encoder.settings
    encoder.settings = dataclasses.replace(own, pooling=pooling or own.pooling, similarity="dot")
    return encoder.to(runtime.device).eval()


def missing(length: int, model: Subject) -> str:
    """Why nothing is told of a length."""
    if length > model.longest:
        return f"at most {model.longest} are read"
    return f"fewer than {2 * FEWEST} of the texts are that long"


class Reader(NamedTuple):
    """A model at work."""

    model: Subject
    encoder: Encoder
    batch_tokens: int
    runtime: Runtime
    advance: Advance

    def pairs(self, texts: Sequence[str], length: int) -> NDArray[np.float64]:
        """The cosines of texts that lie side by side, [N / 2]."""
        vectors = self.vectors(texts, length)
        return cosines(vectors[0::2], vectors[1::2])

    def vectors(self, texts: Sequence[str], length: int) -> NDArray[np.float32]:
        """[N, D]"""
        rows = self.model.rows(texts, length)
        vectors = np.empty((len(rows), self.encoder.size), dtype=np.float32)
        for batch, sequences in self.batches(rows):
            vectors[batch] = self.encoder(sequences).float().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise DataError(f"{self.model.folder}: its vectors hold NaN or infinity; did its training diverge?")
        return vectors

    def decoder_series(self, texts: Sequence[str]) -> Series:
        """Cosine of the decoder's last state to h0 by position, wherever a word is to be predicted; paper, figure 4."""
        backbone = self.encoder.backbone
        decoder = open_decoder(self.model.folder, int(backbone.config.hidden_size)).to(self.runtime.device).eval()
        rows = self.model.rows(texts, min(LENGTHS[-1], decoder.positions.num_embeddings))
        last = 1 + len(self.model.tokenizer.suffix)  # positions without a next word
        near = np.full((len(rows), max(map(len, rows)) - last), np.nan, dtype=np.float32)  # [N, n - last]
        for batch, (tokens, attention) in self.batches(rows):
            h0 = backbone(input_ids=tokens, attention_mask=attention)[0][:, 0]  # [B, D]
            states = decoder(F.embedding(tokens, embedding_of(backbone)), h0)  # [B, n, D]
            found = F.cosine_similarity(states.float(), h0.float().unsqueeze(1), dim=-1)[:, :-last]
            if not found[attention[:, last:]].isfinite().all():
                raise DataError(f"{self.model.folder}: its decoder's states hold NaN or infinity; did it diverge?")
            found = found.masked_fill(~attention[:, last:], float("nan"))
            near[batch, : found.shape[1]] = found.cpu().numpy()
        there = [column[np.isfinite(column)] for column in near.T]
        return series({at: estimate(column) for at, column in enumerate(there) if len(column) >= FEWEST})

    def batches(self, rows: Sequence[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], Sequences]]:
        """Rows of like length under the budget, on the device, with their places among all."""
        for batch in token_batches([len(row) for row in rows], self.batch_tokens):
            yield batch, padded([rows[row] for row in batch], self.model.tokenizer.pad).to(self.runtime.device)
            self.advance(len(batch))
