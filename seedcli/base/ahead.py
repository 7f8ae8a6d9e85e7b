"""Work done ahead: what is asked for one after the other, made in a thread of its own while the last is used."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item], most: int) -> Generator[Item, None, None]:
    """The items, at most `most` of them made before they are asked for; what making one raises is raised here.

    Once this is closed no more are made, and the thread has ended.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, source, end) for _ in range(most))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, source, end))
                yield item  # type: ignore[misc]  # it isn't the end
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
