"""Collections: passages, queries, judgements and training examples, each read anew from its file when asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from seedcli.base.errors import DataError
from seedcli.data.records import Example, Passage, Qrels, Query, Shown

Reader = TypeVar("Reader")


@dataclass(frozen=True)
class PassageFiles:
    """Files of passages, read one after the other: a reader that tells what it reads from."""

    paths: Sequence[Path]
    read: Callable[[Path], Iterator[Passage]]

    def __call__(self) -> Iterator[Passage]:
        for path in self.paths:
            yield from self.read(path)


@dataclass(frozen=True)
class Collection:
    """What a source holds, as readers by role: functions that begin anew when called, and hold no corpus in memory.

    Queries, qrels and examples are read by split; under "" stand those of a file that names none.
    """

    source: Path | str  # for messages
    passage_reader: Callable[[], Iterator[Passage]] | None = None
    query_readers: Mapping[str, Callable[[], Iterator[Query]]] = field(default_factory=dict)
    qrels_readers: Mapping[str, Callable[[], Qrels]] = field(default_factory=dict)
    example_readers: Mapping[str, Callable[[], Iterator[Example]]] = field(default_factory=dict)
    shown_reader: Callable[[], Iterator[Shown]] | None = field(default=None, kw_only=True)

    def passages(self) -> Iterator[Passage]:
        if self.passage_reader is None:
            raise DataError(f"{self.source}: holds no passages")
        return self.passage_reader()

    def passages_of(self, ids: Iterable[str]) -> dict[str, Passage]:
        """The passages of some ids, by id; those that the corpus lacks are left out. Reads until all are found.

        Of passages that share an id, the first counts.
        """
        wanted, found = set(ids), dict[str, Passage]()
        passages = self.passages()
        while wanted and (passage := next(passages, None)):
            if passage.id in wanted:
                wanted.discard(passage.id)
                found[passage.id] = passage
        return found

    def queries(self, split: str | None = None) -> Iterator[Query]:
        """All queries, or those of `split`: what the qrels of that name judge, in the order of the file."""
        if not self.query_readers:
            raise DataError(f"{self.source}: holds no queries")
        if split is None:
            return self.query_readers[""]() if "" in self.query_readers else self._queries_of_all_splits()
        judged = self.qrels(split) if split in self.qrels_readers or split not in self.query_readers else None
        reader = self.query_readers.get(split) or self.query_readers.get("")
        queries = reader() if reader else self.queries()
        return queries if judged is None else (query for query in queries if query.id in judged)

    def queries_of_file(self, split: str) -> Iterator[Query]:
        """Those of a split's own file, judged or not; all queries where splits share a file."""
        reader = self.query_readers.get(split)
        return reader() if reader else self.queries()

    def qrels(self, split: str) -> Qrels:
        return self._of(self.qrels_readers, split, "qrels")()

    def judges(self, split: str) -> bool:
        return split in self.qrels_readers or "" in self.qrels_readers

    def examples(self, split: str) -> Iterator[Example]:
        """The training examples of a split: triples, or queries with the passages that were found for them."""
        return self.example_reader(split)()

    def example_reader(self, split: str) -> Callable[[], Iterator[Example]]:
        return self._of(self.example_readers, split, "training examples")

    def _queries_of_all_splits(self) -> Iterator[Query]:
        """Each query once, though several splits may have it. Raises DataError where they differ in its text."""
        seen: dict[str, tuple[str, Query]] = {}
        for split, reader in self.query_readers.items():
            for query in reader():
                first, same = seen.setdefault(query.id, (split, query))
                if first == split:
                    yield query
                elif same != query:
                    raise DataError(
                        f"{self.source}: query {query.id!r} is another one in {first} than in {split}; name a split"
                    )

    def tells_apart(self, first: str, second: str) -> bool:
        """Whether two splits have judgements of their own: a collection may have one set for whatever is asked."""
        return first in self.qrels_readers or second in self.qrels_readers

    def _of(self, readers: Mapping[str, Reader], split: str, what: str) -> Reader:
        reader = readers.get(split) or readers.get("")
        if not readers:
            raise DataError(f"{self.source}: holds no {what}")
        if reader is None:
            there = ", ".join(sorted(readers))
            raise DataError(f"{self.source}: no such split of its {what}: {split!r}; it has {there}")
        return reader
