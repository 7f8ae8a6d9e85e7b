"""The log: what stays of it when a run goes on, what a person is told, and the same for TensorBoard."""

import json
import math
from pathlib import Path

import pytest
import torch

from seedcli.base.errors import ConfigError
from seedcli.base.runtime import Runtime
from seedcli.stages import stage
from seedcli.training.log import Log, Past, Window, means_by_name, told


def write(folder: Path, *records: dict[str, float]) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


RECORDS: list[dict[str, float]] = [
    {"step": 0, "held_out": 9.0},
    {"step": 2, "loss": 8.0, "lr": 0.1, "tokens_per_second": 99.0},
    {"step": 4, "loss": 7.0, "lr": 0.2, "held_out": 6.0},
    {"step": 6, "loss": 5.0, "lr": 0.3},
]


def test_a_resumed_run_keeps_what_its_checkpoint_knows_of(tmp_path: Path) -> None:
    write(tmp_path, *RECORDS)
    assert Log(tmp_path, tensorboard=False).resume(4) == Past(8.0, {"held_out": 6.0, "loss": 7.0, "lr": 0.2})
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").open()] == RECORDS[:3]
    assert Log(tmp_path, tensorboard=False).resume(0) == Past(None, {"held_out": 9.0})


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_last_line_cut_anywhere_leaves_whole_records(tmp_path: Path, cut: int) -> None:
    write(tmp_path, *RECORDS[:2])
    whole = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(whole[:-cut])
    with Log(tmp_path, tensorboard=False) as log:
        log.resume(2)
        log.write(3, {"loss": 1.5})
    kept = [json.loads(line) for line in (tmp_path / "log.jsonl").open()]
    assert kept in ([*RECORDS[:2], {"step": 3, "loss": 1.5}], [RECORDS[0], {"step": 3, "loss": 1.5}])


def test_without_a_log_nothing_is_known(tmp_path: Path) -> None:
    assert Log(tmp_path, tensorboard=False).resume(7) == Past(None, {})
    assert not (tmp_path / "log.jsonl").exists()


def test_what_is_no_number_stands_as_null(tmp_path: Path) -> None:
    Log(tmp_path, tensorboard=False).write(5, {"loss": 1.0, "gradient_norm": math.inf})
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 5, "loss": 1.0, "gradient_norm": null}\n'


def test_means_are_over_all_items_of_the_steps() -> None:
    """Of two terms; in the second step the first term has nothing to sum over."""
    window = Window()
    for sums, counts, norm in [([6.0, 8.0], [2, 4], 1.0), ([0.0, 30.0], [0, 6], 3.0)]:
        window.add(torch.tensor(sums).double(), torch.tensor(counts).double(), torch.tensor(norm), tokens=10)
    losses, means, norms = window.figures(Runtime(), 2)
    assert losses.tolist() == [[3.0, 2.0], [0.0, 5.0]]
    assert means.tolist() == [3.0, 3.8]
    assert norms.tolist() == [1.0, 3.0]
    values = means_by_name(["mlm", "decoder"], [], means)
    assert values == pytest.approx({"loss": 6.8, "mlm": 3.0, "decoder": 3.8, "decoder_perplexity": math.exp(3.8)})
    assert "decoder_perplexity" not in means_by_name(["mlm", "decoder"], [], means * [1, 0])  # without a decoder


@pytest.mark.parametrize(
    ("speed", "words"), [(8.4, "8 tok/s"), (9_999, "9,999 tok/s"), (12_430, "12.4k tok/s"), (1.5e6, "1,500.0k tok/s")]
)
def test_a_person_is_told_loss_speed_and_share_of_the_peak(speed: float, words: str) -> None:
    assert told({"loss": 5.314, "tokens_per_second": speed}) == ["loss 5.31", words]
    assert told({"loss": 0.01234, "tokens_per_second": speed, "utilisation": 0.612}) == [
        "loss 0.0123", words, "61% of peak",
    ]  # fmt: skip


def test_tensorboard_has_the_scalars_of_the_log_without_what_a_resumed_run_dropped(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps in [(0, [0, 2, 4, 6]), (4, [5])]:
        with Log(tmp_path, tensorboard=True) as log:
            log.resume(start)
            for step in steps:
                log.write(step, {"loss": 10.0 * start + step, "lr": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["loss", "lr"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 0), (2, 2), (4, 4), (5, 45)]
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").open()]
    assert [(record["step"], record["loss"]) for record in records] == [(0, 0), (2, 2), (4, 4), (5, 45)]


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_without_its_package_tensorboard_is_refused_before_any_work(tmp_path, monkeypatch, perform, verb):
    monkeypatch.setattr(stage, "installed", lambda _: None)
    needed = {"text": "none"} if verb == "pretrain" else {"model": "none", "data": "none"}
    with pytest.raises(ConfigError, match=r"^--tensorboard needs a package: .*pip install '?tensorboard"):
        perform(verb, out=tmp_path / "out", **needed, **{"saving.tensorboard": True})
    assert not (tmp_path / "out").exists()
