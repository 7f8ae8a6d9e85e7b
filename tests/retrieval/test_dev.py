"""A look at dev retrieval: its measures by a slower count, the weights it keeps, and when it has seen enough."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig

from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.data.batches import Sequences
from seedcli.data.ragged import Ragged
from seedcli.data.segments import WHOLE, Segmentation, segments_of
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.models.heads import new_head
from seedcli.models.towers import Towers
from seedcli.retrieval import dev
from seedcli.retrieval.dev import MEASURE, DevRetrieval, DevSet, Look, sampled
from seedcli.training.checkpoint import CHECKPOINTS

RIGHT = [[0], [5, 17, 3], [9], [40, 41], [2], [33], [9, 1]]
PLACES = [[0], [1, 17, 120], [9], [3, 4], [99], [10], [100, 140]]  # of the right passages in the order of their scores


SEVERAL = Segmentation(segments=4, length=5, overlap=1, vectors=2)


def towers(vectors: int = 1) -> Towers:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        initializer_range=0.3,
    )  # fmt: skip
    settings = EncoderSettings(token_vectors=vectors)
    return Towers(*(Encoder(AutoModel.from_config(config), settings) for _ in range(2))).train()


def texts() -> DevSet:
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 60, rng.integers(3, 15)) for _ in range(len(RIGHT) + 150)]
    rows[len(RIGHT) + 60] = rows[len(RIGHT) + 9]  # a twin of a right passage, not judged
    more = [rng.integers(5, 60, 4) for _ in range(150)]  # not searched
    both = [row for pair in zip(rows[len(RIGHT) :], more, strict=True) for row in pair]
    return DevSet(rows[: len(RIGHT)], Ragged.of(both, np.int64), np.arange(0, 300, 2), RIGHT)


@pytest.mark.parametrize("cut", [WHOLE, SEVERAL._replace(vectors=1), SEVERAL])
@pytest.mark.parametrize("held", [1, 7 * 3 * 40, 1 << 25])
def test_measures_are_those_of_a_slow_count(
    held: int, cut: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "SCORES", held)
    model, given = towers(cut.vectors).eval(), texts()._replace(cut=cut)
    passages = [segments_of(row, cut) for row in given.passages(range(150))]
    assert {len(parts) for parts in passages} == ({1} if cut == WHOLE else {1, 2, 3, 4})
    with torch.no_grad():
        asked = torch.cat([model.query(one(row)) for row in given.queries]).numpy()
        found = [torch.cat([model.passage.passages(one(part))[0] for part in parts]).numpy() for parts in passages]
    every = [np.array([(vectors @ query).max() for vectors in found]) for query in asked]  # [Q, 150]
    order = [np.argsort(-scores) for scores in every]
    right = [sorted(row[list(places)].tolist()) for row, places in zip(order, PLACES, strict=True)]
    mrr, recall = [], []
    for unrounded, rows in zip(every, right, strict=True):
        scores = unrounded.round(4)  # twins score alike
        others = [score for row, score in enumerate(scores) if row not in rows]
        first = 1 + sum(score >= max(scores[rows]) for score in others)
        mrr.append(1 / first if first <= 10 else 0)
        ranks = [
            1 + sum(score >= scores[row] for score in others) + sum(scores[other] > scores[row] for other in rows)
            for row in rows
        ]
        recall.append(np.mean([rank <= 100 for rank in ranks]))
    values = DevRetrieval(model, given._replace(right=right), 0, tmp_path, Runtime(), Silent()).measures()
    assert values[MEASURE] == pytest.approx(np.mean(mrr), abs=1e-6)
    assert values["dev_recall@100"] == pytest.approx(np.mean(recall), abs=1e-6)
    assert sorted(set(mrr))[0] == 0
    assert len(set(mrr)) > 3


def one(row: Any) -> Sequences:
    return Sequences(torch.from_numpy(row)[None], torch.ones(1, len(row), dtype=torch.bool))


def test_half_precision_ranks_by_scores_in_full(tmp_path: Path) -> None:
    """Scores of a head's normed vectors lie close together: as bfloat16 they would be ties, or above the positive."""
    given, model = texts(), towers().eval()
    for tower in model.different:
        tower.head = new_head(32, 0.3)
    full, half = (
        DevRetrieval(model, given, 0, tmp_path, Runtime(precision=precision), Silent())  # type: ignore[arg-type]
        for precision in ("fp32", "bf16")
    )
    with torch.no_grad():
        vectors = {id(rows): half.encode(model.passage, rows) for rows in (given.queries,)}
        assert (vectors[id(given.queries)] != full.encode(model.passage, given.queries)).any()
        rounded = full.encode

        def encode(*given: Any) -> torch.Tensor:
            return rounded(*given)

        half.encode = encode  # type: ignore[method-assign]
        assert half.measures() == full.measures()


