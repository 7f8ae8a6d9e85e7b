"""Queries appended to passages, from files of any order and size."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from seedcli.base.errors import DataError
from seedcli.base.progress import Silent
from seedcli.data import expansions
from seedcli.data.collections import Collection
from seedcli.data.expansions import appended, in_order, survey_expansions
from seedcli.data.records import Passage

PASSAGES = [Passage(f"p{row}", "", f"text {row}") for row in range(5)]
CORPUS = Collection("corpus", lambda: iter(PASSAGES))


def write(path: Path, *records: tuple[str, list[str]]) -> Path:
    lines = "".join(json.dumps({"id": id_, "queries": queries}) + "\n" for id_, queries in records)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


@pytest.mark.parametrize("name", ["expansions.jsonl", "expansions.jsonl.gz"])
@pytest.mark.parametrize("held", [1 << 20, 0], ids=["in memory", "by a table on the disk"])
def test_expansions_are_found_in_any_order_and_the_first_of_an_id_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, held: int
) -> None:
    monkeypatch.setattr(expansions, "HELD", held)
    monkeypatch.setattr("seedcli.data.lookup.SMALL", 0)
    monkeypatch.setattr(expansions, "BATCH", 2)
    path = write(tmp_path / name, ("p4", ["four", "vier"]), ("gone", ["x"]), ("p0", ["zero"]), ("p4", ["again"]))
    found = list(appended(path, f"{name}{held}", Silent())(iter(PASSAGES)))
    assert [passage.text for passage in found] == ["text 0 zero", "text 1", "text 2", "text 3", "text 4 four vier"]
    assert [passage.id for passage in found] == [passage.id for passage in PASSAGES]


def test_a_survey_counts_what_is_wrong_with_expansions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansions, "BATCH", 2)
    path = write(tmp_path / "e.jsonl", ("p4", ["four"]), ("a", ["x"]), ("z", []), ("p0", ["zero"]), ("p4", ["again"]))
    found = survey_expansions(path, "these", CORPUS, "that corpus", Silent())
    assert (found.records, found.characters) == (5, len("fourxzeroagain"))
    assert list(found.problems) == [
        "1 expansion with an empty text (z)",
        "1 id of expansions that stand twice or more (p4)",
        "2 ids of expansions that the corpus lacks (a, z)",
    ]
    kept = survey_expansions(tmp_path / "not read again", "these", CORPUS, "that corpus", Silent())
    assert list(kept.problems) == list(found.problems)


@pytest.mark.parametrize(
    ("spoil", "error"), [(lambda some: some[:-1], ValueError), (lambda some: some[::-1], DataError)]
)
def test_expansions_in_order_are_those_of_the_corpus(
    tmp_path: Path, spoil: Callable[[list[Passage]], list[Passage]], error: type[Exception]
) -> None:
    path = write(tmp_path / "e.jsonl", *((passage.id, [f"query {passage.id}"]) for passage in PASSAGES))
    assert [passage.text for passage in in_order(path)(iter(PASSAGES))][3:] == ["text 3 query p3", "text 4 query p4"]
    with pytest.raises(error):
        list(in_order(path)(iter(spoil(PASSAGES))))
