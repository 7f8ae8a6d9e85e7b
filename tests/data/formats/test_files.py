"""Single files: what each is taken for by its name and first line, and what it is read as."""

import gzip
from pathlib import Path

import pytest

from seedcli.base.errors import DataError
from seedcli.data.collections import Collection
from seedcli.data.formats.files import open_file
from seedcli.data.records import Example, Passage, Query


def opened(folder: Path, name: str, text: str) -> Collection:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return open_file(path)


def kinds(collection: Collection) -> set[str]:
    readers = {
        "passages": collection.passage_reader,
        "queries": collection.query_readers,
        "qrels": collection.qrels_readers,
        "examples": collection.example_readers,
    }
    return {kind for kind, reader in readers.items() if reader}


@pytest.mark.parametrize(
    ("name", "text", "passage"),
    [
        ("a.jsonl", '{"_id": "1", "title": "t", "text": "one"}\n', Passage("1", "t", "one")),
        ("a.jsonl.gz", '{"docid": 1, "contents": "one"}\n', Passage("1", "", "one")),
        ("a.json", '\n{"id": "1", "abstract": "one"}\n', Passage("1", "", "one")),
        ("collection.tsv", "1\tone\n", Passage("1", "", "one")),
        ("collection.tsv.gz", "id\tone\n", Passage("id", "", "one")),
        ("a.tsv", "id\ttext\ttitle\n1\tone\tt\n", Passage("1", "t", "one")),
        ("psgs_w100.tsv", 'id\ttext\ttitle\n1\t"one ""1"""\t"t"\n', Passage("1", "t", 'one "1"')),
        ("a.tsv", "docno\theadline\tbody\turl\n1\tt\tone\tu\n", Passage("1", "t", "one", "u")),
        ("msmarco-docs.tsv", "D1\thttp://u\tt\tone\n", Passage("D1", "t", "one", "http://u")),
        ("a.csv", 'text,id\n"one, two",1\n', Passage("1", "", "one, two")),
        ("news.tsv", "N1\tsports\tgolf\tt\tone\thttp://u\t[]\t[]\n", Passage("N1", "t", "one", "http://u")),
    ],
)
def test_passages_come_in_many_files(tmp_path: Path, name: str, text: str, passage: Passage) -> None:
    assert list(opened(tmp_path, name, text).passages()) == [passage]


@pytest.mark.parametrize(
    ("name", "text", "query"),
    [
        ("a.jsonl", '{"qid": 1, "query": "who"}\n', Query("1", "who")),
        ("a.jsonl", '{"question": "who", "answer": ["a"]}\n', Query("0", "who", ("a",))),
        ("topics.dev.tsv.gz", "1\twho\n", Query("1", "who")),
        ("a.tsv", "qid\tquestion\n1\twho\n", Query("1", "who")),
        ("a.csv", "who\t['a', \"b\"]\n", Query("0", "who", ("a", "b"))),
        ("topics.301.txt", "\n<top>\n<num> Number: 301\n<title> who\n</top>\n", Query("301", "who")),
    ],
)
def test_queries_come_in_many_files(tmp_path: Path, name: str, text: str, query: Query) -> None:
    assert list(opened(tmp_path, name, text).queries()) == [query]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qrels.txt", "q 0 d 1\n"),
        ("qrels", "q Q0 d 1\n"),
        ("a.tsv", "q\t0\td\t1\n"),
        ("a.tsv", "q\td\t1\n"),
        ("a.tsv.gz", "query-id\tcorpus-id\tscore\nq\td\t1\n"),
        ("a.jsonl", '{"query-id": "q", "corpus-id": "d", "score": 1}\n'),
        ("a.csv", "qid,docno,rel\nq,d,1\n"),
    ],
)
def test_qrels_come_in_many_files(tmp_path: Path, name: str, text: str) -> None:
    assert opened(tmp_path, name, text).qrels("any") == {"q": {"d": 1}}


TEXTS = Example(Query("", "who is"), (Passage("", "", "a b"),), (Passage("", "", "c"),))


