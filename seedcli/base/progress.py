"""What long work tells of itself: a protocol that console.py draws and tests leave silent."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where a stage reports to."""

    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Advance]:
        """A bar of `total` units (None: unknown) of which `done` lie behind; call the result with what was done since."""
        ...

    def say(self, line: str) -> None:
        """One line of plain text that stays on the screen."""
        ...


class Silent:
    """Says nothing: ranks other than the first, and tests."""

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _: None

    def say(self, line: str) -> None:
        pass
