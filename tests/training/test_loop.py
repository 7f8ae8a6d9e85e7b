"""The training loop over a line of one weight: what a step does, what is logged, watched and saved, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedcli.base.errors import DataError, Interrupted, SeedError
from seedcli.base.progress import Advance, Progress, Silent
from seedcli.base.runtime import Runtime
from seedcli.training import log as logs
from seedcli.training.checkpoint import checkpoints
from seedcli.training.loop import Training, dropout_seed, train
from seedcli.training.optimizers import cosine_schedule


class Points:
    """The point (x, y) twice, of fifty tokens."""

    tokens = 50

    def __init__(self, x: float, y: float):
        self.x, self.y = torch.tensor([x, x]), torch.tensor([y, y])
        self.counts = torch.tensor([2.0], dtype=torch.float64)

    def to(self, _: torch.device) -> "Points":
        return self


class Line(nn.Module):
    """y = w x, whose loss is a sum over the points of a batch; `ballast` is trained for nothing, and saved."""

    terms = ("square",)

    def __init__(self, dropout: float, ballast: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.ballast = nn.Parameter(torch.zeros(ballast))
        self.dropout = dropout

    def forward(self, batch: Points) -> Tensor:
        return (self.weight * F.dropout(batch.x, self.dropout) - batch.y).square().sum().unsqueeze(0)


Point = tuple[float, float]
POINT = (1.0, 2.0)


class Stream:
    """A point a step; a callable in the place of one is called while that batch is drawn. Knows its rows."""

    unit = "blocks"

    def __init__(self, points: list[Any]):
        self.points = [*points, POINT]  # one batch is drawn ahead

    def __call__(self, step: int, rank: int, world: int) -> Iterator[Points]:
        del rank, world
        point = self.points[step]
        if callable(point):
            point()
            point = POINT
        yield Points(*point)

    def rows(self, step: int) -> list[tuple[int, int]]:
        return [(0, 10 * step + row) for row in range(20)]


def trained(
    folder: Path, points: list[Any], *, watch: Any = None, progress: Progress | None = None, dropout: float = 0.0,
    ballast: int = 0, **changes: Any,
) -> tuple[float, dict[str, float]]:  # fmt: skip
    """The weight, and the last values."""
    line = Line(dropout, ballast)
    options = {"steps": len(points), "warmup": 0, "lr": 0.1, "clip": 1e9, "seed": 0, "log_every": 1, "save_every": 99}
    training = Training(**(options | {"title": "train"} | changes))
    optimizer = torch.optim.SGD(line.parameters(), lr=1.0)
    last = train(line, optimizer, Stream(points), training, folder, Runtime(), progress or Silent(), watch)
    return line.weight.item(), last


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[int]:
    return [record["step"] for record in log(folder)]  # type: ignore[misc]


def saved(folder: Path) -> list[int]:
    return [found.step for found in checkpoints(folder / "checkpoints")]


def killed() -> None:
    raise RuntimeError("killed")


def test_two_steps_by_pencil(tmp_path: Path) -> None:
    # step 1: w = 0, loss (0 - 2)^2 = 4, gradient 2 (0 - 2) 1 = -4, lr .1: w = .4
    # step 2: loss (.8 - 2)^2 = 1.44, gradient 2 (.8 - 2) 2 = -4.8, lr .05: w = .64
    weight, last = trained(tmp_path, [(1.0, 2.0), (2.0, 2.0)])
    assert weight == pytest.approx(0.64)
    expected = {"loss": 1.44, "square": 1.44, "gradient_norm": 4.8, "lr": 0.05}
    assert last == pytest.approx(expected)
    first, second = log(tmp_path)
    assert (first["step"], first["loss"], first["gradient_norm"]) == (1, pytest.approx(4), pytest.approx(4))
    assert {key: second[key] for key in expected} == last
    assert not (tmp_path / "checkpoints").exists()


def test_the_rate_follows_the_given_schedule(tmp_path: Path) -> None:
    trained(tmp_path, [POINT] * 3, schedule=cosine_schedule)
    assert [record["lr"] for record in log(tmp_path)] == pytest.approx([0.1, 0.075, 0.025])


def test_the_gradient_is_clipped_and_logged_as_it_was(tmp_path: Path) -> None:
    weight, last = trained(tmp_path, [POINT], clip=0.5)
    assert weight == pytest.approx(0.05)
    assert last["gradient_norm"] == pytest.approx(4)


def test_a_record_every_few_steps_holds_their_mean(tmp_path: Path) -> None:
    """A rate of nearly nothing leaves w = 0: the losses are 4, 1, 1, 16 ..."""
    trained(tmp_path, [(1.0, 2.0), (1.0, 1.0), (1.0, 1.0), *[(1.0, 4.0)] * 4], log_every=3, lr=1e-12)
    assert [(record["step"], record["loss"]) for record in log(tmp_path)] == [
        (3, pytest.approx(2)), (6, pytest.approx(16)), (7, pytest.approx(16)),
    ]  # fmt: skip


class Clock:
    """Four seconds go by from one look at it to the next."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 4.0
        return self.now


