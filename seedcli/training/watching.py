"""What pre-training does for text it never reads: the losses there, what h0 is worth, and a retrieval probe.

Letters: P paragraphs, D hidden size.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.data.batches import PretrainingBatches, padded
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.seed import SeedModel
from seedcli.training.objectives import decoder_loss, masked_word_loss

WATCHED = 512  # blocks at most: a look costs about as much as two steps of as many
HALF = 16  # tokens of half a paragraph at least
PROBED = 8  # paragraphs at least: to find one among fewer says little
ROUNDING = 1e-6  # of a cosine: products of equal vectors differ by less

Texts = Sequence[NDArray[Any]]


class Watching:
    """A look at held-out blocks, for the training loop. Every process takes a share, and all get the same values.

    Masks are those of a block's first epoch each time, dropout is off, and the micro-batches don't depend on how many
    processes there are: looks can be compared, and leave no trace in the training.
    """

    enough = False

    def __init__(
        self, model: SeedModel, held_out: PretrainingBatches, tokenizer: Tokenizer, runtime: Runtime, progress: Progress
    ):
        self.model, self.held_out, self.runtime, self.progress = model, held_out, runtime, progress
        self.blocks = [held_out.blocks[row] for row in range(len(held_out.blocks))]
        self.halves = halves(self.blocks, tokenizer.prefix, tokenizer.suffix)

    @property
    def about(self) -> str:
        """What is looked at, for a person."""
        pairs = len(self.halves) // 2
        short = f"no retrieval probe: of {PROBED} paragraphs of {2 * HALF} tokens there are {pairs}"
        probe = f"{pairs:,} paragraphs whose halves are to find each other" if pairs >= PROBED else short
        return f"{len(self.blocks):,} blocks that are not trained on; {probe}"

    def __call__(self, step: int) -> dict[str, float]:
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.runtime.autocast():
                values = self.losses() | self.probe()
        finally:
            self.model.train(training)
        self.progress.say(told(step, values))
        return values

    def losses(self) -> dict[str, float]:
        """Means in nats. `other`: the decoder is given the h0 of the block that is half of them all away."""
        h0 = self._vectors(len(self.blocks))
        sums = torch.zeros(5, dtype=torch.float64, device=h0.device)  # counts of both terms; mlm, decoder, other
        batches = [(rows, self.held_out.batch([(0, row) for row in rows])) for rows in self._mine(self.blocks)]
        for rows, batch in batches:
            sums[:2] += batch.counts.to(h0.device)
            loss, vectors = masked_word_loss(self.model, batch.to(h0.device))
            sums[2] += loss
            h0[rows] = vectors.float()
        if self.model.decoder is not None:
            h0 = self.runtime.sum(h0)
            others = h0.roll(len(h0) // 2, 0)
            for rows, batch in batches:
                placed = batch.to(h0.device)
                sums[3] += decoder_loss(self.model, placed, h0[rows])
                sums[4] += decoder_loss(self.model, placed, others[rows])
        masked_words, words, *losses = self.runtime.sum(sums).tolist()
        mlm, decoder, other = np.array(losses) / np.maximum(1, [masked_words, words, words])
        values = {"held_out_mlm": mlm}
        if self.model.decoder is not None:
            values |= {"held_out_decoder": decoder, "held_out_perplexity": np.exp(decoder)}
            if len(self.blocks) > 1:
                values |= {"held_out_decoder_other": other, "h0_worth": other - decoder}
        return {name: float(value) for name, value in values.items()}

    def probe(self) -> dict[str, float]:
        """How the first half of a paragraph finds its second half among all: mean reciprocal rank, by cosine of [CLS].

        Not by dot product: nothing trains the vectors' lengths before fine-tuning, and the longest would be found most.
        """
        pairs = len(self.halves) // 2
        if pairs < PROBED:
            return {}
        vectors = self._vectors(2 * pairs)
        for rows in self._mine(self.halves):
            texts = padded([self.halves[row] for row in rows], self.held_out.pad)
            tokens, attention = texts.to(self.runtime.device)
            hidden = self.model.encoder.base_model(input_ids=tokens, attention_mask=attention)[0]
            vectors[rows] = hidden[:, 0].float()
        vectors = F.normalize(self.runtime.sum(vectors))
        with torch.autocast(vectors.device.type, enabled=False):
            scores = vectors[:pairs] @ vectors[pairs:].T  # [P, P]
        below = scores < scores.diagonal().unsqueeze(1) - ROUNDING
        ranks = pairs - below.sum(1)  # [P]; an equal score counts as a better one
        return {"probe_mrr": float((1 / ranks).mean())}

    def _vectors(self, count: int) -> Tensor:
        """Zeros [count, D], of which every process fills in its own: their sum has them all."""
        return torch.zeros(count, self.model.embedding.shape[1], device=self.runtime.device)

    def _mine(self, texts: Texts) -> list[list[int]]:
        """The rows of this process's micro-batches, texts of like length in each."""
        order, size = np.argsort([len(text) for text in texts], kind="stable").tolist(), self.held_out.micro
        micro_batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
        return micro_batches[self.runtime.rank :: self.runtime.world]


def halves(blocks: Texts, prefix: Sequence[int], suffix: Sequence[int]) -> list[NDArray[Any]]:
    """The first halves of paragraphs, then the second halves, each framed as a text of its own.

    Of a block the longest paragraph, unless it is short. A paragraph stands between two [SEP].
    """
    frame = [*prefix, *suffix]
    longest = (max(parted(block, frame), key=len) for block in blocks)
    kept = [paragraph for paragraph in longest if len(paragraph) >= 2 * HALF]
    first = [paragraph[: len(paragraph) // 2] for paragraph in kept]
    second = [paragraph[len(paragraph) // 2 :] for paragraph in kept]
    return [np.array([*prefix, *half, *suffix]) for half in first + second]


def parted(block: NDArray[Any], marks: Sequence[int]) -> list[NDArray[Any]]:
    """What stands between the marks."""
    ends = np.flatnonzero(np.isin(block, marks)).tolist()
    return [block[begin:end] for begin, end in zip([0, *(end + 1 for end in ends)], [*ends, len(block)], strict=True)]


def told(step: int, values: Mapping[str, float]) -> str:
    """A look as a line for a person: "step 1,000: held-out mlm 5.81, decoder 4.92 (...), probe MRR 0.21"."""
    line = f"step {step:,}: held-out mlm {values['held_out_mlm']:.2f}"
    if "held_out_decoder" in values:
        line += f", decoder {values['held_out_decoder']:.2f}"
    if "h0_worth" in values:
        line += f" (another text's h0 {values['held_out_decoder_other']:.2f}: h0 is worth {values['h0_worth']:.3f})"
    return line + (f", probe MRR {values['probe_mrr']:.2f}" if "probe_mrr" in values else "")
