"""MS MARCO's files: what they hold, which of them a folder's collection takes, and the line of each mistake."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seedcli.base.errors import DataError
from seedcli.data.formats.msmarco import open_folder, read_documents, read_passages, read_queries, read_triples
from seedcli.data.records import SEPARATOR, Example, Passage, Query


def folder_of(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        data = text.encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def test_a_passage_is_an_id_and_its_text_to_the_end_of_the_line(tmp_path: Path) -> None:
    folder_of(tmp_path, {"collection.tsv": f'0\tThe "Ünï" text, a{SEPARATOR}b\n1\t"\n2\t\n'})
    passages = list(read_passages(tmp_path / "collection.tsv"))
    assert passages == [Passage("0", "", 'The "Ünï" text, a b'), Passage("1", "", '"'), Passage("2", "", "")]


def test_a_document_has_url_and_title_which_may_be_empty(tmp_path: Path) -> None:
    folder_of(tmp_path, {"docs.tsv": "D1\thttp://a\tA title\tIts body\nD2\thttp://b\t\t\n"})
    documents = list(read_documents(tmp_path / "docs.tsv"))
    assert documents == [Passage("D1", "A title", "Its body", "http://a"), Passage("D2", "", "", "http://b")]


def test_triples_of_ids_stay_ids(tmp_path: Path) -> None:
    folder_of(tmp_path, {"t.tsv": "1\t20\t30\n1\t20\t31\n"})
    assert list(read_triples(tmp_path / "t.tsv")) == [Example("1", ("20",), ("30",)), Example("1", ("20",), ("31",))]


def test_triples_of_texts_bring_their_passages_along(tmp_path: Path) -> None:
    folder_of(tmp_path, {"t.tsv.gz": f"what is it\ta{SEPARATOR}thing\tnot\nwhy\tso\tno\n"})
    assert list(read_triples(tmp_path / "t.tsv.gz")) == [
        Example(Query("", "what is it"), (Passage("", "", "a thing"),), (Passage("", "", "not"),)),
        Example(Query("", "why"), (Passage("", "", "so"),), (Passage("", "", "no"),)),
    ]


def test_triples_stream(tmp_path: Path) -> None:
    """The third line is broken, and the first two come all the same."""
    folder_of(tmp_path, {"t.tsv": "1\t20\t30\n1\t20\t31\n1\t20\n"})
    triples = read_triples(tmp_path / "t.tsv")
    assert [next(triples).query, next(triples).query] == ["1", "1"]
    with pytest.raises(DataError, match=r"t\.tsv:3: expected 'query TAB positive TAB negative', got '1\\t20'"):
        next(triples)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_passages, "0\ta\n1 b\n", "t.tsv:2: 1 columns, where 2 are expected: id, text"),
        (read_passages, "0\ta\n1\tb\tc\n", "t.tsv:2: 3 columns, where 2 are expected: id, text"),
        (read_passages, "0\ta\n\tb\n", "t.tsv:2: the id 'id' is empty"),
        (read_documents, "D1\tu\ttitle\n", "t.tsv:1: 3 columns, where 4 are expected: id, url, title, body"),
        (read_queries, "1\ta\n2\n", "t.tsv:2: 1 columns, where 2 are expected: id, text"),
        (read_triples, "1\t2\t3\t0.5\n", "t.tsv:1: expected 'query TAB positive TAB negative'"),
        (read_triples, "1\t2\t3\nwhat is it\ta\tb\n", "t.tsv:2: expected three ids, as in the first line, got 'what"),
        (read_triples, "\n", "t.tsv: no triples in it"),
    ],
)
def test_a_broken_line_is_told(tmp_path: Path, read: Callable[[Path], Iterator[Any]], text: str, message: str) -> None:
    folder_of(tmp_path, {"t.tsv": text})
    with pytest.raises(DataError) as error:
        list(read(tmp_path / "t.tsv"))
    assert message in str(error.value)


def test_a_folder_of_passages_has_its_splits_by_the_names_of_files(tmp_path: Path) -> None:
    files = {
        "collection.tsv.gz": "7\tseven\n8\teight\n",
        "queries.train.tsv": "1\tone\n2\ttwo\n",
        "queries.dev.small.tsv": "3\tthree\n4\tfour\n",
        "qrels.train.tsv": "1\t0\t7\t1\n2\t0\t8\t1\n",
        "qrels.dev.small.tsv": "3\t0\t7\t1\n",
        "qrels.dl19-passage.txt": "4 Q0 8 3\n",
        "topics.dl19-passage.txt": "4\tfour\n",
        "triples.train.small.tsv": "one\tseven\teight\n",
        "qidpidtriples.train.full.2.tsv.gz": "1\t7\t8\n",
        "top1000.dev": "not a file of the collection",
    }
    collection = open_folder(folder_of(tmp_path, files))
    assert collection is not None
    assert list(collection.passages()) == [Passage("7", "", "seven"), Passage("8", "", "eight")]
    assert sorted(collection.qrels_readers) == ["dev.small", "dl19-passage", "train"]
    assert sorted(collection.query_readers) == ["dev.small", "dl19-passage", "train"]
    assert collection.qrels("dev.small") == {"3": {"7": 1}}
    assert list(collection.queries("dev.small")) == [Query("3", "three")]
    assert collection.qrels("dl19-passage") == {"4": {"8": 3}}
    assert list(collection.examples("train")) == [Example("1", ("7",), ("8",))]


def test_a_folder_of_documents_has_its_splits_by_the_names_of_files(tmp_path: Path) -> None:
    files = {
        "msmarco-docs.tsv": "D1\thttp://a\tA title\tIts body\n",
        "msmarco-doctrain-queries.tsv": "1\tone\n",
        "msmarco-doctrain-qrels.tsv": "1 0 D1 1\n",
        "msmarco-docdev-queries.tsv": "2\ttwo\n",
        "msmarco-docdev-qrels.tsv.gz": "2 0 D1 1\n",
        "msmarco-test2019-queries.tsv": "3\tthree\n",
        "2019qrels-docs.txt": "3 0 D1 2\n",
        "topics.msmarco-doc.dev.txt": "2\tanother name of dev\n",
    }
    collection = open_folder(folder_of(tmp_path, files))
    assert collection is not None
    assert next(collection.passages()).url == "http://a"
    assert {split: collection.qrels(split) for split in ("train", "dev", "test2019")} == {
        "train": {"1": {"D1": 1}},
        "dev": {"2": {"D1": 1}},
        "test2019": {"3": {"D1": 2}},
    }
    assert [query.text for split in ("train", "dev", "test2019") for query in collection.queries(split)] == [
        "one", "two", "three",
    ]  # fmt: skip
    assert not collection.example_readers


def test_texts_serve_as_triples_where_there_are_no_ids(tmp_path: Path) -> None:
    files = {"collection.tsv": "7\tseven\n", "triples.train.small.tsv": "the one\tseven\teight\n"}
    collection = open_folder(folder_of(tmp_path, files))
    assert collection is not None
    assert next(collection.examples("train")).query == Query("", "the one")


def test_a_file_goes_before_its_compressed_copy(tmp_path: Path) -> None:
    files = {"collection.tsv": "7\tseven\n", "queries.dev.tsv.gz": "1\tpacked\n", "queries.dev.tsv": "1\tplain\n"}
    collection = open_folder(folder_of(tmp_path, files))
    assert collection is not None
    assert list(collection.queries("dev")) == [Query("1", "plain")]


def test_another_folder_is_none_of_ms_marcos(tmp_path: Path) -> None:
    assert open_folder(folder_of(tmp_path, {"queries.dev.tsv": "1\tone\n"})) is None
