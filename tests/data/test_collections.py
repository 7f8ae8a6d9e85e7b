"""Collections: readers by role and split, whatever they read from."""

from collections.abc import Iterator, Mapping

import pytest

from seedcli.base.errors import DataError
from seedcli.data.collections import Collection
from seedcli.data.records import Example, Passage, Query

QUERIES = [Query("q1", "one"), Query("q2", "two"), Query("q3", "three")]


def readers(splits: Mapping[str, list[Query]]) -> dict[str, type[Iterator[Query]]]:
    return {split: lambda queries=queries: iter(queries) for split, queries in splits.items()}  # type: ignore[misc]


def test_every_reading_begins_anew() -> None:
    passages = [Passage("1", "", "one"), Passage("2", "", "two")]
    collection = Collection("here", lambda: iter(passages), readers({"": QUERIES}))
    assert list(collection.passages()) == list(collection.passages()) == passages
    assert list(collection.queries()) == list(collection.queries()) == QUERIES
    assert collection.passages_of(["2", "3"]) == {"2": passages[1]}


def test_of_passages_that_share_an_id_the_first_is_found_and_no_more_is_read_than_needed() -> None:
    def passages() -> Iterator[Passage]:
        yield from (Passage("1", "", "one"), Passage("2", "", "two"), Passage("1", "", "another"))
        raise AssertionError

    assert Collection("here", passages).passages_of(["2", "1"]) == {
        "1": Passage("1", "", "one"),
        "2": Passage("2", "", "two"),
    }


def test_a_split_is_the_queries_that_its_qrels_judge() -> None:
    collection = Collection("here", None, readers({"": QUERIES}), {"dev": lambda: {"q3": {"a": 1}, "q1": {"a": 0}}})
    assert list(collection.queries("dev")) == [QUERIES[0], QUERIES[2]]
    assert list(collection.queries()) == QUERIES


def test_a_split_of_queries_needs_no_qrels() -> None:
    collection = Collection("here", None, readers({"train": QUERIES[:2], "dev": QUERIES[2:]}))
    assert list(collection.queries("dev")) == QUERIES[2:]
    assert list(collection.queries()) == QUERIES


def test_qrels_of_no_split_serve_any() -> None:
    collection = Collection("here", None, readers({"": QUERIES}), {"": lambda: {"q2": {"a": 1}}})
    assert collection.qrels("dev") == {"q2": {"a": 1}}
    assert list(collection.queries("dev")) == QUERIES[1:2]


def test_all_queries_are_those_of_the_file_for_all_splits() -> None:
    collection = Collection("here", None, readers({"": QUERIES, "dev": QUERIES[:1]}))
    assert list(collection.queries()) == QUERIES


def test_a_query_of_several_splits_comes_once_and_two_of_one_id_are_told() -> None:
    splits = {"train": QUERIES, "dev": [QUERIES[1], Query("q4", "four")]}
    assert list(Collection("here", None, readers(splits)).queries()) == [*QUERIES, Query("q4", "four")]
    queries = Collection("here", None, readers({"train": QUERIES, "dev": [Query("q1", "other")]})).queries()
    with pytest.raises(DataError, match="here: query 'q1' is another one in train than in dev; name a split"):
        list(queries)


def test_a_missing_split_names_those_there_are() -> None:
    examples = [Example("q", ["1"], ["2"])]
    collection = Collection("here", None, {}, {"dev": dict}, {"train": lambda: iter(examples)})
    assert list(collection.examples("train")) == examples
    with pytest.raises(DataError, match="here: no such split of its qrels: 'test'; it has dev"):
        collection.qrels("test")
    with pytest.raises(DataError, match="here: no such split of its training examples: 'dev'; it has train"):
        collection.examples("dev")


def test_a_missing_role_is_told() -> None:
    collection = Collection("here")
    for ask, message in [
        (collection.passages, "here: holds no passages"),
        (collection.queries, "here: holds no queries"),
        (lambda: collection.qrels("dev"), "here: holds no qrels"),
        (lambda: collection.examples("dev"), "here: holds no training examples"),
    ]:
        with pytest.raises(DataError, match=message):
            ask()
