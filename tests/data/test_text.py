"""Documents from files, folders and collections, and the line each mistake is found on."""

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from seedcli.base.errors import DataError
from seedcli.data.text import read_documents, text_files


def documents(*sources: Path, field: str = "text") -> list[list[str]]:
    return [list(document) for document in read_documents(sources, field)]


def test_blank_lines_part_the_documents_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\none\ntwo\n\n \t\nthree\n\nfour\nfive")
    assert documents(path) == [["one", "two"], ["three"], ["four", "five"]]
    with gzip.open(tmp_path / "a.txt.gz", "wb") as file:
        file.write(path.read_bytes())
    assert documents(tmp_path / "a.txt.gz") == documents(path)


def test_a_record_is_a_document_and_its_lines_are_lines(tmp_path: Path) -> None:
    records = [{"body": "one\n\n two \n"}, {"body": "three", "text": "not this"}, {"body": ""}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert documents(path, field="body") == [["one", " two "], ["three"], []]
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as file:
        file.write(path.read_bytes())
    assert documents(tmp_path / "a.jsonl.gz", field="body") == documents(path, field="body")


def test_a_folder_is_its_text_files_in_order_of_their_paths(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "d.jsonl").write_text('{"text": "d.jsonl"}\n')
    (tmp_path / "notes.md").write_text("not text to train on")
    assert documents(tmp_path) == [["a.txt"], ["b.txt"], ["d.jsonl"], ["deep/c.txt"]]
    assert documents(tmp_path / "b.txt", tmp_path / "deep") == [["b.txt"], ["deep/c.txt"]]


def test_a_collection_is_its_passages_with_their_titles(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "1", "title": "Otter", "text": "It swims.\\nIt dives."}\n{"_id": "2", "text": "It flies."}\n'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "not a passage"}\n')
    assert documents(tmp_path) == [["Otter", "It swims.", "It dives."], ["It flies."]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}\n', r"a\.jsonl:2: no field 'text'; it has 'txt'; --field names"),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": 3}\n', r"a\.jsonl:3: the field 'text' is not text"),
        ("a.jsonl", b'{"text": "x"}\n{"text"\n', r"a\.jsonl:2: not JSON"),
        ("a.txt", b"fine\n\nfr\xf6hlich\n", r"a\.txt:3: not UTF-8 text"),
        ("a.txt.gz", gzip.compress(bytes(range(32, 126)) * 99)[:-20], r"a\.txt\.gz:1: broken gzip file"),
    ],
)
def test_a_mistake_is_told_by_file_and_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        documents(tmp_path)


def test_a_place_without_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no text in it; expected a collection, or files ending in \.txt"):
        text_files(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        text_files(tmp_path / "absent")


def test_queries_and_hidden_files_inside_a_folder_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "beir").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "beir" / "corpus.jsonl").write_text('{"_id": "1", "text": "a passage"}\n')
    (tmp_path / "beir" / "queries.jsonl").write_text('{"_id": "q", "text": "a test query"}\n')
    for hidden in (".draft.txt", ".git/notes.txt"):
        (tmp_path / hidden).write_text("not read")
    assert documents(tmp_path) == [["a passage"]]


def test_a_folder_of_text_and_of_tables_is_refused_rather_than_read_by_half(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"id": ["1"], "text": ["in a table"]}), tmp_path / "docs.parquet")
    assert documents(tmp_path) == [["in a table"]]
    (tmp_path / "wiki.txt").write_text("in a file\n")
    with pytest.raises(DataError, match="holds both Parquet and text files; name those that are meant"):
        documents(tmp_path)
