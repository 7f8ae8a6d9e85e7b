"""benchmarks/finetune.py: both systems are given the same work, and what is made of their figures."""

import argparse
import importlib.util
import shutil
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from seedcli.data.batches import global_batch
from seedcli.data.sources import open_collection
from seedcli.models.encoder import EncoderSettings, new_masked_lm, save_model

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "finetune.py"

Read = Callable[..., argparse.Namespace]


@pytest.fixture(scope="module")
def finetune() -> ModuleType:
    spec = importlib.util.spec_from_file_location("finetune_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def read(finetune: ModuleType, tmp_path: Path, beir: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Options from flags; SEED_DATA has the animals as squad, their test questions as dev; any folder is the model."""
    for package in ("sentence_transformers", "accelerate", "datasets"):
        pytest.importorskip(package, reason='needs pip install "sentence-transformers[train]"')
    shutil.copytree(beir, tmp_path / "squad")
    (tmp_path / "squad" / "qrels" / "test.tsv").rename(tmp_path / "squad" / "qrels" / "dev.tsv")
    monkeypatch.setenv("SEED_DATA", str(tmp_path))

    def options(*flags: object) -> argparse.Namespace:
        monkeypatch.setattr(sys, "argv", ["finetune.py", "--model", str(tmp_path), *map(str, flags)])
        found: argparse.Namespace = finetune.read_options()
        return found

    return options


def test_seed_reads_a_training_file_in_the_order_that_it_was_laid_out_for(finetune: ModuleType) -> None:
    drawn = [finetune.Pair(f"q{number}", "", f"p{number}", "") for number in range(30)]
    ordered = finetune.laid_out(drawn, seed=5)
    rows = [row for step in range(3) for _, row in global_batch(30, 10, step, seed=5)]
    assert ordered != drawn
    assert [ordered[row] for row in rows] == drawn


@pytest.mark.parametrize("hard", [0, 1])
def test_without_dropout_and_warm_up_both_systems_come_to_the_same_loss(
    finetune: ModuleType, read: Read, tmp_path: Path, wordpiece: Any, hard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = {split: open_collection(tmp_path / "squad").qrels(split) for split in ("train", "dev")}
    others = cycle(passage for passages in judged["dev"].values() for passage in passages)
    wrong = dict(zip(judged["train"], others, strict=False))
    monkeypatch.setattr(finetune, "first_wrong", lambda *_: wrong)
    monkeypatch.setattr("seedcli.stages.finetune.matrix_rate", lambda _: 1e9)
    torch.manual_seed(0)
    model = new_masked_lm("tiny", wordpiece.size, 64, wordpiece.pad, 0.1, 0.1)
    save_model(tmp_path / "model", model, wordpiece, EncoderSettings("mean", "dot", 32, 32))
    options = read(
        "--work", tmp_path / "work", "--model", tmp_path / "model", "--batch", 5, "--steps", 6, "--hard", hard,
        "--query-length", 32, "--passage-length", 32, "--dropout", 0, "--warmup", 0, "--lr", 1e-3, "--device", "cpu",
    )  # fmt: skip
    assert finetune.prepare(options)["questions"] == 30
    cpu, losses, meters = torch.device("cpu"), [], []
    for train in (finetune.train_seed, finetune.train_peer):
        meters.append(finetune.Meter(6, cpu))
        losses.append(train(options, meters[-1]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert all(meter.told()["seconds"] > 0 for meter in meters)
    before = np.log(5 * (1 + hard))  # of passages that can't be told apart
    assert losses[0] != pytest.approx(before, rel=0.05)
    if not hard:
        scores = finetune.quality(options)["mrr@10"]
        assert scores["seed"] == pytest.approx(scores[finetune.PEER], abs=0.02)
        assert scores["seed"] != scores["start"]


def test_hard_negatives_are_the_first_wrong_passages_of_bm25(
    finetune: ModuleType, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run made by hand stands for Lucene's: p2 has the text of the right p1, so p3 is the first wrong one."""
    options = read("--work", tmp_path / "work", "--device", "cpu")
    (tmp_path / "squad" / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tp1\t1\nq2\tp3\t1\n")
    found = options.work / "found-by-words"
    found.mkdir(parents=True)
    ranked = [("q1", ["p1", "p2", "p3", "p4"]), ("q2", ["p3"])]
    lines = [f"{query} Q0 {id_} {row + 1} {9 - row} x\n" for query, ids in ranked for row, id_ in enumerate(ids)]
    (found / "run.trec").write_text("".join(lines))
    monkeypatch.setattr(finetune, "performed", lambda *_: {})
    texts = {"p1": "same", "p2": "same", "p3": "other", "p4": "more"}
    assert finetune.first_wrong(options, texts) == {"q1": "p3"}


def test_only_steps_after_the_warm_up_are_timed(finetune: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 17.0])  # asked for at the end of the third step and of the fifth
    monkeypatch.setattr(finetune.time, "perf_counter", lambda: next(clock))
    meter = finetune.Meter(5, torch.device("cpu"))
    with meter.track("passages", 3, "passages") as advance:
        advance(3)
    with meter.track("fine-tune", 5, "steps") as advance:
        held = torch.ones(2**25)  # 128 MiB: more than malloc takes from what was freed before
        for _ in range(5):
            advance(1, "loss 0.1")
    told = meter.told()
    assert told["seconds"] == 7.0
    assert told["above_start"] > 2**26
    assert told["peak"] >= told["above_start"]
    assert held.sum() == 2**25


def test_medians_of_rounds_and_their_ratios(finetune: ModuleType) -> None:
    def rounds(*seconds: float) -> list[dict[str, float]]:
        return [
            {"seconds": each, "queries": 120, "peak": each * 2**20, "above_start": 2**20, "loss": 0.5}
            for each in seconds
        ]

    ours, theirs = finetune.figures(rounds(10, 60, 20)), finetune.figures(rounds(40, 30, 60))
    assert ours == {
        "queries_per_second": 6.0, "of_rounds": [12.0, 2.0, 6.0], "peak_mib": 20.0, "above_start_mib": 1.0,
        "mean_loss": 0.5,
    }  # fmt: skip
    ratio = finetune.ratios({"seed": ours, finetune.PEER: theirs})
    assert ratio == {"queries_per_second": 2.0, "peak_mib": 0.5, "above_start_mib": 1.0}
    line = {"seed": ours, finetune.PEER: theirs, "ratio": ratio}
    shown = finetune.table(line | {"quality": {"mrr@10": {"start": 0.1, "seed": 0.7, finetune.PEER: 0.6}, "p": 0.04}})
    assert [row.split() for row in shown.splitlines()[1:]] == [
        ["seed", "6.0", "20.0", "1.0", "0.5000", "0.7000"],
        ["sentence-transformers", "3.0", "40.0", "1.0", "0.5000", "0.6000"],
        ["ratio", "2.00", "0.50", "1.00", "p", "=", "0.04"],
        ["start", "0.1000"],
    ]
    assert len(finetune.table(line).splitlines()) == 4
    assert len(finetune.table({"seed": ours}).splitlines()) == 2


def test_texts_that_a_length_cuts_are_counted(finetune: ModuleType, wordpiece: Any) -> None:
    texts = ["otter " * 3, "otter " * 40]
    assert finetune.cut(texts, wordpiece.encode, 32) == 1


def test_flags_that_leave_nothing_to_count_are_refused(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read("--work", tmp_path, "--steps", 3)
    assert "--steps 3: the first 3 aren't counted" in capsys.readouterr().err
    (tmp_path / "squad").rename(tmp_path / "squid")
    with pytest.raises(SystemExit):
        read("--work", tmp_path)
    assert "SEED_DATA must name a folder with squad/ in it" in capsys.readouterr().err


def test_more_steps_than_the_questions_give_are_refused(finetune: ModuleType, read: Read, tmp_path: Path) -> None:
    from datasets import Dataset

    options = read("--work", tmp_path / "work", "--batch", 4, "--steps", 6)
    rows = Dataset.from_list([{"anchor": f"q{row}", "positive": f"p{row // 2}"} for row in range(20)])
    drawn = finetune.draw(argparse.Namespace(**vars(options) | {"steps": 4}), rows)
    for begin in range(0, 16, 4):  # no passage twice in a batch
        assert len({row // 2 for row in drawn[begin : begin + 4]}) == 4
    with pytest.raises(SystemExit, match=r"--steps 6: the training questions give [45] batches of 4"):
        finetune.draw(options, rows)
