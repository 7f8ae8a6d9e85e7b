"""A run that is killed and resumed repeats an uninterrupted one. Run as a program, this file is the run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, BertConfig

from seedcli.base.errors import DataError, SeedError
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.data.batches import PretrainingBatch, PretrainingBatches
from seedcli.data.masking import Masking
from seedcli.data.ragged import Ragged
from seedcli.models.decoder import WeakDecoder
from seedcli.models.seed import SeedModel
from seedcli.training.loop import Training, dropout_seed, train
from seedcli.training.objectives import PretrainingObjective
from seedcli.training.optimizers import adamw

STEPS, SAVED = 20, 10


def run(folder: Path, kill: int | None) -> None:
    """Twenty steps with dropout; a kill -9 while the batch of step `kill` is drawn."""
    torch.set_num_threads(1)  # the order of a sum depends on the threads
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=24, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
    )  # fmt: skip
    model = SeedModel(AutoModelForMaskedLM.from_config(config), WeakDecoder(32, 4, 64, 2, 2, 24, dropout=0.1))
    rng = np.random.default_rng(0)
    blocks = Ragged.of([[2, *rng.integers(5, 90, rng.integers(3, 20)), 3] for _ in range(40)], np.uint16)
    masking = Masking(mask=4, special=np.arange(5), vocabulary=90)
    drawn = PretrainingBatches(blocks, masking, pad=0, size=6, micro=4, seed=7)

    def batches(step: int, rank: int, world: int) -> Iterator[PretrainingBatch]:
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn(step, rank, world)

    objective = PretrainingObjective(model)
    optimizer = adamw(objective, 1e-3, (0.9, 0.999), 1e-6, 0.01)
    training = Training(STEPS, warmup=4, lr=1e-3, clip=1.0, seed=7, log_every=1, save_every=SAVED, title="train")
    train(objective, optimizer, batches, training, folder, Runtime(), Silent())
    weights = {name: parameter.detach() for name, parameter in objective.named_parameters()}
    save_file(weights, folder / "weights.safetensors")


def status(folder: Path, kill: int | None = None) -> int:
    """The exit status of a run in a process of its own."""
    return subprocess.run([sys.executable, __file__, folder, str(kill or "")], timeout=120, check=False).returncode


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
    run(tmp_path / "straight", kill=None)
    assert status(tmp_path / "killed", kill=SAVED + 4) == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoint.safetensors").is_file()
    assert log(tmp_path / "killed")[-1]["step"] in (SAVED + 2, SAVED + 3)  # ahead of the checkpoint
    with (tmp_path / "killed" / "log.jsonl").open("a") as file:
        file.write('{"step": 14, "lo')  # as a kill in the middle of a line leaves it
    assert status(tmp_path / "killed") == 0

    weights, expected = (load_file(tmp_path / name / "weights.safetensors") for name in ("killed", "straight"))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    records = log(tmp_path / "killed")
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    for record, other in zip(records, log(tmp_path / "straight"), strict=True):
        del record["steps_per_second"], other["steps_per_second"]
        assert record == other
    assert records[-1]["loss"] < records[0]["loss"]


class Line(nn.Module):
    """y = w x, whose loss is a sum over the points of a batch."""

    terms = ("square",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch: "Points") -> Tensor:
        return (self.weight * batch.x - batch.y).square().sum().unsqueeze(0)


class Points:
    def __init__(self, x: float, y: float):
        self.x, self.y = torch.tensor([x, x]), torch.tensor([y, y])
        self.counts = torch.tensor([2.0], dtype=torch.float64)

    def to(self, _: torch.device) -> "Points":
        return self


def trained(folder: Path, points: list[tuple[float, float]], **changes: Any) -> tuple[Line, dict[str, float]]:
    line = Line()
    options = {"steps": len(points), "warmup": 0, "lr": 0.1, "clip": 1e9, "seed": 0, "log_every": 1, "save_every": 99}
    training = Training(**(options | {"title": "train"} | changes))
    optimizer = torch.optim.SGD(line.parameters(), lr=1.0)
    upcoming = [*points, (0.0, 0.0)]  # one batch is drawn ahead
    last = train(
        line, optimizer, lambda step, *_: iter([Points(*upcoming[step])]), training, folder, Runtime(), Silent()
    )
    return line, last


def test_two_steps_by_pencil(tmp_path: Path) -> None:
    # step 1: w = 0, loss (0 - 2)^2 = 4, gradient 2 (0 - 2) 1 = -4, lr .1: w = .4
    # step 2: loss (.8 - 2)^2 = 1.44, gradient 2 (.8 - 2) 2 = -4.8, lr .05: w = .64
    line, last = trained(tmp_path, [(1.0, 2.0), (2.0, 2.0)])
    assert line.weight.item() == pytest.approx(0.64)
    expected = {"loss": 1.44, "square": 1.44, "gradient_norm": 4.8, "lr": 0.05}
    assert last == pytest.approx(expected)
    first, second = log(tmp_path)
    assert (first["step"], first["loss"], first["gradient_norm"]) == (1, pytest.approx(4), pytest.approx(4))
    assert {key: second[key] for key in expected} == last
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_the_gradient_is_clipped_and_logged_as_it_was(tmp_path: Path) -> None:
    line, last = trained(tmp_path, [(1.0, 2.0)], clip=0.5)
    assert line.weight.item() == pytest.approx(0.05)
    assert last["gradient_norm"] == pytest.approx(4)


def test_a_record_every_few_steps_and_one_at_the_end(tmp_path: Path) -> None:
    trained(tmp_path, [(1.0, 2.0)] * 7, log_every=3)
    assert [record["step"] for record in log(tmp_path)] == [3, 6, 7]


def test_a_loss_that_is_no_number_ends_the_run_and_is_never_saved(tmp_path: Path) -> None:
    with pytest.raises(SeedError, match=r"the loss became .* by step 6; lower --lr .* The last checkpoint is kept"):
        trained(tmp_path, [(1.0, 1.0)] * 4 + [(1.0, float("inf"))] + [(1.0, 1.0)] * 20, log_every=20, save_every=3)
    assert [record["step"] for record in log(tmp_path)] == [3]
    line, _ = trained(tmp_path, [(1.0, 1.0)] * 4, log_every=20, save_every=3)
    assert line.weight.isfinite().all()


def test_dropout_has_a_seed_of_its_own_a_step_rank_and_micro_batch() -> None:
    keys = list(product(range(3), range(4), range(4), range(2)))
    assert len({dropout_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= dropout_seed(*key) < 2**63 for key in keys)


def test_a_checkpoint_that_is_broken_is_told_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match=r"checkpoint\.safetensors"):
        trained(tmp_path, [(1.0, 1.0)])


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2] else None)
