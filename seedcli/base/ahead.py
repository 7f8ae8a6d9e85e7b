"""Work by threads: side by side, or ahead of who asks for it; what is made is handed over in its order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice, repeat
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def side_by_side(
    function: Callable[[Item], Made], items: Iterable[Item], threads: int, most: int,
    begin: Callable[[], object] | None = None,
) -> Generator[Made, None, None]:  # fmt: skip
    """What a function gives for each item, by so many threads, at most `most` of them before they are asked for.

    Each thread calls `begin` first. What the function raises is raised here. Once this is closed no more are made, and
    the threads have ended.
    """
    rest = iter(items)
    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        waiting = deque(pool.submit(function, item) for item in islice(rest, most))
        try:
            while waiting:
                made = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
                yield made
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def ahead(items: Iterable[Item], most: int) -> Generator[Item, None, None]:
    """The items, made in a thread of its own, at most `most` of them before they are asked for.

    What making one raises is raised here. Once this is closed no more are made, and the thread has ended.
    """
    source, end = iter(items), object()
    with closing(side_by_side(lambda _: next(source, end), repeat(None), 1, most)) as made:
        for item in made:
            if item is end:
                return
            yield item  # type: ignore[misc]  # it isn't the end