@pytest.mark.parametrize(
    ("name", "text", "example"),
    [
        ("a.tsv", "q\td\te\n", Example("q", ("d",), ("e",))),
        ("qidpidtriples.train.tsv.gz", "1\t2\t3\n", Example("1", ("2",), ("3",))),
        ("triples.train.tsv", "who is\ta b\tc\n", TEXTS),
        ("a.jsonl", '{"query": "who is", "positive": "a b", "negative": "c"}\n', TEXTS),
        (
            "nq-train.json",
            '[\n{"question": "who is", "answers": [], "positive_ctxs": [{"title": "", "text": "a b"}],'
            ' "hard_negative_ctxs": [{"title": "", "text": "c"}], "negative_ctxs": []}\n]\n',
            TEXTS,
        ),
    ],
)
def test_examples_come_in_many_files(tmp_path: Path, name: str, text: str, example: Example) -> None:
    (read,) = opened(tmp_path, name, text).examples("train")
    assert (read.query, list(read.positives), list(read.negatives)) == (
        example.query,
        list(example.positives),
        list(example.negatives),
    )


def test_a_file_is_what_it_can_be_and_nothing_else(tmp_path: Path) -> None:
    assert kinds(opened(tmp_path, "a.tsv", "1\tone\n")) == {"passages", "queries"}
    assert kinds(opened(tmp_path, "a.jsonl", '{"id": 1, "text": "one"}')) == {"passages", "queries"}
    assert kinds(opened(tmp_path, "a.jsonl", '{"docid": 1, "text": "one"}')) == {"passages"}
    assert kinds(opened(tmp_path, "a.tsv", "1\t2\t3\n")) == {"qrels", "examples"}
    assert kinds(opened(tmp_path, "qidpidtriples.train.tsv.gz", "1\t2\t3\n")) == {"examples"}
    assert kinds(opened(tmp_path, "qrels.train.tsv", "1\t2\t3\n")) == {"qrels"}
    triples = opened(tmp_path, "a.tsv", "q\td\te\n")
    assert kinds(triples) == {"examples"}
    with pytest.raises(DataError, match=r"a\.tsv: holds no passages"):
        triples.passages()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"_id": "1"', r"a\.jsonl:1: not JSON"),
        ("a.jsonl", "[1, 2]\n", r"a\.jsonl:1: expected an object"),
        ("a.jsonl", '{"key": "1", "text": "one"}\n', r"a\.jsonl:1: no field called _id, id, .*; it has 'key', 'text'"),
        ("a.csv", "key,text\n1,one\n", r"a\.csv:2: no field called _id, id, .*; it has 'key', 'text'"),
        ("a.tsv", "1\tone\n2\n", r"a\.tsv:2: "),
    ],
)
def test_a_mistake_in_passages_is_told_by_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(opened(tmp_path, name, text).passages())


@pytest.mark.parametrize(("name", "text"), [("a.csv", "q,p,g\n1,2,3\n"), ("a.jsonl", '{"q": 1, "p": 2, "g": 3}\n')])
def test_fields_of_unknown_names_are_told_in_every_role(tmp_path: Path, name: str, text: str) -> None:
    collection = opened(tmp_path, name, text)
    with pytest.raises(DataError, match=r"no field called query-id, .*; it has 'q', 'p', 'g'; name the query in a"):
        collection.qrels("test")
    with pytest.raises(DataError, match=r"no field called query, question, anchor; it has 'q', 'p', 'g'"):
        list(collection.examples("train"))


@pytest.mark.parametrize(("name", "text"), [("a.txt", "some words\n"), ("a.tsv", "1\t2\t3\t4\t5\n")])
def test_a_file_of_no_known_kind_says_what_is_understood(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(DataError) as told:
        opened(tmp_path, name, text)
    assert "not a file of a known kind; give a folder (with collection.yaml," in str(told.value)
    assert len(str(told.value).splitlines()) == 2


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tsv: an empty file"):
        opened(tmp_path, "a.tsv", "\n \n")


def test_a_line_that_is_too_long_to_look_at_is_read_all_the_same(tmp_path: Path) -> None:
    words = "word " * 50_000
    assert list(opened(tmp_path, "a.jsonl", f'{{"text": "{words}", "id": 1}}').passages()) == [Passage("1", "", words)]
    assert list(opened(tmp_path, "a.tsv", f"1\tu\tt\t{words}").passages()) == [Passage("1", "t", words, "u")]
