"""Datasets of the hub, from a server on this machine that answers the few calls of huggingface_hub."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CORPUS = b'{"_id": "1", "title": "t", "text": "one"}\n{"_id": "2", "text": "two"}\n'
QUERIES = b'{"_id": "q", "text": "who"}\n'
QRELS = b"query-id\tcorpus-id\tscore\nq\t2\t1\n"


def parquet(**columns: list[Any]) -> bytes:
    sink = BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


REPOSITORIES: dict[tuple[str, str], dict[str, bytes]] = {  # by name and revision
    ("BeIR/tiny", "main"): {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "tiny.py": b"raise", "README.md": b"#"},
    ("BeIR/tiny-qrels", "main"): {"test.tsv": QRELS, "README.md": b"#"},
    ("mteb/tiny", "main"): {
        "corpus/corpus-00000-of-00001.parquet": parquet(_id=["1"], title=["t"], text=["one"]),
        "queries/queries-00000-of-00001.parquet": parquet(_id=["q"], text=["who"]),
        "data/test-00000-of-00001.parquet": parquet(**{"query-id": ["q"], "corpus-id": ["1"], "score": [1]}),
    },
    ("mteb/tiny", "v1"): {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/dev.tsv": QRELS},
    ("old/script", "main"): {"script.py": b"raise", "data.zip": b"zip"},
    ("old/script", "refs/convert/parquet"): {
        "default/train/0000.parquet": parquet(id=[1], contents=["one"]),
        "default/train/0001.parquet": parquet(id=[2], contents=["two"]),
    },
    ("old/large", "main"): {"script.py": b"raise"},
    ("old/large", "refs/convert/parquet"): {"default/partial-train/0000.parquet": parquet(id=[1], text=["one"])},
    ("old/images", "main"): {"a.png": b"png"},
}
COMMITS = {key: hashlib.sha1(repr(key).encode()).hexdigest() for key in REPOSITORIES}
BY_COMMIT = {(name, COMMITS[name, revision]): files for (name, revision), files in REPOSITORIES.items()}


class Hub(BaseHTTPRequestHandler):
    """/api/datasets/NAME/revision/REVISION, /api/datasets/NAME/tree/COMMIT and /datasets/NAME/resolve/COMMIT/FILE."""

    asked: list[str]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.asked.append(unquote(path))
        match unquote(path).removeprefix("/api").split("/", 5):
            case ["", "datasets", owner, name, "revision", revision]:
                self.revision(f"{owner}/{name}", revision)
            case ["", "datasets", owner, name, "tree", commit]:
                files = BY_COMMIT[f"{owner}/{name}", commit].items()
                self.answer([{"type": "file", "path": p, "size": len(d), "oid": oid(d)} for p, d in files])
            case ["", "datasets", owner, name, "resolve", rest]:
                commit, file = rest.split("/", 1)
                data = BY_COMMIT[f"{owner}/{name}", commit][file]
                self.send(200, data, {"ETag": f'"{oid(data)}"', "X-Repo-Commit": commit})
            case _:
                self.send(404, b"")

    do_HEAD = do_GET  # noqa: N815

    def revision(self, name: str, revision: str) -> None:
        known = {owner for owner, _ in REPOSITORIES}
        if name == "private/gated":
            self.send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif name not in known:
            self.send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif (name, revision) not in COMMITS:
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            self.answer({"id": name, "sha": COMMITS[name, revision], "siblings": []})

    def answer(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


SCRIPT = """
import json, sys
from seedcli.base.errors import DataError
from seedcli.data.sources import open_collection, source_path

def told(source):
    try:
        collection, folder = open_collection(source), source_path(source)
        return {
            "folder": folder.name,
            "passages": [list(passage) for passage in collection.passages()],
            "queries": [query.id for query in collection.queries()],
            "qrels": {split: collection.qrels(split) for split in collection.qrels_readers},
            "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")),
        }
    except DataError as error:
        return str(error)

