"""Two processes that work beside each other on one folder, and know whether the other is still there."""

import json
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from seedcli.base.files import Closing, write_text

PERIOD = 5.0  # seconds between beats
SILENT = 40.0  # seconds without one after which a partner is held for dead


class Heartbeat(Closing):
    """Writes to `folder`/`own`.json every few seconds that this process lives, and reads the partner's file.

    `lost` and `found` are told once each time the partner falls silent and comes back. No clocks are compared: a
    partner lives as long as its file changes, so the folder may be shared by machines.
    """

    def __init__(self, folder: Path, own: str, partner: str, lost: Callable[[str], None], found: Callable[[str], None]):
        self.folder, self.own, self.partner, self.lost, self.found = folder, own, partner, lost, found
        self.silent = False
        self._seen, self._changed = "", time.monotonic()
        self._beats = 0
        self._over = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def partner_state(self) -> dict[str, Any]:
        """What the partner wrote last; nothing where it never did."""
        with suppress(OSError, ValueError):
            return dict(json.loads((self.folder / f"{self.partner}.json").read_text()))
        return {}

    def _run(self) -> None:
        while not self._over.wait(PERIOD):
            self._beat()
            self._listen()

    def _beat(self) -> None:
        self._beats += 1
        told = {"beat": self._beats, "host": platform.node(), "process": os.getpid()}
        with suppress(OSError):  # the next beat may come through; a full disk is told by those who write more
            write_text(self.folder / f"{self.own}.json", json.dumps(told) + "\n")

    def _listen(self) -> None:
        state, now = self.partner_state(), time.monotonic()
        if (seen := json.dumps(state)) != self._seen:
            self._seen, self._changed = seen, now
            if self.silent:
                self.silent = False
                self.found(_named(state))
        elif not self.silent and now - self._changed > SILENT:
            self.silent = True
            self.lost(_named(state))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        (self.folder / f"{self.own}.json").unlink(missing_ok=True)


def _named(state: dict[str, Any]) -> str:
    """Which process it was."""
    return f"process {state['process']} on {state['host']}" if state.keys() >= {"process", "host"} else "never seen"
