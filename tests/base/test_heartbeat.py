"""Partners on one folder: silence is told once, and so is a return."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seedcli.base import heartbeat
from seedcli.base.heartbeat import PERIOD, SILENT, Heartbeat


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_dead_partner_is_told_within_a_minute() -> None:
    assert PERIOD + SILENT < 60


def test_a_partner_that_falls_silent_and_comes_back_is_told_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PERIOD", 0.01)
    monkeypatch.setattr(heartbeat, "SILENT", 0.1)
    lost, found = list[str](), list[str]()
    with Heartbeat(tmp_path, "trainer", "refresher", lost.append, found.append):
        until(lambda: bool(lost))
        assert lost == ["never seen"]
        with Heartbeat(tmp_path, "refresher", "trainer", lambda _: None, lambda _: None):
            until(lambda: bool(found))
            time.sleep(0.3)  # three times what is silence
            assert len(lost) == 1
            mine = json.loads((tmp_path / "refresher.json").read_text())
            assert mine["process"] == os.getpid()
        (tmp_path / "refresher.json").write_text(json.dumps(mine | {"beat": mine["beat"] + 1}))  # its last
        until(lambda: len(lost) == 2)
        assert str(os.getpid()) in lost[1]
        assert found == [f"process {os.getpid()} on {mine['host']}"]
    assert not (tmp_path / "trainer.json").exists()
