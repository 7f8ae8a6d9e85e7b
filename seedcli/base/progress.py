"""What long work tells of itself: a protocol that console.py draws and tests leave silent."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

Advance = Callable[[int], None]
Item = TypeVar("Item")


class Progress(Protocol):
    """Where a stage reports to."""

    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Advance]:
        """A bar of `total` units (None: unknown), `done` of them behind; its result takes what was done since."""
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


def counted(items: Iterable[Item], advance: Advance) -> Iterator[Item]:
    """The items, each told to `advance` once it has been used."""
    for item in items:
        yield item
        advance(1)
