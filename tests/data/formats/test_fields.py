"""Named fields: the names that are known, what records are made of them, and where a mistake is."""

import json
from pathlib import Path
from typing import Any

import pytest

from seedcli.base.errors import DataError
from seedcli.data.formats.fields import KNOWN, Told, read_examples, read_passages, read_qrels, read_queries, roles
from seedcli.data.records import Example, Passage, Query


def jsonl(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("id_", KNOWN["passages"]["id"])
@pytest.mark.parametrize("text", KNOWN["passages"]["text"])
def test_passages_are_read_by_known_names(tmp_path: Path, id_: str, text: str) -> None:
    path = jsonl(tmp_path, {id_: 7, text: "one", "headline": "t", "link": "u"}, {id_: "8", text: "two"})
    assert list(read_passages(path)) == [Passage("7", "t", "one", "u"), Passage("8", "", "two")]


def test_a_field_that_the_first_record_leaves_out_is_read_from_others(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"id": "1", "text": "one"}, {"id": "2", "text": "two", "title": "t", "url": "u"})
    assert list(read_passages(path)) == [Passage("1", "", "one"), Passage("2", "t", "two", "u")]


def test_names_that_are_told_go_before_known_ones(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"id": "1", "key": "k", "text": "one", "abstract": "two", "name": "n"})
    told = Told({"id": "key", "text": "abstract", "title": "name"}, ())
    assert list(read_passages(path, told)) == [Passage("k", "n", "two")]


def test_a_tsv_has_a_header_or_columns_that_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("pid\ttitle\tabstract\n1\tt\tone\n")
    assert list(read_passages(path)) == [Passage("1", "t", "one")]
    path.write_text("1\tt\tone\n")
    assert list(read_passages(path, Told({}, ["id", "title", "text"]))) == [Passage("1", "t", "one")]
    assert list(read_passages(path, Told({"text": "b"}, ["id", "a", "b"]))) == [Passage("1", "", "one")]


def test_queries_may_have_answers(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        {"qid": 1, "question": "who", "answers": ["a", "b"]},
        {"qid": 2, "question": "what"},
        {"qid": 3, "question": "where", "answers": None},
    )
    assert list(read_queries(path)) == [Query("1", "who", ("a", "b")), Query("2", "what"), Query("3", "where")]


def test_qrels_are_whole_numbers_however_written(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        {"query-id": "q", "corpus-id": "a", "score": 2},
        {"query-id": "q", "corpus-id": "b", "score": 1.0},
        {"query-id": "r", "corpus-id": 5, "score": "0"},
    )
    assert read_qrels(path) == {"q": {"a": 2, "b": 1}, "r": {"5": 0}}
    for score in (0.5, "high", None):
        with pytest.raises(DataError, match=r"a\.jsonl:1: the grade .* is not a whole number"):
            read_qrels(jsonl(tmp_path, {"query-id": "q", "corpus-id": "a", "score": score}))


@pytest.mark.parametrize(
    "record",
    [
        {"query": "q", "positive": "a", "negative": "b"},
        {"anchor": "q", "positive": "a", "negative": "b"},
        {"query": "q", "pos": ["a"], "neg": ["b"]},
        {"question": "q", "positives": [{"text": "a"}], "negatives": [{"contents": "b", "title": None}]},
    ],
)
def test_examples_hold_texts(tmp_path: Path, record: dict[str, Any]) -> None:
    example = Example(Query("", "q"), [Passage("", "", "a")], [Passage("", "", "b")])
    assert list(read_examples(jsonl(tmp_path, record))) == [example]


def test_examples_may_hold_ids_and_titles_and_no_negatives(tmp_path: Path) -> None:
    passages = [{"docid": "7", "title": "t", "text": "a"}, {"docid": 8, "text": "b"}]
    path = jsonl(tmp_path, {"query_id": 1, "query": "q", "positive_passages": passages, "negative_passages": []})
    assert list(read_examples(path)) == [Example(Query("1", "q"), [Passage("7", "t", "a"), Passage("8", "", "b")], [])]


def test_an_example_of_neither_texts_nor_passages_is_told(tmp_path: Path) -> None:
    for positive in (1, ["a", 2], [{"text": "a"}, "b"]):
        with pytest.raises(DataError, match=r"a\.jsonl:1: the field 'pos' is neither text nor a list of texts"):
            list(read_examples(jsonl(tmp_path, {"query": "q", "pos": positive})))
    with pytest.raises(DataError, match=r"a\.jsonl:1: pos: no field 'text'; it has 'body2'"):
        list(read_examples(jsonl(tmp_path, {"query": "q", "pos": [{"body2": "a"}]})))


def test_a_missing_field_is_told_with_what_there_is(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"id": "1", "body2": "x"})
    with pytest.raises(DataError) as told:
        list(read_passages(path))
    assert str(told.value) == (
        f"{path}:1: no field called text, contents, content, body, passage, document, abstract; "
        "it has 'id', 'body2'; name the text in a collection.yaml"
    )
    with pytest.raises(DataError, match=r"a\.jsonl:1: no field 'nmae', which collection\.yaml names; it has 'id'"):
        list(read_passages(path, Told({"text": "body2", "title": "nmae"}, ())))


def test_what_records_can_be_is_told_by_their_names() -> None:
    assert roles(["id", "text", "title"]) == {"passages", "queries"}
    assert roles(["docid", "contents"]) == {"passages"}
    assert roles(["qid", "question"]) == {"queries"}
    assert roles(["query-id", "corpus-id", "score"]) == {"qrels"}
    assert roles(["query", "positive"]) == {"examples"}
    assert roles(["1", "some text"]) == set()


def test_a_field_that_a_later_record_has_first_is_read_from_there_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"query": "q", "pos": "p"}\n{"query": "r", "pos": "p", "neg": ["n", "m"]}\n')
    assert [[passage.text for passage in example.negatives] for example in read_examples(path)] == [[], ["n", "m"]]
    path.write_text('{"id": "1", "text": "a"}\n{"id": "2", "text": "b", "headline": "t"}\n')
    assert [passage.title for passage in read_passages(path)] == ["", "t"]
