"""Signals that ask, and what they leave as it was."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from seedcli.base.interruption import deferred


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: what starts in the background may be told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_and_ends_nothing(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    said: list[str] = []
    with deferred(said.append) as interruption:
        assert interruption.number == 0
        send(number)
        assert interruption.number == number
    assert signal.getsignal(number) == before
    assert said == ["stopping after this step, which will be saved; Ctrl-C stops at once"]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_at_once(first: signal.Signals) -> None:
    said: list[str] = []
    with deferred(said.append) as interruption:
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert interruption.number == first
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_may_come_twice() -> None:
    said: list[str] = []
    with deferred(said.append) as interruption:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert interruption.number == signal.SIGTERM
    assert len(said) == 1


def test_what_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    said: list[str] = []
    with deferred(said.append) as interruption:
        send(signal.SIGINT)
    assert interruption.number == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_leave_the_handlers_alone() -> None:
    found = []

    def work() -> None:
        with deferred(print):
            found.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))

    expected = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [expected]
