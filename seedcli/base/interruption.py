"""Ctrl-C and SIGTERM as a wish to stop, which work that can go on later fulfils where nothing is lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class Interruption:
    """`number` is the signal that asked to stop, 0 as long as none did."""

    number = 0


@contextmanager
def deferred(say: Callable[[str], object]) -> Iterator[Interruption]:
    """While the block runs, a first signal only asks, and says so; a Ctrl-C after it raises KeyboardInterrupt at once.

    Only the main thread can listen. A signal that the process was told to ignore (nohup) stays ignored.
    """
    asked = Interruption()

    def ask(number: int, _: FrameType | None) -> None:
        if asked.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked.number:
            with suppress(RuntimeError):  # it came while something else was being written
                say("stopping after this step, which will be saved; Ctrl-C stops at once")
        asked.number = number

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if main}
    heard = {number: handler for number, handler in before.items() if handler not in {signal.SIG_IGN, None}}
    try:
        for number in heard:
            signal.signal(number, ask)
        yield asked
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
