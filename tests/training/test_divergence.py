"""When training counts as broken down, and when it doesn't."""

import math

import numpy as np
import pytest

from seedcli.training.divergence import GUESS, HIGH, RISEN, SKIPPED, Breakdown, Health, listed
from seedcli.training.log import Figures

NAN, INF = math.nan, math.inf


def figures(losses: list[list[float]], norms: list[float] | None = None) -> Figures:
    rows = np.array(losses)
    return Figures(rows, rows.mean(0), np.array(norms or [1.0] * len(losses)))


def examined(health: Health, losses: list[float], every: int = 5) -> Breakdown | None:
    """The first breakdown of steps 1, 2 ... of one term, looked at every few steps."""
    for begin in range(0, len(losses), every):
        found = health.examine(begin + 1, figures([[loss] for loss in losses[begin : begin + every]]))
        if found:
            return found
    return None


def test_the_first_bad_step_and_term_are_named():
    health = Health(["mlm", "decoder"], scaled=False, first=20.0)
    found = health.examine(41, figures([[7, 8], [7, 8], [7, NAN], [NAN, NAN]], [1, 1, NAN, NAN]))
    assert found == Breakdown(43, "the loss (decoder) became nan")


def test_a_gradient_is_blamed_where_the_loss_was_still_a_number():
    health = Health(["mlm"], scaled=False, first=20.0)
    assert health.examine(1, figures([[7], [7], [NAN]], [1, INF, NAN])) == Breakdown(
        2, "the gradient's norm became inf"
    )


def test_under_a_loss_scaler_infinite_gradients_are_skipped_unless_they_never_end():
    health = Health(["mlm"], scaled=True, first=None)
    assert health.examine(1, figures([[9.0]] * 40, [INF] * (SKIPPED - 1) + [2.0] + [NAN] * 10)) is None
    found = health.examine(41, figures([[9.0]] * 25, [INF] * 25))
    assert found is not None
    assert (found.step, "infinite for 30 steps" in found.what) == (31, True)


def test_a_loss_that_is_no_number_is_an_error_under_a_loss_scaler_too():
    assert Health(["mlm"], scaled=True, first=1.0).examine(5, figures([[INF]], [INF])) == Breakdown(
        5, "the loss (mlm) became inf"
    )


def test_an_explosion_is_told_with_the_step_where_it_began():
    losses = [10.0] * 20 + [40.0] * 4 + [9.0] + [80.0] * 30  # four steps alone are no explosion
    found = examined(Health(["mlm"], scaled=False, first=None), losses)
    assert found is not None
    assert (found.step, "above 30 for 10 steps, from 10 in the beginning" in found.what) == (26, True)


def test_an_explosion_within_the_first_record_is_told():
    found = examined(Health(["mlm"], scaled=False, first=None), [10.0] * 3 + [400.0] * 3_000, every=50)
    assert found is not None
    assert found.step == 4


def test_a_resumed_run_knows_where_it_began():
    assert examined(Health(["mlm"], False, first=10.0), [31.0] * 20) is not None
    assert examined(Health(["mlm"], False, first=None), [31.0] * 20) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_contrastive_run_never_explodes(seed):
    """Its loss falls to nearly nothing and jumps to a hundredfold: batches that hold a hard or mislabelled pair."""
    rng = np.random.default_rng(seed)
    falling = 5.5 * np.exp(-np.arange(3_000) / 200) + 0.01
    jumps = np.where(rng.random(3_000) < 0.2, rng.uniform(1, 100, 3_000), 1)
    assert examined(Health(["nll"], False, first=None), (falling * rng.lognormal(0, 1, 3_000) * jumps).tolist()) is None
    assert (
        examined(Health(["nll"], False, first=0.02), [GUESS] * 50) is None
    )  # a fine start, then no better than chance


def test_a_loss_as_high_as_guessing_is_no_explosion_however_low_it_began():
    assert examined(Health(["nll"], False, first=0.5), [GUESS - 0.1] * 20) is None
    assert examined(Health(["nll"], False, first=0.5), [GUESS + 0.1] * HIGH) == Breakdown(
        1, "the loss rose above 12.5 for 10 steps, from 0.5 in the beginning"
    )
    assert math.log(250_000) < GUESS  # the largest vocabulary in use (XLM-R)
    assert RISEN * math.log(250_000) > GUESS


def test_rows_are_listed_by_epoch():
    assert listed([(0, 7), (0, 3), (1, 5)], "blocks") == "blocks 7, 3 of epoch 0 and blocks 5 of epoch 1"
    assert listed([(2, row) for row in range(14)], "rows").endswith("10, 11 of epoch 2 and 2 more")
