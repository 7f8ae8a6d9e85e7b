"""Datasets of ir_datasets, registered here from local files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seedcli.base.config import read_recipe
from seedcli.base.errors import DataError
from seedcli.data.records import Example, Passage, Query
from seedcli.data.sources import open_collection, source_path

PASSAGES = [Passage("1", "", "one"), Passage("2", "", "two")]


class Article(NamedTuple):
    doc_id: str
    headline: str
    body: str
    url: str

    def default_text(self) -> str:
        return f"{self.headline} {self.body}"


class Abstract(NamedTuple):
    doc_id: str
    title: str
    abstract: str
    body: str

    def default_text(self) -> str:
        return f"{self.title} {self.abstract} {self.body}"


class Page(NamedTuple):
    doc_id: str
    body: bytes

    def default_text(self) -> str:
        return self.body.decode()


class Image(NamedTuple):
    doc_id: str
    png: bytes


class Topic(NamedTuple):
    query_id: str
    title: str
    description: str


class Cast(NamedTuple):
    query_id: str
    raw_utterance: str
    answers: tuple[str, ...]

    def default_text(self) -> str:
        return self.raw_utterance


@pytest.fixture(scope="module")
def ir_datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, with a dataset seed-test of passages, and below it dev, train and dev/small."""
    folder = tmp_path_factory.mktemp("irds")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("IR_DATASETS_HOME", str(folder / "home"))
        import ir_datasets
        from ir_datasets.datasets.base import Dataset
        from ir_datasets.formats import TrecQrels, TsvDocPairs, TsvDocs, TsvQueries
        from ir_datasets.util import LocalDownload

        def local(name: str, text: str) -> Any:
            (folder / name).write_text(text)
            return LocalDownload(folder / name)

        documents = TsvDocs(local("collection.tsv", "1\tone\n2\ttwo\n"))
        dev = TsvQueries(local("dev.tsv", "q1\tfirst\nq2\tsecond\n"))
        train = TsvQueries(local("train.tsv", "q3\tthird\n"))
        qrels = TrecQrels(local("dev.qrels", "q1 0 1 1\nq1 0 2 0\n"), {})
        pairs = TsvDocPairs(local("pairs.tsv", "q3\t2\t1\n"))
        absent = TsvDocs(LocalDownload(folder / "absent.tsv"))
        for name, parts in {
            "seed-test": [documents],
            "seed-test/dev": [documents, dev, qrels],
            "seed-test/dev/small": [documents, dev, qrels],
            "seed-test/train": [documents, train, pairs],
            "seed-absent": [absent],
        }.items():
            if name not in list(ir_datasets.registry):
                ir_datasets.registry.register(name, Dataset(*parts))
        yield ir_datasets


def records(name: str, docs: list[Any], queries: list[Any]) -> None:
    """A dataset of records as they are."""
    import ir_datasets
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.formats import BaseDocs, BaseQueries

    class Docs(BaseDocs):  # type: ignore[misc]
        def docs_iter(self) -> Iterator[Any]:
            return iter(docs)

        def docs_handler(self) -> Any:
            return self

    class Queries(BaseQueries):  # type: ignore[misc]
        def queries_iter(self) -> Iterator[Any]:
            return iter(queries)

        def queries_handler(self) -> Any:
            return self

    ir_datasets.registry.register(name, Dataset(Docs(), Queries()))


@pytest.mark.usefixtures("ir_datasets")
def test_a_dataset_is_a_collection_and_those_below_it_are_its_splits() -> None:
    collection = open_collection("irds:seed-test")
    assert list(collection.passages()) == PASSAGES
    assert list(collection.queries("dev")) == [Query("q1", "first")]  # q2 isn't judged
    assert list(collection.queries("train")) == [Query("q3", "third")]
    assert [query.id for query in collection.queries()] == ["q1", "q2", "q3"]
    assert collection.qrels("dev/small") == {"q1": {"1": 1, "2": 0}}
    assert list(collection.examples("train")) == [Example("q3", ["2"], ["1"])]
    with pytest.raises(DataError, match="irds:seed-test: no such split of its qrels: 'test'; it has dev, dev/small"):
        collection.qrels("test")


@pytest.mark.usefixtures("ir_datasets")
def test_a_dataset_that_is_a_split_serves_any() -> None:
    collection = open_collection("irds:seed-test/dev")
    assert list(collection.passages()) == PASSAGES
    assert [query.id for query in collection.queries()] == ["q1", "q2"]
    assert collection.qrels("test") == {"q1": {"1": 1, "2": 0}}
    assert [query.id for query in collection.queries("test")] == ["q1"]


@pytest.mark.usefixtures("ir_datasets")
def test_records_are_read_by_the_fields_they_have() -> None:
    docs = [
        Article("a", "head", "body", "http://u"),
        Abstract("b", "t", "abstract", "body"),
        Page("c", b"bytes"),
    ]
    records("seed-fields", docs, [Topic("1", "title", "long"), Cast("2", "spoken", ("x", "y"))])
    collection = open_collection("irds:seed-fields")
    assert list(collection.passages()) == [
        Passage("a", "head", "body", "http://u"),
        Passage("b", "", "t abstract body"),
        Passage("c", "", "bytes"),
    ]
    assert list(collection.queries()) == [Query("1", "title"), Query("2", "spoken", ("x", "y"))]


@pytest.mark.usefixtures("ir_datasets")
def test_records_without_a_text_are_told() -> None:
    records("seed-images", [Image("a", b"")], [])
    with pytest.raises(DataError, match="irds:seed-images: no text among its fields: doc_id, png"):
        list(open_collection("irds:seed-images").passages())


@pytest.mark.usefixtures("ir_datasets")
def test_a_folder_in_the_cache_stands_for_a_dataset(cache: Path) -> None:
    folder = source_path("irds:seed-test/dev")
    assert folder == source_path("irds:seed-test/dev") == cache / "irds-seed-test%2Fdev"
    assert read_recipe(folder / "collection.yaml") == {"irds": "seed-test/dev"}
    assert list(open_collection(folder).passages()) == PASSAGES


@pytest.mark.usefixtures("ir_datasets")
def test_an_unknown_dataset_is_told_with_those_of_like_names(cache: Path) -> None:
    with pytest.raises(DataError, match="irds:seed-tset: no such dataset in ir_datasets: did you mean seed-test"):
        open_collection("irds:seed-tset")
    with pytest.raises(DataError, match="irds:%%%%: no such dataset in ir_datasets: see https"):
        source_path("irds:%%%%")
    assert not any("tset" in path.name for path in cache.iterdir())


@pytest.mark.usefixtures("ir_datasets")
def test_a_dataset_that_can_t_be_fetched_is_told() -> None:
    with pytest.raises(DataError, match=r"irds:seed-absent: ir_datasets did not give it \(.*absent\.tsv\)"):
        list(open_collection("irds:seed-absent").passages())


@pytest.mark.usefixtures("ir_datasets")
def test_real_datasets_have_the_splits_that_people_name() -> None:
    collection = open_collection("irds:msmarco-passage")  # nothing is fetched to open it
    assert {"dev", "dev/small", "train", "trec-dl-2019"} <= collection.qrels_readers.keys()
    assert {"dev", "dev/small", "train"} <= collection.query_readers.keys()
    assert "train/triples-small" in collection.example_readers
    assert "" not in collection.query_readers
