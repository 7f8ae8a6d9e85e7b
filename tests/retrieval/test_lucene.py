"""BM25 by the real Lucene, held against the formula worked out by hand."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import starmap
from pathlib import Path

import numpy as np
import pytest

from seedcli.base.errors import DataError, SeedError
from seedcli.base.progress import Silent
from seedcli.data.records import Query
from seedcli.retrieval.lucene import (
    SCORING,
    WORDING,
    Child,
    Document,
    Rm3,
    Scoring,
    Wording,
    WordSearcher,
    arguments,
    boosts,
    build_index,
    java_home,
    java_version,
    json_line,
    search_index,
)
from seedcli.retrieval.runs import Ranking

PASSAGES = {  # words that the Porter stemmer leaves alone, no stop words: what is written is what is indexed
    "d0": "red fox red den",
    "d1": "red bird",
    "d2": "blue bird nest tree leaf",
    "d3": "blue lake",
    "d4": "lake",
    "d5": "moss rock",
    "twin-a": "fern",
    "twin-b": "fern",
    "twin-é": "fern",
    "blank": " \n\0",
    "ünï 😀": "smile 😀 straße",
}
DEPTH = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lucene")
    built = build_index(starmap(Document, PASSAGES.items()), folder, Silent(), heap="256m", keep_words=True)
    assert built.documents == len(PASSAGES) - 1  # the blank one holds no text
    assert 0.1 < built.used.seconds < 100
    assert 64 << 20 < built.used.peak < 2 << 30
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Ranking]:
    """What each text finds, by text: one search for all claims."""
    long = " ".join(f"word{i}" for i in range(3000)) + " moss"
    texts = ["red bird red", "fern", "straße", "missing", "", "the of and", "\0 lake \x1b", long]
    rankings = list(search_index(folder, [Query(f"q{i}", t) for i, t in enumerate(texts)], DEPTH, Silent()))
    assert [ranking.query for ranking in rankings] == [f"q{i}" for i in range(len(texts))]
    return dict(zip([*texts[:-1], "long"], rankings, strict=True))


def bm25(query: str, document: str, k1: float = 0.9, b: float = 0.4) -> float:
    """The sum over query terms of idf · tf / (tf + k1 (1 - b + b length / mean length))."""
    documents = [text.split() for text in PASSAGES.values() if text.strip(" \n\0")]
    words, mean = document.split(), sum(map(len, documents)) / len(documents)
    score = 0.0
    for term in query.split():
        n = sum(term in words for words in documents)
        tf = words.count(term)
        idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
        score += idf * tf / (tf + k1 * (1 - b + b * len(words) / mean))
    return score


def test_scores_are_bm25_by_the_book(found: dict[str, Ranking]) -> None:
    _, documents, scores = found["red bird red"]
    assert documents == ["d1", "d0"]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [bm25("red bird red", PASSAGES[d]) for d in documents], rtol=1e-6)


def test_k1_and_b_are_the_callers(folder: Path) -> None:
    (ranking,) = search_index(folder, [Query("q", "red")], DEPTH, Silent(), Scoring(k1=2.0, b=1.0), threads=1)
    expected = [bm25("red", PASSAGES[d], k1=2.0, b=1.0) for d in ranking.documents]
    np.testing.assert_allclose(ranking.scores, expected, rtol=1e-6)


def test_ties_at_the_cut_go_to_the_higher_id(found: dict[str, Ranking]) -> None:
    assert found["fern"].documents == ["twin-é", "twin-b"]


def test_ids_and_words_of_any_script_are_found(found: dict[str, Ranking]) -> None:
    assert found["straße"].documents == ["ünï 😀"]


def test_the_weights_of_words_make_up_a_score_and_any_depth_is_found_by_one_process(folder: Path) -> None:
    with closing(WordSearcher(folder)) as searcher:
        text = "red birds red, missing THE nest"
        (ranking,) = searcher.search([Query("q", text)], 10, Silent())
        child = searcher.child
        scores = dict(zip(ranking.documents, ranking.scores.tolist(), strict=True))
        assert searcher.weights(text, "d1") == [
            ("red", pytest.approx(2 * bm25("red", PASSAGES["d1"]))),
            ("bird", pytest.approx(bm25("bird", PASSAGES["d1"]))),
            ("miss", 0),
            ("nest", 0),
        ]
        for id_, score in scores.items():
            assert sum(weight for _, weight in searcher.weights(text, id_)) == pytest.approx(score)
        (first,) = searcher.search([Query("q", text)], 1, Silent())
        assert first.documents == ranking.documents[:1]
        assert searcher.weights("straße", "ünï 😀")[0][1] > 0
        assert searcher.child is child


def test_a_question_that_is_not_waited_for_ends_its_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(WordSearcher(folder)) as searcher:
        child = searcher.started()

        class Stopped:
            def readline(self) -> str:
                raise KeyboardInterrupt

        answers = child.answers
        monkeypatch.setattr(child, "answers", Stopped())
        with pytest.raises(KeyboardInterrupt):
            list(searcher.search([Query("q", "moss")], 1, Silent()))
        assert child.process.poll() is not None
        answers.close()
        (ranking,) = searcher.search([Query("q", "lake")], 1, Silent())
        assert ranking.documents == ["d4"]


@pytest.mark.parametrize("text", ["missing", "", "the of and"])
def test_a_query_without_hits_has_an_empty_ranking(found: dict[str, Ranking], text: str) -> None:
    assert found[text].documents == []
    assert found[text].scores.shape == (0,)


def test_control_characters_do_no_harm(found: dict[str, Ranking]) -> None:
    assert found["\0 lake \x1b"].documents == ["d4", "d3"]


def test_a_query_may_have_thousands_of_words(found: dict[str, Ranking]) -> None:
    assert found["long"].documents == ["d5"]


TITLED = [
    Document("both", "red bird", "red bird"),
    Document("title", "lake", "red fox"),
    Document("text", "red fox", "lake"),
    Document("bare", " ", "moss"),
]


def test_fields_are_scored_apart_and_added_by_their_boosts(tmp_path: Path) -> None:
    """ "red" stands in two of four titles, and in two of the four texts ("bare" counts, with no word in its text)."""
    wording = Wording(boosts=boosts(title=3, text=0.5))
    assert build_index(TITLED, tmp_path, Silent(), heap="256m", wording=wording).documents == 4

    def score(length: int, mean: float) -> float:
        return math.log(1 + 2.5 / 2.5) / (1 + 0.9 * (1 - 0.4 + 0.4 * length / mean))

    title, text = score(2, 6 / 4), score(2, 5 / 3)  # Lucene's mean is over documents with a word in the field
    idf = math.log(1 + 1.5 / 2.5)  # of the three texts with words, two hold "red"
    text *= idf / math.log(2)
    with closing(WordSearcher(tmp_path, wording=wording, heap="256m")) as searcher:
        (found, moss) = searcher.search([Query("q", "red"), Query("m", "moss")], 4, Silent())
        assert found.documents == ["both", "title", "text"]
        np.testing.assert_allclose(found.scores, [3 * title + 0.5 * text, 3 * title, 0.5 * text], rtol=1e-6)
        assert moss.documents == ["bare"]
        assert searcher.weights("red lake", "title") == [
            ("red", pytest.approx(found.scores[1])),
            ("lake", pytest.approx(0.5 * math.log(1 + 2.5 / 1.5) / (1 + 0.9 * (0.6 + 0.4 * 0.6)))),
        ]


@pytest.mark.parametrize(
    ("wording", "found", "missed"),
    [
        (Wording(stemmer="none"), "running", "run"),
        (Wording(stemmer="krovetz"), "mice", "university"),  # Porter makes "univers" of both
        (Wording(stop_words=""), "the", "absent"),
        (Wording(stop_words="FILE"), "the", "mice"),
        (Wording(language="de"), "Häuser", "run"),
    ],
    ids=["no stemmer", "krovetz", "no stop words", "stop words of a file", "German"],
)
def test_an_analyser_decides_which_words_are_one(tmp_path: Path, wording: Wording, found: str, missed: str) -> None:
    """By the default, "run", "mice" and "university" find the text, "the" doesn't."""
    if wording.stop_words == "FILE":
        (tmp_path / "stop").write_text("mice\n")
        wording = wording._replace(stop_words=str(tmp_path / "stop"))
    documents = [Document("d", "the running mice of a universe in a Haus")]
    assert build_index(documents, tmp_path / "index", Silent(), heap="256m", wording=wording).documents == 1
    queries = [Query("found", found), Query("missed", missed)]
    some, none = search_index(tmp_path / "index", queries, 1, Silent(), wording=wording, heap="256m")
    assert (some.documents, none.documents) == (["d"], [])