print(json.dumps([told(source) for source in sys.argv[1:]]))
"""


def ask(home: Path, endpoint: str, *sources: str, **environment: str) -> list[Any]:
    """What a process of its own makes of sources: huggingface_hub reads its environment once."""
    there = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "SEED_CACHE": str(home / "seed")}
    quiet = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *sources],
        env=os.environ | there | quiet | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    for answer in answers:
        if isinstance(answer, dict):  # the folder's name ends in eight digits of what it links to
            answer["folder"], digits = answer["folder"].rsplit("-", 1)
            assert re.fullmatch("[0-9a-f]{8}", digits)
    return answers


BEIR = {
    "folder": f"hf-BeIR%2Ftiny@{COMMITS['BeIR/tiny', 'main'][:12]}+{COMMITS['BeIR/tiny-qrels', 'main'][:12]}",
    "passages": [["1", "t", "one", ""], ["2", "", "two", ""]],
    "queries": ["q"],
    "qrels": {"test": {"q": {"2": 1}}},
    "files": ["corpus.jsonl", "qrels/test.tsv", "queries.jsonl"],
}


def test_a_dataset_is_fetched_once_and_never_its_code(tmp_path: Path, endpoint: str) -> None:
    assert ask(tmp_path, endpoint, "hf:BeIR/tiny") == [BEIR]
    assert not any(path.endswith((".py", ".md")) for path in Hub.asked)
    assert ask(tmp_path, "http://127.0.0.1:9", "hf:BeIR/tiny", HF_HUB_OFFLINE="1") == [BEIR]
    (unfetched,) = ask(tmp_path, endpoint, "hf:mteb/tiny", HF_HUB_OFFLINE="1")
    assert unfetched.startswith("hf:mteb/tiny: the hub did not give it (Cannot find an appropriate cached snapshot")


def test_layouts_revisions_and_conversions_are_read_and_mistakes_told(tmp_path: Path, endpoint: str) -> None:
    sources = ["mteb/tiny", "mteb/tiny@v1", "old/script", "old/large", "old/images", "no/such", "mteb/tiny@v2"]
    sources += ["private/gated", "a/b/c"]
    parquet, tagged, converted, *mistakes = ask(tmp_path, endpoint, *(f"hf:{name}" for name in sources))
    assert parquet["folder"] == f"hf-mteb%2Ftiny@{COMMITS['mteb/tiny', 'main'][:12]}"
    assert parquet["passages"] == [["1", "t", "one", ""]]
    assert (parquet["queries"], parquet["qrels"]) == (["q"], {"test": {"q": {"1": 1}}})
    assert tagged["folder"] == f"hf-mteb%2Ftiny@{COMMITS['mteb/tiny', 'v1'][:12]}"
    assert (tagged["passages"], tagged["qrels"]) == (BEIR["passages"], {"dev": {"q": {"2": 1}}})
    assert converted["passages"] == [["1", "", "one", ""], ["2", "", "two", ""]]
    assert mistakes == [
        "hf:old/large: the hub's Parquet copy of it is cut short; fetch it and give its folder",
        "hf:old/images: holds no data files; expected jsonl, tsv, csv, parquet",
        "hf:no/such: no such dataset on the hub, or a private one: set HF_TOKEN",
        "hf:mteb/tiny: has no revision v2",
        "hf:private/gated: needs its owner's permission: ask for it on its page, and set HF_TOKEN",
        "hf:a/b/c: not a dataset's name; expected hf:NAME or hf:NAME@REVISION, as hf:BeIR/scifact",
    ]


def test_a_hub_that_can_t_be_reached_is_told(tmp_path: Path) -> None:
    (message,) = ask(tmp_path, "http://127.0.0.1:9", "hf:BeIR/tiny")
    assert message.startswith("hf:BeIR/tiny: the hub did not give it (")
    assert "refused" in message
    assert "\n" not in message
