"""What work tells of itself: a protocol that console.py draws and tests leave silent, and the pace of a long task."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

Item = TypeVar("Item")
State = Literal["new", "resumed", "done"]

MARK = 0.5  # seconds between the counts that a pace remembers
WINDOW = 60.0  # seconds that a pace looks back at least


class Source(NamedTuple):
    """An input of a stage as a person is told of it: `origin` is the verb that made it, and what it holds."""

    name: str
    place: str
    origin: str


class Advance(Protocol):
    """Takes what was done since the last call."""

    def __call__(self, more: int, /, *notes: str) -> None:
        """`notes`, such as the loss, stand beside the bar until there are others; the most telling come first."""
        ...


class Progress(Protocol):
    """Where a stage reports to."""

    def begin(self, verb: str, folder: Path, state: State, inputs: Sequence[Source]) -> None:
        """A stage has its folder, and starts, goes on, or is done already."""
        ...

    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Advance]:
        """A bar of `total` units (None: unknown), `done` of them behind."""
        ...

    def say(self, line: str) -> None:
        """One line of plain text that stays on the screen."""
        ...


class Silent:
    """Says nothing: ranks other than the first, and tests."""

    def begin(self, verb: str, folder: Path, state: State, inputs: Sequence[Source]) -> None:
        pass

    @contextmanager
    def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _, *__: None

    def say(self, line: str) -> None:
        pass


class Pace:
    """How far a task is and how fast it goes: over the later half of its time, so that a slow start is forgotten.

    `done` units were behind when it began; they count as done, and not for its speed. Nor does what goes before the
    first units are done, such as the tokenising of the first texts.
    """

    def __init__(self, total: int | None, done: int = 0, clock: Callable[[], float] = time.monotonic):
        self.total, self.start, self.count, self.clock = total, done, done, clock
        self.notes: Sequence[str] = ()
        self.began = clock()
        self.marks = deque([(self.began, done)])  # (when, count)

    def advance(self, more: int, /, *notes: str) -> None:
        self.notes = notes or self.notes
        self.count += more
        now = self.clock()
        if self.count - more == self.start:
            self.marks[0] = (now, self.count)
        if now - self.marks[-1][0] < MARK:
            return
        self.marks.append((now, self.count))
        horizon = now - max(WINDOW, (now - self.began) / 2)
        while len(self.marks) > 10 and self.marks[1][0] <= horizon:
            self.marks.popleft()

    @property
    def elapsed(self) -> float:
        return self.clock() - self.began

    @property
    def moving(self) -> float:
        """Seconds that the rate is taken over."""
        return self.marks[-1][0] - self.marks[0][0]

    @property
    def rate(self) -> float:
        """Units a second, 0 as long as that can't be told."""
        (since, before), (last, count) = self.marks[0], self.marks[-1]
        return (count - before) / (last - since) if last > since else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the end, None when unknown."""
        if self.total is None or not self.rate:
            return None
        last, count = self.marks[-1]
        return max(0.0, (self.total - count) / self.rate - (self.clock() - last))


def counted(items: Iterable[Item], advance: Advance) -> Iterator[Item]:
    """The items, each told to `advance` once it has been used."""
    for item in items:
        yield item
        advance(1)


def measured(lines: Iterable[str], advance: Advance) -> Iterator[str]:
    """The lines, each told to `advance` by its characters once it has been used."""
    for line in lines:
        yield line
        advance(len(line) + 1)
