"""Floating-point operations of pre-training, by arithmetic: two a weight and token forward, twice as many backward.

Layer norms, softmax and activations are left out, as is customary. Letters: D hidden size, n tokens, V vocabulary.
"""

from typing import NamedTuple

PASSES = 3  # forward, and backward to the inputs and to the weights


class Encoder(NamedTuple):
    """A Transformer encoder with a masked-word head."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


class Decoder(NamedTuple):
    """A decoder over the encoder's embeddings; `window` None: every position attends to all before it."""

    layers: int
    window: int | None


def pretraining_operations(encoder: Encoder, decoder: Decoder | None, length: float, masked: float) -> float:
    """Operations a token, forward and backward, in blocks of `length` tokens of which the share `masked` is predicted.

    BERT-base on 512 tokens with 30,522 words: 588 million without a decoder, 856 million with SEED's.
    """
    layers, hidden, intermediate, vocabulary = encoder
    block = 4 * hidden**2 + 2 * hidden * intermediate  # weights of a layer: attention, feed-forward
    scores = 2 * length * hidden  # products of a token with all n keys, and of its weights with all n values
    forward = layers * (block + scores) + masked * (hidden**2 + hidden * vocabulary)
    if decoder is not None:
        reach = length if decoder.window is None else min(length, decoder.window + 1)
        told = 2 * hidden**2 / length  # h0's value, once a sequence
        forward += decoder.layers * (block + 2 * reach * hidden + told) + hidden * vocabulary
    return 2 * PASSES * forward
