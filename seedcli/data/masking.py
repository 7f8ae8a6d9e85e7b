"""Masked language modelling: which tokens are hidden, and what stands in their place."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Masking(NamedTuple):
    """BERT's scheme: of the tokens chosen, 80 % become [MASK], 10 % a random word, 10 % stay."""

    mask: int
    special: NDArray[np.int64]  # ids that are never chosen
    vocabulary: int
    share: float = 0.15


def mask_tokens(
    tokens: NDArray[Any], masking: Masking, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Tokens [n] as the encoder reads them, and where the loss is taken [n]."""
    draws = rng.random(len(tokens))
    chosen = (draws < masking.share) & ~np.isin(tokens, masking.special)
    part = draws / masking.share  # uniform in [0, 1) where chosen
    words = rng.integers(0, masking.vocabulary, len(tokens), dtype=np.int64)
    replaced = np.where(part < 0.8, masking.mask, np.where(part < 0.9, words, tokens))
    return np.where(chosen, replaced, tokens).astype(tokens.dtype), chosen
