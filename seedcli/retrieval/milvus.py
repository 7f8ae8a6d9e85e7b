"""A collection of vectors in Milvus, embedded in a folder of this disk or behind an address: filled, and searched.

Its rows are vectors: each with its number among all, which is the primary key, the id of its passage, and its numbers.
Letters: Q queries, n rows of a batch, D their width, c candidates of a query.
"""

import json
import logging
import math
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import Closing
from seedcli.base.packages import installed
from seedcli.base.progress import Progress

if TYPE_CHECKING:
    from pymilvus import MilvusClient

Answer = TypeVar("Answer")

SCHEME = "milvus:"
MOST = 16_384  # hits of a query: more a server doesn't give
LETTERS = 65_535  # bytes of an id: more it doesn't store
MARK = "seed.made_of"  # the property that tells what a collection holds
FIRST, LONGEST = 0.5, 15.0  # seconds between two tries, at the start and at most
CONNECT, LOOK = 10.0, 2.0  # seconds to wait for a connection; between two looks at an index in the making
ONCE = {"retry_times": 0}  # pymilvus itself would try 75 times, without a word
PASSING = {2, 8}  # codes of a server that is away, and of one that is asked too much
KINDS = ("flat", "hnsw", "ivf", "ivfpq")
EMBEDDED = ("flat", "hnsw", "ivf")  # of these, what milvus-lite has


class Mark(NamedTuple):
    """What a collection is made of: the identity of the folder of vectors, how many they are, and how they lie."""

    vectors: str
    size: int
    width: int
    kind: str


class Index(NamedTuple):
    """An index as Milvus calls it: how it is built, and how `wanted` hits are searched for."""

    type: str
    build: dict[str, int]
    search: Callable[[int], dict[str, int]]


