"""Text files and tables: how they are read, compressed or not, and the line each mistake is found on."""

import gzip
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seedcli.base.errors import DataError
from seedcli.data.lines import first_line, id_field, line_places, read_jsonl, read_lines, read_table, suffix


def frame(data: bytes) -> bytes:
    """A zstd frame as streaming writers leave it: it doesn't say how long its content is."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": frame}


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\r\n \t\r\ntwo\x0b\u2028still two\r\nthree".encode())
    assert list(read_lines(path)) == [(1, "one"), (4, "two\x0b\u2028still two"), (5, "three")]
    for ending, pack in PACKERS.items():
        packed = tmp_path / f"a.txt{ending}"
        packed.write_bytes(pack(path.read_bytes()))
        assert list(read_lines(packed)) == list(read_lines(path))


def test_the_place_of_a_line_is_where_its_bytes_begin(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\r\n \t\r\n\u3000\nté\x0b\u2028still two\r\n\ufeffthree".encode())
    begun = [path.read_bytes()[place:].partition(b"\n")[0].rstrip().decode() for place in line_places(path)]
    assert begun == ["one", "té\x0b\u2028still two", "\ufeffthree"] == [line for _, line in read_lines(path)]


@pytest.mark.parametrize("ending", PACKERS)
def test_parts_compressed_one_by_one_are_one_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(b"".join(PACKERS[ending](part) for part in (b"on", b"e\ntw", b"", b"o\n" + b"three\n" * 100_000)))
    lines = [line for _, line in read_lines(path)]
    assert lines == ["one", "two", *["three"] * 100_000]


def test_the_zstd_command_s_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    try:
        subprocess.run(["zstd", "-q", path], check=True)
    except FileNotFoundError:
        pytest.skip("no zstd command here")
    assert list(read_lines(tmp_path / "a.txt.zst")) == [(1, "one"), (2, "two")]


TEXT = b"".join(b"%d %d\n" % (number, number**7) for number in range(5_000))


@pytest.mark.parametrize("damage", [lambda whole: whole[:-20], lambda whole: whole + b"no", lambda _: b"no"])
@pytest.mark.parametrize(("ending", "name"), [(".gz", "gzip"), (".zst", "zstd")])
def test_a_broken_compressed_file_is_told_by_line(
    tmp_path: Path, damage: Callable[[bytes], bytes], ending: str, name: str
) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(damage(PACKERS[ending](TEXT)))
    with pytest.raises(DataError, match=rf"a{ending}:\d+: broken {name} file \(.+\)"):
        list(read_lines(path))


def test_the_lines_before_the_break_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(frame(b"one\ntwo\n") + frame(TEXT)[:-20])
    lines = read_lines(path)
    assert [next(lines), next(lines)] == [(1, "one"), (2, "two")]


def test_bytes_that_are_not_utf8_are_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"fine\n" * 5000 + "fröhlich\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt:5001: not UTF-8 text"):
        list(read_lines(path))


def test_a_file_that_is_missing_or_a_folder_is_told(tmp_path: Path) -> None:
    for name in ("none.txt", "none.txt.gz", "none.txt.zst"):
        with pytest.raises(DataError, match=rf"{name}: no such file"):
            list(read_lines(tmp_path / name))
    with pytest.raises(DataError, match="is a directory"):
        list(read_lines(tmp_path))


def test_a_file_without_records_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n")
    with pytest.raises(DataError, match=r"a\.jsonl: no records in it"):
        list(read_jsonl(path))


def test_a_first_line_is_looked_at_without_reading_on(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n  \nfirst\r\n" + b"\xff" * 100)
    assert first_line(path) == "first"
    path.write_bytes("é".encode() * 100_000)
    assert first_line(path) == "é" * 32_768  # 64 KiB
    path.write_text("\n")
    assert first_line(path) == ""


def test_a_suffix_is_what_stands_before_the_compression() -> None:
    assert [suffix(Path(name)) for name in ("a.TSV", "a.b.jsonl.gz", "a.csv.zst", "a")] == [
        ".tsv",
        ".jsonl",
        ".csv",
        "",
    ]


def test_a_table_is_read_by_its_header_or_by_given_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('id\ttext\n1\tone "quoted"\n\n2\t\n')
    rows = list(read_table(path))
    assert rows == [(f"{path}:2", {"id": "1", "text": 'one "quoted"'}), (f"{path}:4", {"id": "2", "text": ""})]
    assert next(row for _, row in read_table(path, ["a", "b"])) == {"a": "id", "b": "text"}


def test_only_csv_knows_quotation(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\r\n1,"one, ""quoted""\r\n\r\nand long"\r\n\r\n2,two\r\n')
    assert list(read_table(path)) == [
        (f"{path}:2", {"id": "1", "text": 'one, "quoted"\r\n\r\nand long'}),
        (f"{path}:6", {"id": "2", "text": "two"}),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "id\ttext\n1\tone\n2\n", "a.tsv:3: 1 columns, where 2 are expected: id, text"),
        ("a.tsv", "id\ttext\n1\tone\ttwo\n", "a.tsv:2: 3 columns, where 2 are expected: id, text"),
        ("a.tsv", "id\tid\n1\tone\n", "a.tsv:1: a column's name stands twice: id, id"),
        ("a.tsv", "id\ttext\n", "a.tsv: no rows in it"),
        ("a.csv", "id,text\n1,one,two\n", "a.csv:2: 3 columns, where 2 are expected: id, text"),
        ("a.csv", 'id,text\n1,one\n2,"two\n3,three\n', r"a.csv:3: not CSV \(unexpected end of data\)"),
    ],
)
def test_a_broken_table_is_told_by_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_table(path))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "x:1: the field 'id' is not text"),
        (1.0, "x:1: the field 'id' is not text"),
        (None, "x:1: the field 'id' is not text"),
        ("", "x:1: the id 'id' is empty"),
    ],
)
def test_an_id_is_text_or_a_whole_number(value: Any, message: str) -> None:
    assert [id_field({"id": id_}, "id", "x:1") for id_ in ("a", 7, 0)] == ["a", "7", "0"]
    with pytest.raises(DataError, match=message):
        id_field({"id": value}, "id", "x:1")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    words = "word " * 500
    (tmp_path / "a.jsonl").write_text(f'{{"id": 1, "text": "{words}"}}\n' * 4_000)
    (tmp_path / "a.tsv").write_text("id\ttext\n" + f"1\t{words}\n" * 4_000)
    (tmp_path / "a.csv").write_text("id,text\n" + f'1,"{words}"\n' * 4_000)
    for ending, pack in PACKERS.items():
        (tmp_path / f"a.jsonl{ending}").write_bytes(pack((tmp_path / "a.jsonl").read_bytes()))
    for path in sorted(tmp_path.iterdir()):
        tracemalloc.start()
        try:
            rows = read_jsonl(path) if suffix(path) == ".jsonl" else read_table(path)
            assert sum(1 for _ in rows) == 4_000  # 10 MB
            assert tracemalloc.get_traced_memory()[1] < 1 << 20, path.name
        finally:
            tracemalloc.stop()
