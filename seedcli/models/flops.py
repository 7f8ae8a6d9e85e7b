"""Floating-point operations of training, by arithmetic: two a weight and token forward, twice as many backward.

Layer norms, softmax and activations are left out, as is customary. Letters: D hidden size, n tokens, V vocabulary.
"""

from typing import NamedTuple

from transformers import PreTrainedConfig

PASSES = 3  # forward, and backward to the inputs and to the weights


class Encoder(NamedTuple):
    """A Transformer encoder, with a masked-word head over a vocabulary."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


class Decoder(NamedTuple):
    """A decoder over the encoder's embeddings; `window` None: every position attends to all before it."""

    layers: int
    window: int | None


def encoder_shape(config: PreTrainedConfig) -> Encoder:
    hidden = int(config.hidden_size)
    wide = getattr(config, "intermediate_size", 4 * hidden)
    return Encoder(int(config.num_hidden_layers), hidden, int(wide), int(config.vocab_size))


def encoding_operations(encoder: Encoder, length: float) -> float:
    """Operations a token, forward and backward, in texts of `length` tokens."""
    scores = 2 * length * encoder.hidden  # products of a token with all n keys, and of its weights with all n values
    return 2 * PASSES * encoder.layers * (_block(encoder) + scores)


def pretraining_operations(encoder: Encoder, decoder: Decoder | None, length: float, masked: float) -> float:
    """Operations a token, forward and backward, in blocks of `length` tokens of which the share `masked` is predicted.

    BERT-base on 512 tokens with 30,522 words: 588 million without a decoder, 856 million with SEED's.
    """
    _, hidden, _, vocabulary = encoder
    forward = masked * (hidden**2 + hidden * vocabulary)
    if decoder is not None:
        reach = length if decoder.window is None else min(length, decoder.window + 1)
        told = 2 * hidden**2 / length  # h0's value, once a sequence
        forward += decoder.layers * (_block(encoder) + 2 * reach * hidden + told) + hidden * vocabulary
    return encoding_operations(encoder, length) + 2 * PASSES * forward


def _block(encoder: Encoder) -> int:
    """Weights of a layer: of attention and of feed-forward."""
    return 4 * encoder.hidden**2 + 2 * encoder.hidden * encoder.intermediate
