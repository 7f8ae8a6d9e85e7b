"""DPR's files: texts in quotes, questions in two forms, and an array of examples that is never held whole."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from seedcli.base.errors import DataError
from seedcli.data.formats import dpr
from seedcli.data.formats.dpr import open_folder, read_examples, read_passages, read_questions
from seedcli.data.records import SEPARATOR, Example, Passage, Query

RECORDS: list[dict[str, Any]] = [
    {
        "dataset": "nq",
        "question": 'who says "so" [{,\\ \u00fc \U0001f600',
        "answers": ["A. B.", f"c{SEPARATOR}d"],
        "positive_ctxs": [{"title": "T", "text": "right\n]}, {", "score": -1.5e-3, "passage_id": "11"}],
        "negative_ctxs": [{"title": "", "text": "any", "psg_id": "12"}],
        "hard_negative_ctxs": [{"title": None, "text": "hard", "passage_id": 13}, {"title": "H", "text": "bare"}],
    },
    {"question": "no right one", "answers": [], "positive_ctxs": [], "extra": [True, None, {"a": [12, 3.5]}]},
    {"question": "last", "positive_ctxs": [{"title": "T", "text": "t"}], "negative_ctxs": None},
]
EXAMPLES = [
    Example(
        Query("", 'who says "so" [{,\\ ü 😀', ("A. B.", "c d")),
        (Passage("11", "T", "right\n]}, {"),),
        (Passage("13", "", "hard"), Passage("", "H", "bare"), Passage("12", "", "any")),
    ),
    Example(Query("", "no right one"), (), ()),
    Example(Query("", "last"), (Passage("", "T", "t"),), ()),
]
WRITTEN = {
    "indented": json.dumps(RECORDS, indent=4),
    "one line": json.dumps(RECORDS, ensure_ascii=False),
    "lines": "".join(json.dumps(record) + "\n" for record in RECORDS),
    "array of lines": "\ufeff\n [\n" + ",\n".join(json.dumps(record) for record in RECORDS) + "\n]\n\n",
}


def written(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_a_passage_stands_in_quotes_when_it_holds_some(tmp_path: Path) -> None:
    lines = [
        "id\ttext\ttitle",
        '1\t"Aaron ( or ; ""Ahärôn"") is a prophet"\tAaron',
        '2\tno "quotes" around\t"The ""A"" Team"',
        '3\t"one" and "two"\t"',
        '4\t""\t',
        f"5\ta{SEPARATOR}b\tT",
    ]
    assert list(read_passages(written(tmp_path / "psgs_w100.tsv.gz", "\n".join(lines)))) == [
        Passage("1", "Aaron", 'Aaron ( or ; "Ahärôn") is a prophet'),
        Passage("2", 'The "A" Team', 'no "quotes" around'),
        Passage("3", '"', '"one" and "two"'),
        Passage("4", "", ""),
        Passage("5", "T", "a b"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\ttext\ttitle\n1\ta\n", "p.tsv:2: 2 columns, where 3 are expected: id, text, title"),
        ("1\ta\tb\n2\tc\td\n", "p.tsv:2: no field 'title'"),
        ("id\ttext\ttitle\n\ta\tb\n", "p.tsv:2: the id 'id' is empty"),
    ],
)
def test_a_broken_passage_is_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        list(read_passages(written(tmp_path / "p.tsv", text)))
    assert message in str(error.value)


def test_questions_in_columns_are_numbered_from_0(tmp_path: Path) -> None:
    lines = [
        "who is it\t['A. B.', 'C']\r",
        'which song\t"[\'x\', ""D \'s \\xfc""]"\r',
        '"a ""b"" c"\t(\'\\ud83d\',)',
        "none\t[]",
    ]
    assert list(read_questions(written(tmp_path / "nq-test.qa.csv", "\n".join(lines)))) == [
        Query("0", "who is it", ("A. B.", "C")),
        Query("1", "which song", ("x", "D 's ü")),
        Query("2", 'a "b" c', ("?",)),
        Query("3", "none", ()),
    ]


def test_questions_may_be_json_lines(tmp_path: Path) -> None:
    lines = [{"question": "who", "answer": ["a\\s+b"]}, {"question": "what", "answers": ["c", "d"]}]
    path = written(tmp_path / "questions.txt", "\n".join(map(json.dumps, lines)))
    assert list(read_questions(path)) == [Query("0", "who", ("a\\s+b",)), Query("1", "what", ("c", "d"))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("who", "q.txt:2: expected \"question TAB ['answer', ...]\", got 'who'"),
        ("who\t['a']\tb", "q.txt:2: expected \"question TAB ['answer', ...]\""),
        ("who\tan answer", "q.txt:2: expected a list of answers, got 'an answer'"),
        ("who\t'text'", "q.txt:2: expected a list of answers, got 'text'"),
        ("who\t[1, 2]", "q.txt:2: expected a list of answers, got [1, 2]"),
        ("who\t['a'", "q.txt:2: expected a list of answers, got \"['a'\""),
        ("who\t[open('q.txt').read()]", "q.txt:2: expected a list of answers"),
        ("who\t" + "(" * 50_000, "q.txt:2: expected a list of answers"),
        ("who\t" + "-" * 50_000 + "1", "q.txt:2: expected a list of answers"),
        ("who\t[{}: {[]}]", "q.txt:2: expected a list of answers"),
        ("who\t['\0']", "q.txt:2: expected a list of answers"),
    ],
)
def test_answers_that_are_no_list_of_texts_are_told_by_line(tmp_path: Path, line: str, message: str) -> None:
    questions = read_questions(written(tmp_path / "q.txt", f"fine\t['a']\n{line}\n"))
    assert next(questions).text == "fine"
    with pytest.raises(DataError) as error:
        next(questions)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "who", "answer": "text"}', "q.txt:1: expected a list of answers, got 'text'"),
        ('{"question": "who"}', "q.txt:1: expected a list of answers, got None"),
        ('{"answer": ["a"]}', "q.txt:1: no field 'question'; it has 'answer'"),
        ("\n", "q.txt: no questions in it"),
    ],
)
def test_questions_that_lack_something_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        list(read_questions(written(tmp_path / "q.txt", text)))
    assert message in str(error.value)


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("name", ["train.json", "train.json.gz"])
def test_examples_are_the_same_in_every_form_of_json(tmp_path: Path, form: str, name: str) -> None:
    assert list(read_examples(written(tmp_path / name, WRITTEN[form]))) == EXAMPLES


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 64])
@pytest.mark.parametrize("form", ["indented", "one line", "array of lines"])
def test_records_may_be_cut_anywhere_by_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, chunk: int
) -> None:
    """Inside names, numbers, escapes and characters of several bytes."""
    monkeypatch.setattr(dpr, "CHUNK", chunk)
    assert list(read_examples(written(tmp_path / "train.json", WRITTEN[form]))) == EXAMPLES


def test_an_array_that_lost_a_character_is_told_by_the_line_that_json_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpr, "CHUNK", 50)
    broken = {}
    for place in range(1, len(WRITTEN["indented"]), 2):
        text = WRITTEN["indented"][:place] + WRITTEN["indented"][place + 1 :]
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            broken[text] = error.lineno
    assert len(broken) > 100
    for text, line in broken.items():
        with pytest.raises(DataError, match=rf"train\.json:{line}: (not JSON|expected)"):
            list(read_examples(written(tmp_path / "train.json", text)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.json: no records in it"),
        ("[]", "train.json:1: expected an object {...}, got ']'"),
        ("[", "train.json:1: expected an object {...}, got the end of the file"),
        ('["a"]', "train.json:1: expected an object {...}, got '\"a\"]'"),
        ('[{"question": "a", "positive_ctxs": []},\n]', "train.json:2: expected an object {...}, got ']'"),
        ('[{"question": "a", "positive_ctxs": []}\n', "train.json:2: expected ',' or ']', got the end of the file"),
        ('[{"question": "a", "positive_ctxs": []}]\n\n x', "train.json:3: expected the end of the file, got 'x'"),
        ('[\n{"question": "a", "positive', "train.json:2: not JSON (Unterminated string"),
        ('[\n{"question": "a", "ctxs": []}]', "train.json:2: no field 'positive_ctxs'; it has 'question', 'ctxs'"),
        ('[\n{"positive_ctxs": []}]', "train.json:2: no field 'question'"),
        (
            '[{"question": "a", "positive_ctxs": {}}]',
            "train.json:1: the field 'positive_ctxs' is not a list of passages",
        ),
        ('[{"question": "a", "positive_ctxs": ["b"]}]', "the field 'positive_ctxs' is not a list of passages"),
        ('[{"question": "a", "positive_ctxs": [{"title": "b"}]}]', "train.json:1: no field 'text'; it has 'title'"),
        ('[{"question": "a", "answers": "b", "positive_ctxs": []}]', "train.json:1: expected a list of answers"),
        ('[{"question": ' + "[" * 100_000, "train.json:1: not JSON (nested too deep)"),
    ],
)
def test_what_is_no_array_of_examples_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        list(read_examples(written(tmp_path / "train.json", text)))
    assert message in str(error.value)


def test_bytes_that_are_no_text_and_broken_files_are_told(tmp_path: Path) -> None:
    data = WRITTEN["indented"].encode()
    (tmp_path / "train.json").write_bytes(data.replace(b"no right", b"no \xff"))
    line = 1 + data[: data.index(b"no right")].count(b"\n")
    with pytest.raises(DataError, match=rf"train\.json:{line}: not UTF-8 text"):
        list(read_examples(tmp_path / "train.json"))
    (tmp_path / "train.json.gz").write_bytes(gzip.compress(data)[:-20])
    with pytest.raises(DataError, match=r"train\.json\.gz:\d+: broken"):
        list(read_examples(tmp_path / "train.json.gz"))


def test_a_long_array_is_streamed_and_its_first_record_comes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 4 million characters on one line, 64 KiB at a time; its end is broken."""
    monkeypatch.setattr(dpr, "CHUNK", 1 << 16)
    record = json.dumps({"question": "q", "positive_ctxs": [{"title": "t", "text": "x" * 2_000}]})
    path = written(tmp_path / "train.json", "[" + ", ".join([record] * 2_000) + ", {")
    tracemalloc.start()
    examples = read_examples(path)
    assert sum(1 for _ in zip(range(2_000), examples, strict=False)) == 2_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    with pytest.raises(DataError, match="not JSON"):
        next(examples)


