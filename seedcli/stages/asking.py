"""A question to one index or several -> its first hits with their texts, the sentence that answers best, and why."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import Closing
from seedcli.base.machine import processes
from seedcli.base.manifest import identify, located
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.search import SearchConfig
from seedcli.data.lookup import Find, finder
from seedcli.data.records import Passage, Query, clean
from seedcli.data.sentences import Sentence
from seedcli.data.sources import open_collection
from seedcli.retrieval.best_sentences import Scored, best, by_vectors, by_words
from seedcli.retrieval.hits import Hit
from seedcli.stages.found_run import FoundRun, refuse_runs
from seedcli.stages.indexes import Searcher
from seedcli.stages.questions import Questions
from seedcli.stages.stage import joined
from seedcli.stages.vector_index import VectorIndex
from seedcli.stages.word_index import WordIndex

if TYPE_CHECKING:
    from seedcli.retrieval.encoding import TextEncoder

ANSWERS = 10


class Answer(NamedTuple):
    """A hit, and the sentence of its text that answers best; None where its text says nothing of what was asked."""

    hit: Hit
    sentence: Sentence | None


class Reason(NamedTuple):
    """What one index makes of a hit: its rank and score there, None where it is not among those that are fused.

    An index of vectors has sentences with their scores, best first; one of words those of the question, as they are
    indexed, with their parts of the score.
    """

    folder: str
    rank: int | None
    score: float | None
    sentences: list[Scored]
    words: list[tuple[str, float]]


class Asking(Closing):
    """Indexes opened once for any number of questions."""

    def __init__(self, config: SearchConfig, runtime: Runtime, progress: Progress):
        self.config, self.progress = config, progress
        self.searcher = Searcher(config, runtime, progress)
        self.indexes = [index for index in self.searcher.indexes if not isinstance(index, FoundRun)]
        self.towers: dict[VectorIndex, TextEncoder] = {}

    def load(self) -> None:
        """Load what the first question would; Java starts while the models are read."""
        for index in self.indexes:
            if isinstance(index, WordIndex):
                index.lucene.started()
        for index in self.indexes:
            if isinstance(index, VectorIndex):
                self.passage_tower(index)
        _ = self.finders

    def hits(self, texts: Sequence[str], depth: int) -> list[list[Hit]]:
        """The first `depth` passages for each text."""
        rankings = list(self.searcher.search(questions_of(texts), depth))
        passages = self.passages(id_ for ranking in rankings for id_ in ranking.documents)
        if gone := next((id_ for ranking in rankings for id_ in ranking.documents if id_ not in passages), None):
            raise DataError(f"{gone}: no longer in the corpus, which has changed since it was encoded")
        return [
            [Hit(passages[id_], float(score)) for id_, score in zip(ranking.documents, ranking.scores, strict=True)]
            for ranking in rankings
        ]

    def answers(self, question: str, depth: int) -> list[Answer]:
        """The first `depth` passages, each with its best sentence: by the first model, by words where there is none."""
        (hits,) = self.hits([question], depth)
        flat = next((index for index in self.indexes if isinstance(index, VectorIndex)), None)
        passages = [hit.passage for hit in hits]
        scored = self.by_vectors(flat, question, passages) if flat else by_words(question, [hit.text for hit in hits])
        return [Answer(hit, best(own)) for hit, own in zip(hits, scored, strict=True)]

    def why(self, question: str, hit: Hit, rank: int) -> list[Reason]:
        """What each index makes of a hit that stood at this rank."""
        reasons, alone = [], len(self.indexes) == 1
        for folder, index in zip(self.config.index, self.indexes, strict=True):
            place, score = (rank, hit.score) if alone else self.place(index, question, hit.id)
            if isinstance(index, VectorIndex):
                (scored,) = self.by_vectors(index, question, [hit.passage])
                reasons.append(Reason(folder, place, score, sorted(scored, key=lambda one: -one.score), []))
            else:
                reasons.append(Reason(folder, place, score, [], index.lucene.weights(clean(question), hit.id)))
        return reasons

    def place(self, index: VectorIndex | WordIndex, question: str, id_: str) -> tuple[int | None, float | None]:
        """The rank and score of a passage among the hits of one index that are fused."""
        (ranking,) = index.search(questions_of([question]), self.config.fusion_depth, self.progress)
        if id_ not in ranking.documents:
            return None, None
        row = ranking.documents.index(id_)
        return row + 1, float(ranking.scores[row])

    def passages(self, ids: Iterable[str]) -> dict[str, Passage]:
        """The passages of some ids, without those that no index was made of."""
        left, passages = set(ids), dict[str, Passage]()
        for find in self.finders:
            passages |= find(left - passages.keys())
        return passages

    def by_vectors(self, index: VectorIndex, question: str, passages: Sequence[Passage]) -> list[list[Scored]]:
        """Sentences as the model of an index scores them."""
        (query,) = index.encode(questions_of([question]))
        return by_vectors(question, query, passages, self.passage_tower(index))

    def passage_tower(self, index: VectorIndex) -> "TextEncoder":
        """What encodes passages: the model of the questions, or one of its own."""
        from seedcli.models.towers import open_tower, untied
        from seedcli.retrieval.encoding import TextEncoder

        if index not in self.towers:
            folder = located(index.vectors, index.encoded, "model")
            own = open_tower(folder, "passage") if untied(folder) else None
            self.towers[index] = TextEncoder(*own, index.runtime, width=index.shards[0].width) if own else index.model
        return self.towers[index]

    @cached_property
    def finders(self) -> list[Find]:
        """How passages are found in each corpus that an index was made of."""
        sizes = {index.corpus(): passages_in(index) for index in self.indexes}
        return [
            finder(open_collection(path), identify(path).identity, self.progress, total)
            for path, total in sizes.items()
        ]

    def close(self) -> None:
        self.searcher.close()


@contextmanager
def open_asking(config: SearchConfig, progress: Progress) -> Iterator[Asking]:
    """The indexes of a config, loaded and ready for questions."""
    if any(given is not None for given in (config.out, config.queries, config.split, config.candidates)):
        told = "it goes without --queries, --split, --candidates and --out"
        raise ConfigError(f"{'-i' if config.interactive else 'a QUESTION'} is answered on the screen: {told}")
    refuse_runs(config.index)
    if config.tuning.tune is not None:
        raise ConfigError(
            "--tune goes with --queries and --out; it tells the weights, which a question takes with --weight"
        )
    if processes() > 1:
        raise ConfigError("questions are answered by one process: call it without torchrun")
    with joined("search", config) as runtime, Asking(config, runtime, progress) as asking:
        asking.load()
        yield asking


def passages_in(index: VectorIndex | WordIndex) -> int:
    """How many passages an index was made of, but for empty ones."""
    return index.passages if isinstance(index, VectorIndex) else index.size


def questions_of(texts: Sequence[str]) -> Questions:
    """Raises ConfigError for a text that asks nothing."""
    if not all(text.strip() for text in texts):
        raise ConfigError("the QUESTION is empty")
    return Questions([Query(str(row), clean(text)) for row, text in enumerate(texts)])
