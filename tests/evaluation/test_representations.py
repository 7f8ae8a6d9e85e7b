"""Measures of vectors, against numbers worked by hand."""

from math import exp, log, sqrt

import numpy as np
import pytest

from seedcli.evaluation import representations
from seedcli.evaluation.representations import (
    Estimate,
    alignment,
    cosines,
    effective_rank,
    estimate,
    series,
    spectrum,
    uniformity,
    unit,
)

EAST, NORTH, WEST = np.float32([1, 0]), np.float32([0, 1]), np.float32([-1, 0])


def test_the_interval_of_a_mean_is_two_standard_errors_wide_on_either_side():
    found = estimate(np.array([1.0, 2.0, 3.0]))  # standard deviation 1, standard error 1 / sqrt(3)
    assert found == pytest.approx((2.0, 2 - 1.96 / sqrt(3), 2 + 1.96 / sqrt(3), 3), abs=1e-4)


def test_about_95_of_100_intervals_hold_the_mean():
    rng = np.random.default_rng(0)
    found = [estimate(rng.normal(5, 2, 50)) for _ in range(1_000)]
    assert 0.92 < np.mean([low <= 5 <= high for _, low, high, _ in found]) < 0.98


def test_cosines_are_of_each_row_with_its_partner_whatever_the_lengths():
    first, second = np.stack([EAST, EAST, EAST, EAST]), np.stack([3 * EAST, NORTH, 9 * WEST, EAST + NORTH])
    assert cosines(first, second).tolist() == pytest.approx([1, 0, -1, sqrt(0.5)])


def test_a_vector_of_zeros_has_no_direction_and_does_no_harm():
    assert unit(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]
    assert cosines(np.zeros((1, 2)), np.ones((1, 2))).tolist() == [0]


def test_alignment_is_the_squared_distance_on_the_unit_sphere():
    assert alignment(np.stack([EAST, NORTH]), np.stack([5 * EAST, NORTH])) == 0
    assert alignment(EAST[None], NORTH[None]) == pytest.approx(2)
    assert alignment(np.stack([EAST, EAST]), np.stack([WEST, EAST])) == pytest.approx((4 + 0) / 2)


def test_uniformity_is_the_log_of_the_mean_potential_of_pairs():
    assert uniformity(np.stack([EAST, NORTH])) == pytest.approx(-4)  # e^(-2 * 2)
    assert uniformity(np.stack([EAST, 2 * EAST, 3 * EAST])) == pytest.approx(0)
    # Of a point's three partners on a square, two are sqrt(2) away and one is 2.
    square = np.stack([EAST, NORTH, WEST, -NORTH])
    assert uniformity(square) == pytest.approx(log((2 * exp(-4) + exp(-8)) / 3))
    assert uniformity(square, t=1) == pytest.approx(log((2 * exp(-2) + exp(-4)) / 3))


def test_uniformity_is_the_same_whatever_is_compared_at_a_time(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(10, 3))
    points = [vector / np.linalg.norm(vector) for vector in vectors]
    potentials = [
        exp(-2 * np.square(x - y).sum()) for n, x in enumerate(points) for m, y in enumerate(points) if n != m
    ]
    for rows in (3, 10, 1_024):
        monkeypatch.setattr(representations, "ROWS", rows)
        assert uniformity(vectors) == pytest.approx(log(np.mean(potentials)))


def test_the_effective_rank_of_an_identity_is_its_size_and_of_a_line_one():
    both_ways = np.concatenate([np.eye(5), -np.eye(5)])  # centred as it is, every direction alike
    assert spectrum(both_ways) == pytest.approx([0.2] * 5)
    assert effective_rank(spectrum(both_ways)) == pytest.approx(5)
    assert effective_rank(spectrum(np.outer([1.0, 2.0, 4.0], [3.0, 4.0]))) == pytest.approx(1)


def test_two_directions_of_unequal_strength_count_for_less_than_two():
    vectors = np.array([[3, 0], [-3, 0], [0, 1], [0, -1]])  # singular values in the ratio 3 to 1
    assert spectrum(vectors) == pytest.approx([0.75, 0.25])
    assert effective_rank(spectrum(vectors)) == pytest.approx(exp(-(0.75 * log(0.75) + 0.25 * log(0.25))))


def test_what_all_vectors_share_is_no_direction():
    vectors = np.random.default_rng(0).normal(size=(20, 4))
    assert spectrum(vectors + 100) == pytest.approx(spectrum(vectors))
    collapsed = spectrum(np.ones((4, 3)))
    assert collapsed.tolist() == [0, 0, 0]
    assert effective_rank(collapsed) == 1  # a single point


def test_a_series_keeps_the_order_of_its_places_and_six_decimals():
    made = series({32: Estimate(0.12345678, 0.1, 0.2, 7), 16: Estimate(0.5, 0.4, 0.6, 8)})
    assert (made.at, made.mean, made.low, made.high) == ([32, 16], [0.123457, 0.5], [0.1, 0.4], [0.2, 0.6])
    assert made.of == [7, 8]
    assert series({}).at == []