def index_of(mark: Mark) -> Index:
    """The index of a collection."""
    lists = min(65_536, max(1, round(4 * math.sqrt(mark.size))))

    def probes(wanted: int) -> dict[str, int]:
        return {"nprobe": min(lists, max(16, lists // 32, math.ceil(4 * wanted * lists / mark.size)))}

    match mark.kind:
        case "hnsw":
            build = {"M": 16, "efConstruction": 200}
            return Index("HNSW", build, lambda wanted: {"ef": min(2 * MOST, max(128, 2 * wanted))})
        case "ivf":
            return Index("IVF_FLAT", {"nlist": lists}, probes)
        case "ivfpq":
            pieces = max(part for part in range(1, max(1, mark.width // 4) + 1) if mark.width % part == 0)
            return Index("IVF_PQ", {"nlist": lists, "m": pieces, "nbits": 8}, probes)
        case _:
            return Index("FLAT", {}, lambda _: {})


def address(store: str) -> str:
    """The path or the address that an option names. Raises ConfigError, which repeats no password."""
    uri = store.removeprefix(SCHEME)
    if uri == store or not uri:
        raise ConfigError(
            "--store: expected milvus:PATH.db (a folder, kept by milvus-lite) or milvus:http://HOST:19530"
        )
    if is_path(uri):
        if Path(uri).suffix != ".db":
            raise ConfigError("--store: the path of a store ends in .db; an address begins with http:// or https://")
        return uri
    parts = urlsplit(uri)
    if "@" in uri or parts.query or parts.fragment:
        raise ConfigError(
            "--store: an address holds no user, password or token: give milvus:http://HOST:PORT[/DATABASE], "
            "and set MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"--store {store}: expected milvus:http://HOST:PORT[/DATABASE], or https://")
    return uri


def is_path(uri: str) -> bool:
    """Whether a store is a folder on this disk, for milvus-lite."""
    return "://" not in uri


def check_installed(uri: str) -> None:
    """Raises ConfigError when a package is missing."""
    needed = ["pymilvus", "milvus-lite"] if is_path(uri) else ["pymilvus"]
    if missing := [name for name in needed if installed(name) is None]:
        raise ConfigError(f'--store needs {" and ".join(missing)}: pip install "seedcli[milvus]"')


class Store(Closing):
    """A collection, which need not be there yet, at an address.

    A question that isn't answered is asked again, ever more seldom, until `patience` seconds are over.
    """

    def __init__(self, uri: str, collection: str, patience: float, progress: Progress):
        check_installed(uri)
        if not re.fullmatch(r"[A-Za-z_]\w{0,254}", collection, re.ASCII):
            raise ConfigError(f"--set collection={collection}: expected letters, digits and _, and no digit first")
        self.uri, self.collection, self.patience, self.progress = uri, collection, patience, progress
        self._client: MilvusClient | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.uri}"

    def made_of(self) -> Mark | None:
        """What the collection was made of; None where there is no such collection.

        Raises DataError when it is there, and was not made by seed.
        """
        told = self.ask(lambda client: client.has_collection(self.collection, **ONCE) and self._described(client))
        if not told:
            return None
        try:
            mark = Mark(**json.loads(told["properties"].get(MARK) or told["description"]))
        except (TypeError, ValueError):
            mark = Mark("", 0, 0, "")
        (width, *_) = [field["params"].get("dim") for field in told["fields"] if field["name"] == "vector"] or [None]
        if width != mark.width:
            raise DataError(f"{self}: the collection {self.collection} was not made by seed index; name another one")
        return mark

    def count(self) -> int:
        """How many vectors the collection holds."""
        (row,) = self.ask(lambda client: client.query(self.collection, output_fields=["count(*)"], **ONCE))
        return int(row["count(*)"])

    def holds(self, rows: range) -> bool:
        """Whether all of these rows are there."""
        found = self.ask(lambda client: client.get(self.collection, list(rows), output_fields=["row"], **ONCE))
        return len(found) == len(rows)

    def drop(self) -> None:
        """Remove the collection, if it is there."""
        self.ask(lambda client: client.drop_collection(self.collection, **ONCE))

    def prepare(self, mark: Mark, letters: int) -> None:
        """Make what is missing of the collection and its index, for ids of so many bytes; it can be filled then."""
        from pymilvus import DataType

        made = json.dumps(mark._asdict())
        index = index_of(mark)

        def make(client: "MilvusClient") -> None:
            if not client.has_collection(self.collection, **ONCE):
                schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=made)
                schema.add_field("row", DataType.INT64, is_primary=True)
                schema.add_field("id", DataType.VARCHAR, max_length=max(1, letters))
                schema.add_field("vector", DataType.FLOAT_VECTOR, dim=mark.width)
                # milvus-lite forgets the description
                more = {"properties": {MARK: made}, "consistency_level": "Strong"}
                client.create_collection(self.collection, schema=schema, **more, **ONCE)
            if "vector" not in client.list_indexes(self.collection, **ONCE):
                params = client.prepare_index_params()
                nested = {"params": index.build}  # flat, as pymilvus would have them, milvus-lite overlooks them
                params.add_index("vector", index.type, "vector", metric_type="IP", params=nested)
                client.create_index(self.collection, params, **ONCE)
            client.load_collection(self.collection, **ONCE)

        self.ask(make)

    def load(self) -> None:
        """Make the collection ready to be searched."""
        self.ask(lambda client: client.load_collection(self.collection, **ONCE))

    def upsert(self, begin: int, ids: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Put rows there, [n], [n, D], the first of them `begin`; what stood in their places goes."""
        rows = [
            {"row": begin + place, "id": id_.decode(), "vector": vector}
            for place, (id_, vector) in enumerate(zip(ids, vectors, strict=True))
        ]
        self.ask(lambda client: client.upsert(self.collection, rows, **ONCE))

    def settle(self) -> None:
        """Have everything written, and wait until the index is built."""
        self.ask(lambda client: client.flush(self.collection, **ONCE))
        told = self._index()
        with self.progress.track("index", int(told.get("total_rows", 0)), "vectors") as advance:
            done = 0
            while True:
                now = int(told.get("indexed_rows", 0))
                advance(max(0, now - done))
                done = max(done, now)
                if told.get("state") == "Failed":
                    raise DataError(f"{self}: the index of {self.collection} failed: {told.get('index_fail_reason')}")
                if told.get("state", "Finished") == "Finished" and not int(told.get("pending_index_rows", 0)):
                    return
                time.sleep(LOOK)
                told = self._index()

    def search(self, queries: NDArray[np.float32], wanted: int, index: Index) -> list[tuple[list[int], list[float]]]:
        """The rows and scores of the first `wanted` hits of each query [Q, D], best first."""
        how = {"metric_type": "IP", "params": index.search(wanted)}
        found = self.ask(
            lambda client: client.search(
                self.collection, list(queries), limit=wanted, search_params=how, output_fields=["row"],
                anns_field="vector", **ONCE,
            )
        )  # fmt: skip
        return [([hit["row"] for hit in hits], [hit["distance"] for hit in hits]) for hits in found]

    def ask(self, question: Callable[["MilvusClient"], Answer]) -> Answer:
        """What the server answers. Raises DataError when it refuses, or is away for longer than there is patience."""
        from grpc import RpcError
        from pymilvus.exceptions import MilvusException

        began, tries = time.monotonic(), 0
        while True:
            try:
                self._client = self._client or self._connected()
                return question(self._client)
            except (MilvusException, RpcError) as error:
                told = reason(error)
                if not passing(error):
                    raise DataError(f"{self}: refused: {told}{advice(told)}") from None
            self.close()
            tries, waited = tries + 1, time.monotonic() - began
            pause = min(LONGEST, FIRST * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)
            if waited + pause > self.patience:
                raise DataError(
                    f"{self}: no answer in {waited:.0f} s, asked {tries} times ({told}); see that it runs and that the "
                    "address is right, then repeat the command: it goes on (--set patience=SECONDS waits longer)"
                )
            if tries == 1:
                self.progress.say(f"{self}: no answer ({told}); trying again for up to {self.patience:.0f} s")
            time.sleep(pause)

    def close(self) -> None:
        """Hang up; the next question connects anew."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        if is_path(self.uri) and client is not None:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self.uri)

    def _connected(self) -> "MilvusClient":
        for name in ("pymilvus", "milvus_lite", "grpc"):  # what they log, with tracebacks, is told by us
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        from pymilvus import MilvusClient

        if not is_path(self.uri):
            own = {"token": "MILVUS_TOKEN", "user": "MILVUS_USER", "password": "MILVUS_PASSWORD"}
            secrets = {name: os.environ.get(variable, "") for name, variable in own.items()}
            return MilvusClient(self.uri, **secrets, timeout=min(CONNECT, self.patience), dedicated=True)
        try:
            return MilvusClient(self.uri, dedicated=True)
        except Exception:
            self._tell_closed()
            raise

    def _tell_closed(self) -> None:
        """Raises what is wrong with the store of milvus-lite, which pymilvus doesn't tell."""
        from milvus_lite.db import MilvusLite
        from milvus_lite.exceptions import DataDirLockedError
        from pymilvus.exceptions import MilvusUnavailableException

        try:
            MilvusLite(self.uri).close()
        except DataDirLockedError:
            raise MilvusUnavailableException(message="another command has it open") from None
        except Exception as error:
            raise DataError(f"{self}: can't be opened by milvus-lite: {error}") from None

    def _described(self, client: "MilvusClient") -> dict[str, Any]:
        return dict(client.describe_collection(self.collection, **ONCE))

    def _index(self) -> dict[str, Any]:
        return self.ask(lambda client: client.describe_index(self.collection, "vector", **ONCE)) or {}


def passing(error: Exception) -> bool:
    """Whether the same question may be answered later."""
    from grpc import StatusCode
    from pymilvus.exceptions import ConnectError, MilvusUnavailableException

    code: Any = getattr(origin(error), "code", None)
    code = code() if callable(code) else code
    if isinstance(code, StatusCode):
        return code in {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.ABORTED, StatusCode.CANCELLED}
    away = isinstance(error, ConnectError | MilvusUnavailableException)
    return away or code in PASSING or bool(getattr(error, "retriable", False))


def origin(error: Exception) -> BaseException:
    """What a server answered to pymilvus, where that tells no more than that it can't connect."""
    cause = error.__cause__
    return cause if cause is not None and callable(getattr(cause, "code", None)) else error


def reason(error: Exception) -> str:
    """The first line of what a server or its client says."""
    details = getattr(origin(error), "details", None)
    said = details() if callable(details) else getattr(error, "message", None)
    return (str(said or error).strip().splitlines() or [type(error).__name__])[0][:300]


def advice(told: str) -> str:
    """What to do where a server knows nobody."""
    unknown = re.search(r"auth|credential|permission|token", told, re.IGNORECASE)
    return "; set MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD" if unknown else ""
