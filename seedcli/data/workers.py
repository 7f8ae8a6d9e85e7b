"""Lines of text through all cores: chunks of them to processes that run worker.py, and their answers in order.

Processes, since most of the work is Python's; and few of them where a tokenizer is large: each holds one of its own,
and those of a few processes use the rest of the cores as threads.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import chain, islice
from queue import SimpleQueue
from subprocess import PIPE, Popen
from typing import Any

from seedcli.base.children import module_process
from seedcli.base.errors import DataError, SeedError
from seedcli.base.files import Closing
from seedcli.base.machine import cores
from seedcli.data import worker

CHUNK = 1 << 20  # characters handed over at a time
MOST = 8  # processes: what is left to this one, reading and putting together, keeps no more of them at work
MEMORY = 420 << 20  # bytes that the processes may hold, all together
FOOTPRINT = 32 << 20  # bytes that one holds beside its tokenizer
EXPANSION = 45  # bytes of a tokenizer in memory for one of its JSON


def answers(
    lines: Iterable[str], tokenizer: str | None, workers: int | None = None, **task: Any
) -> Iterator[worker.Parts]:
    """What worker.py's `task` answers to each chunk of the lines, given a tokenizer's JSON if it takes one; `workers`:
    one per core, and no more than MOST.

    A single chunk, or all where one worker is enough, is worked on here. Raises DataError when the lines, or the
    tokenizer, do.
    """
    if tokenizer is not None:
        task["tokenizer"] = tokenizer
    chunks = chunked(lines)
    first = list(islice(chunks, 2))
    wanted = workers or cores()
    count = max(1, min(wanted, MOST, MEMORY // (FOOTPRINT + EXPANSION * len(tokenizer or ""))))
    if wanted == 1 or len(first) < 2:
        yield from map(worker.start(**task), chain(first, chunks))
    else:
        yield from spread(chain(first, chunks), task, count, threads=-(-wanted // count))


def spread(chunks: Iterable[list[str]], task: dict[str, Any], count: int, threads: int) -> Iterator[worker.Parts]:
    """The answers of `count` worker processes, which are given a chunk or two ahead of time."""
    idle: SimpleQueue[Worker] = SimpleQueue()
    waiting: deque[Future[worker.Parts]] = deque()

    def begin(begun: Worker) -> None:
        try:
            begun.send(task)
        finally:
            idle.put(begun)  # one that has ended, too: who asks it next tells

    def ask(chunk: list[str]) -> worker.Parts:
        asked = idle.get()
        try:
            return asked.ask(chunk)
        finally:
            idle.put(asked)

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(count))  # left last: its threads end with the processes
        for _ in range(count):
            pool.submit(begin, stack.enter_context(Worker(threads)))
        for chunk in chunks:
            waiting.append(pool.submit(ask, chunk))
            if len(waiting) == 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class Worker(Closing):
    """A running worker.py. It ends with this process, whose end closes its stdin."""

    def __init__(self, threads: int):
        self.process = Popen(**module_process(worker.__name__, RAYON_NUM_THREADS=str(threads)), stdin=PIPE, stdout=PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.chunks, self.answers = self.process.stdin, self.process.stdout

    def close(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError), self.process:
            pass

    def ask(self, chunk: list[str]) -> worker.Parts:
        self.send(chunk)
        line = self.answers.readline()
        sizes = json.loads(line or "[]")
        if isinstance(sizes, str):
            raise DataError(sizes)
        parts = [self.answers.read(size) for size in sizes]
        if not line or [*map(len, parts)] != sizes:
            raise self.obituary()
        return parts

    def send(self, value: Any) -> None:
        try:
            self.chunks.write(json.dumps(value).encode())
            self.chunks.write(b"\n")
            self.chunks.flush()
        except BrokenPipeError:
            raise self.obituary() from None

    def obituary(self) -> Exception:
        if (code := self.process.wait()) < 0:
            return SeedError(f"a process that reads texts was killed (signal {-code}): is there too little memory?")
        return RuntimeError(f"{worker.__name__} ended with exit code {code}; its traceback stands above")


def chunked(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines in lists of about CHUNK characters."""
    chunk: list[str] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line) + 1
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
