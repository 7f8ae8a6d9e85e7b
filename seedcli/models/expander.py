"""A sequence-to-sequence model that writes queries of passages (doc2query; Nogueira & Lin 2019, docTTTTTquery).

Letters: B passages, L tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForSeq2SeqLM

from seedcli.base.errors import DataError
from seedcli.base.runtime import Runtime
from seedcli.data.batches import padded
from seedcli.data.tokenizer import Tokenizer, open_tokenizer
from seedcli.models.encoder import from_folder, read_config

BEAMS = {"do_sample": False, "top_k": None, "top_p": None, "temperature": None}


class Generation(NamedTuple):
    """How many queries a passage gets, of how many tokens at most, and how many of its own tokens are read.

    Each token is drawn from the `sampled` likeliest ones; with 0, the queries are the best beams.
    """

    queries: int
    sampled: int
    query_length: int
    passage_length: int


class Expander:
    """A model that writes queries."""

    def __init__(self, model: Any, tokenizer: Tokenizer, generation: Generation, runtime: Runtime):
        self.model, self.tokenizer = model.to(runtime.device).eval(), tokenizer
        self.generation, self.runtime = generation, runtime

    def write(self, texts: Sequence[str], seed: int) -> list[list[str]]:
        """The queries of each passage; the same texts together, with the same seed, get the same ones on a device.

        Where a GPU's memory gives out, half of the texts are taken at a time.
        """
        try:
            return self.written(texts, seed)
        except torch.OutOfMemoryError:
            if len(texts) == 1:
                raise
        half = len(texts) // 2
        return self.write(texts[:half], seed) + self.write(texts[half:], seed)

    @torch.inference_mode()
    def written(self, texts: Sequence[str], seed: int) -> list[list[str]]:
        made, device = self.generation, self.runtime.device
        read = padded(self.tokenizer.encode(texts, made.passage_length), self.tokenizer.pad).to(device)  # [B, L]
        drawn = {"do_sample": True, "top_k": made.sampled, "top_p": 1.0, "temperature": 1.0, "num_beams": 1}
        with torch.random.fork_rng([device] if device.type == "cuda" else []), self.runtime.autocast():
            torch.manual_seed(seed)
            found = self.model.generate(
                input_ids=read.tokens, attention_mask=read.attention, num_return_sequences=made.queries,
                max_new_tokens=made.query_length, **drawn if made.sampled else BEAMS | {"num_beams": made.queries},
            )  # fmt: skip
        queries = self.tokenizer.pretrained.batch_decode(found, skip_special_tokens=True)
        return [queries[begin : begin + made.queries] for begin in range(0, len(queries), made.queries)]


def open_expander(folder: Path, generation: Generation, runtime: Runtime) -> Expander:
    """The model in a folder. Raises DataError for one that reads and writes no text in turn."""
    if not read_config(folder).is_encoder_decoder:
        raise DataError(f"{folder}: no sequence-to-sequence model; give one that writes queries, such as T5")
    return Expander(from_folder(AutoModelForSeq2SeqLM, folder), open_tokenizer(folder), generation, runtime)
