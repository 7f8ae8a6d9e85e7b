"""Parquet: rows as records, and what is held of a file at a time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seedcli.base.errors import DataError
from seedcli.data.formats.fields import read_examples, read_passages, read_qrels, read_queries
from seedcli.data.formats.parquet import columns, read_rows
from seedcli.data.records import Example, Passage, Query


def write(path: Path, **values: list[object]) -> Path:
    pq.write_table(pa.table(values), path)
    return path


def test_passages_queries_qrels_and_examples_are_read_by_known_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", docid=[1, 2], title=["t", None], text=["one", "two"])
    assert list(read_passages(path)) == [Passage("1", "t", "one"), Passage("2", "", "two")]
    path = write(tmp_path / "a.parquet", _id=["q"], query=["who"], answers=[["a", "b"]])
    assert list(read_queries(path)) == [Query("q", "who", ("a", "b"))]
    path = write(tmp_path / "a.parquet", **{"query-id": ["q", "q"], "corpus-id": [1, 2], "score": [1.0, 0.0]})
    assert read_qrels(path) == {"q": {"1": 1, "2": 0}}
    path = write(tmp_path / "a.parquet", anchor=["q"], positive=["a"], negative=["b"])
    assert list(read_examples(path)) == [Example(Query("", "q"), [Passage("", "", "a")], [Passage("", "", "b")])]


def test_a_mistake_is_told_by_row_however_rows_are_grouped(tmp_path: Path) -> None:
    texts = ["x"] * 2_500
    texts[2_016] = None
    pq.write_table(pa.table({"id": list(map(str, range(2_500))), "text": texts}), tmp_path / "a.parquet", 700)
    passages = read_passages(tmp_path / "a.parquet")
    assert [next(passages).id for _ in range(2_016)] == list(map(str, range(2_016)))
    with pytest.raises(DataError, match=r"a\.parquet: row 2017: the field 'text' is not text"):
        next(passages)


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", b=[2], a=[1], c=[3])
    assert columns(path) == ["b", "a", "c"]
    assert list(read_rows(path, ["a", "c"])) == [(f"{path}: row 1", {"a": 1, "c": 3})]


def test_a_missing_column_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.parquet: no field called text, .*; it has 'id', 'vector'; name the text"):
        list(read_passages(write(tmp_path / "a.parquet", id=["1"], vector=[[0.5]])))


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", id=list(map(str, range(5_000))), text=["x"] * 5_000)
    whole = path.read_bytes()
    for broken in (b"", b"no parquet", whole[:-100], whole[:100] + b"\0" * 2_000 + whole[2_100:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"a\.parquet: broken Parquet file \(.+\)"):
            list(read_passages(path))
    with pytest.raises(DataError, match=r"none\.parquet: no such file"):
        list(read_passages(tmp_path / "none.parquet"))
    with pytest.raises(DataError, match=r"a\.parquet: no rows in it"):
        list(read_passages(write(path, id=pa.array([], pa.string()), text=pa.array([], pa.string()))))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    rows = 40_000
    texts = [f"{row} " * 100 for row in range(rows)]  # 24 MB, in one group of rows
    pq.write_table(pa.table({"id": list(map(str, range(rows))), "text": texts}), tmp_path / "a.parquet", rows)
    before, held = pa.total_allocated_bytes(), []
    for row, _ in enumerate(read_passages(tmp_path / "a.parquet")):
        if row % 500 == 0:
            held.append(pa.total_allocated_bytes() - before)
    assert row == rows - 1
    assert max(held) < 8 << 20
