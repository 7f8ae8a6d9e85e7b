"""Rows of ids, found on disk by their fingerprints."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from seedcli.data import ids as module
from seedcli.data.ids import Ids, IdWriter, fingerprint, open_ids

NAMES = [f"doc-{row}" for row in range(1_000)]


def written(folder: Path, *parts: Sequence[str]) -> Ids:
    writer = IdWriter(folder)
    for part in parts:
        writer.extend(part)
    writer.close()
    return open_ids(folder)


def test_each_id_has_the_row_that_it_was_given_at(tmp_path: Path) -> None:
    ids = written(tmp_path, NAMES[:400], [], iter(NAMES[400:]))  # type: ignore[arg-type]
    asked = random.Random(0).choices(range(1_000), k=5_000)  # many of them twice
    assert len(ids) == 1_000
    assert ids.rows([NAMES[row] for row in asked]).tolist() == asked


def test_an_unknown_id_has_no_row(tmp_path: Path) -> None:
    ids = written(tmp_path, NAMES)
    assert ids.rows(["doc-1000", "doc-7", "", "DOC-7", "doc-7 "]).tolist() == [-1, 7, -1, -1, -1]
    assert ids.rows([]).tolist() == []


def test_of_an_id_that_stands_twice_the_first_counts(tmp_path: Path) -> None:
    ids = written(tmp_path, ["b", "a", "b"], ["c", "a", "b"])
    assert ids.rows(["a", "b", "c"]).tolist() == [1, 0, 3]
    assert len(ids) == 6


def test_where_there_are_no_ids_none_is_known(tmp_path: Path) -> None:
    ids = written(tmp_path)
    assert len(ids) == 0
    assert ids.rows(["a", "b"]).tolist() == [-1, -1]
    assert ids.rows([]).dtype == "int64"


@pytest.mark.parametrize("part", [1, 7, 300])
def test_sorted_part_by_part_the_files_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    names = [*NAMES, *NAMES[:50], *["same"] * 20]
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
        written(folder, names)
        monkeypatch.setattr(module, "PART", part)
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0].keys() == {"ids.fingerprints.npy", "ids.places.npy"}
    assert files[0] == files[1]
    given = np.array(list(map(fingerprint, names)))
    assert open_ids(folders[1]).places.tolist() == np.argsort(given, kind="stable").tolist()


def test_the_rows_that_an_id_may_have_are_all_of_its_fingerprint(tmp_path: Path) -> None:
    ids = written(tmp_path, ["b", "a", "b", "c", "b"])
    assert ids.candidates("b") == [0, 2, 4]
    assert ids.candidates("c") == [3]
    assert ids.candidates("d") == []


def test_ids_are_told_apart_in_any_script_and_by_every_byte(tmp_path: Path) -> None:
    names = ["é", "e\u0301", "日本", "日本 ", "a\0", "a", "Ü", "ü", "1", "01", "1.0"]
    assert written(tmp_path, names).rows(names).tolist() == list(range(len(names)))


def test_a_fingerprint_is_the_same_on_every_machine() -> None:
    """What b2sum -l 64 prints, its bytes from the lowest, without the lowest bit."""
    assert fingerprint("otter") == int.from_bytes(bytes.fromhex("80b98c88cae3b2f9"), "little") // 2
    assert fingerprint("otter") == 8_996_346_960_156_187_840
    assert fingerprint("") == int.from_bytes(bytes.fromhex("e4a6a0577479b2b4"), "little") // 2


def test_a_fingerprint_uses_63_bits() -> None:
    found = [fingerprint(name) for name in NAMES]
    assert len(set(found)) == 1_000
    assert 0 <= min(found) < 1 << 56
    assert (1 << 63) - (1 << 56) < max(found) < 1 << 63
