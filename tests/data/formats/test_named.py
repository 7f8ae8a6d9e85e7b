"""collection.yaml: what it can say of a folder's files, and how its mistakes are told."""

import gzip
import json
from pathlib import Path

import pytest

from seedcli.base.errors import DataError
from seedcli.data.collections import Collection
from seedcli.data.formats.named import open_folder
from seedcli.data.records import Example, Passage, Query


def opened(folder: Path, recipe: str, **files: str) -> Collection:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    (folder / "collection.yaml").write_text(recipe)
    collection = open_folder(folder)
    assert collection is not None
    return collection


def test_a_folder_without_the_file_is_not_of_this_kind(tmp_path: Path) -> None:
    assert open_folder(tmp_path) is None


def test_files_are_read_by_the_names_it_tells(tmp_path: Path) -> None:
    (tmp_path / "papers.tsv.gz").write_bytes(gzip.compress(b"pid\tname\tabstract\n1\tt\tone\n"))
    collection = opened(
        tmp_path,
        """
        passages: {file: papers.tsv.gz, fields: {id: pid, title: name, text: abstract}}
        queries: {file: questions.jsonl, fields: {text: wording}}
        qrels: {train: train.qrels, dev: dev.tsv}
        examples: {train: triples.tsv}
        """,
        questions__jsonl='{"qid": 1, "wording": "who"}\n{"qid": 2, "wording": "what"}\n',
        train__qrels="1 0 1 1\n",
        dev__tsv="query-id\tcorpus-id\tscore\n2\t1\t1\n",
        triples__tsv="1\ta\tb\n",
    )
    assert list(collection.passages()) == [Passage("1", "t", "one")]
    assert list(collection.queries()) == [Query("1", "who"), Query("2", "what")]
    assert list(collection.queries("dev")) == [Query("2", "what")]
    assert [collection.qrels(split) for split in ("train", "dev")] == [{"1": {"1": 1}}, {"2": {"1": 1}}]
    assert list(collection.examples("train")) == [Example("1", ("a",), ("b",))]


def test_columns_name_those_of_a_file_without_a_header(tmp_path: Path) -> None:
    recipe = """
        passages: {file: a.tsv, columns: [id, title, text]}
        queries: {train: {file: b.csv, columns: [text, other, id]}, dev: c.tsv}
        """
    collection = opened(tmp_path, recipe, a__tsv="1\tt\tone\n", b__csv='"who, what",x,1\n', c__tsv="2\twhere\n")
    assert list(collection.passages()) == [Passage("1", "t", "one")]
    assert list(collection.queries("train")) == [Query("1", "who, what")]
    assert list(collection.queries("dev")) == [Query("2", "where")]


def test_a_pattern_names_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    files = {f"part-{number}__jsonl": f'{{"id": {number}, "text": "x"}}' for number in (2, 1, 3)}
    collection = opened(tmp_path, "passages: {file: 'part-*.jsonl'}", **files)
    assert [passage.id for passage in collection.passages()] == ["1", "2", "3"]
    files = {f"qrels-{number}__tsv": f"q\t{number}\t1\n" for number in (1, 2)}
    assert opened(tmp_path, "qrels: {file: qrels-*.tsv}", **files).qrels("any") == {"q": {"1": 1, "2": 1}}


def test_a_link_inside_the_folder_may_lead_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "a[1].tsv").write_text("1\tone\n")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a[1].tsv").symlink_to(tmp_path / "a[1].tsv")
    assert list(opened(tmp_path / "inner", "passages: 'a[1].tsv'").passages()) == [Passage("1", "", "one")]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("passage: a.tsv", "unknown key 'passage': did you mean passages?"),
        ("texts: a.tsv", "unknown key 'texts': expected passages, queries, qrels, examples"),
        ("passages: {files: a.tsv, fields: {}}", "passages: unknown key 'files': did you mean file?"),
        ("passages: {file: a.tsv, fields: {txt: a}}", "passages.fields: unknown key 'txt': did you mean text?"),
        ("passages: {file: a.tsv, fields: [a]}", "passages.fields: expected names of fields, as {text: abstract}"),
        ("passages: {file: a.tsv, fields: {id: 1}}", "passages.fields: expected names of fields, as {text: abstract}"),
        ("passages: {file: a.tsv, columns: id}", "passages.columns: expected a list of names, got 'id'"),
        ("queries: {dev: {file: [a.tsv]}}", "queries.dev: expected a file, or {file: ..., fields: ..., columns: ...}"),
        ("queries: {dev: }", "queries.dev: expected a file, or {file: ..., fields: ..., columns: ...}, got None"),
        ("qrels: {dev: b.tsv}", "qrels.dev: no file 'b.tsv' in"),
        ("qrels: [a.tsv]", "qrels: expected a file, or {file"),
        ("passages: /etc/hosts", "passages: the file '/etc/hosts' lies outside the folder; copy or link it there"),
        ("passages: sub/../../a.tsv", "passages: the file 'sub/../../a.tsv' lies outside the folder"),
        ("passages: {file: a.tsv}\npassages: {file: b.tsv}", ":2: not YAML (the key 'passages' stands twice)"),
        ("{}", "empty; expected passages, queries, qrels, examples"),
        ("- a", "a mapping"),
        ("{irds: cranfield, passages: a.tsv}", "irds: expected the name of a dataset, and no other key"),
        ("irds: [cranfield]", "irds: expected the name of a dataset, and no other key"),
    ],
)
def test_a_mistake_is_told_by_file_and_key(tmp_path: Path, recipe: str, message: str) -> None:
    with pytest.raises(DataError) as told:
        opened(tmp_path, recipe, a__tsv="1\tone\n")
    assert str(told.value).startswith(str(tmp_path / "collection.yaml"))
    assert message in str(told.value)


def test_hidden_files_are_no_part_of_a_collection(tmp_path: Path) -> None:
    """What a folder is known by leaves them out, so they must not decide what is read."""
    for name in ("a.jsonl", "._a.jsonl"):
        (tmp_path / name).write_text(json.dumps({"id": name, "text": "x"}))
    (tmp_path / "collection.yaml").write_text("passages: '*.jsonl'\n")
    collection = open_folder(tmp_path)
    assert collection is not None
    assert [passage.id for passage in collection.passages()] == ["a.jsonl"]
    (tmp_path / "collection.yaml").write_text("passages: ._a.jsonl\n")
    with pytest.raises(DataError, match=r"no file '\._a\.jsonl'"):
        open_folder(tmp_path)
