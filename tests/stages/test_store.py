"""Vectors in Milvus, embedded and behind an address: what exact search finds, whatever was killed or deleted."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seedcli as seed
from seedcli.base.checksums import checksum
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import finished
from seedcli.base.progress import Silent
from seedcli.retrieval.milvus import Store
from seedcli.retrieval.run_files import read_run
from seedcli.retrieval.vectors import Kind, open_shards, read_ids, shard_path, write_shard
from seedcli.stages import store_index

pytest.importorskip("pymilvus", reason='pip install "seedcli[milvus]"')
pytest.importorskip("milvus_lite", reason='pip install "seedcli[milvus]"')

SEED = Path(sys.executable).with_name("seed")
NOBODY = "milvus:http://127.0.0.1:9"  # where nobody listens
Floats = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture
def stored(chain, tmp_path, perform) -> Path:
    """The index of the chain's passages in a store."""
    perform("index", out=tmp_path / "index", vectors=chain.vectors, store=f"milvus:{tmp_path / 'lite.db'}")
    return tmp_path / "index"


@contextmanager
def opened(index: Path) -> Iterator[tuple[Any, str]]:
    """pymilvus's client to the store of an index, and the name of its collection."""
    place = finished(index, "index").metrics["store"]
    with Store(store_index.beside(index, place["uri"]), place["collection"], 5.0, Silent()) as store:
        yield store.ask(lambda client: client), place["collection"]


def delete(index: Path, condition: str) -> None:
    with opened(index) as (client, name):
        client.delete(name, filter=condition)


def vectors_of(folder: Path) -> tuple[Floats, list[str]]:
    shards = open_shards(folder)
    return np.concatenate([shard.vectors for shard in shards]), list(read_ids(shards))


def encoded(chain: Any, folder: Path, vectors: Floats, ids: list[str], size: int, kind: Kind = "float32") -> Path:
    """Vectors as seed encode would leave them, for the model of the chain, in shards of some size."""
    manifest = json.loads((chain.vectors / "manifest.json").read_text())
    sums = {}
    for number, begin in enumerate(range(0, len(ids), size)):
        path = shard_path(folder, number)
        write_shard(path, ids[begin : begin + size], vectors[begin : begin + size], kind)
        sums[path.name] = checksum(path)
    for place in manifest["inputs"].values():
        place["path"] = os.path.relpath(chain.vectors / place["path"], folder)
    metrics = {"role": "passage", "passages": len(set(ids)), "vectors": len(ids)}
    manifest |= {"outputs": sums, "identity": checksum(shard_path(folder, 0)), "metrics": metrics}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def assert_alike(folder: Path, other: Path) -> None:
    """Two runs, to the bit."""
    one, two = (read_run(path / "run.trec") for path in (folder, other))
    assert one.queries == two.queries
    assert one.documents.tolist() == two.documents.tolist()
    assert (one.scores == two.scores).all()


def refusal(call: Callable[..., Any], *arguments: Any, **flags: Any) -> str:
    with pytest.raises((ConfigError, DataError)) as error:
        call(*arguments, **flags)
    return str(error.value)


def test_a_flat_index_in_a_store_finds_what_exact_search_does(chain, stored, tmp_path, perform):
    perform("search", out=tmp_path / "run", index=[str(stored)], queries=chain.beir, split="test", depth=20)
    assert (tmp_path / "run" / "run.trec").read_bytes() == (chain.found / "run.trec").read_bytes()
    told = finished(stored, "index").metrics
    assert (told["passages"], told["vectors"], told["width"]) == (60, 60, open_shards(chain.vectors)[0].width)
    assert (told["store"]["uri"], told["store"]["index"]) == ("../lite.db", "FLAT")


