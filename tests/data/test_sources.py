"""Sources: what an option may name, and the path that stands for it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seedcli.base.errors import DataError
from seedcli.data.records import Passage
from seedcli.data.sources import open_collection, source_path


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_a_path_stands_for_itself(tmp_path: Path) -> None:
    assert source_path(tmp_path) == source_path(str(tmp_path)) == tmp_path
    assert source_path("hf") == Path("hf")
    assert source_path("a:b") == Path("a:b")


def test_a_folder_is_what_its_files_say_and_collection_yaml_has_the_last_word(tmp_path: Path) -> None:
    beir = write(tmp_path / "beir", corpus__jsonl='{"_id": "b", "text": "x"}')
    msmarco = write(tmp_path / "msmarco", collection__tsv="m\tx\n")
    dpr = write(tmp_path / "dpr", psgs_w100__tsv="id\ttext\ttitle\nd\tx\t\n")
    mind = write(tmp_path / "mind", news__tsv="n\tc\ts\t\tx\t\t\t\n")
    parquet = write(tmp_path / "parquet")
    pq.write_table(pa.table({"id": ["p"], "text": ["x"]}), parquet / "a.parquet")
    named = write(tmp_path / "named", corpus__jsonl="", a__tsv="y\tx\n", collection__yaml="passages: a.tsv")
    for folder, id_ in [(beir, "b"), (msmarco, "m"), (dpr, "d"), (mind, "n"), (parquet, "p"), (named, "y")]:
        assert list(open_collection(folder).passages()) == [Passage(id_, "", "x")]


def test_a_file_is_a_collection_of_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("1\tone\n")
    assert list(open_collection(tmp_path / "a.tsv").passages()) == [Passage("1", "", "one")]


def test_anything_else_is_told_with_what_is_understood(tmp_path: Path) -> None:
    for source, problem in [(tmp_path, "not a collection; "), (tmp_path / "absent", "not a collection: no such file")]:
        with pytest.raises(DataError) as told:
            open_collection(source)
        lines = str(told.value).splitlines()
        assert lines[0].startswith(f"{source}: {problem}")
        assert len(lines) == 2
        assert all(name in str(told.value) for name in ("BEIR", "MS MARCO", "DPR", "MIND", "Parquet", "irds:", "hf:"))