def test_a_record_without_an_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpr, "CHUNK", 100)
    monkeypatch.setattr(dpr, "LONGEST", 1_000)
    path = written(tmp_path / "train.json", '[\n{"question": "' + "x" * 5_000)
    with pytest.raises(DataError, match=r"train\.json:2: a record of more than 1,000 characters"):
        next(read_examples(path))


def test_a_folder_has_its_splits_by_the_names_of_files(tmp_path: Path) -> None:
    assert open_folder(tmp_path) is None
    written(tmp_path / "psgs_w100.tsv.gz", "id\ttext\ttitle\n11\ta\tT\n")
    written(tmp_path / "biencoder-nq-train.json.gz", WRITTEN["indented"])
    written(tmp_path / "biencoder-nq-dev.json", WRITTEN["one line"])
    written(tmp_path / "nq-test.qa.csv", "one\t['a']\n")
    written(tmp_path / "nq-dev.csv", "two\t['b']\n")
    collection = open_folder(tmp_path)
    assert collection is not None
    assert list(collection.passages()) == [Passage("11", "T", "a")]
    assert list(collection.examples("train")) == list(collection.examples("dev")) == EXAMPLES
    assert list(collection.queries("test")) == [Query("0", "one", ("a",))]
    assert list(collection.queries("dev")) == [Query("0", "two", ("b",))]


def test_two_sets_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    written(tmp_path / "psgs_w100.tsv", "id\ttext\ttitle\n11\ta\tT\n")
    written(tmp_path / "nq-test.qa.csv", "one\t['a']\n")
    written(tmp_path / "topics.dpr.trivia.test.txt", "two\t['b']\n")
    written(tmp_path / "trivia-dev.tsv", "three\t['c']\n")
    collection = open_folder(tmp_path)
    assert collection is not None
    texts = {split: [query.text for query in reader()] for split, reader in collection.query_readers.items()}
    assert texts == {"nq-test": ["one"], "trivia-test": ["two"], "dev": ["three"]}
