"""MS MARCO's files, of passages and of documents, named as MS MARCO, TREC's Deep Learning track and Pyserini do."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.data.collections import Collection, PassageFiles
from seedcli.data.formats.filenames import files_by_split, first_file
from seedcli.data.formats.trec import read_qrels
from seedcli.data.lines import field, id_field, read_lines, read_table
from seedcli.data.records import Example, Passage, Query, clean

QUERIES = {
    r"queries\.(.+)\.tsv": r"\1",
    r"msmarco-(?:doc)?(train|dev|test20\d\d)-queries\.tsv": r"\1",
    r"topics\.(?:msmarco-(?:passage|doc)\.)?(.+)\.(?:tsv|txt)": r"\1",
}
QRELS = {
    r"qrels\.(?:msmarco-(?:passage|doc)\.)?(.+)\.(?:tsv|txt)": r"\1",
    r"msmarco-(?:doc)?(train|dev)-qrels\.tsv": r"\1",
    r"(20\d\d)qrels-(?:docs|pass)\.txt": r"test\1",
}
TRIPLES = (
    "qidpidtriples.train.full.2.tsv",
    "qidpidtriples.train.full.tsv",
    "qidpidtriples.train.small.tsv",
    "triples.train.ids.small.tsv",
    "triples.train.full.tsv",
    "triples.train.small.tsv",
)  # those of ids come first


def open_folder(folder: Path) -> Collection | None:
    """The collection in a folder, None where there is neither collection.tsv nor msmarco-docs.tsv."""
    passages, documents = first_file(folder, "collection.tsv"), first_file(folder, "msmarco-docs.tsv")
    triples = first_file(folder, *TRIPLES)
    if passages:
        reader = PassageFiles([passages], read_passages)
    elif documents:
        reader = PassageFiles([documents], read_documents)
    else:
        return None
    return Collection(
        folder,
        reader,
        {split: partial(read_queries, path) for split, path in files_by_split(folder, QUERIES).items()},
        {split: partial(read_qrels, path) for split, path in files_by_split(folder, QRELS).items()},
        {"train": partial(read_triples, triples)} if triples else {},
    )


def read_passages(path: Path) -> Iterator[Passage]:
    """collection.tsv: id, text."""
    for where, row in read_table(path, ("id", "text")):
        yield Passage(id_field(row, "id", where), "", field(row, "text", where))


def read_documents(path: Path) -> Iterator[Passage]:
    """msmarco-docs.tsv: id, url, title, body."""
    for where, row in read_table(path, ("id", "url", "title", "body")):
        title, text, url = (field(row, name, where) for name in ("title", "body", "url"))
        yield Passage(id_field(row, "id", where), title, text, url)


def read_queries(path: Path) -> Iterator[Query]:
    """Queries or topics: id, text."""
    for where, row in read_table(path, ("id", "text")):
        yield Query(id_field(row, "id", where), field(row, "text", where))


def read_triples(path: Path) -> Iterator[Example]:
    """Query, positive, negative: all by their ids, or all as texts. The first line settles which: ids hold no blanks.

    There are 40 million of them, so each line is worked on as little as can be.
    """
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path}: no triples in it")
    as_texts = " " in first[1]
    for number, line in chain([first], lines):
        try:
            query, positive, negative = line.split("\t")
        except ValueError:
            raise DataError(f"{path}:{number}: expected 'query TAB positive TAB negative', got {line!r:.80}") from None
        if as_texts:
            texts = (Passage("", "", clean(positive)),), (Passage("", "", clean(negative)),)
            yield Example(Query("", clean(query)), *texts)
        elif " " in line:
            raise DataError(f"{path}:{number}: expected three ids, as in the first line, got {line!r:.80}")
        else:
            yield Example(query, (positive,), (negative,))
