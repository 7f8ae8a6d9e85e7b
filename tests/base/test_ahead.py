"""Work by threads: in order, no more than asked for, and nothing left behind."""

import threading
import time
from collections.abc import Iterator

import pytest

from seedcli.base.ahead import ahead, side_by_side


def numbers(made: list[int], last: int = 100) -> Iterator[int]:
    for number in range(last):
        made.append(number)
        yield number


def settled(made: list[int], count: int) -> bool:
    """Whether so many are made soon, and no more after that."""
    end = time.monotonic() + 5
    while len(made) < count and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(0.02)
    return len(made) == count


def test_items_come_in_their_order_and_are_made_elsewhere() -> None:
    threads = set()

    def items() -> Iterator[int]:
        for number in range(50):
            threads.add(threading.current_thread())
            yield number

    assert list(ahead(items(), 3)) == list(range(50))
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert list(ahead([], 3)) == []
    assert list(ahead([None, None], 1)) == [None, None]


def test_no_more_are_made_than_wanted_ahead() -> None:
    made: list[int] = []
    items = ahead(numbers(made), 4)
    assert made == []
    for used in range(3):
        assert next(items) == used
        assert settled(made, used + 5)  # this one, and four more
    items.close()
    assert len(made) == 7


def test_the_thread_ends_when_no_more_are_wanted() -> None:
    before = threading.active_count()
    made: list[int] = []
    items = ahead(numbers(made), 4)
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [ValueError("item 2"), KeyboardInterrupt()])
def test_a_mistake_comes_over_at_its_place_and_ends_the_thread(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield from range(2)
        raise error

    before, found = threading.active_count(), []
    with pytest.raises(type(error)) as raised:
        found.extend(ahead(items(), 5))
    assert raised.value is error
    for item in ahead(items(), 5):
        if item == 1:
            break
    del item
    assert threading.active_count() == before


def test_an_interruption_of_the_user_stops_the_maker() -> None:
    before = threading.active_count()
    made: list[int] = []

    def use() -> None:
        for number in ahead(numbers(made), 4):
            if number == 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert threading.active_count() == before
    assert len(made) <= 16


def test_work_side_by_side_keeps_its_order() -> None:
    """The first takes the longest, and all meet before any ends: that needs all three threads."""
    meeting, begun = threading.Barrier(3, timeout=10), []

    def square(number: int) -> int:
        meeting.wait()
        time.sleep(0.01 * (3 - number % 3))
        return number * number

    found = list(side_by_side(square, range(9), 3, 6, begin=lambda: begun.append(threading.current_thread())))
    assert found == [number * number for number in range(9)]
    assert len(set(begun)) == len(begun) == 3


def test_a_mistake_side_by_side_stops_what_is_not_begun() -> None:
    before = threading.active_count()
    begun: list[int] = []

    def fail(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        time.sleep(0.001)
        return number

    found: list[int] = []
    with pytest.raises(ValueError, match="three"):
        found.extend(side_by_side(fail, range(100), 2, 4))
    assert len(begun) <= 8
    assert threading.active_count() == before
