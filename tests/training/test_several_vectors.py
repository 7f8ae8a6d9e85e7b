"""A passage of several vectors scores as its best one, by pencil and against plain loops.

Letters: Q queries, P passages, m vectors of one at most, h hard negatives of a query, D width.
"""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, BertConfig

from seedcli.data.batches import Sequences, grouped
from seedcli.data.segments import Segmentation, grouped_passages, lengths_of, segments_of, vector_counts
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.models.heads import new_head
from seedcli.models.towers import Towers
from seedcli.training.losses import all_scores, best, own_scores, turned_scores
from seedcli.training.objectives import ContrastiveBatch, ContrastiveObjective, Loss, LossName

REAL = torch.tensor([[True, True], [True, False], [True, True]])
PASSAGES = torch.tensor([[[1.0, 0.0], [0.0, 3.0]], [[2.0, 2.0], [9.0, 9.0]], [[0.0, -1.0], [0.0, -2.0]]])
QUERIES = torch.tensor([[1.0, 0.0], [1.0, 1.0]])


def test_the_best_real_vector_scores_a_passage() -> None:
    """Vectors score 1 and 0, 2 (and what is none 9), 0 and 0 for the first query; 1 3, 4 (18), -1 -2 for the second."""
    expected = [[1, 2, 0], [3, 4, -1]]
    assert all_scores(QUERIES, PASSAGES, REAL).tolist() == expected
    assert turned_scores(PASSAGES, QUERIES, REAL).T.tolist() == expected
    right, wrong = own_scores(QUERIES[:1], PASSAGES, REAL)
    assert (right.tolist(), wrong.tolist()) == ([1], [[2, 0]])
    right, wrong = own_scores(QUERIES, torch.cat([PASSAGES, PASSAGES[:1]]), torch.cat([REAL, REAL[:1]]))
    assert (right.tolist(), wrong.tolist()) == ([1, 4], [[0], [3]])


def test_the_gradient_is_that_of_the_best_vector_alone() -> None:
    passages = PASSAGES.clone().requires_grad_()
    (all_scores(QUERIES[1:], passages, REAL) * torch.tensor([[1.0, 10.0, 100.0]])).sum().backward()
    assert passages.grad is not None
    assert passages.grad.tolist() == [[[0, 0], [1, 1]], [[10, 10], [0, 0]], [[100, 100], [0, 0]]]
    equal = torch.ones(1, 2, 2, requires_grad=True)
    all_scores(QUERIES[1:], equal, REAL[:1]).sum().backward()
    assert equal.grad is not None
    assert sorted(equal.grad.sum(2).flatten().tolist()) == [0, 2]  # one of equals, not half of each


def test_one_vector_is_its_own_best() -> None:
    scores = torch.randn(4, 5, 1)
    assert best(scores, None).data_ptr() == scores.data_ptr()  # and costs nothing


CUT = Segmentation(segments=3, length=7, overlap=1, before=1, after=1, vectors=1)


def towers(token_vectors: int, similarity: str = "dot", count: int = 1) -> Towers:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        initializer_range=0.3,
    )  # fmt: skip
    settings = EncoderSettings(passage_length=7, segments=3, token_vectors=token_vectors, similarity=similarity)  # type: ignore[arg-type]
    made = [Encoder(AutoModel.from_config(config), settings, new_head(16, 0.5)) for _ in range(count)]
    return Towers(*made).eval()


def batch(cut: Segmentation, hard: int = 2) -> tuple[ContrastiveBatch, list[Any], list[Any]]:
    """Three queries and nine passages of 1 to 16 words; some passages are right for another query, too."""
    rng = np.random.default_rng(1)
    asked = [rng.integers(5, 60, size) for size in (3, 5, 4)]
    rows = [np.array([2, *rng.integers(5, 60, size), 3]) for size in (16, 3, 9, 1, 5, 12, 6, 2, 14)]
    usable = torch.ones(3, hard, dtype=torch.bool)
    usable[2, 0] = False
    width = int(vector_counts(lengths_of(rows), cut).max())
    generator = torch.Generator().manual_seed(2)
    made = ContrastiveBatch(
        grouped(asked, 0, 10), grouped_passages(rows, cut, width, 0, 30), torch.arange(9),
        torch.tensor([[0, -1], [1, 4], [2, 7]]), usable, torch.randn(3, 1 + hard, generator=generator),
        torch.tensor([5.0, 3.0, 3.0]),
    )  # fmt: skip
    return made, asked, rows


