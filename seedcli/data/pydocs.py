"""The source `pydocs`: documentation strings of installed Python packages as a collection, made on first use.

The first sentence of a docstring is a query, what follows it the passage that answers. Files are parsed, not imported.
"""

import ast
import hashlib
import json
import os
import platform
import re
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from seedcli.base.checksums import folder_checksum
from seedcli.base.files import cache_folder, made_whole, read_json, write_json, write_text
from seedcli.base.progress import Progress, Silent

RULES = 1  # to be raised when other passages would come out of the same packages
LIMIT = 8_000
PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "torch": "torch",
    "transformers": "transformers",
}
SPLITS = ("train", "dev", "test")
LEFT_OUT = {"test", "tests", "idle_test"}

# A summary ends where a line is empty or indented, or opens a list, a field, a directive, a doctest or a section.
SUMMARY_END = re.compile(r"\n(?=\s|[-*+=~#:@|]|>>>|\.\. |\d+\. |[\w ]+:\s*(?:\n|$))")
SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!cf\.)(?<!vs\.)(?<!al\.)\s+(?=[^a-z\s])")
FIRST_WORD = re.compile(r"`*[a-zA-Z][\w.]*(?![\w.(])")  # and not the name in a signature
WORD = re.compile(r"[^\W\d_]{2,}")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Package(NamedTuple):
    name: str
    version: str
    folder: Path
    module: str  # empty for the standard library, whose modules have no parent


class Module(NamedTuple):
    name: str
    package: str
    path: Path


class Document(NamedTuple):
    id: str  # the dotted name of what is documented
    package: str
    split: str
    query: str
    passage: str


def pydocs_folder(progress: Progress = Silent()) -> Path:  # noqa: B008
    """The BEIR folder made from the packages installed now; it stays in the cache."""
    packages = installed_packages()
    key = json.dumps([RULES, LIMIT, [[package.name, package.version] for package in packages]])
    folder = cache_folder() / f"pydocs-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        documents = sample(once(read_documents(packages, progress)))
        with made_whole(folder) as aside:
            write_collection(aside, documents)
            write_json(aside / "fingerprint.json", describe(aside, documents, packages))
    return folder


def fingerprint(folder: Path) -> str:
    """One line that tells this collection from one made elsewhere."""
    made = read_json(folder / "fingerprint.json")
    packages = ", ".join(f"{name} {package['version']}" for name, package in made["packages"].items())
    missing = f" (without {', '.join(made['missing'])})" if made["missing"] else ""
    queries = ", ".join(f"{split} {count:,}" for split, count in made["queries"].items())
    return f"pydocs {made['sha256'][:12]}: {made['passages']:,} passages from {packages}{missing}; queries {queries}"


def installed_packages() -> list[Package]:
    library = Package("python", platform.python_version(), Path(sysconfig.get_path("stdlib")), "")
    return [library, *filter(None, map(find_package, PACKAGES))]


def find_package(name: str) -> Package | None:
    try:
        spec = find_spec(PACKAGES[name])  # of a top-level name: imports nothing
        found = version(name)
    except PackageNotFoundError:
        return None
    return Package(name, found, Path(spec.origin).parent, PACKAGES[name]) if spec and spec.origin else None


def read_documents(packages: list[Package], progress: Progress) -> list[Document]:
    modules = [module for package in packages for module in modules_of(package)]
    documents: list[Document] = []
    with (
        ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=leave_with, initargs=(os.getpid(),)) as pool,
        progress.track("read docstrings", len(modules), "files") as advance,
    ):
        for found in pool.map(documents_of, modules, chunksize=32):
            documents += found
            advance(1)
    return documents


