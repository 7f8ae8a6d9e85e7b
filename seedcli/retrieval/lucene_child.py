"""The Java side of BM25, a program of its own: Pyserini takes tasks from stdin and answers on stdout, in JSON lines.

The first line names the task. When stdin closes before its end, the parent is gone: the program ends and commits
nothing. From Pyserini come the jar, the indexer, the analyzers and RM3, but not its searcher: that one imports torch,
rounds scores to four decimals and breaks ties by its own rule.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from seedcli.base.ahead import ahead
from seedcli.base.machine import used

Answer = Callable[[Any], None]
Hits = tuple[list[str], list[float]]  # ids, scores
Weights = list[tuple[str, float]]  # of words

ENGLISH, CONTENTS = "en", "contents"
BATCHES = 2  # of documents, received while others are indexed


def main() -> None:
    answer = take_stdout()
    task = receive()
    start_java(task.pop("heap"))
    verbs: dict[str, Callable[..., None]] = {"index": index, "search": search}
    verbs[task.pop("verb")](answer, **task)


def take_stdout() -> Answer:
    """Keep stdout for the answers: whatever Java logs there goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return lambda value: print(json.dumps(value), file=answers, flush=True)


def receive() -> Any:
    return json.loads(receive_line())


def receive_line() -> str:
    return sys.stdin.readline() or sys.exit("the parent process is gone")


def start_java(heap: str) -> None:
    """Start the JVM before Pyserini does, which would ask for a module that small runtimes lack."""
    import jnius_config
    import pyserini

    (jar,) = Path(pyserini.__path__[0]).glob("resources/jars/anserini-*-fatjar.jar")
    jnius_config.set_classpath(str(jar))
    jnius_config.add_options(f"-Xmx{heap}", "-XX:+ExitOnOutOfMemoryError")
    import jnius  # noqa: F401


def index(answer: Answer, folder: str, threads: int, arguments: list[str]) -> None:
    """Index documents, told by a line with their number and one each, until the number is 0; answer with how many they
    are, once they are committed, and with what it took."""
    from jnius import autoclass
    from pyserini.index.lucene import LuceneIndexer

    indexer = LuceneIndexer(args=["-index", folder, *arguments], threads=threads)
    writer = indexer.object.writer
    heap = autoclass("java.lang.Runtime").getRuntime().maxMemory()
    writer.getConfig().setRAMBufferSizeMB(heap / 4 / 2**20)  # Anserini's 2,048 MB would not fit
    given = 0
    with closing(ahead(batches(), BATCHES)) as received:
        for documents in received:
            indexer.add_batch_raw(documents)
            given += len(documents)
    taken = writer.getDocStats().numDocs
    if taken < given:
        sys.exit(f"Lucene refused {given - taken} of {given} documents, see above")
    indexer.close()
    answer([taken, *used()])


def batches() -> Iterator[list[str]]:
    while count := receive():
        yield [receive_line() for _ in range(count)]


def search(answer: Answer, folder: str, threads: int, wording: Mapping[str, Any]) -> None:
    """Answer (groups of texts, depth, scoring) with the hits of each text, a line a group; (text, id, scoring) with
    what the text's words weigh in a document; and (None, None, None) with what it took."""
    searcher = Searcher(folder, **wording)
    with ThreadPoolExecutor(threads) as pool:
        while True:
            asked, by, scoring = receive()
            if asked is None:
                answer(used())
                continue
            k1, b, rm3 = scoring
            scorer = searcher.scorer(k1, b, rm3 and tuple(rm3))
            if isinstance(asked, str):
                answer(searcher.weigh(asked, by, scorer))
            else:
                for hits in pool.map(searcher.find_each, asked, repeat(by), repeat(scorer)):
                    answer(hits)


class Scorer(NamedTuple):
    """Lucene's searcher with a k1 and b, and what expands queries, None where nothing does."""

    searcher: Any
    rm3: Any
    documents: int