def slow_scores(model: Towers, asked: list[Any], rows: list[Any], cut: Segmentation, width: int | None) -> Tensor:
    """[Q, P], each text alone through its encoder."""

    def cosine(vectors: Tensor) -> Tensor:
        vectors = vectors[..., :width]
        return F.normalize(vectors, dim=-1) if model.settings.similarity == "cosine" else vectors

    def alone(tower: Encoder, row: Any) -> Tensor:
        states = tower.backbone(input_ids=torch.from_numpy(row)[None]).last_hidden_state[0]
        assert tower.head is not None
        return cosine(tower.head(states))

    queries = [alone(model.query, row)[0] for row in asked]
    passages = [[alone(model.passage, part)[: cut.vectors] for part in segments_of(row, cut)] for row in rows]
    return torch.stack(
        [torch.stack([max(query @ one for part in parts for one in part) for parts in passages]) for query in queries]
    )


def slow_loss(name: LossName, scores: Tensor, given: ContrastiveBatch) -> Tensor:
    """Item by item: passage q is right for query q, passages 3 + 2 q and 4 + 2 q are its hard negatives."""
    assert given.taught is not None
    terms = []
    for query, row in enumerate(scores):
        if name == "in-batch":
            known = [place for place in given.right[query].tolist() if place >= 0]
            kept = [place for place in range(9) if place == query or place not in known]
            terms.append(torch.logsumexp(row[kept], 0) - row[query])
            continue
        kept = [place for place in range(2) if given.usable[query, place]]
        taught, wrong = given.taught[query], [row[3 + 2 * query + place] for place in kept]
        if name == "kl":
            teacher = torch.log_softmax(torch.stack([taught[0], *(taught[1 + place] for place in kept)]), 0)
            student = torch.log_softmax(torch.stack([row[query], *wrong]), 0)
            terms.append((teacher.exp() * (teacher - student)).sum())
            continue
        for place, score in zip(kept, wrong, strict=True):
            margin = row[query] - score
            terms += {
                "triplet": [F.relu(1 - margin)],
                "pairwise": [F.softplus(-margin)],
                "margin-mse": [(margin - (taught[0] - taught[1 + place])) ** 2],
            }[name]
    return torch.stack(terms).sum()


LOSSES: list[LossName] = ["in-batch", "triplet", "pairwise", "margin-mse", "kl"]


@pytest.mark.parametrize(("name", "vectors"), itertools.product(LOSSES, [1, 3]))
def test_every_loss_and_its_gradient_are_those_of_a_slow_count(name: LossName, vectors: int) -> None:
    cut = CUT._replace(vectors=vectors)
    given, asked, rows = batch(cut)
    assert given.passages.real is not None
    assert given.passages.real.sum(1).tolist() == [len(segments_of(row, cut)) * vectors for row in rows]
    found = []
    for recompute in (None, False, True):
        model = towers(vectors, count=2)
        if recompute is None:
            loss = slow_loss(name, slow_scores(model, asked, rows, cut, None) / 2, given)
        else:
            loss = ContrastiveObjective(model, Loss(name, temperature=2.0), recompute)(given)[0]
        loss.backward()
        gradient = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
        found.append((loss.item(), gradient))
    for loss_, gradient in found[1:]:
        assert loss_ == pytest.approx(found[0][0], rel=1e-4)
        assert gradient.keys() == found[0][1].keys()
        for key, value in gradient.items():
            torch.testing.assert_close(value, found[0][1][key], rtol=1e-3, atol=2e-4)
    assert max(float(value.abs().max()) for value in found[0][1].values()) > 0.01


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_each_width_has_a_best_vector_of_its_own(similarity: str) -> None:
    given, asked, rows = batch(CUT)
    model = towers(1, similarity)
    several = [slow_scores(model, asked, rows, CUT, width) * 3 for width in (4, 16)]
    expected = torch.stack([slow_loss("in-batch", scores, given) for scores in several]).mean()
    loss = Loss(temperature=1 / 3, dimensions=(4, 16), cosine=similarity == "cosine")
    assert ContrastiveObjective(model, loss)(given)[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_symmetric_loss_and_the_figures_take_the_best_vectors() -> None:
    given, asked, rows = batch(CUT)
    model = towers(1)
    scores = slow_scores(model, asked, rows, CUT, None).detach()
    forth = slow_loss("in-batch", scores, given)
    back = (torch.logsumexp(scores[:, :3], 0) - scores.diagonal()).sum()
    loss, negatives, right = ContrastiveObjective(model, Loss(symmetric=True))(given).tolist()
    assert loss == pytest.approx((forth + back).item() / 2, rel=1e-4)
    assert negatives == 3 * 8 - 2
    kept = [[0, *range(1, 9)], [0, 1, 2, 3, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 8]]
    assert right == sum(
        float(scores[query, query]) == max(scores[query, own].tolist()) for query, own in enumerate(kept)
    )


def test_first_tokens_pass_through_the_head_and_the_norm() -> None:
    model = towers(3, "cosine").query
    texts = Sequences(torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool())
    found = model.passages(texts)
    assert found.shape == (2, 3, 16)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(found[:, 0], model(texts))
    assert (found[:, 1] - found[:, 0]).abs().max() > 0.01
    assert model.passages(Sequences(*(part[:, :2] for part in texts))).shape == (2, 2, 16)
