"""What one pass over a collection counts, and that it is one pass."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from seedcli.base.progress import Silent
from seedcli.data.collections import Collection
from seedcli.data.records import Passage, Qrels, Query
from seedcli.data.survey import Survey, survey_passages, survey_qrels, survey_queries

PASSAGES = [
    Passage("1", "Otter", "eats trout"),  # 5 + 10 characters
    Passage("2", "", "eats eels", url="not counted"),  # 9
    Passage("3", "Heron", ""),  # 5, all of them its title
    Passage("1", "", "once more"),  # 9
    Passage("4", " ", "\n"),  # 2, and nothing to read
    Passage("5", "Lynx", " "),  # 5
    Passage("6", "", ""),
]
QUERIES = [Query("q1", "who eats"), Query("q2", ""), Query("q3", " \t"), Query("q1", "who sleeps"), Query("q1", "who")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def broken(*_: Any) -> Any:
    raise AssertionError("read again")


UNREADABLE = Collection("gone", broken, {"": broken}, {"": broken})


def collection(passages: list[Passage] = PASSAGES, queries: list[Query] = QUERIES, **qrels: Qrels) -> Collection:
    readers = {split: lambda judged=judged: judged for split, judged in qrels.items()}
    return Collection("here", lambda: iter(passages), {"": lambda: iter(queries)}, readers)


def told(survey: Survey) -> tuple[int, int, list[str]]:
    return survey.records, survey.characters, sorted(survey.problems)


def test_passages_are_counted_by_pencil() -> None:
    assert told(survey_passages(collection(), "x", Silent())) == (
        7,
        45,
        ["1 id of passages that stand twice or more (1)", "2 passages with an empty text (4, 6)"],
    )


def test_queries_are_counted_by_pencil() -> None:
    assert told(survey_queries(collection().queries, None, "x", Silent())) == (
        5,
        23,
        ["1 id of queries that stand twice or more (q1)", "2 queries with an empty text (q2, q3)"],
    )


def test_a_survey_of_a_split_counts_its_queries_alone() -> None:
    judged = collection(train={"q2": {"1": 1}}, dev={"q3": {"1": 1}, "q2": {"1": 1}})
    assert [
        survey_queries(partial(judged.queries, split), split, "x", Silent()).records for split in ("train", "dev", None)
    ] == [1, 2, 5]


def test_an_empty_collection_has_nothing_wrong() -> None:
    assert told(survey_passages(collection([]), "x", Silent())) == (0, 0, [])


class Alike(str):
    """A text whose hash is that of any other."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1


def test_two_ids_of_one_hash_are_two_ids() -> None:
    records = [Passage(Alike(name), "", "text") for name in "abcbdb"]
    assert list(survey_passages(collection(records), "x", Silent()).problems) == [
        "1 id of passages that stand twice or more (b)"
    ]


def test_a_source_is_surveyed_once() -> None:
    first = survey_passages(collection(), "x", Silent()), survey_queries(collection().queries, None, "x", Silent())
    again = survey_passages(UNREADABLE, "x", Silent()), survey_queries(UNREADABLE.queries, None, "x", Silent())
    assert [told(survey) for survey in first] == [told(survey) for survey in again]
    with pytest.raises(AssertionError, match="read again"):
        survey_passages(UNREADABLE, "y", Silent())
    with pytest.raises(AssertionError, match="read again"):
        survey_queries(UNREADABLE.queries, "dev", "x", Silent())


def test_a_survey_that_fails_is_not_kept(own_cache: Path) -> None:
    def failing() -> Iterator[Passage]:
        yield PASSAGES[0]
        raise AssertionError("broken file")

    with pytest.raises(AssertionError, match="broken file"):
        survey_passages(Collection("here", failing), "x", Silent())
    assert not own_cache.exists()


QRELS: Qrels = {
    "q1": {"1": 1, "9": 2},
    "q2": {"2": 0, "8": 0},
    "q3": {"9": 1},
    "q9": {"3": 1},
    "q8": {"4": -1},
}


def test_judgements_are_held_against_the_texts() -> None:
    assert list(survey_qrels(collection(test=QRELS), "test", "x", Silent())) == [
        "2 passages of the qrels that the corpus lacks (9, 8)",
        "2 queries without a positive, scored 0 (q2, q8)",
        "2 queries of the qrels without a text (q9, q8)",
    ]


def test_judgements_without_a_fault_have_no_problems() -> None:
    assert list(survey_qrels(collection(test={"q1": {"1": 1}}), "test", "x", Silent())) == []


def test_what_a_collection_has_not_is_not_missed() -> None:
    alone = Collection("here", qrels_readers={"test": lambda: QRELS})
    assert list(survey_qrels(alone, "test", "x", Silent())) == ["2 queries without a positive, scored 0 (q2, q8)"]
    with_passages = Collection("here", lambda: iter(PASSAGES), qrels_readers={"test": lambda: QRELS})
    assert len(list(survey_qrels(with_passages, "test", "y", Silent()))) == 2


def test_judgements_are_surveyed_once() -> None:
    first = survey_qrels(collection(test=QRELS), "test", "x", Silent())
    again = survey_qrels(UNREADABLE, "test", "x", Silent())
    assert again.plain() == first.plain()
    with pytest.raises(AssertionError, match="read again"):
        survey_qrels(UNREADABLE, "dev", "x", Silent())
