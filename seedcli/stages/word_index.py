"""Passages that are found by their words."""

from collections.abc import Iterator
from pathlib import Path

from seedcli.base.errors import ConfigError
from seedcli.base.machine import Used, cores
from seedcli.base.manifest import Manifest, located
from seedcli.base.progress import Progress
from seedcli.configs.index import Words
from seedcli.configs.search import SearchConfig
from seedcli.retrieval.lucene import Rm3, Scoring, Wording, WordSearcher, boosts, heap_bytes
from seedcli.retrieval.runs import Ranking
from seedcli.stages.questions import Questions

LUCENE, STOP_WORDS = "lucene", "stop_words.txt"


class WordIndex:
    """A bm25 index, in a Java process that starts with the first question."""

    unit = "passages"

    def __init__(self, folder: Path, manifest: Manifest, config: SearchConfig):
        self.folder, self.manifest, self.config = folder, manifest, config
        words = made_with(manifest)
        if config.words.rm3 and not words.rm3:
            raise ConfigError(f"--rm3: {folder} was made without it, which keeps the words of passages; make it anew")
        threads, scoring = config.machine.threads or cores(), scoring_of(manifest, config)
        self.lucene = WordSearcher(folder / LUCENE, scoring, wording(words, folder), threads, config.heap)

    def corpus(self) -> Path:
        """The collection whose passages it finds."""
        return located(self.folder, self.manifest, "corpus")

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        if questions.vectors is not None:
            raise ConfigError(f"{self.folder}: bm25 needs the queries' words; give --queries a collection")
        return self.lucene.search(questions.queries, depth, progress, len(questions.queries))

    @property
    def size(self) -> int:
        return int(self.manifest.metrics["passages"])

    def memory(self) -> int:
        """Bytes that a search holds beside the libraries: at most Java's heap."""
        return heap_bytes(self.config.heap)

    def used(self) -> Used | None:
        """What Java took; None where it hasn't been started."""
        return self.lucene.used()

    def close(self) -> None:
        self.lucene.close()


def made_with(manifest: Manifest) -> Words:
    """The options that an index was made with; older ones had k1 and b alone."""
    return Words(**manifest.config.get("words", {key: manifest.config.get(key) for key in ("k1", "b")}))


def scoring_of(manifest: Manifest, config: SearchConfig) -> Scoring:
    """What a search asks for, or what the index was tuned to, or made with."""
    words, tuned, asked = made_with(manifest), manifest.metrics, config.words
    k1, b = tuned.get("k1", words.k1), tuned.get("b", words.b)
    scoring = Scoring(k1 if asked.k1 is None else asked.k1, b if asked.b is None else asked.b)
    if not asked.rm3:
        return scoring
    own = Rm3(**tuned.get("rm3", {}))
    rm3 = Rm3(
        own.documents if asked.rm3_documents is None else asked.rm3_documents,
        own.terms if asked.rm3_terms is None else asked.rm3_terms,
        own.weight if asked.rm3_weight is None else asked.rm3_weight,
    )
    return scoring._replace(rm3=rm3)


def wording(words: Words, folder: Path) -> Wording:
    """How an index in a folder makes words of texts."""
    stop_words = {"default": None, "none": ""}.get(words.stop_words, str(folder / STOP_WORDS))
    given = (words.title_boost, words.text_boost)
    own = () if given == (None, None) else boosts(*(1.0 if boost is None else boost for boost in given))
    return Wording(words.language, words.stemmer, stop_words, own)
