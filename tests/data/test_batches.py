"""Batches as functions of seed and step: every epoch whole, and the same words and masks however they are sliced."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from seedcli.data.batches import PretrainingBatches, global_batch, grouped, padded, permuted, token_batches
from seedcli.data.masking import Masking, mask_tokens
from seedcli.data.ragged import Ragged

MASKING = Masking(mask=4, special=np.arange(5), vocabulary=100)


@pytest.mark.parametrize("seed", [0, 1])
def test_permuted_is_a_permutation(seed: int) -> None:
    for total in [*range(1, 70), 127, 128, 129, 1000, 4096, 4097]:
        places = permuted(np.arange(total), total, seed, 7)
        assert sorted(places.tolist()) == list(range(total))


def test_permuted_works_place_by_place_on_tens_of_millions() -> None:
    total = 40_000_003
    positions = np.array([0, 1, 2, total // 2, total - 1])
    together = permuted(positions, total, 3, 0)
    assert together.tolist() == [int(permuted(positions[row : row + 1], total, 3, 0)[0]) for row in range(5)]
    many = permuted(np.arange(20_000), total, 3, 0)
    assert len(set(many.tolist())) == 20_000
    assert many.min() >= 0
    assert many.max() < total
    shares = np.histogram(many, 10, (0, total))[0] / 20_000
    np.testing.assert_allclose(shares, 0.1, atol=0.01)
    assert abs(np.corrcoef(np.arange(20_000), many)[0, 1]) < 0.03


def test_every_seed_and_epoch_has_an_order_of_its_own() -> None:
    orders = {tuple(permuted(np.arange(20), 20, seed, epoch).tolist()) for seed in range(6) for epoch in range(6)}
    assert len(orders) == 36


@pytest.mark.parametrize(("total", "size"), [(10, 4), (7, 7), (5, 12), (1, 3), (23, 5)])
def test_steps_pass_every_row_once_an_epoch(total: int, size: int) -> None:
    drawn = [pair for step in range(3 * total) for pair in global_batch(total, size, step, seed=5)]
    assert len(drawn) == 3 * total * size
    assert [epoch for epoch, _ in drawn] == [place // total for place in range(len(drawn))]
    assert set(Counter(drawn).values()) == {1}
    assert {row for _, row in drawn} == set(range(total))


def test_every_epoch_passes_in_an_order_of_its_own() -> None:
    orders = {tuple(row for _, row in global_batch(20, 20, epoch, seed)) for epoch in range(6) for seed in range(2)}
    assert len(orders) == 12


def blocks() -> Ragged:
    rng = np.random.default_rng(0)
    return Ragged.of([[2, *rng.integers(5, 100, rng.integers(2, 20)), 3] for _ in range(30)], np.uint16)


def sequences(micro: int, step: int, world: int, size: int = 12) -> list[list[tuple[int, int, bool]]]:
    """What all ranks train on in a step: each sequence as (written, masked, chosen) a token, in one order."""
    batches = PretrainingBatches(blocks(), MASKING, pad=0, size=size, micro=micro, seed=3)
    found = []
    for rank in range(world):
        for batch in batches(step, rank, world):
            assert len(batch.masked) <= micro
            later = batch.original.attention[:, 1:]
            assert batch.counts.tolist() == [len(batch.chosen), later.sum()]
            if batch.real is None:
                assert later.all()
            else:
                assert torch.equal(later.flatten().nonzero().squeeze(1), batch.real)
            hidden = torch.zeros(batch.masked.shape, dtype=torch.bool)
            hidden.flatten()[batch.chosen] = True
            assert not hidden[~batch.original.attention].any()
            assert not batch.masked[~batch.original.attention].any()
            columns = zip(batch.original.tokens, batch.masked, hidden, batch.original.attention, strict=True)
            for tokens, masked, chosen, real in columns:
                found.append(list(zip(*(part[real].tolist() for part in (tokens, masked, chosen)), strict=True)))
    return sorted(found)


@pytest.mark.parametrize(("micro", "world"), [(1, 1), (5, 1), (12, 2), (2, 2), (3, 4), (2, 5), (4, 12)])
@pytest.mark.parametrize("step", [0, 2, 9])
def test_ranks_and_micro_batches_only_slice_the_batch(micro: int, world: int, step: int) -> None:
    whole = sequences(micro=12, step=step, world=1)
    assert len(whole) == 12
    assert sequences(micro, step, world) == whole


def test_an_epoch_of_steps_holds_every_block_once() -> None:
    seen = [[token for token, _, _ in row] for step in range(5) for row in sequences(6, step, 2, size=6)]
    assert sorted(seen) == sorted(row.tolist() for row in blocks())


def test_masks_follow_from_seed_epoch_and_block_alone() -> None:
    def masks(steps: range, size: int) -> dict[tuple[int, ...], list[tuple[bool, ...]]]:
        found: dict[tuple[int, ...], list[tuple[bool, ...]]] = {}
        for step in steps:
            for row in sequences(size, step, 1, size):
                tokens, _, chosen = zip(*row, strict=True)
                found.setdefault(tokens, []).append(chosen)
        return found

    assert masks(range(5), 6) == masks(range(3), 10)
    twice = masks(range(6), 10)
    assert {len(drawn) for drawn in twice.values()} == {2}
    assert sum(first != second for first, second in twice.values()) > 15


def test_masking_takes_its_share_80_10_10_and_never_a_special_token() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 10_000, 400_000).astype(np.uint16)
    masking = Masking(mask=4, special=np.arange(5), vocabulary=10_000, share=0.15)
    tokens[:50_000] %= 5
    masked, chosen = mask_tokens(tokens, masking, rng)
    assert masked.dtype == tokens.dtype
    assert not chosen[:50_000].any()
    assert not chosen[tokens < 5].any()
    assert np.array_equal(masked[~chosen], tokens[~chosen])
    free = tokens >= 5
    assert chosen[free].mean() == pytest.approx(0.15, abs=0.003)
    hidden, words = masked[chosen], tokens[chosen]
    assert (hidden == 4).mean() == pytest.approx(0.8, abs=0.01)
    assert (hidden == words).mean() == pytest.approx(0.1, abs=0.01)
    other = hidden[(hidden != 4) & (hidden != words)]
    assert len(other) / len(hidden) == pytest.approx(0.1, abs=0.01)
    np.testing.assert_allclose(np.histogram(other, 5, (0, 10_000))[0] / len(other), 0.2, atol=0.03)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_masking_takes_any_share(share: float) -> None:
    tokens = np.full(100_000, 7)
    masked, chosen = mask_tokens(tokens, MASKING._replace(share=share), np.random.default_rng(1))
    assert chosen.mean() == pytest.approx(share, abs=0.01)
    assert (masked[chosen] == 4).mean() == pytest.approx(0.8, abs=0.01)


def test_rows_are_padded_on_the_right() -> None:
    tokens, attention = padded([np.array([7, 8, 9]), np.array([5]), np.array([])], pad=1)
    assert tokens.tolist() == [[7, 8, 9], [5, 1, 1], [1, 1, 1]]
    assert attention.tolist() == [[True, True, True], [True, False, False], [False, False, False]]


@pytest.mark.parametrize("budget", [1, 10, 64, 100_000])
def test_batches_cover_each_row_once_within_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 300).tolist()
    batches = [batch.tolist() for batch in token_batches(lengths, budget)]
    assert sorted(chain.from_iterable(batches)) == list(range(300))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert longest * len(batch) <= budget or len(batch) == 1
    flat = [lengths[row] for batch in batches for row in batch]
    assert flat == sorted(lengths, reverse=True)
    for batch in batches[:-1]:  # none could have held another row
        assert (len(batch) + 1) * lengths[batch[0]] > budget
    assert list(token_batches([], budget)) == []


@pytest.mark.parametrize(("budget", "most"), [(1, None), (60, None), (60, 3), (100_000, None), (100_000, 7)])
def test_groups_hold_each_text_once_and_know_where_it_is(budget: int, most: int | None) -> None:
    rng = np.random.default_rng(1)
    rows = [rng.integers(5, 90, size) for size in rng.integers(1, 30, 50)]
    groups = grouped(rows, 0, budget, most)
    assert all(most is None or len(part.tokens) <= most for part in groups.parts)
    assert all(part.tokens.numel() <= budget or len(part.tokens) == 1 for part in groups.parts)
    there = [tokens[real].tolist() for part in groups.parts for tokens, real in zip(*part, strict=True)]
    assert [there[place] for place in groups.places.tolist()] == [row.tolist() for row in rows]
    assert groups.tokens == sum(map(len, rows))
    assert grouped([], 0, budget, most).parts == []