def test_vectors_that_are_no_numbers_find_nothing(tmp_path: Path) -> None:
    look = DevRetrieval(towers(), texts(), 0, tmp_path, Runtime(), Silent())
    with torch.no_grad():
        look.towers.query.backbone.embeddings.word_embeddings.weight.fill_(torch.nan)  # type: ignore[union-attr, operator]
        assert look.measures() == {MEASURE: 0, "dev_recall@100": 0}


class Scripted(DevRetrieval):
    """What it sees is written beforehand."""

    def __init__(self, folder: Path, seen: Sequence[float], patience: int | None = None):
        super().__init__(towers(), texts(), 0, folder, Runtime(), Silent(), patience)
        self.seen = list(seen)

    def measures(self) -> dict[str, float]:
        return {MEASURE: self.seen.pop(0)}


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / CHECKPOINTS).glob("best-*"))


def test_a_look_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    look = Scripted(tmp_path, [0.5])
    look(0)
    assert look.towers.training


def test_the_best_weights_come_back(tmp_path: Path) -> None:
    look = Scripted(tmp_path, [0.1, 0.5, 0.5, 0.3])
    weight = look.towers.query.backbone.embeddings.word_embeddings.weight  # type: ignore[union-attr]
    for step in range(4):
        with torch.no_grad():
            weight.fill_(step)  # type: ignore[operator]
        assert look(step * 10) == {MEASURE: [0.1, 0.5, 0.5, 0.3][step]}
    assert look.best == Look(10, 0.5)  # the first of equals
    assert look.restore() == look.best
    assert weight.unique().tolist() == [1]  # type: ignore[operator]


def test_patience_counts_looks_since_the_best(tmp_path: Path) -> None:
    look = Scripted(tmp_path, [0.1, 0.3, 0.2, 0.3, 0.4, 0.1, 0.1], patience=2)
    found = []
    for step in range(7):
        look(step)
        found.append(look.enough)
    assert found == [False, False, False, True, False, False, True]  # an equal value is no better one
    endless = Scripted(tmp_path, [0.5, *[0.1] * 9])
    for step in range(10):
        endless(step)
    assert not endless.enough
    assert not Scripted(tmp_path / "none", [], patience=1).enough


def test_a_resumed_run_knows_the_looks_before_its_checkpoint_and_has_their_weights(tmp_path: Path) -> None:
    """Killed after the look at 30: the run goes on from 20, where the best so far was that of 10."""
    (tmp_path / CHECKPOINTS).mkdir()
    look = Scripted(tmp_path, [0.1, 0.3, 0.2, 0.9])
    for step in (0, 10, 20):
        look(step)
        (tmp_path / CHECKPOINTS / f"{step:07}.safetensors").touch()
    look(30)
    assert kept(tmp_path) == [f"best-{step:07}.safetensors" for step in (0, 10, 30)]
    records = [{"step": step, MEASURE: value} for step, value in ((0, 0.1), (10, 0.3), (20, 0.2))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in (*records, {"step": 20})))
    resumed = Scripted(tmp_path, [0.25])
    assert resumed.best == Look(10, 0.3)
    assert resumed(30) == {MEASURE: 0.25}  # another value than before, as on a GPU
    assert resumed.best == Look(10, 0.3)
    resumed.restore()


def test_weights_no_checkpoint_can_ask_for_are_removed(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINTS).mkdir()
    look = Scripted(tmp_path, [0.1, 0.2, 0.3, 0.4])
    for step in (0, 10, 20):
        look(step)
    assert kept(tmp_path) == ["best-0000000.safetensors", "best-0000020.safetensors"]  # it would begin anew, or go on
    (tmp_path / CHECKPOINTS / "0000020.safetensors").touch()
    look(30)
    assert kept(tmp_path) == [f"best-{step:07}.safetensors" for step in (0, 20, 30)]


def test_the_weights_of_each_checkpoint_that_is_kept_are_kept(tmp_path: Path) -> None:
    """The newest may be broken, and the run go on from the one before."""
    (tmp_path / CHECKPOINTS).mkdir()
    look = Scripted(tmp_path, [0.1, 0.5, 0.6, 0.7])
    for step in (0, 5, 15, 25):
        if step > 10:
            (tmp_path / CHECKPOINTS / f"{step - 5:07}.safetensors").touch()
        look(step)
    assert kept(tmp_path) == [f"best-{step:07}.safetensors" for step in (0, 5, 15, 25)]


def test_a_sample_holds_all_right_passages_and_repeats_itself() -> None:
    rows = sampled(100, [3, 99, 50], 10, seed=1)
    assert len(rows) == 10
    assert {3, 50, 99} <= set(rows.tolist())
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert (rows == sampled(100, [3, 99, 50], 10, seed=1)).all()
    assert (rows != sampled(100, [3, 99, 50], 10, seed=2)).any()
    assert sampled(100, list(range(20)), 10, seed=1).tolist() == list(range(20))
    assert sampled(5, [1], None, seed=1).tolist() == sampled(5, [1], 9, seed=1).tolist() == [0, 1, 2, 3, 4]
