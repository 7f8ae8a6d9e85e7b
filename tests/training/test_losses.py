"""Losses against plain ones: full logits, pencil and paper. Letters: T tokens, D hidden size, V vocabulary."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, BertConfig

from seedcli.data.batches import Groups, Sequences, grouped
from seedcli.data.segments import WHOLE, grouped_passages
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.models.towers import Towers
from seedcli.training import losses
from seedcli.training.losses import all_scores, in_batch_nll, linear_cross_entropy, own_scores, turned_scores
from seedcli.training.objectives import ContrastiveBatch, ContrastiveObjective, Loss

NONE = torch.zeros(1, dtype=torch.bool)


def parts(tokens: int = 37) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    states = torch.randn(tokens, 16, requires_grad=True)
    weight = torch.randn(53, 16, requires_grad=True)
    return states, weight, torch.randint(53, (tokens,))


@pytest.mark.parametrize("chunk", [1, 53, 53 * 5, 53 * 37, 1 << 24])
def test_the_chunked_cross_entropy_is_the_plain_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.CHUNK, "cpu", chunk)
    states, weight, targets = parts()
    bias = torch.randn(53, requires_grad=True)
    for given in (None, bias):
        loss = linear_cross_entropy(states, weight, targets, given)
        plain = F.cross_entropy(F.linear(states, weight, given), targets, reduction="sum")
        same_gradient(loss, plain, [part for part in (states, weight, given) if part is not None])


def same_gradient(loss: Tensor, plain: Tensor, parts: list[Tensor]) -> None:
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=0)
    ours, theirs = (torch.autograd.grad(output * 0.37, parts) for output in (loss, plain))
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-5)


def test_the_chunked_cross_entropy_takes_one_side_alone_or_nothing() -> None:
    states, weight, targets = parts()
    plain = F.cross_entropy(states @ weight.T, targets, reduction="sum")
    with torch.no_grad():
        assert linear_cross_entropy(states, weight, targets).item() == pytest.approx(plain.item(), rel=1e-6)
    still = linear_cross_entropy(states.detach(), weight.detach(), targets)
    assert not still.requires_grad
    (gradient,) = torch.autograd.grad(linear_cross_entropy(states.detach(), weight, targets), weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, weight, retain_graph=True)[0])
    (gradient,) = torch.autograd.grad(linear_cross_entropy(states, weight.detach(), targets), states)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, states)[0])
    nothing = linear_cross_entropy(states[:0], weight, targets[:0])
    assert nothing.item() == 0
    assert torch.autograd.grad(nothing, weight)[0].eq(0).all()


def test_the_chunked_cross_entropy_is_close_in_bfloat16() -> None:
    states, weight, targets = parts(400)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(states, weight, targets)
    plain = F.cross_entropy(states @ weight.T, targets, reduction="sum")
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=2e-3, atol=0)
    ours, theirs = (torch.autograd.grad(output, (states, weight)) for output in (loss, plain))
    for gradient, expected in zip(ours, theirs, strict=True):
        assert gradient.dtype == torch.float32
        assert F.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.9999


def test_the_chunked_cross_entropy_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.CHUNK, "cpu", 53 * 4)
    states, weight, targets = parts(2_000)
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, call: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = call(*args, **(kwargs or {}))
            sizes.extend(part.numel() for part in torch.utils._pytree.tree_leaves(result) if isinstance(part, Tensor))
            return result

    with Watch():
        linear_cross_entropy(states, weight, targets).backward()
    assert max(sizes) <= 2_000 * 16


def test_the_in_batch_loss_by_pencil() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    passages = torch.tensor([[3.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    scores = all_scores(queries, passages.unsqueeze(1), None)
    assert scores.tolist() == [[3, 0, 1], [2, 2, 2]]
    assert turned_scores(passages.unsqueeze(1), queries, None).tolist() == [[3, 2], [0, 2], [1, 2]]
    first = math.log(math.exp(3) + math.exp(0) + math.exp(1)) - 3
    loss = in_batch_nll(scores, torch.tensor([0, 1]), NONE.expand(2, 3))
    assert loss.item() == pytest.approx(first + math.log(3), rel=1e-6)
    halved = math.log(math.exp(6) + math.exp(0) + math.exp(2)) - 6
    loss = in_batch_nll(scores / 0.5, torch.tensor([0, 1]), NONE.expand(2, 3))
    assert loss.item() == pytest.approx(halved + math.log(3), rel=1e-6)
    excluded = torch.tensor([[False, False, True], [True, False, False]])
    loss = in_batch_nll(scores, torch.tensor([0, 1]), excluded)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-3)) + math.log(2), rel=1e-6)


def test_an_excluded_passage_gets_no_gradient() -> None:
    queries, passages = torch.randn(1, 4), torch.randn(3, 1, 4, requires_grad=True)
    scores = all_scores(queries, passages, None)
    in_batch_nll(scores, torch.tensor([0]), torch.tensor([[False, True, False]])).backward()
    assert passages.grad.abs().sum((1, 2)).ne(0).tolist() == [True, False, True]


def test_scores_keep_their_precision_under_autocast() -> None:
    """Raw [CLS] vectors of BERT score in the hundreds, where bfloat16 knows whole numbers alone."""
    torch.manual_seed(0)
    queries, passages = torch.randn(4, 64) + 2, torch.randn(8, 3, 64) + 2
    real = torch.ones(8, 3, dtype=torch.bool)

    def scored() -> list[Tensor]:
        return [
            all_scores(queries, passages, real),
            turned_scores(passages, queries, real),
            *own_scores(queries, passages, real),
        ]

    plain = scored()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(scored(), plain, rtol=1e-6, atol=0)


def encoder() -> Encoder:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    return Encoder(AutoModel.from_config(config), EncoderSettings()).eval()


def test_the_contrastive_objective_leaves_out_what_is_right_for_a_query() -> None:
    rng = np.random.default_rng(0)
    queries = grouped([rng.integers(5, 60, size) for size in (3, 5, 4)], 0, 10)
    passages = grouped_passages([rng.integers(5, 60, size) for size in (9, 7, 8, 6, 6, 9)], WHOLE, 1, 0, 20)
    texts = torch.tensor([10, 11, 12, 10, 13, 14])  # passage 3 is a twin of the first query's positive
    known = torch.tensor([[10, 14], [11, -1], [12, 11]])  # 14 and 11 are right for the first and the last query too
    nothing = torch.empty(3, 0, dtype=torch.bool)
    batch = ContrastiveBatch(queries, passages, texts, known, nothing, None, torch.tensor([3.0] * 3))
    tower = encoder()
    loss, negatives, best = ContrastiveObjective(Towers(tower), Loss(temperature=0.7))(batch).tolist()
    scores = (vectors(tower, queries) @ vectors(tower, passages).T / 0.7).tolist()
    compared = {0: [0, 1, 2, 4], 1: [0, 1, 2, 3, 4, 5], 2: [0, 2, 3, 4, 5]}
    expected = sum(
        math.log(sum(math.exp(scores[query][passage] - scores[query][query]) for passage in against))
        for query, against in compared.items()
    )
    assert loss == pytest.approx(expected, rel=1e-4)
    assert negatives == 3 + 5 + 4
    assert best == sum(scores[query][query] == max(scores[query][row] for row in compared[query]) for query in compared)


def vectors(tower: Encoder, texts: Groups) -> Tensor:
    """Of each text alone."""
    rows = [row[real] for part in texts.parts for row, real in zip(*part, strict=True)]
    ordered = [rows[place] for place in texts.places.flatten()]
    return torch.cat([tower(Sequences(row[None], torch.ones(1, len(row)))) for row in ordered])