PYSERINI = """
import json, sys
from seedcli.retrieval.lucene_child import start_java, take_stdout
answer = take_stdout()
start_java("256m")
from jnius import autoclass
searcher = autoclass("io.anserini.search.SimpleSearcher")(sys.argv[1])
searcher.set_bm25(0.9, 0.4)
searcher.set_rm3(*json.loads(sys.argv[2]))
answer([{hit.docid: hit.score for hit in searcher.search(text, 20)} for text in sys.argv[3:]])
"""


def test_rm3_finds_what_pyserini_finds_with_it(tmp_path: Path) -> None:
    """SimpleSearcher is the class below LuceneSearcher.set_rm3; it rounds scores to four decimals."""
    random = np.random.default_rng(0)
    texts = [" ".join(f"word{n}" for n in random.zipf(1.3, 30 + row) if n < 500) for row in range(200)]  # no ties
    documents = [Document(f"d{row}", text) for row, text in enumerate(texts)]
    build_index(documents, tmp_path, Silent(), heap="256m", keep_words=True)
    asked, rm3 = ["word40", "word20 word30 word50", "word2 word3 word3 word60"], Rm3(documents=7, terms=9, weight=0.4)
    with closing(WordSearcher(tmp_path, Scoring(rm3=rm3), heap="256m")) as searcher:
        found = list(searcher.search([Query(str(row), text) for row, text in enumerate(asked)], 20, Silent()))
        plain = list(searcher.search([Query("q", asked[0])], 20, Silent(), scoring=SCORING))
        weights = searcher.weights(asked[0], found[0].documents[0])
    settings = json.dumps([rm3.terms, rm3.documents, rm3.weight])
    done = subprocess.run(
        [sys.executable, "-c", PYSERINI, str(tmp_path), settings, *asked],
        capture_output=True, text=True, check=True, env=os.environ | {"JAVA_HOME": java_home()},
    )  # fmt: skip
    for ranking, hits in zip(found, json.loads(done.stdout), strict=True):
        assert dict(zip(ranking.documents, ranking.scores.tolist(), strict=True)) == pytest.approx(hits, abs=1e-4)
    assert plain[0].documents != found[0].documents
    assert len(weights) > 5  # though one word is asked for
    assert sum(weight for _, weight in weights) == pytest.approx(found[0].scores[0])


