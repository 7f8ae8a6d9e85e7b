"""What vectors tell of their model: how alike random texts look, how near positives lie, how the space is filled.

Letters: N texts, D vector width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Z = 1.959964  # of the normal distribution: 95 % lie within so many standard errors
ROWS = 1_024  # compared with all others at a time
DECIMALS = 6  # few enough for the same numbers on every machine

Matrix = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean, its 95 % interval, and how many values it is of."""

    mean: float
    low: float
    high: float
    of: int


@dataclass(frozen=True)
class Series:
    """Estimates by a length or a position, which `at` holds."""

    at: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    of: list[int]


def series(estimates: Mapping[int, Estimate]) -> Series:
    """Rounded, in the order given."""
    found = list(estimates.values())
    means, lows, highs = (
        [round(number, DECIMALS) for number in numbers]
        for numbers in ([e.mean for e in found], [e.low for e in found], [e.high for e in found])
    )
    return Series(list(estimates), means, lows, highs, [e.of for e in found])


def estimate(values: Matrix) -> Estimate:
    """The mean of independent values, two at least, with the interval of a normal distribution."""
    mean = float(values.mean(dtype=np.float64))
    error = Z * float(values.std(ddof=1, dtype=np.float64)) / len(values) ** 0.5
    return Estimate(mean, mean - error, mean + error, len(values))


def unit(vectors: Matrix) -> Vector:
    """Scaled to length 1, [N, D]; a vector of zeros stays one."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=-1, keepdims=True)
    scaled: Vector = exact / np.where(lengths > 0, lengths, 1.0)
    return scaled


def cosines(first: Matrix, second: Matrix) -> Vector:
    """Of each row with its partner: [N, D], [N, D] -> [N]."""
    products: Vector = (unit(first) * unit(second)).sum(axis=-1)
    return products


def alignment(first: Matrix, second: Matrix) -> float:
    """Mean squared distance of positives on the unit sphere, [N, D] each; 0 when they fall together.

    Wang & Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity" (ICML 2020),
    section 4.1, with their alpha of 2.
    """
    return float(np.square(unit(first) - unit(second)).sum(axis=1).mean())


def uniformity(vectors: Matrix, t: float = 2.0) -> float:
    """log E exp(-t |x - y|^2) over all pairs of different rows on the unit sphere, [N, D]; 0 when all fall together.

    Wang & Isola 2020, section 4.1, with their t of 2. The more evenly the sphere is filled, the lower.
    """
    points, total = unit(vectors), 0.0
    for begin in range(0, len(points), ROWS):
        products = points[begin : begin + ROWS] @ points.T  # [ROWS, N]
        total += float(np.exp(-t * np.maximum(0.0, 2 - 2 * products)).sum())
    own = float(np.exp(-t * np.maximum(0.0, 2 - 2 * np.square(points).sum(axis=1))).sum())
    return float(np.log((total - own) / (len(points) * (len(points) - 1))))


def spectrum(vectors: Matrix) -> Vector:
    """Singular values of the centred vectors, the largest first, as shares of their sum: [N, D] -> [min(N, D)]."""
    exact = vectors.astype(np.float64)
    values: Vector = np.linalg.svd(exact - exact.mean(axis=0), compute_uv=False)
    shares: Vector = values / max(values.sum(), np.finfo(np.float64).tiny)
    return shares


def effective_rank(shares: Vector) -> float:
    """exp(-sum p log p) over the shares p of a spectrum: as many directions as there would be of equal strength.

    Roy & Vetterli, "The effective rank: a measure of effective dimensionality" (EUSIPCO 2007), definition 1. It knows
    no scale: vectors that all but fall together, as of a random model, may still fill every direction alike.
    """
    seen = shares[shares > 0]
    return float(np.exp(-(seen * np.log(seen)).sum()))
