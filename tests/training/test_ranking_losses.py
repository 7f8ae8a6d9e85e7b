"""Losses of retrieval by pencil and paper. Letters: Q queries, h hard negatives, D width."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, BertConfig

from seedcli.data.batches import grouped
from seedcli.data.segments import WHOLE, grouped_passages
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.models.towers import Towers
from seedcli.training.losses import (
    all_scores,
    in_batch_nll,
    kl_distillation,
    margin_mse,
    own_scores,
    pairwise_nll,
    triplet,
    turned_scores,
)
from seedcli.training.objectives import ContrastiveBatch, ContrastiveObjective, Loss, LossName, narrowed

RIGHT, WRONG = torch.tensor([3.0, 1.0]), torch.tensor([[2.5, 0.0], [1.5, 7.0]])
ALL = torch.ones(2, 2, dtype=torch.bool)
SOME = torch.tensor([[True, False], [True, False]])


def test_scores_of_own_passages_are_inner_products() -> None:
    queries, positives = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[3.0, 1.0], [4.0, 4.0]])
    negatives = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[2.0, 2.0], [0.0, 0.0], [0.0, -6.0]]])
    right, wrong = own_scores(queries, torch.cat([positives, negatives.flatten(0, 1)]).unsqueeze(1), None)
    assert right.tolist() == [5, -4]
    assert wrong.tolist() == [[1, 2, 3], [-2, 0, 6]]


def test_the_triplet_loss() -> None:
    """Distances to the margin of 1: 1 - .5, 1 - 3 (none), 1 + .5, 1 + 6."""
    assert triplet(RIGHT, WRONG, ALL, 1.0).item() == pytest.approx(0.5 + 0 + 1.5 + 7)
    assert triplet(RIGHT, WRONG, ALL, 0.0).item() == pytest.approx(0.5 + 6)
    assert triplet(RIGHT, WRONG, ALL, 4.0).item() == pytest.approx(3.5 + 1 + 4.5 + 10)
    assert triplet(RIGHT, WRONG, SOME, 1.0).item() == pytest.approx(0.5 + 1.5)


def test_the_triplet_loss_moves_only_what_breaks_the_margin() -> None:
    right, wrong = RIGHT.clone().requires_grad_(), WRONG.clone().requires_grad_()
    triplet(right, wrong, ALL, 1.0).backward()
    assert right.grad is not None
    assert wrong.grad is not None
    assert right.grad.tolist() == [-1, -2]
    assert wrong.grad.tolist() == [[1, 0], [1, 1]]


def test_the_pairwise_loss_is_the_softmax_over_two() -> None:
    expected = [math.log(1 + math.exp(wrong - right)) for right, wrong in ((3, 2.5), (3, 0), (1, 1.5), (1, 7))]
    assert pairwise_nll(RIGHT, WRONG, ALL).item() == pytest.approx(sum(expected))
    assert pairwise_nll(RIGHT, WRONG, SOME).item() == pytest.approx(expected[0] + expected[2])
    far = pairwise_nll(torch.tensor([-500.0]), torch.tensor([[500.0]]), ALL[:1, :1])  # no overflow
    assert far.item() == pytest.approx(1_000)


def test_margin_mse_compares_margins_with_the_teachers() -> None:
    """Margins .5, 3, -.5, -6; the teacher's 2, 4, 1, -2."""
    taught = torch.tensor([9.0, 3.0]), torch.tensor([[7.0, 5.0], [2.0, 5.0]])
    squares = [1.5**2, 1, 1.5**2, 16]
    assert margin_mse(RIGHT, WRONG, ALL, taught).item() == pytest.approx(sum(squares))
    assert margin_mse(RIGHT, WRONG, SOME, taught).item() == pytest.approx(squares[0] + squares[2])
    assert margin_mse(taught[0], taught[1], ALL, taught).item() == 0


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    taught = torch.tensor([math.log(6), 2.0]), torch.tensor([[math.log(3), math.log(1)], [2.0, 2.0]])
    right, wrong = torch.tensor([math.log(2), 0.0]), torch.tensor([[math.log(1), math.log(1)], [0.0, 0.0]])
    # teacher .6 .3 .1 against .5 .25 .25; the second query agrees
    expected = 0.6 * math.log(0.6 / 0.5) + 0.3 * math.log(0.3 / 0.25) + 0.1 * math.log(0.1 / 0.25)
    assert kl_distillation(right, wrong, ALL, taught, 1.0).item() == pytest.approx(expected, rel=1e-5)
    # the last negative left out: 2/3 1/3 against 2/3 1/3
    assert kl_distillation(right, wrong, SOME, taught, 1.0).item() == pytest.approx(0, abs=1e-6)
    # a hotter teacher: the square roots of 6, 3 and 1
    parts = [math.sqrt(part) for part in (6, 3, 1)]
    hot = [part / sum(parts) for part in parts]
    expected = sum(part * math.log(part / told) for part, told in zip(hot, (0.5, 0.25, 0.25), strict=True))
    assert kl_distillation(right, wrong, ALL, taught, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_what_a_teacher_did_not_score_leaves_no_trace() -> None:
    """Not even NaN in a gradient."""
    taught = torch.tensor([9.0, 3.0]), torch.tensor([[7.0, math.nan], [2.0, math.nan]])
    for loss in (margin_mse, lambda *given: kl_distillation(*given, 1.0)):
        right, wrong = RIGHT.clone().requires_grad_(), WRONG.clone().requires_grad_()
        loss(right, wrong, SOME, taught).backward()
        assert right.grad is not None
        assert wrong.grad is not None
        assert torch.isfinite(right.grad).all()
        assert wrong.grad[:, 1].tolist() == [0, 0]
        assert wrong.grad[:, 0].ne(0).all()


def test_a_positive_that_a_teacher_did_not_score_leaves_no_trace() -> None:
    taught = torch.tensor([math.nan, 3.0]), torch.tensor([[math.nan, math.nan], [2.0, 1.0]])
    known = torch.tensor([[False, False], [True, True]])
    for loss in (margin_mse, lambda *given: kl_distillation(*given, 1.0)):
        right, wrong = RIGHT.clone().requires_grad_(), WRONG.clone().requires_grad_()
        found = loss(right, wrong, known, taught)
        alone = loss(RIGHT[1:], WRONG[1:], known[1:], (taught[0][1:], taught[1][1:]))
        assert found.item() == pytest.approx(alone.item())
        found.backward()
        assert right.grad is not None
        assert wrong.grad is not None
        assert torch.isfinite(torch.cat([right.grad, wrong.grad.flatten()])).all()
        assert right.grad[0] == wrong.grad[0].abs().sum() == 0


def tower(similarity: str = "dot") -> Towers:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        initializer_range=0.3,
    )  # fmt: skip
    return Towers(Encoder(AutoModel.from_config(config), EncoderSettings(similarity=similarity))).eval()  # type: ignore[arg-type]


