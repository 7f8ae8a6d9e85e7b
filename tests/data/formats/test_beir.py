"""BEIR folders, as their authors and the hub lay them out, and qrels."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seedcli.base.errors import DataError
from seedcli.data.collections import Collection
from seedcli.data.formats.beir import open_folder
from seedcli.data.formats.trec import read_qrels
from seedcli.data.records import Passage, Query

PASSAGES = [Passage("1", "Ünï", "日本"), Passage("2", "", ""), Passage("3", "", "c")]
QUERIES = [Query("q1", "one"), Query("q2", "two")]
QRELS = {"q2": {"1": 1, "3": 0}}


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


def opened(folder: Path) -> Collection:
    collection = open_folder(folder)
    assert collection is not None
    return collection


def holds_all(folder: Path) -> bool:
    collection = opened(folder)
    return (
        list(collection.passages()) == PASSAGES
        and list(collection.queries()) == QUERIES
        and list(collection.queries("dev")) == QUERIES[1:]
        and {split: collection.qrels(split) for split in collection.qrels_readers} == {"dev": QRELS}
    )


def write_parquet(path: Path, **columns: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_a_folder_is_read_in_the_order_of_its_files(folder: Path) -> None:
    assert holds_all(folder)


def test_files_may_be_compressed(folder: Path) -> None:
    for path in [folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "dev.tsv"]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert holds_all(folder)


def test_a_file_goes_before_its_compressed_copy_and_another_kind(folder: Path) -> None:
    (folder / "corpus.jsonl.gz").write_text("no gzip")
    (folder / "corpus.tsv").write_text("no table")
    (folder / "corpus.jsonl.old").write_text("no copy")
    assert holds_all(folder)


def test_qrels_may_be_jsonl(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").unlink()
    rows = [{"query-id": "q2", "corpus-id": "1", "score": 1.0}, {"query-id": "q2", "corpus-id": "3", "score": 0}]
    (folder / "qrels" / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert holds_all(folder)


@pytest.mark.parametrize(
    ("corpus", "queries", "qrels"),
    [
        ("corpus/corpus-0000{}-of-00002.parquet", "queries/queries-00000-of-00001.parquet", "qrels/dev.tsv"),
        ("corpus/corpus-0000{}-of-00002.parquet", "queries/queries-00000-of-00001.parquet", "qrels/dev.parquet"),
        ("corpus/part.{}.parquet", "queries/a.parquet", "data/dev-00000-of-00001.parquet"),
        ("corpus/corpus/000{}.parquet", "queries/queries/0000.parquet", "default/dev/0000.parquet"),
        ("corpus/corpus/000{}.parquet", "queries.parquet", "qrels/dev/0000.parquet"),
    ],
)
def test_the_hub_s_folders_of_parquet_are_read(tmp_path: Path, corpus: str, queries: str, qrels: str) -> None:
    for number, part in enumerate([PASSAGES[:2], PASSAGES[2:]]):
        columns = {"_id": [p.id for p in part], "title": [p.title for p in part], "text": [p.text for p in part]}
        write_parquet(tmp_path / corpus.format(number), **columns)
    write_parquet(tmp_path / queries, _id=["q1", "q2"], text=["one", "two"])
    if qrels.endswith(".tsv"):
        (tmp_path / "qrels").mkdir()
        (tmp_path / qrels).write_text("query-id\tcorpus-id\tscore\nq2\t1\t1\nq2\t3\t0\n")
    else:
        write_parquet(tmp_path / qrels, **{"query-id": ["q2", "q2"], "corpus-id": ["1", "3"], "score": [1.0, 0.0]})
    assert holds_all(tmp_path)


def test_data_without_judgements_are_no_qrels(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").unlink()
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", text=["a"], label=[1])
    assert opened(folder).qrels_readers == {}


def test_a_folder_without_a_corpus_is_not_of_beir(folder: Path) -> None:
    (folder / "corpus.jsonl").unlink()
    assert open_folder(folder) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "2"', r"corpus\.jsonl:2: not JSON"),
        ('["2", "text"]', r"corpus\.jsonl:2: expected an object"),
        ('{"_id": "2", "body": "x"}', r"corpus\.jsonl:2: no field 'text'; it has '_id', 'body'"),
        ('{"_id": 2.5, "text": "x"}', r"corpus\.jsonl:2: the field '_id' is not text"),
        ('{"_id": "2", "text": null}', r"corpus\.jsonl:2: the field 'text' is not text"),
    ],
)
def test_a_broken_record_is_told_by_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "corpus.jsonl").write_text(f'{{"_id": "1", "text": "x"}}\n{line}\n')
    passages = opened(tmp_path).passages()
    assert next(passages).id == "1"
    with pytest.raises(DataError, match=message):
        next(passages)


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(r'{"_id": "1", "text": "\ud83d\ude00 \ud83d"}')
    assert list(opened(tmp_path).passages()) == [Passage("1", "", "😀 ?")]


@pytest.mark.parametrize(
    ("text", "qrels"),
    [
        ("query-id\tcorpus-id\tscore\nq\td e\t2\n", {"q": {"d e": 2}}),
        ("q\td\t1\n", {"q": {"d": 1}}),
        ("q 0 d 1\nq 0 e -1\nr Q0 d 0", {"q": {"d": 1, "e": -1}, "r": {"d": 0}}),
        ("\ufeffq\t0\td\t1\r\n\r\nr\t0\td\t1\r\n", {"q": {"d": 1}, "r": {"d": 1}}),
    ],
)
def test_qrels_come_from_beir_or_trec(folder: Path, text: str, qrels: dict[str, dict[str, int]]) -> None:
    path = folder / "qrels" / "dev.tsv"
    path.write_bytes(text.encode())
    assert read_qrels(path) == opened(folder).qrels("dev") == qrels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q\td\t1\nq\te\tyes\n", r"dev\.tsv:2: the grade 'yes' is not a whole number"),
        ("q\td\t0.5\n", r"dev\.tsv:1: the grade '0\.5' is not a whole number"),
        ("q d\n", r"dev\.tsv:1: expected 'query passage grade' or 'query 0 passage grade', got 'q d'"),
        ("query-id\tcorpus-id\tscore\n", r"dev\.tsv: no (judgements|rows) in it"),
    ],
)
def test_broken_qrels_are_told_by_line(folder: Path, text: str, message: str) -> None:
    path = folder / "qrels" / "dev.tsv"
    path.write_text(text)
    for read in (lambda: read_qrels(path), lambda: opened(folder).qrels("dev")):
        with pytest.raises(DataError, match=message):
            read()