def test_the_rate_is_that_of_the_real_tokens_since_the_last_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "time", Clock())
    trained(tmp_path, [POINT] * 8, log_every=6, operations=10.0, rate=1_500.0)
    first, last = log(tmp_path)
    assert first["tokens_per_second"] == pytest.approx(6 * 50 / 4)
    assert first["utilisation"] == pytest.approx(75 * 10 / 1_500)
    assert last["tokens_per_second"] == pytest.approx(2 * 50 / 4)


def test_without_a_measured_rate_there_is_no_utilisation(tmp_path: Path) -> None:
    trained(tmp_path, [POINT], operations=10.0)
    assert "utilisation" not in log(tmp_path)[0]


class Told(Silent):
    """Remembers what stands beside the bar."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, ...]] = []

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _, *notes: self.notes.append(notes)


def test_the_bar_is_told_the_figures_of_each_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=iter([0, 0.005, 1, 2, 2]).__next__))
    trained(tmp_path, [POINT, POINT, (1.0, 3.0)], log_every=2, lr=1e-12, progress=told, operations=2.0, rate=40_000.0)
    assert told.notes == [(), ("loss 4", "20.0k tok/s", "100% of peak"), ("loss 9", "50 tok/s", "0% of peak")]


class Looks:
    """A watch that remembers when it was asked, and draws random numbers as it likes."""

    enough = False

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, step: int) -> Mapping[str, float]:
        self.asked.append(step)
        torch.manual_seed(step)
        torch.rand(7)
        return {"held_out": float(100 + step)}


def test_a_run_is_watched_before_its_first_step_then_now_and_then_and_after_the_last(tmp_path: Path) -> None:
    looks = Looks()
    _, last = trained(tmp_path, [POINT] * 5, watch=looks, watch_every=2, log_every=3)
    assert looks.asked == [0, 2, 4, 5]
    assert steps(tmp_path) == [0, 2, 3, 4, 5]
    assert log(tmp_path)[0] == {"step": 0, "held_out": 100}
    assert [record.get("held_out") for record in log(tmp_path)] == [100, 102, None, 104, 105]
    assert (last["held_out"], last["lr"]) == (105, log(tmp_path)[-1]["lr"])


def test_watching_leaves_no_trace_in_the_weights(tmp_path: Path) -> None:
    for name in ("watched", "alone"):
        (tmp_path / name).mkdir()
    options: dict[str, Any] = {"dropout": 0.5, "lr": 0.01}
    watched, _ = trained(tmp_path / "watched", [POINT] * 9, watch=Looks(), watch_every=1, **options)
    alone, _ = trained(tmp_path / "alone", [POINT] * 9, **options)
    assert watched == alone


def test_a_resumed_run_looks_only_where_no_record_tells(tmp_path: Path) -> None:
    first, second, third, points = Looks(), Looks(), Looks(), [POINT] * 6
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path, [killed, *points[1:]], watch=first, watch_every=2)
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path, [*points[:3], killed, *points[4:]], watch=second, watch_every=2, save_every=1, log_every=9)
    assert (first.asked, second.asked, saved(tmp_path)) == ([0], [2], [2])
    trained(tmp_path, points, watch=third, watch_every=2, log_every=9)
    assert third.asked == [4, 6]
    assert [record.get("held_out") for record in log(tmp_path)] == [100, None, 102, 104, 106]
    assert steps(tmp_path) == [0, 1, 2, 4, 6]


def stop(number: signal.Signals) -> Any:
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: what starts in the background may be told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_signal_ends_training_after_the_step_and_loses_nothing(
    tmp_path: Path, number: signal.Signals, step: int
) -> None:
    """Batch `step` is drawn, ahead, while the step before it is computed; after the last there is one more."""
    for name in ("stopped", "straight"):
        (tmp_path / name).mkdir()
    folder, points, before = tmp_path / "stopped", [(1.0, float(y)) for y in range(6)], signal.getsignal(number)
    stream = [*points[:step], stop(number), *points[step + 1 :]]
    told = f"stopped after step {step}, which is saved; repeat the command to go on"
    with pytest.raises(Interrupted, match=told) as caught:
        trained(folder, stream, steps=6, dropout=0.5)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.number == number
    assert (signal.getsignal(number), saved(folder), steps(folder)) == (before, [step], list(range(1, step + 1)))
    straight = trained(tmp_path / "straight", points, dropout=0.5)
    assert trained(folder, points, dropout=0.5) == (straight[0], pytest.approx(straight[1]))
    assert steps(folder) == list(range(1, 7))


def test_training_off_the_main_thread_listens_to_no_signal(tmp_path: Path) -> None:
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(trained(tmp_path, [POINT])[0]))
    thread.start()
    thread.join()
    assert found == [pytest.approx(0.4)]


def test_so_many_checkpoints_are_kept(tmp_path: Path) -> None:
    trained(tmp_path, [POINT] * 9, save_every=2, keep_last=3, log_every=9)
    assert saved(tmp_path) == [4, 6, 8]
    assert steps(tmp_path) == [2, 4, 6, 8, 9]  # nothing unseen is saved


def test_a_checkpoint_that_is_broken_is_told_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "0000007.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match=r"0000007\.safetensors"):
        trained(tmp_path, [POINT])


def test_a_loss_that_is_no_number_ends_the_run_and_is_never_saved(tmp_path: Path) -> None:
    points = [POINT] * 4 + [(1.0, float("inf"))] + [POINT] * 20
    with pytest.raises(SeedError) as caught:
        trained(tmp_path, points, log_every=20, save_every=3)
    told = str(caught.value)
    assert f"{tmp_path}: at step 5 the loss (square) became inf; its batch: blocks 40, 41, 42, " in told
    assert "51 of epoch 0 and 8 more" in told
    assert f"The last good checkpoint is that of step 3: {tmp_path / 'checkpoints' / '0000003.safetensors'}" in told
    assert "lower --lr or raise --warmup, in another --out" in told
    assert (steps(tmp_path), saved(tmp_path)) == ([3], [3])
    written = json.loads((tmp_path / "checkpoints" / "breakdown.json").read_text())
    assert (written["step"], written["blocks"]) == (5, [[0, row] for row in range(40, 60)])


def test_a_checkpoint_from_after_the_breakdown_is_not_called_good_and_replaces_none(tmp_path: Path) -> None:
    """Ten steps of too high a loss break a run down; some of them had passed when it was time to save."""
    points = [POINT] * 7 + [(1.0, 100.0)] * 20
    with pytest.raises(SeedError, match="at step 8 the loss rose") as caught:
        trained(tmp_path, points, log_every=5, save_every=5, lr=1e-9)
    assert "The last good checkpoint is that of step 5:" in str(caught.value)
    assert saved(tmp_path) == [5]


def test_a_gradient_that_is_no_number_names_its_own_step_and_not_that_of_the_loss_after_it(tmp_path: Path) -> None:
    """The loss is (0 - 1e15)^2 and its gradient 2 (0 - 1e15) 1e30, which is too much for float32."""
    with pytest.raises(SeedError, match=r"(?s)at step 3 the gradient's norm became inf; .* saved before"):
        trained(tmp_path, [POINT, POINT, (1e30, 1e15), POINT, POINT], log_every=5, lr=0.0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(small_disk: Path) -> None:
    """Of 140 kB a checkpoint: two have room, and no third while it is written."""
    points, room = [(1.0, float(y)) for y in range(6)], {"ballast": 35_000, "save_every": 1}
    with pytest.raises(DataError) as caught:
        trained(small_disk, points, keep_last=2, **room)
    assert "0000003.safetensors: No space left on device; the checkpoint of step 2 is whole" in str(caught.value)
    assert (saved(small_disk), steps(small_disk)) == ([1, 2], [1, 2, 3])
    weight, _ = trained(small_disk, points, keep_last=1, ballast=35_000)
    straight = small_disk.with_name("straight")
    straight.mkdir()
    assert weight == trained(straight, points)[0]
    assert steps(small_disk) == list(range(1, 7))


def test_a_disk_too_full_for_the_log_is_told_and_training_goes_on_when_there_is_room(small_disk: Path) -> None:
    def fill() -> None:
        with suppress(OSError), (small_disk / "filled").open("wb", 0) as file:
            while file.write(bytes(1000)):
                pass

    with pytest.raises(DataError, match=r"log\.jsonl: No space left on device; .*repeat the command to go on"):
        trained(small_disk, [POINT, POINT, fill, *[POINT] * 97], save_every=100)
    (small_disk / "filled").unlink()
    trained(small_disk, [POINT] * 100)
    assert steps(small_disk) == list(range(1, 101))


def test_dropout_has_a_seed_of_its_own_a_step_rank_and_micro_batch() -> None:
    keys = list(product(range(3), range(4), range(4), range(2)))
    assert len({dropout_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= dropout_seed(*key) < 2**63 for key in keys)
