"""Where a store is, what its index is made with, and how long a server that is away is asked."""

from collections.abc import Callable
from typing import Any

import pytest

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Silent
from seedcli.retrieval import milvus
from seedcli.retrieval.milvus import Mark, Store, address, index_of, is_path


@pytest.mark.parametrize(("store", "uri", "path"), [
    ("milvus:runs/store.db", "runs/store.db", True),
    ("milvus:/data/store.db", "/data/store.db", True),
    ("milvus:http://host:19530", "http://host:19530", False),
    ("milvus:https://host/base", "https://host/base", False),
])  # fmt: skip
def test_a_store_is_a_path_or_an_address(store, uri, path):
    assert address(store) == uri
    assert is_path(uri) == path


@pytest.mark.parametrize(
    "store", ["milvus:", "milvus:store", "store.db", "milvus:host:19530", "milvus:ftp://host", "faiss:x.db"]
)
def test_anything_else_is_refused(store):
    with pytest.raises(ConfigError, match="--store"):
        address(store)


def test_indexes_are_made_with_what_their_size_asks_for():
    """Lists: four times the root of the number; codes: a byte for the fewest numbers, four or more, that divide all."""
    mark = Mark("v", 10_000, 30, "flat")
    assert index_of(mark)[:2] == ("FLAT", {})
    assert index_of(mark._replace(kind="ivf"))[:2] == ("IVF_FLAT", {"nlist": 400})
    assert index_of(mark._replace(kind="ivf")).search(10) == {"nprobe": 16}
    assert index_of(mark._replace(kind="ivf", size=10**6)).search(10) == {"nprobe": 125}
    assert index_of(mark._replace(kind="ivf")).search(1_000) == {"nprobe": 160}  # lists that hold four times as many
    assert index_of(mark._replace(kind="ivf", size=10**12)).build == {"nlist": 65_536}
    assert index_of(mark._replace(kind="ivf", size=1)).search(10) == {"nprobe": 4}
    assert index_of(mark._replace(kind="ivfpq"))[:2] == ("IVF_PQ", {"nlist": 400, "m": 6, "nbits": 8})
    assert index_of(mark._replace(kind="hnsw")).search(10) == {"ef": 128}
    assert index_of(mark._replace(kind="hnsw")).search(1_000) == {"ef": 2_000}


class Heard(Silent):
    def __init__(self) -> None:
        self.lines = list[str]()

    def say(self, line: str) -> None:
        self.lines.append(line)


class Clock:
    """Time that passes in sleep alone."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, pause: float) -> None:
        self.pauses.append(pause)
        self.now += pause


@pytest.fixture
def asked(monkeypatch) -> Callable[..., Any]:
    """Ask a store whose server raises these errors one after the other; the answer, the pauses and what was said."""
    pytest.importorskip("pymilvus", reason='pip install "seedcli[milvus]"')

    def ask(errors: list[Exception], patience: float = 60.0) -> tuple[str, list[float], list[str]]:
        clock, heard, waiting = Clock(), Heard(), list(errors)
        monkeypatch.setattr(milvus, "time", clock)
        store = Store("http://host:19530", "c", patience, heard)
        monkeypatch.setattr(store, "_connected", object)
        monkeypatch.setattr(store, "close", lambda: None)

        def question(_: Any) -> str:
            if waiting:
                raise waiting.pop(0)
            return "answer"

        try:
            return store.ask(question), clock.pauses, heard.lines
        except DataError as error:
            return str(error), clock.pauses, heard.lines

    return ask


def away(code: Any = 2, **flags: Any) -> Exception:
    from pymilvus.exceptions import MilvusException

    return MilvusException(code, "Fail connecting", **flags)


def test_pauses_double_with_jitter_up_to_a_bound(asked):
    told, pauses, lines = asked([away() for _ in range(9)], patience=1e9)
    assert told == "answer"
    for pause, most in zip(pauses, [0.5, 1, 2, 4, 8, 15, 15, 15, 15], strict=True):
        assert most / 2 <= pause <= most
    assert len({pause / most for pause, most in zip(pauses, [0.5, 1, 2, 4, 8, 15, 15, 15, 15], strict=True)}) == 9
    assert lines == ["milvus:http://host:19530: no answer (Fail connecting); trying again for up to 1000000000 s"]


def test_patience_ends_with_what_was_tried_and_what_to_do(asked):
    told, pauses, _ = asked([away() for _ in range(99)], patience=20.0)
    assert sum(pauses) <= 20
    assert told.startswith(f"milvus:http://host:19530: no answer in {sum(pauses):.0f} s, asked {len(pauses) + 1} times")
    assert told.endswith("then repeat the command: it goes on (--set patience=SECONDS waits longer)")


def test_what_asking_again_can_not_mend_is_told_at_once(asked):
    for code, passes in ((8, True), (1, False), (1100, False)):
        told, pauses, _ = asked([away(code)])
        assert (told == "answer") == passes
        assert len(pauses) == passes
    assert asked([away(1, retriable=True)])[0] == "answer"
    assert asked([away(1)])[0] == "milvus:http://host:19530: refused: Fail connecting"
