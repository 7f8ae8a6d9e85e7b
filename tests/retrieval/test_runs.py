import gzip
from pathlib import Path

import numpy as np
import pytest

from seedcli.base.errors import DataError
from seedcli.retrieval import runs
from seedcli.retrieval.run_files import LINES_AT_ONCE, read_run, run_path, write_run
from seedcli.retrieval.runs import Ranking, Run, ordered_once, run_of, utf8, without_own


def ranking(query: str, **scores: float) -> Ranking:
    return Ranking(query, list(scores), np.array(list(scores.values()), np.float32))


def found(run: Run, query: str) -> list[tuple[str, float]]:
    documents, scores = run.ranking(query)
    return [(document.decode(), float(score)) for document, score in zip(documents, scores, strict=True)]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_ties_are_broken_by_descending_id():
    assert found(run_of([ranking("q", a=1, c=1, b=1, d=2, e=0)]), "q") == [
        ("d", 2),
        ("c", 1),
        ("b", 1),
        ("a", 1),
        ("e", 0),
    ]


def test_ids_compare_as_utf8_bytes_of_any_length():
    ids = ["10", "9", "1", "é", "z", "日本", "Z", "\U0001f600", "｡"]
    run = run_of([Ranking("q", ids, np.zeros(len(ids), np.float32))])
    assert [document for document, _ in found(run, "q")] == sorted(ids, key=str.encode, reverse=True)


def test_scores_that_are_one_float32_tie():
    near = np.array([1.0, 1.0 + 1e-12])
    assert [document for document, _ in found(run_of([Ranking("q", ["b", "a"], near)]), "q")] == ["b", "a"]


def test_a_repeated_document_counts_once_at_its_best_place():
    repeated = Ranking("q", ["a", "b", "a", "a"], np.array([1, 2, 3, 3], np.float32))
    assert found(run_of([repeated]), "q") == [("a", 3), ("b", 2)]


def test_queries_stand_in_order_of_first_appearance_and_parts_of_one_join():
    run = run_of([ranking("q2", a=1), ranking("q1"), ranking("q2", b=3, a=2)])
    assert run.queries == ["q2", "q1"]
    assert run.offsets.tolist() == [0, 2, 2]
    assert found(run, "q2") == [("b", 3), ("a", 2)]
    assert found(run, "q1") == found(run, "absent") == []


def test_a_run_of_nothing_is_empty():
    run = run_of([])
    assert run.queries == []
    assert run.offsets.tolist() == [0]


def test_a_written_run_reads_back_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"dé{number}" for number in range(300)]
    rankings = [
        Ranking(f"q{query}", ids, rng.choice(rng.normal(size=200).astype(np.float32) * 10.0**query, 300))
        for query in range(-5, 5)
    ]
    write_run(tmp_path / "run.trec", rankings, "tag")
    run, again = run_of(rankings), read_run(tmp_path / "run.trec")
    assert again.queries == run.queries
    for column in ["offsets", "documents", "scores"]:
        np.testing.assert_array_equal(getattr(again, column), getattr(run, column))
    lines = (tmp_path / "run.trec").read_text(encoding="utf-8").splitlines()
    assert [line.split()[2].encode() for line in lines] == run.documents.tolist()
    assert [int(line.split()[3]) for line in lines] == [*range(1, 301)] * 10
    write_run(tmp_path / "again.trec", again.rankings(), "tag")
    assert (tmp_path / "again.trec").read_bytes() == (tmp_path / "run.trec").read_bytes()


def test_the_rank_column_is_ignored_and_queries_may_interleave(tmp_path):
    path = written(tmp_path / "run", "q1 Q0 a 1 0.5 t\n\nq2\tQ0\tc\t1\t-inf\tt\nq1 0 b 7 2e0 t\nq1 Q0 a 9 0.75 t\n")
    run = read_run(path)
    assert run.queries == ["q1", "q2"]
    assert found(run, "q1") == [("b", 2), ("a", 0.75)]
    assert found(run, "q2") == [("c", -np.inf)]