def batch(hard: int = 2, taught: bool = True) -> ContrastiveBatch:
    """Three queries; the second passage of wrong ones is right for the last query."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(5, 60, (length,), generator=generator).numpy() for length in (3, 5, 4, *range(4, 13))]
    usable = torch.ones(3, hard, dtype=torch.bool)
    usable[2, 0] = False
    return ContrastiveBatch(
        grouped(rows[:3], 0, 10), grouped_passages(rows[3 : 6 + 3 * hard], WHOLE, 1, 0, 30), torch.arange(3 + 3 * hard),
        torch.tensor([[0, -1], [1, -1], [2, 7]]), usable,
        torch.randn(3, 1 + hard, generator=generator) if taught else None, torch.tensor([5.0, 3.0, 3.0]),
    )  # fmt: skip


def vectors(towers: Towers, given: ContrastiveBatch) -> tuple[Tensor, Tensor]:
    """Of queries and passages [Q, D], [P, 1, D]."""
    objective = ContrastiveObjective(towers, Loss())
    return objective.encode(towers.query, given.queries), objective.encode(towers.passage.passages, given.passages)


@pytest.mark.parametrize("name", ["triplet", "pairwise", "margin-mse", "kl"])
def test_losses_of_own_passages_see_those_alone(name: LossName) -> None:
    towers, given = tower(), batch()
    loss, negatives, best = ContrastiveObjective(towers, Loss(name, temperature=2.0))(given).tolist()
    right, wrong = (scores / 2 for scores in own_scores(*vectors(towers, given), None))
    assert given.taught is not None
    taught = given.taught[:, 0], given.taught[:, 1:]
    expected = {
        "triplet": triplet(right, wrong, given.usable, 1.0),
        "pairwise": pairwise_nll(right, wrong, given.usable),
        "margin-mse": margin_mse(right, wrong, given.usable, taught),
        "kl": kl_distillation(right, wrong, given.usable, taught, 1.0),
    }[name]
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    assert negatives == 5
    above = [
        all(right[row] > wrong[row][column] for column in range(2) if given.usable[row, column]) for row in range(3)
    ]
    assert best == sum(above)


def test_the_symmetric_loss_tells_passages_from_queries_too() -> None:
    towers, given = tower(), batch()
    queries, passages = vectors(towers, given)
    excluded = torch.zeros(3, 9, dtype=torch.bool)
    excluded[2, 7] = True
    forth = in_batch_nll(all_scores(queries, passages, None) / 3, torch.arange(3), excluded)
    turned = turned_scores(passages[:3], queries, None) / 3
    back = in_batch_nll(turned, torch.arange(3), torch.zeros(3, 3, dtype=torch.bool))
    loss = ContrastiveObjective(towers, Loss(temperature=3.0, symmetric=True))(given)[0]
    assert loss.item() == pytest.approx((forth + back).item() / 2, rel=1e-4)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_widths_are_trained_alike(similarity: str) -> None:
    """The mean over widths; under cosine each cut vector has length 1 again."""
    towers, given = tower(similarity), batch()
    loss = Loss("pairwise", dimensions=(8, 32), cosine=similarity == "cosine")
    alone = []
    for width in (8, 32):
        parts = [narrowed(part, width, similarity == "cosine") for part in vectors(towers, given)]
        assert parts[1].shape == (9, 1, width)
        if similarity == "cosine":
            torch.testing.assert_close(parts[1].norm(dim=-1), torch.ones(9, 1))
        alone.append(pairwise_nll(*own_scores(*parts, None), given.usable).item())
    assert ContrastiveObjective(towers, loss)(given)[0].item() == pytest.approx(sum(alone) / 2, rel=1e-4)
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)


@pytest.mark.parametrize("name", ["in-batch", "triplet", "kl"])
def test_recomputing_has_the_gradient_of_holding_all(name: LossName) -> None:
    found = []
    for recompute in (False, True):
        towers, given = tower(), batch()
        ContrastiveObjective(towers, Loss(name), recompute)(given)[0].backward()
        found.append({key: value.grad for key, value in towers.named_parameters()})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert value is not None
        torch.testing.assert_close(found[1][key], value, rtol=1e-5, atol=1e-6)
    assert max(float(value.abs().max()) for value in found[0].values() if value is not None) > 0.01


def test_recomputing_repeats_its_dropout() -> None:
    """Else the gradient would be that of another model than the loss."""
    torch.manual_seed(0)
    towers = tower().train()
    for module in towers.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    gradients = []
    for recompute in (False, True):
        objective = ContrastiveObjective(towers, Loss("triplet", margin=50.0), recompute).train()
        towers.zero_grad()
        torch.manual_seed(5)
        objective(batch())[0].backward()
        gradients.append([value.grad.clone() for value in towers.parameters() if value.grad is not None])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert F.cosine_similarity(gradients[0][0].flatten(), gradients[1][0].flatten(), dim=0) > 0.9999


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["in-batch", "pairwise"])
def test_half_precision_has_nearly_the_gradient_of_full(name: LossName, recompute: bool) -> None:
    gradients = []
    for half in (False, True):
        towers = tower()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = ContrastiveObjective(towers, Loss(name, temperature=4.0), recompute)(batch())[0]
        assert loss.dtype == torch.float32
        loss.backward()
        gradients.append(torch.cat([value.grad.flatten() for value in towers.parameters() if value.grad is not None]))
    assert F.cosine_similarity(*gradients, dim=0) > 0.99
    assert 0.9 < gradients[1].norm() / gradients[0].norm() < 1.1