def test_folder_and_store_move_together(chain, stored, tmp_path, perform):
    (tmp_path / "elsewhere").mkdir()
    for path in (stored, tmp_path / "lite.db"):
        path.rename(tmp_path / "elsewhere" / path.name)
    manifest = tmp_path / "elsewhere" / "index" / "manifest.json"
    written = json.loads(manifest.read_text())
    written["inputs"]["vectors"]["path"] = os.path.relpath(chain.vectors, manifest.parent)
    manifest.write_text(json.dumps(written))
    perform("search", out=tmp_path / "run", index=[str(manifest.parent)], queries=chain.beir, split="test", depth=20)
    assert_alike(tmp_path / "run", chain.found)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_ties_copies_and_several_vectors_a_passage_are_settled_as_by_exact_search(chain, tmp_path, perform, kind):
    """A hundred passages share the vector that most queries find first: more than are asked for at once."""
    vectors, ids = vectors_of(chain.vectors)
    nearest = read_run(chain.found / "run.trec").documents[0].decode()
    copies = np.repeat(vectors[[ids.index(nearest)]], 100, axis=0)
    several = np.roll(vectors[:20], 1, axis=0), ids[:20]  # second vectors of twenty passages
    made = (
        np.concatenate([vectors, copies, several[0]]),
        [*ids, *(f"copy-{row:03d}" for row in range(100)), *several[1]],
    )
    folder = encoded(chain, tmp_path / "vectors", *made, size=70, kind=kind)
    perform("index", out=tmp_path / "store", vectors=folder, store=f"milvus:{tmp_path / 'lite.db'}")
    perform("index", out=tmp_path / "flat", vectors=folder)
    for depth in (1, 7, 160):
        runs = [tmp_path / f"{name}-{depth}" for name in ("store", "flat")]
        for run in runs:
            index = str(tmp_path / run.name.split("-")[0])
            perform("search", out=run, index=[index], queries=chain.beir, depth=depth)
        assert_alike(*runs)


def written(store: Path) -> int:
    """Bytes in the journal of a store of milvus-lite."""
    return sum(file.stat().st_size for file in store.rglob("wal_data_*"))