def test_a_gzipped_run_longer_than_one_chunk_reads_whole(tmp_path):
    count = LINES_AT_ONCE + 10
    with gzip.open(tmp_path / "run.gz", "wt") as file:
        file.writelines(f"q{number % 2} Q0 {number} 0 {number} t\n" for number in range(count))
    run = read_run(tmp_path / "run.gz")
    assert run.offsets.tolist() == [0, count // 2, count]
    assert run.ranking("q1")[0].tolist() == [b"%d" % number for number in range(count - 1, 0, -2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 1 t\nq Q0 a 1 1\n", ":2: expected 'query Q0 document rank score tag', got 'q Q0 a 1 1'"),
        ("q Q0 a 1 high t\n", ":1: the score 'high' is not a number"),
        ("q Q0 a 1 nan t\n", ":1: the score 'nan' is not a number"),
        ("\n", ": no rankings in it"),
    ],
)
def test_what_is_no_run_is_refused_with_file_and_line(tmp_path, text, message):
    path = written(tmp_path / "run", text)
    with pytest.raises(DataError) as error:
        read_run(path)
    assert str(error.value) == f"{path}{message}"


def test_a_run_is_named_by_its_file_or_its_folder(tmp_path):
    written(tmp_path / "run.trec", "q Q0 a 1 1 t\n")
    assert run_path(tmp_path) == run_path(tmp_path / "run.trec") == tmp_path / "run.trec"
    (tmp_path / "index").mkdir()
    with pytest.raises(DataError, match=r"index: no run\.trec or run\.parquet in it"):
        run_path(tmp_path / "index")


def test_what_is_written_is_in_order_each_document_once_and_ties_as_float32(tmp_path):
    scores = np.array([1.0, 1.0 + 1e-12, 3.0, 2.0])
    write_run(tmp_path / "run", [Ranking("q", ["b", "a", "c", "c"], scores)], "t")
    assert (tmp_path / "run").read_text() == "q Q0 c 1 3 t\nq Q0 b 2 1 t\nq Q0 a 3 1 t\n"


@pytest.mark.parametrize("words", [("q 1", "a", "t"), ("q", "a\u2003b", "t"), ("q", "", "t"), ("q", "a", "my run")])
def test_names_with_whitespace_are_not_written(tmp_path, words):
    query, document, tag = words
    with pytest.raises(DataError, match="cannot hold"):
        write_run(tmp_path / "run", [Ranking(query, [document], np.ones(1, np.float32))], tag)
    assert not any(tmp_path.iterdir())


def test_nan_is_not_written(tmp_path):
    with pytest.raises(DataError, match="query q: a score is NaN"):
        write_run(tmp_path / "run", [ranking("q", a=float("nan"))], "t")


@pytest.mark.parametrize("seed", range(4))
def test_all_queries_at_once_are_ordered_as_each_alone(seed, monkeypatch):
    """With ties, repeated documents and ids of unequal length, in parts of any size."""
    monkeypatch.setattr(runs, "AT_ONCE", 1 + 40 * seed)
    rng = np.random.default_rng(seed)
    pool = np.array([f"{'d' * rng.integers(1, 12)}{number}" for number in range(25)] + ["é", "日本語の文書"])
    given = [
        Ranking(f"q{query}", list(rng.choice(pool, size)), rng.choice([-np.inf, -1.5, -0.0, 0.0, 2.25, 1e9], size))
        for query, size in enumerate(rng.integers(0, 30, 40))
    ]
    run = run_of(given)
    for query, documents, scores in given:
        rows = ordered_once(utf8(documents), scores)
        assert found(run, query) == [(documents[row], scores[row]) for row in rows]


def test_hits_that_are_their_query_are_left_out():
    run = without_own(run_of([ranking("a", a=3, b=2), ranking("aa", a=1, b=1), ranking("b", b=1), ranking("c")]))
    assert [found(run, query) for query in run.queries] == [[("b", 2)], [("b", 1), ("a", 1)], [], []]
