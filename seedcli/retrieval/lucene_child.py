"""The Java side of BM25, a program of its own: Pyserini takes batches from stdin and answers on stdout, in JSON lines.

The first line names the task; a batch is a list, and the empty one ends the task. When stdin closes before that, the
parent is gone: the program ends and commits nothing. From Pyserini come the jar, the indexer and the analyzer, but not
its searcher: that one imports torch, rounds scores to four decimals and breaks ties by its own rule.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

Answer = Callable[[Any], None]
Hits = tuple[list[str], list[float]]  # ids, scores
Weights = list[tuple[str, float]]  # of words


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
    line = sys.stdin.readline()
    return json.loads(line) if line else sys.exit("the parent process is gone")


def start_java(heap: str) -> None:
    """Start the JVM before Pyserini does, which would ask for a module that small runtimes lack."""
    import jnius_config
    import pyserini

    (jar,) = Path(pyserini.__path__[0]).glob("resources/jars/anserini-*-fatjar.jar")
    jnius_config.set_classpath(str(jar))
    jnius_config.add_options(f"-Xmx{heap}", "-XX:+ExitOnOutOfMemoryError")
    import jnius  # noqa: F401


def index(answer: Answer, folder: str) -> None:
    """Index batches of (id, text); answer with the number of documents once they are committed."""
    from jnius import autoclass
    from pyserini.index.lucene import LuceneIndexer

    indexer = LuceneIndexer(folder, threads=1)  # one thread: the same input gives the same index
    writer = indexer.object.writer
    heap = autoclass("java.lang.Runtime").getRuntime().maxMemory()
    writer.getConfig().setRAMBufferSizeMB(heap / 4 / 2**20)  # Anserini's 2,048 MB would not fit
    given = 0
    for batch in iter(receive, []):
        # Anserini refuses a document of blanks and control characters, which can't be found either way.
        passages = [(name, text) for name, text in batch if any(character > " " for character in text)]
        documents = [json.dumps({"id": name, "contents": text}) for name, text in passages]
        indexer.add_batch_raw(documents)
        given += len(documents)
    taken = writer.getDocStats().numDocs
    if taken < given:
        sys.exit(f"Lucene refused {given - taken} of {given} documents, see above")
    indexer.object.close(True)  # True: merge into one segment
    answer(taken)


def search(answer: Answer, folder: str, k1: float, b: float, threads: int) -> None:
    """Answer (texts, depth) with the hits of each text; (text, id) with what the text's words weigh in a document."""
    find, weigh = open_searcher(folder, k1, b)
    with ThreadPoolExecutor(threads) as pool:
        for asked, by in iter(receive, []):
            answer(weigh(asked, by) if isinstance(asked, str) else list(pool.map(find, asked, repeat(by))))


def open_searcher(folder: str, k1: float, b: float) -> tuple[Callable[[str, int], Hits], Callable[[str, str], Weights]]:
    """Two functions: from a text and a depth to its best documents, score descending, then id descending by bytes; and
    from a text and a document's id to the text's words, as they are indexed, with the parts of the score they make."""
    from jnius import autoclass
    from pyserini.analysis import Analyzer, get_lucene_analyzer

    path = autoclass("java.nio.file.Paths").get(folder)
    directory = autoclass("org.apache.lucene.store.FSDirectory").open(path)
    reader = autoclass("org.apache.lucene.index.DirectoryReader").open(directory)
    searcher_class = autoclass("org.apache.lucene.search.IndexSearcher")
    searcher_class.setMaxClauseCount(2**31 - 1)  # a query may be a document
    searcher = searcher_class(reader.getContext())
    searcher.setSimilarity(autoclass("org.apache.lucene.search.similarities.BM25Similarity")(k1, b))
    sort_field = autoclass("org.apache.lucene.search.SortField")
    by_id = sort_field("id", autoclass("org.apache.lucene.search.SortField$Type").STRING_VAL, True)
    order = autoclass("org.apache.lucene.search.Sort")(sort_field.FIELD_SCORE, by_id)
    bag_of_words = autoclass("io.anserini.search.query.BagOfWordsQueryGenerator")()
    analyzer = get_lucene_analyzer()
    scored_documents = autoclass("io.anserini.search.ScoredDocs")

    boolean_query, occur = (
        autoclass(f"org.apache.lucene.search.Boolean{name}") for name in ("Query$Builder", "Clause$Occur")
    )
    term, term_query = autoclass("org.apache.lucene.index.Term"), autoclass("org.apache.lucene.search.TermQuery")

    def find(text: str, depth: int) -> Hits:
        query = bag_of_words.buildQuery("contents", analyzer, text)
        hits = scored_documents.fromTopDocs(searcher.search(query, depth, order, True), searcher)
        return hits.docids, hits.scores

    def weigh(text: str, id_: str) -> Weights:
        words = Counter(Analyzer(analyzer).analyze(text))
        return [(word, count * weight(word, id_)) for word, count in words.items()]

    def weight(word: str, id_: str) -> float:
        query = boolean_query()
        query.add(term_query(term("contents", word)), occur.MUST)
        query.add(term_query(term("id", id_)), occur.FILTER)
        return float(sum(document.score for document in searcher.search(query.build(), 1).scoreDocs))

    return find, weigh


if __name__ == "__main__":
    main()
