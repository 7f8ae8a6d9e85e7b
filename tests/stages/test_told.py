"""The next command names what the data at hand holds."""

from pathlib import Path

import pytest

from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.index import IndexConfig
from seedcli.configs.search import SearchConfig
from seedcli.stages.told import next_commands

FILES = {
    "marco/collection.tsv": "1\tone\n",
    "marco/queries.train.tsv": "7\twhat\n",
    "marco/queries.dev.small.tsv": "8\twhat\n",
    "marco/qrels.train.tsv": "7\t0\t1\t1\n",
    "marco/qrels.dev.small.tsv": "8\t0\t1\t1\n",
    "dpr/psgs_w100.tsv": "id\ttext\ttitle\n1\tone\tOne\n",
    "dpr/nq-dev.qa.csv": "what\t['one']\n",
    "passages.jsonl": '{"id": 1, "text": "one"}\n',
    "topics.txt": "<top>\n<num> 8\n<title> what\n</top>\n",
    "triples.jsonl": '{"query": "what", "positive": "one", "negative": "two"}\n',
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)


@pytest.mark.parametrize(
    ("corpus", "queries"),
    [
        ("marco", "marco --split dev.small"),
        ("dpr", "dpr --split dev"),
        ("passages.jsonl", "QUERIES"),
        ("hf:some/name", "hf:some/name --split test"),
    ],
)
def test_an_index_is_searched_for_queries_that_are_there(corpus: str, queries: str) -> None:
    search, _ = next_commands("index", IndexConfig(out=Path("words"), kind="bm25", corpus=corpus))
    assert search == f"seed search --index words --queries {queries} --out run"


@pytest.mark.parametrize(
    ("queries", "split", "qrels"),
    [
        ("marco", "dev.small", "marco --split dev.small"),
        ("dpr", "dev", "QRELS --split dev"),
        ("topics.txt", None, "QRELS"),
        ("hf:some/name", "test", "hf:some/name --split test"),
    ],
)
def test_a_run_is_held_against_qrels_that_are_there(queries: str, split: str | None, qrels: str) -> None:
    (command,) = next_commands("search", SearchConfig(index=["flat"], out=Path("run"), queries=queries, split=split))
    assert command == f"seed evaluate --runs run --qrels {qrels} --out report"


@pytest.mark.parametrize(("data", "corpus"), [("marco", "marco"), ("triples.jsonl", "CORPUS")])
def test_a_retriever_encodes_passages_that_are_there(data: str, corpus: str) -> None:
    (command,) = next_commands("finetune", FinetuneConfig(out=Path("retriever"), model="encoder", data=data))
    assert command == f"seed encode --model retriever --corpus {corpus} --out vectors"
