"""Datasets of ir_datasets, which fetches what it lacks: `irds:ID`, such as irds:msmarco-passage/dev/small.

A sub-dataset is a split: dev/small of msmarco-passage. A dataset's own queries and qrels serve any other split.
"""

import difflib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from seedcli.base.config import dump_yaml
from seedcli.base.errors import DataError
from seedcli.base.files import cache_folder, made_whole
from seedcli.base.progress import Progress
from seedcli.data.collections import Collection
from seedcli.data.formats.fields import RECIPE
from seedcli.data.records import Example, Passage, Qrels, Query, clean

TEXTS = ("text", "body", "contents")
QUESTIONS = ("text", "title", "query")


def dataset_folder(id_: str, progress: Progress) -> Path:  # noqa: ARG001
    """A folder in the cache that stands for a dataset: its collection.yaml names it."""
    folder = cache_folder() / f"irds-{quote(id_, safe='')}"
    if not folder.is_dir():
        open_dataset(id_)
        with made_whole(folder) as aside:
            (aside / RECIPE).write_text(dump_yaml({"irds": id_}), encoding="utf-8")
    return folder


def open_dataset(id_: str) -> Collection:
    """What a dataset holds. Raises DataError for an unknown id."""
    import ir_datasets

    try:
        dataset = ir_datasets.load(id_)
    except KeyError:
        near = difflib.get_close_matches(id_, list(ir_datasets.registry), n=3)
        meant = f"did you mean {', '.join(near)}?" if near else "see https://ir-datasets.com for what there is"
        raise DataError(f"irds:{id_}: no such dataset in ir_datasets: {meant}") from None
    below = [name for name in ir_datasets.registry if name.startswith(f"{id_}/")]
    splits = {"": dataset} | {name.removeprefix(f"{id_}/"): ir_datasets.load(name) for name in below}

    def by_split(what: str, reader: Callable[[str, Any], Any]) -> dict[str, Any]:
        return {
            split: partial(reader, f"irds:{id_}/{split}".rstrip("/"), part)
            for split, part in splits.items()
            if part.has(what)
        }

    return Collection(
        f"irds:{id_}",
        partial(_passages, f"irds:{id_}", dataset) if dataset.has("docs") else None,
        by_split("queries", _queries),
        by_split("qrels", _qrels),
        by_split("docpairs", _examples),
    )


def _passages(where: str, dataset: Any) -> Iterator[Passage]:
    for document in _fetched(where, dataset.docs_iter):
        title, url = (_text(document, names) or "" for names in (("title", "headline"), ("url",)))
        text = None if hasattr(document, "abstract") else _text(document, TEXTS)  # a body may lack it
        if text is None:
            title, text = "", _default_text(where, document)
        yield Passage(str(document.doc_id), clean(title), clean(text), clean(url))


def _queries(where: str, dataset: Any) -> Iterator[Query]:
    for query in _fetched(where, dataset.queries_iter):
        text = _text(query, QUESTIONS)
        answers = tuple(map(clean, getattr(query, "answers", None) or ()))
        yield Query(str(query.query_id), clean(_default_text(where, query) if text is None else text), answers)


def _qrels(where: str, dataset: Any) -> Qrels:
    qrels: Qrels = {}
    for judged in _fetched(where, dataset.qrels_iter):
        qrels.setdefault(str(judged.query_id), {})[str(judged.doc_id)] = int(judged.relevance)
    return qrels


def _examples(where: str, dataset: Any) -> Iterator[Example]:
    for pair in _fetched(where, dataset.docpairs_iter):
        yield Example(str(pair.query_id), [str(pair.doc_id_a)], [str(pair.doc_id_b)])


def _fetched(where: str, begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """The records of a dataset, fetched when they aren't there yet."""
    try:
        yield from begin()
    except Exception as error:  # whatever the network, the disk and a dataset's own reader raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{where}: ir_datasets did not give it ({reason:.200})") from None


def _text(record: Any, names: tuple[str, ...]) -> str | None:
    """The first of some fields that holds a text."""
    return next((value for name in names if isinstance(value := getattr(record, name, None), str)), None)


def _default_text(where: str, record: Any) -> str:
    """What ir_datasets takes for a record's text."""
    if not hasattr(record, "default_text"):
        raise DataError(f"{where}: no text among its fields: {', '.join(record._fields)}")
    return str(record.default_text())
