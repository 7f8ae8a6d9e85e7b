"""Collections as people have them, and the line each mistake is found on."""

import gzip
from pathlib import Path

import pytest

from seedcli.base.errors import DataError
from seedcli.data.formats.trec import read_qrels
from seedcli.data.lines import read_jsonl, read_lines
from seedcli.data.records import Passage, Query
from seedcli.data.sources import open_collection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "1", "title": "Ünï", "text": "日本"}\n\n{"_id": "2", "title": null, "text": ""}\n'
        '{"_id": "3", "text": "c"}'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n')
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq2\t1\t1\nq2\t3\t0\n")
    return tmp_path


def test_a_beir_folder_is_read_in_the_order_of_its_files(folder: Path) -> None:
    collection = open_collection(folder)
    assert list(collection.passages()) == [Passage("1", "Ünï", "日本"), Passage("2", "", ""), Passage("3", "", "c")]
    assert list(collection.queries()) == [Query("q1", "one"), Query("q2", "two")]
    assert list(collection.queries("dev")) == [Query("q2", "two")]
    assert collection.qrels("dev") == {"q2": {"1": 1, "3": 0}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "2"', "corpus.jsonl:2: not JSON"),
        ('["2", "text"]', "corpus.jsonl:2: expected an object"),
        ('{"_id": "2", "body": "x"}', "corpus.jsonl:2: no field 'text'; it has '_id', 'body'"),
        ('{"_id": 2, "text": "x"}', "corpus.jsonl:2: the field '_id' is not text"),
        ('{"_id": "2", "text": null}', "corpus.jsonl:2: the field 'text' is not text"),
    ],
)
def test_a_broken_record_is_told_by_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "corpus.jsonl").write_text(f'{{"_id": "1", "text": "x"}}\n{line}\n')
    passages = open_collection(tmp_path).passages()
    assert next(passages).id == "1"
    with pytest.raises(DataError, match=message):
        next(passages)


def test_a_missing_split_names_those_there_are(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no such split of its qrels: 'test'; it has dev"):
        open_collection(folder).qrels("test")
    (folder / "qrels" / "dev.tsv").unlink()
    with pytest.raises(DataError, match="it has no qrels"):
        open_collection(folder).qrels("test")


def test_a_folder_without_a_corpus_is_no_collection(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a collection; expected a BEIR folder with corpus\.jsonl"):
        open_collection(tmp_path)


@pytest.mark.parametrize(
    ("text", "qrels"),
    [
        ("query-id\tcorpus-id\tscore\nq\td e\t2\n", {"q": {"d e": 2}}),
        ("q\td\t1\n", {"q": {"d": 1}}),
        ("q 0 d 1\nq 0 e -1\nr Q0 d 0", {"q": {"d": 1, "e": -1}, "r": {"d": 0}}),
        ("\ufeffq\t0\td\t1\r\n\r\nr\t0\td\t1\r\n", {"q": {"d": 1}, "r": {"d": 1}}),
    ],
)
def test_qrels_come_from_beir_or_trec(tmp_path: Path, text: str, qrels: dict[str, dict[str, int]]) -> None:
    path = tmp_path / "dev.tsv"
    path.write_bytes(text.encode())
    assert read_qrels(path) == qrels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q\td\t1\nq\te\tyes\n", "dev.tsv:2: the grade 'yes' is not a whole number"),
        ("q\td\t0.5\n", "dev.tsv:1: the grade '0.5' is not a whole number"),
        ("q d\n", "dev.tsv:1: expected 'query passage grade' or 'query 0 passage grade', got 'q d'"),
        ("query-id\tcorpus-id\tscore\n", "dev.tsv: no judgements"),
        ("", "dev.tsv: no judgements"),
    ],
)
def test_broken_qrels_are_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_qrels(path)


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\r\n \t\r\ntwo\x0b\u2028still two\r\nthree".encode())
    assert list(read_lines(path)) == [(1, "one"), (4, "two\x0b\u2028still two"), (5, "three")]
    with gzip.open(tmp_path / "a.txt.gz", "wb") as file:
        file.write(path.read_bytes())
    assert list(read_lines(tmp_path / "a.txt.gz")) == list(read_lines(path))


def test_bytes_that_are_not_utf8_are_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"fine\n" * 5000 + "fröhlich\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt:5001: not UTF-8 text"):
        list(read_lines(path))


@pytest.mark.parametrize("damage", [lambda whole: whole[:-20], lambda whole: whole[:40] + b"\0" * 40, lambda _: b"no"])
def test_a_broken_gzip_file_is_told(tmp_path: Path, damage: type[bytes]) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(damage(gzip.compress(bytes(range(10, 128)) * 50, mtime=0)))
    with pytest.raises(DataError, match=r"a\.gz:\d+: broken gzip file"):
        list(read_lines(path))


def test_a_file_that_is_missing_or_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        list(read_lines(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="is a directory"):
        list(read_lines(tmp_path))


def test_a_file_without_records_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n")
    with pytest.raises(DataError, match=r"a\.jsonl: no records in it"):
        list(read_jsonl(path))


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(r'{"_id": "1", "text": "\ud83d\ude00 \ud83d"}')
    assert list(open_collection(tmp_path).passages()) == [Passage("1", "", "😀 ?")]
