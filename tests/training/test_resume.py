"""A run that is killed or stopped and goes on repeats an uninterrupted one, alone, in two processes, in half precision.

Run as a program, this file is a process of such a run.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, BertConfig

from seedcli.base.errors import Interrupted
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime, runtime
from seedcli.data.batches import PretrainingBatch, PretrainingBatches
from seedcli.data.masking import Masking
from seedcli.data.ragged import Ragged
from seedcli.models.decoder import WeakDecoder
from seedcli.models.seed import SeedModel
from seedcli.training.checkpoint import checkpoints
from seedcli.training.log import NEVER_THE_SAME
from seedcli.training.loop import Training, train
from seedcli.training.objectives import PretrainingObjective
from seedcli.training.optimizers import adamw

STEPS, SAVED = 20, 10


def run(folder: Path, here: Runtime, end: int | None = None, how: signal.Signals = signal.SIGKILL) -> None:
    """Twenty steps with dropout; while the batch of step `end` is drawn, a signal to this process."""
    folder.mkdir(exist_ok=True)
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
    drawn = PretrainingBatches(blocks, masking, pad=0, size=6, micro=2, seed=7)

    def batches(step: int, rank: int, world: int) -> Iterator[PretrainingBatch]:
        if step == end:
            os.kill(os.getpid(), how)
        return drawn(step, rank, world)

    objective = PretrainingObjective(model)
    optimizer = adamw(objective, 1e-3, (0.9, 0.999), 1e-6, 0.01)
    training = Training(STEPS, warmup=4, lr=1e-3, clip=1.0, seed=7, log_every=1, save_every=SAVED, title="train")
    train(objective, optimizer, batches, training, folder, here, Silent())
    weights = {name: parameter.detach() for name, parameter in objective.named_parameters()}
    save_file(weights, folder / f"weights-{here.rank}.safetensors")


def main(folders: list[Path], end: int | None) -> None:
    with runtime("cpu", "fp32", threads=1) as here:
        for folder in folders:
            run(folder, here, end)


def statuses(world: int, *folders: Path, end: int | None = None) -> list[int]:
    """The exit statuses of a run's processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = os.environ | {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, __file__, str(end or ""), *map(str, folders)]
    processes = [
        subprocess.Popen(command, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.DEVNULL)
        for rank in range(world)
    ]
    try:
        return [process.wait(120) for process in processes]
    finally:
        for process in processes:
            process.kill()


def log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run, without what no two runs share."""
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in record.items() if k == "step" or k not in NEVER_THE_SAME} for record in records]


def assert_same(folder: Path, expected: Path) -> None:
    """The same weights to the bit, and the same records."""
    for path in expected.glob("weights-*"):
        weights, others = load_file(folder / path.name), load_file(path)
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in others)
    assert log(folder) == log(expected)
    assert [record["step"] for record in log(folder)] == list(range(1, STEPS + 1))


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    run(tmp_path / "straight", Runtime())
    killed = tmp_path / "killed"
    assert statuses(1, killed, end=SAVED + 4) == [-signal.SIGKILL]
    assert [found.step for found in checkpoints(killed / "checkpoints")] == [SAVED]
    assert log(killed)[-1]["step"] in (SAVED + 2, SAVED + 3)  # ahead of the checkpoint
    with (killed / "log.jsonl").open("a") as file:
        file.write('{"step": 14, "lo')  # as a kill in the middle of a line leaves it
    run(killed, Runtime())
    assert_same(killed, tmp_path / "straight")
    assert log(killed)[-1]["loss"] < log(killed)[0]["loss"]


def test_two_killed_processes_resume_to_the_same_weights(tmp_path: Path) -> None:
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    assert -signal.SIGKILL in statuses(2, killed, end=SAVED + 4)  # the other one may end by that
    assert [found.step for found in checkpoints(killed / "checkpoints")] == [SAVED]
    assert statuses(2, killed, straight) == [0, 0]
    assert_same(killed, straight)
    ranks = [load_file(straight / f"weights-{rank}.safetensors") for rank in range(2)]
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])


class Half(Runtime):
    """Half precision on a CPU, with a loss scale that is too large at first and often tries to grow."""

    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=2.0**26, growth_interval=4)


def test_a_stopped_run_in_half_precision_resumes_to_the_same_weights(tmp_path: Path) -> None:
    here, stopped = Half(precision="fp16"), tmp_path / "stopped"
    run(tmp_path / "straight", here)
    with pytest.raises(Interrupted):
        run(stopped, here, end=8, how=signal.SIGTERM)
    ((step, path),) = checkpoints(stopped / "checkpoints")
    assert step in (7, 8)
    with safe_open(path, framework="pt") as file:
        scaler = json.loads(file.metadata()["training"])["scaler"]
    assert scaler["scale"] < 2.0**26
    run(stopped, here)
    assert_same(stopped, tmp_path / "straight")
    skipped = [record["step"] for record in log(stopped) if record["gradient_norm"] is None]
    assert skipped[0] == 1
    assert max(skipped) > step  # the scale grew again, and too far


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[2:]], int(sys.argv[1]) if sys.argv[1] else None)