def test_threads_change_no_score_and_no_ranking(texts: list[str], tmp_path: Path) -> None:
    documents = [Document(f"d{row}", text) for row, text in enumerate(texts * 50)]  # three batches, many ties
    queries = [Query(str(row), text) for row, text in enumerate(texts)]
    runs = []
    for threads in (1, 3):
        folder = tmp_path / str(threads)
        build_index(documents, folder, Silent(), heap="256m", threads=threads)
        found = search_index(folder, queries, 20, Silent(), threads=threads, heap="256m")
        runs.append([(ranking.documents, ranking.scores.tolist()) for ranking in found])
    assert runs[0] == runs[1]


def test_a_heap_that_is_too_small_is_told(tmp_path: Path) -> None:
    documents = (Document(str(row), " ".join(f"w{row}x{word}" for word in range(2_000))) for row in range(5_000))
    with pytest.raises(SeedError, match="BM25 needs more than the 16m of memory that Java may take: --set heap=4g"):
        build_index(documents, tmp_path, Silent(), heap="16m")


def killed(child: Child) -> None:
    child.process.kill()
    child.process.wait()


def orphaned(child: Child) -> None:
    child.batches.close()
    assert child.process.wait(timeout=60) == 1


@pytest.mark.parametrize("end", [killed, orphaned])
def test_an_index_cut_short_is_no_index(tmp_path: Path, end: Callable[[Child], None]) -> None:
    with Child("256m", verb="index", folder=str(tmp_path), threads=1, arguments=arguments(WORDING, False)) as child:
        child.send(1, json_line(Document("d", "text")))
        end(child)
    with pytest.raises(DataError, match="no Lucene index"):
        next(search_index(tmp_path, [], DEPTH, Silent()))


def test_the_last_words_of_java_are_told(tmp_path: Path) -> None:
    with pytest.raises(SeedError, match=r"(?s)exit code 1.*JVM failed to start"):
        build_index([Document("d", "text")], tmp_path, Silent(), heap="much")


def test_an_index_can_be_built_again(tmp_path: Path) -> None:
    (tmp_path / "_0.fdt").write_text("left by a process that was killed")
    for text in ("old", "new"):
        build_index([Document("d", text)], tmp_path, Silent())
    old, new = search_index(tmp_path, [Query("1", "old"), Query("2", "new")], DEPTH, Silent())
    assert (old.documents, new.documents) == ([], ["d"])


@pytest.mark.parametrize("release", ['JAVA_VERSION="17.0.15"\n', "", None])
def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str | None) -> None:
    if release is not None:
        (tmp_path / "release").write_text(release)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java_version(Path(java_home())) >= 21


def test_a_new_java_of_ones_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release").write_text('IMPLEMENTOR="X"\nJAVA_VERSION="25"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java_home() == str(tmp_path)
