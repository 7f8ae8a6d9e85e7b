"""Shards: which Parquet files of a folder belong together."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seedcli.data.collections import Collection
from seedcli.data.formats.shards import open_folder


def shards(folder: Path, *names: str) -> Collection | None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [number], "text": [name]}), folder / name)
    return open_folder(folder)


@pytest.mark.parametrize(
    "names",
    [
        ("a.parquet",),
        ("0000.parquet", "0001.parquet"),
        ("part-00000-2f1c.snappy.parquet", "part-00001-2f1c.snappy.parquet"),
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"),
        ("default/train/0000.parquet", "default/train/0001.parquet"),
    ],
)
def test_shards_of_parquet_are_read_in_the_order_of_their_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    collection = shards(tmp_path, *names)
    assert collection is not None
    assert [passage.text for passage in collection.passages()] == list(names)
    assert [query.id for query in collection.queries()] == [str(number) for number in range(len(names))]


def test_shards_may_be_of_several_splits(tmp_path: Path) -> None:
    collection = shards(tmp_path, "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet")
    assert collection is not None
    assert [query.id for query in collection.queries("train")] == ["1"]


def test_parquet_files_of_unlike_names_are_not_mixed(tmp_path: Path) -> None:
    assert shards(tmp_path / "a", "corpora.parquet", "questions.parquet") is None
    assert shards(tmp_path / "b", "en/train/0000.parquet", "de/train/0000.parquet") is None
    assert shards(tmp_path / "c") is None