class Searcher:
    """A Lucene index, open; fields with their boosts, where not all stands in one.

    Of each Java method jnius keeps the object that it was last called on, and lets go of it in the thread that calls
    the method next, which upsets the JVM. So threads (`find`) call methods only of objects that stay, and all classes
    are looked up before there are threads.
    """

    def __init__(
        self, folder: str, language: str, stemmer: str, stop_words: str | None, boosts: Sequence[tuple[str, float]]
    ):
        from jnius import autoclass

        lucene, anserini = "org.apache.lucene.search", "io.anserini"
        self.searcher = autoclass(f"{lucene}.IndexSearcher")
        self.searcher.setMaxClauseCount(2**31 - 1)  # a query may be a document
        path = autoclass("java.nio.file.Paths").get(folder)
        directory = autoclass("org.apache.lucene.store.FSDirectory").open(path)
        self.reader = autoclass("org.apache.lucene.index.DirectoryReader").open(directory)
        self.similarity = autoclass(f"{lucene}.similarities.BM25Similarity")
        sort_field = autoclass(f"{lucene}.SortField")
        by_id = sort_field("id", autoclass(f"{lucene}.SortField$Type").STRING_VAL, True)
        self.order = autoclass(f"{lucene}.Sort")(sort_field.FIELD_SCORE, by_id)
        self.scored_documents = autoclass(f"{anserini}.search.ScoredDocs")
        self.bag_of_words = autoclass(f"{anserini}.search.query.BagOfWordsQueryGenerator")()
        self.map, self.float = autoclass("java.util.HashMap"), autoclass("java.lang.Float")
        self.fields = self.weighted(dict(boosts)) if boosts else CONTENTS
        self.english, self.analyzer = language == ENGLISH, analyzer(language, stemmer, stop_words)
        self.analyze = autoclass(f"{anserini}.analysis.AnalyzerUtils").analyze
        self.boolean_query = autoclass(f"{lucene}.BooleanQuery$Builder")
        self.occur = autoclass(f"{lucene}.BooleanClause$Occur")
        self.term, self.term_query = autoclass("org.apache.lucene.index.Term"), autoclass(f"{lucene}.TermQuery")
        self.rm3 = autoclass(f"{anserini}.rerank.lib.Rm3Reranker")
        self.context = autoclass(f"{anserini}.rerank.RerankerContext")
        self.arguments = autoclass(f"{anserini}.search.SearchCollection$Args")()
        self.arguments.hits = 1  # of the search that RM3 ends with: we search by the words that it finds
        self.scorer = cache(self.new_scorer)
        self.find("", 1, self.scorer(0.9, 0.4, None))
        self.analyze(self.analyzer, "")

    def new_scorer(self, k1: float, b: float, rm3: tuple[int, int, float] | None) -> Scorer:
        searcher = self.searcher(self.reader.getContext())
        searcher.setSimilarity(self.similarity(k1, b))
        if rm3 is None:
            return Scorer(searcher, None, 0)
        documents, terms, weight = rm3
        expander = self.rm3(self.analyzer, None, CONTENTS, terms, documents, weight, False, self.english)
        return Scorer(searcher, expander, documents)

    def find_each(self, texts: Sequence[str], depth: int, scorer: Scorer) -> list[Hits]:
        """Several texts in a row: a thread that hands over each by itself waits for Python's lock as often."""
        return [self.find(text, depth, scorer) for text in texts]

    def find(self, text: str, depth: int, scorer: Scorer) -> Hits:
        """The best documents of a text, score descending, then id descending by bytes."""
        query = self.bag_of_words.buildQuery(self.fields, self.analyzer, text)
        words = self.expanded(text, query, scorer)
        if words is not None:
            query = self.bag_of_words.buildQuery(self.fields, words)
        hits = self.best(query, depth, scorer)
        return hits.docids, hits.scores

    def best(self, query: Any, depth: int, scorer: Scorer) -> Any:
        return self.scored_documents.fromTopDocs(
            scorer.searcher.search(query, depth, self.order, True), scorer.searcher
        )

    def expanded(self, text: str, query: Any, scorer: Scorer) -> Any:
        """The words of a text and of the documents that it finds first, with weights; None where it finds none."""
        if scorer.rm3 is None or not (first := self.best(query, scorer.documents, scorer)).docids:
            return None
        words = self.analyze(self.analyzer, text)
        context = self.context(scorer.searcher, None, query, None, text, words, None, self.arguments)
        scorer.rm3.rerank(first, context)
        return context.feedbackTerms

    def weigh(self, text: str, id_: str, scorer: Scorer) -> Weights:
        """The words that a text is searched by, as they are indexed, with the parts of a document's score they make."""
        words = self.expanded(text, self.bag_of_words.buildQuery(self.fields, self.analyzer, text), scorer)
        if words is None:
            weights: Mapping[str, float] = Counter(self.analyze(self.analyzer, text).toArray())
        else:
            weights = {entry.getKey(): entry.getValue() for entry in words.entrySet().toArray()}
        return [(word, self.weight(word, weight, id_, scorer)) for word, weight in weights.items()]

    def weight(self, word: str, weight: float, id_: str, scorer: Scorer) -> float:
        query = self.boolean_query()
        query.add(self.bag_of_words.buildQuery(self.fields, self.weighted({word: weight})), self.occur.MUST)
        query.add(self.term_query(self.term("id", id_)), self.occur.FILTER)
        return float(sum(document.score for document in scorer.searcher.search(query.build(), 1).scoreDocs))

    def weighted(self, weights: Mapping[str, float]) -> Any:
        made = self.map()
        for name, weight in weights.items():
            made.put(name, self.float(weight))
        return made


def analyzer(language: str, stemmer: str, stop_words: str | None) -> Any:
    """What the indexer takes for the same options; without a file of `stop_words`, "" keeps all words and None leaves
    out Lucene's."""
    from jnius import autoclass

    if language != ENGLISH:
        return autoclass("io.anserini.analysis.AnalyzerMap").getLanguageSpecificAnalyzer(language)
    english = autoclass("io.anserini.analysis.DefaultEnglishAnalyzer")
    return english.fromArguments(stemmer, stop_words == "", stop_words or None)


if __name__ == "__main__":
    main()