def leave_with(parent: int) -> None:
    """End this worker when its parent is gone: a killed one doesn't say so."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def modules_of(package: Package) -> Iterator[Module]:
    """All but tests and what can't be imported by name (among that the library's site-packages)."""
    for path in sorted(package.folder.rglob("*.py")):
        parts = path.relative_to(package.folder).with_suffix("").parts
        if all(map(str.isidentifier, parts)) and LEFT_OUT.isdisjoint(parts):
            names = [package.module, *(part for part in parts if part != "__init__")]
            yield Module(".".join(filter(None, names)), package.name, path)


def documents_of(module: Module) -> list[Document]:
    """What a file documents; nothing where this Python can't parse it."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(module.path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return []
    split = split_of(module.name)
    return [
        Document(name, module.package, split, *parts)
        for name, docstring in docstrings(tree, module.name)
        if (parts := query_and_passage(docstring))
    ]


def docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """The dotted name and docstring of a module and of everything defined in it."""
    if isinstance(node, Definition):
        name = f"{name}.{node.name}"
    if isinstance(node, ast.Module | Definition) and (docstring := ast.get_docstring(node)):
        yield name, docstring
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from docstrings(child, name)


def query_and_passage(docstring: str) -> tuple[str, str] | None:
    """The summary sentence and what follows it; None unless both read as such and the one is not within the other."""
    summary, *details = SUMMARY_END.split(docstring, maxsplit=1)
    query, *others = SENTENCE_END.split(" ".join(summary.split()), maxsplit=1)
    passage = "\n".join([*others, *details]).strip("\n")
    is_sentence = query.endswith((".", "!", "?")) and FIRST_WORD.match(query) and 4 <= len(WORD.findall(query)) <= 40
    is_passage = len(WORD.findall(passage)) >= 20 and plain(query).rstrip(".!?") not in plain(passage)
    is_text = f"{query} {passage}".replace("\n", " ").isprintable()
    return (query, passage) if is_sentence and is_passage and is_text else None


def plain(text: str) -> str:
    return " ".join(text.lower().split())


def split_of(module: str) -> str:
    """Train, dev or test for a whole module, so that no split knows another's modules."""
    percent = digest(module) % 100
    return "train" if percent < 80 else "dev" if percent < 90 else "test"


def digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def once(documents: list[Document]) -> list[Document]:
    """Those whose name, query and passage no other has: of two alike, neither has one right answer."""
    texts = [(document.id, plain(document.query), plain(document.passage)) for document in documents]
    seen = Counter(text for three in texts for text in three)
    return [document for document, three in zip(documents, texts, strict=True) if all(seen[t] == 1 for t in three)]


def sample(documents: list[Document]) -> list[Document]:
    """At most LIMIT of them, chosen by their names, in the order of their names."""
    return sorted(sorted(documents, key=lambda document: digest(document.id))[:LIMIT])


def write_collection(folder: Path, documents: list[Document]) -> None:
    """Titles stay empty: a name would give its passage away. A query is not named like its passage, or it would
    count as the passage itself where a hit on the query's own text is dropped (ArguAna)."""
    write_lines(folder / "corpus.jsonl", ({"_id": d.id, "title": "", "text": d.passage} for d in documents))
    write_lines(folder / "queries.jsonl", ({"_id": f"q:{d.id}", "text": d.query} for d in documents))
    for split in SPLITS:
        judged = [f"q:{d.id}\t{d.id}\t1" for d in documents if d.split == split]
        write_text(folder / "qrels" / f"{split}.tsv", "\n".join(["query-id\tcorpus-id\tscore", *judged, ""]))


def write_lines(path: Path, records: Iterable[dict[str, str]]) -> None:
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def describe(folder: Path, documents: list[Document], packages: list[Package]) -> dict[str, Any]:
    """What the collection is made of. Two of equal sha256 are equal."""
    counts = Counter((d.package, d.split) for d in documents)
    found = {p.name: {"version": p.version} | {split: counts[p.name, split] for split in SPLITS} for p in packages}
    return {
        "sha256": folder_checksum(folder),
        "rules": RULES,
        "passages": len(documents),
        "queries": {split: sum(d.split == split for d in documents) for split in SPLITS},
        "packages": found,
        "missing": [name for name in PACKAGES if name not in found],
    }