@pytest.mark.slow
def test_a_killed_index_goes_on_with_the_batches_that_are_not_there(chain, tmp_path, perform, monkeypatch):
    """Each batch is sent whole or not at all, and none of those that are there is sent again."""
    known, _ = vectors_of(chain.vectors)
    batch = store_index.BATCH // (4 * known.shape[1])
    rng = np.random.default_rng(0)
    vectors = known[rng.integers(len(known), size=6 * batch)] + rng.normal(size=(6 * batch, known.shape[1])) / 8
    ids = [f"p{row}" for row in range(len(vectors))]
    folder = encoded(chain, tmp_path / "vectors", vectors.astype(np.float32), ids, size=4 * batch)
    out, path = tmp_path / "index", tmp_path / "lite.db"
    command = [str(SEED), "index", "--vectors", str(folder), "--store", f"milvus:{path}", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and written(path) < 1.5 * store_index.BATCH:  # the second one has begun
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    sent = list[int]()
    upsert = Store.upsert

    def counted(self: Store, begin: int, *rest: Any) -> None:
        sent.append(begin)
        upsert(self, begin, *rest)

    monkeypatch.setattr(Store, "upsert", counted)
    perform("index", out=out, vectors=folder, store=f"milvus:{path}")
    assert 1 <= len(sent) <= 5
    assert sent == [begin * batch for begin in range(6 - len(sent), 6)]
    perform("index", out=tmp_path / "flat", vectors=folder)
    for name in ("index", "flat"):
        perform("search", out=tmp_path / f"{name}-run", index=[str(tmp_path / name)], queries=chain.beir, depth=50)
    assert_alike(tmp_path / "index-run", tmp_path / "flat-run")


def test_indexing_again_doubles_nothing(chain, tmp_path, perform, monkeypatch):
    flags = {"vectors": chain.vectors, "store": f"milvus:{tmp_path / 'lite.db'}"}
    perform("index", out=tmp_path / "index", **flags)
    monkeypatch.setattr(Store, "upsert", lambda *_: pytest.fail("was sent already"))
    perform("index", out=tmp_path / "again", **flags)
    with opened(tmp_path / "again") as (client, name):
        assert client.list_collections() == [name]
        assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 60


def test_deleted_passages_are_told_and_never_found(chain, stored, tmp_path, perform):
    search = {"index": [str(stored)], "queries": chain.beir, "split": "test", "depth": 60}
    perform("search", out=tmp_path / "before", **search)
    before = read_run(tmp_path / "before" / "run.trec")
    gone = before.documents[0]
    delete(stored, f'id == "{gone.decode()}"')
    told = refusal(perform, "search", out=tmp_path / "after", **search)
    assert "holds 59 vectors in place of 60" in told
    assert "--set accept_deletions=true" in told
    assert not (tmp_path / "after").exists()
    perform("search", out=tmp_path / "after", accept_deletions="true", **search)
    after = read_run(tmp_path / "after" / "run.trec")
    assert after.queries == before.queries
    for query in after.queries:
        (documents, scores), (all_, all_scores) = after.ranking(query), before.ranking(query)
        assert documents.tolist() == all_[all_ != gone].tolist()
        assert (scores == all_scores[all_ != gone]).all()
    perform("index", overwrite=True, out=stored, vectors=chain.vectors, store=f"milvus:{tmp_path / 'lite.db'}")
    perform("search", out=tmp_path / "anew", **search)
    assert_alike(tmp_path / "anew", tmp_path / "before")


def test_overwriting_leaves_nothing_of_the_old_collection(chain, tmp_path, perform):
    """Not even rows that the new one hasn't."""
    vectors, ids = vectors_of(chain.vectors)
    place = {"store": f"milvus:{tmp_path / 'lite.db'}", "collection": "animals", "out": tmp_path / "index"}
    perform("index", vectors=encoded(chain, tmp_path / "more", vectors, ids, size=60), **place)
    fewer = encoded(chain, tmp_path / "fewer", vectors[:50], ids[:50], size=60)
    told = refusal(perform, "index", vectors=fewer, **{**place, "out": tmp_path / "other"})
    assert "the collection animals holds other vectors; name another one with --set collection=NAME" in told
    perform("index", overwrite=True, vectors=fewer, **place)
    with opened(tmp_path / "index") as (client, name):
        assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 50
    perform("search", out=tmp_path / "run", index=[str(tmp_path / "index")], queries=chain.beir)
    assert len(read_run(tmp_path / "run" / "run.trec").ranking("q:otter-diet")[0]) == 50


def test_a_collection_that_is_not_what_the_index_tells_is_refused(chain, stored, tmp_path, perform):
    search = {"out": tmp_path / "run", "index": [str(stored)], "queries": chain.beir}
    vectors, ids = vectors_of(chain.vectors)
    with opened(stored) as (client, name):
        client.upsert(name, [{"row": 60, "id": "guest", "vector": vectors[0]}])
    assert "holds 61 vectors in place of 60" in refusal(perform, "search", accept_deletions="true", **search)
    with opened(stored) as (client, name):
        client.drop_collection(name)
    assert f"has no collection {name}; repeat seed index with --overwrite" in refusal(perform, "search", **search)
    other = encoded(chain, tmp_path / "other", vectors[::-1], ids, size=60)
    flags = {"vectors": other, "store": f"milvus:{tmp_path / 'lite.db'}", "collection": name}
    perform("index", out=tmp_path / "other-index", **flags)
    told = refusal(perform, "search", **search)
    assert f"{name} in milvus:{tmp_path / 'lite.db'} is made of 60 vectors" in told
    assert "repeat seed index" in told
    with opened(stored) as (client, name):
        client.drop_collection(name)
        client.create_collection(name, dimension=4)
    for told in (
        refusal(perform, "search", **search),
        refusal(perform, "index", overwrite=True, out=tmp_path / "other-index", **flags),
    ):
        assert told.endswith(f"the collection {name} was not made by seed index; name another one")
    shutil.rmtree(tmp_path / "lite.db")
    assert "is no longer there" in refusal(perform, "search", **search)
    assert not (tmp_path / "lite.db").exists()


def test_a_server_that_is_away_is_asked_for_a_bounded_time(chain, stored, tmp_path, perform):
    began = time.monotonic()
    flags = {"out": tmp_path / "away", "vectors": chain.vectors, "store": NOBODY, "patience": 1.0}
    told = refusal(perform, "index", **flags)
    assert 0.2 < time.monotonic() - began < 5
    assert told.startswith(f"{NOBODY}: no answer in ")
    assert re.search(r"asked [23] times \(failed to connect", told)
    assert "then repeat the command: it goes on" in told
    assert not (tmp_path / "away").exists()
    with opened(stored):
        command = [str(SEED), "search", "--index", str(stored), "--set", "patience=0.1", "what eats an otter"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "another command has it open" in done.stderr
        assert "Traceback" not in done.stderr


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """milvus-lite behind an address, in a process of its own."""
    script = f"from milvus_lite.adapter.grpc.server import run_server; run_server({str(folder)!r}, '127.0.0.1', {port})"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_is_waited_for(chain, tmp_path, perform, monkeypatch):
    monkeypatch.setattr(store_index, "BATCH", 10 * 4 * open_shards(chain.vectors)[0].width)
    port, upsert, servers = free_port(), Store.upsert, list[Any]()
    store = {"vectors": chain.vectors, "store": f"milvus:http://127.0.0.1:{port}"}

    def upset(self: Store, begin: int, *rest: Any) -> None:
        if begin == 32:
            servers[0].kill()
            servers[0].wait()
            servers.append(stack.enter_context(server(tmp_path / "server", port)))
        upsert(self, begin, *rest)

    with ExitStack() as stack:
        servers.append(stack.enter_context(server(tmp_path / "server", port)))
        monkeypatch.setattr(Store, "upsert", upset)
        perform("index", out=tmp_path / "index", **store)
        assert len(servers) == 2
        perform(
            "search", out=tmp_path / "run", index=[str(tmp_path / "index")], queries=chain.beir, split="test", depth=20
        )
    assert_alike(tmp_path / "run", chain.found)
    assert finished(tmp_path / "index", "index").metrics["store"]["uri"] == f"http://127.0.0.1:{port}"


@contextmanager
def guarded(folder: Path, secret: str) -> Iterator[int]:
    """milvus-lite behind an address that answers those alone who send a secret: its port."""
    import base64
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from milvus_lite.db import MilvusLite
    from pymilvus.grpc_gen import milvus_pb2_grpc

    class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            if ("authorization", base64.b64encode(secret.encode()).decode()) in details.invocation_metadata:
                return continuation(details)

            def refuse(_: Any, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")

            return grpc.unary_unary_rpc_method_handler(refuse)

    store = MilvusLite(str(folder))
    served = grpc.server(ThreadPoolExecutor(2), interceptors=[Guard()])
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(store), served)
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    try:
        yield port
    finally:
        served.stop(None).wait()
        store.close()


@pytest.mark.parametrize("names", [["MILVUS_TOKEN"], ["MILVUS_USER", "MILVUS_PASSWORD"]])
def test_credentials_are_read_from_the_environment_and_written_nowhere(chain, tmp_path, perform, monkeypatch, names):
    secret = "reader:S3cret-word"
    for name in ("MILVUS_TOKEN", "MILVUS_USER", "MILVUS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with guarded(tmp_path / "guarded", secret) as port:
        flags = {"vectors": chain.vectors, "store": f"milvus:http://127.0.0.1:{port}", "out": tmp_path / "index"}
        told = refusal(perform, "index", patience=0.2, **flags)
        assert told.endswith("auth check failure; set MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD")
        for name, value in zip(names, [secret] if len(names) == 1 else secret.split(":"), strict=True):
            monkeypatch.setenv(name, value)
        perform("index", **flags)
        search = {"index": [str(tmp_path / "index")], "queries": chain.beir, "split": "test", "depth": 20}
        perform("search", out=tmp_path / "run", **search)
    assert_alike(tmp_path / "run", chain.found)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"S3cret-word" not in written


def test_a_password_in_the_address_is_refused_and_not_repeated(chain, tmp_path, perform):
    flags = {"out": tmp_path / "index", "vectors": chain.vectors}
    assert "S3cret" not in refusal(perform, "index", store="milvus:root:S3cret@host:19530", **flags)
    assert "S3cret" not in refusal(perform, "index", store="http://root:S3cret@host:19530", **flags)
    for address in ("http://root:S3cret@host:19530", "https://S3cret@host", "http://host:19530?token=S3cret"):
        told = refusal(perform, "index", store=f"milvus:{address}", **flags)
        assert "an address holds no user, password or token" in told
        assert "MILVUS_TOKEN" in told
        assert "S3cret" not in told
        assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(("flags", "message"), [
    ({"kind": "ivfpq"}, "--kind ivfpq: milvus-lite has flat, hnsw, ivf"),
    ({"kind": "bm25", "corpus": "{beir}", "vectors": None}, "--kind bm25: milvus-lite has flat, hnsw, ivf"),
    ({"kind": "flat", "compare": ["flat"]}, "--compare measures indexes in folders: leave --store out"),
    ({"store": "milvus:lite"}, "--store: the path of a store ends in .db"),
    ({"store": "lite.db"}, "--store: expected milvus:PATH.db"),
    ({"store": "milvus:ftp://host"}, "--store milvus:ftp://host: expected milvus:http://HOST:PORT"),
    ({"collection": "my animals"}, "--set collection=my animals: expected letters, digits and _"),
])  # fmt: skip
def test_what_can_not_be_stored_is_told(chain, tmp_path, perform, flags, message):
    given = {"out": tmp_path / "index", "vectors": chain.vectors, "store": f"milvus:{tmp_path / 'lite.db'}"} | flags
    given = {key: str(value).format(beir=chain.beir) for key, value in given.items() if value is not None}
    assert refusal(perform, "index", **given).startswith(message)


def test_without_its_packages_the_extra_is_named(chain, tmp_path, perform, monkeypatch):
    monkeypatch.setattr("seedcli.retrieval.milvus.installed", lambda _: None)
    told = refusal(perform, "index", out=tmp_path / "index", vectors=chain.vectors, store="milvus:lite.db")
    assert told == '--store needs pymilvus and milvus-lite: pip install "seedcli[milvus]"'


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_indexes_give_exact_scores_of_what_they_find(chain, tmp_path, perform, kind):
    store = f"milvus:{tmp_path / 'lite.db'}"
    perform("index", out=tmp_path / kind, vectors=chain.vectors, store=store, kind=kind)
    perform("search", out=tmp_path / "run", index=[str(tmp_path / kind)], queries=chain.beir, split="test", depth=20)
    found, exact = read_run(tmp_path / "run" / "run.trec"), read_run(chain.found / "run.trec")
    assert found.queries == exact.queries
    assert found.documents.shape == exact.documents.shape
    assert np.mean(found.documents == exact.documents) > 0.9
    for query in found.queries:
        known = dict(zip(*map(list, exact.ranking(query)), strict=True))
        assert all(known.get(document, score) == score for document, score in zip(*found.ranking(query), strict=True))
    with opened(tmp_path / kind) as (client, name):
        made = client.describe_index(name, "vector")
    built = {"hnsw": ("HNSW", "M", 16), "ivf": ("IVF_FLAT", "nlist", 31)}[kind]
    assert (made["index_type"], built[1], made["params"][built[1]]) == built


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_what_approximate_indexes_find_is_measured(chain, tmp_path, perform, kind):
    store = f"milvus:{tmp_path / 'lite.db'}"
    perform("index", out=tmp_path / kind, vectors=chain.vectors, store=store, kind=kind, queries=chain.beir)
    runs = []
    for index in (tmp_path / kind, chain.flat):
        out = tmp_path / f"run-of-{index.name}"
        perform("search", out=out, index=[str(index)], queries=chain.beir, depth=100)
        runs.append(read_run(out / "run.trec"))
    told = finished(tmp_path / kind, "index").metrics
    for depth in (10, 100):
        found, right = ([{*run.ranking(name)[0][:depth].tolist()} for name in runs[1].queries] for run in runs)
        shares = [len(own & true) / len(true) for own, true in zip(found, right, strict=True)]
        assert told[f"recall@{depth}"] == pytest.approx(np.mean(shares), abs=1e-12)
    measured = told["measured"]
    assert (measured["queries"], measured["of"]) == (60, "queries")
    assert measured["milliseconds"] > 0
    assert measured["disk"] == sum(path.stat().st_size for path in (tmp_path / "lite.db").rglob("*") if path.is_file())


def test_what_is_not_to_be_measured_and_what_can_not_be_is_told(chain, tmp_path, perform, monkeypatch):
    flags = {"vectors": chain.vectors, "store": f"milvus:{tmp_path / 'lite.db'}", "kind": "hnsw"}
    perform("index", out=tmp_path / "index", **flags, **{"faiss.measure": False})
    assert "measured" not in finished(tmp_path / "index", "index").metrics
    told = refusal(perform, "index", out=tmp_path / "other", **flags, **{"faiss.target_recall": 0.9})
    assert told == "--target-recall: Milvus's hnsw takes none of that"
    monkeypatch.setattr(store_index, "MOST", 50)
    asked = {"index": [str(tmp_path / "index")], "queries": chain.beir, "depth": 60}
    told = refusal(perform, "search", out=tmp_path / "run", **asked)
    assert told == "--depth 60: Milvus gives 50 hits at most; a flat index in a folder gives all"
    told = refusal(perform, "index", out=tmp_path / "other", **flags | {"kind": "flat"}, queries=chain.beir)
    assert told == "--queries: for approximate indexes, such as --kind hnsw; flat takes none of that"


def test_questions_fusion_and_resumption_go_as_with_any_index(chain, stored, tmp_path, perform):
    hits = seed.open_index(stored).search("what does the otter eat", depth=5)
    assert hits == seed.open_index(chain.flat).search("what does the otter eat", depth=5)
    for name, index in (("store", stored), ("flat", chain.flat)):
        indexes = [str(index), str(chain.words)]
        perform("search", out=tmp_path / name, index=indexes, queries=chain.beir, split="test", depth=20)
    assert_alike(tmp_path / "store", tmp_path / "flat")
    told = refusal(
        perform, "search", out=tmp_path / "some", index=[str(stored)], queries=chain.beir, candidates=chain.beir
    )
    assert "--candidates are scored by the vectors of one index: give --index once, a flat one" in told
