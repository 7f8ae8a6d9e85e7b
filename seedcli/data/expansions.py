"""Queries to append to passages, so that these are found by them (doc2query): {"id": "p1", "queries": ["...", ...]}.

They are read as passages whose text is the queries, and so found by id as passages are.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, starmap
from pathlib import Path

import numpy as np

from seedcli.base.errors import DataError
from seedcli.base.files import cache_folder, read_json, write_json
from seedcli.base.manifest import digest
from seedcli.base.progress import Progress, counted
from seedcli.data.collections import Collection, PassageFiles
from seedcli.data.lines import id_field, read_jsonl
from seedcli.data.lookup import Find, finder
from seedcli.data.problems import Problems
from seedcli.data.records import Passage, clean
from seedcli.data.survey import Survey, survey

RULES = 1  # to be raised when a survey would count something else
HELD = 1 << 24  # bytes of a file that is held in memory, whole
BATCH = 1_000

Expand = Callable[[Iterator[Passage]], Iterator[Passage]]


def open_expansions(path: Path) -> Collection:
    """The expansions in a JSONL file."""
    return Collection(path, PassageFiles([path], read_expansions))


def read_expansions(path: Path) -> Iterator[Passage]:
    for where, record in read_jsonl(path):
        queries = record.get("queries")
        if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
            raise DataError(
                f'{where}: no list of texts in the field \'queries\'; expected {{"id": ..., "queries": [...]}}'
            )
        yield Passage(id_field(record, "id", where), "", " ".join(map(clean, queries)))


def survey_expansions(
    path: Path, identity: str, corpus: Collection, corpus_identity: str, progress: Progress
) -> Survey:
    """What one pass counts, and ids that the corpus lacks; kept in the cache by what both hold."""
    kept = cache_folder() / f"survey-{digest([RULES, 'expansions', identity, corpus_identity])[:16]}.json"
    if not kept.is_file():
        found = survey(open_expansions(path).passages, "expansions", progress)
        for id_ in unknown(path, corpus, progress):
            found.problems.add("ids of expansions that the corpus lacks", id_)
        told = {"records": found.records, "characters": found.characters, "problems": found.problems.plain()}
        write_json(kept, told)
    plain = read_json(kept)
    return Survey(plain["records"], plain["characters"], Problems.of(plain["problems"]))


def unknown(path: Path, corpus: Collection, progress: Progress) -> Iterator[str]:
    """Ids of expansions that no passage has; ids are held by their hashes, eight bytes each."""
    hashes = np.unique(np.array(array("q", (hash(expansion.id) for expansion in read_expansions(path)))))
    missing = np.ones(len(hashes), bool)
    with progress.track("survey", None, "passages") as advance:
        passages = counted(corpus.passages(), advance)
        while len(batch := np.array([hash(passage.id) for passage in islice(passages, BATCH)], np.int64)):
            rows = np.minimum(np.searchsorted(hashes, batch), len(hashes) - 1)
            missing[rows[hashes[rows] == batch]] = False
    if missing.any():
        lost = set(hashes[missing].tolist())
        yield from (expansion.id for expansion in read_expansions(path) if hash(expansion.id) in lost)


def appended(path: Path, identity: str, progress: Progress) -> Expand:
    """Appends to each passage its expansion, if there is one; of several the first."""
    find = held(path) if path.stat().st_size <= HELD else finder(open_expansions(path), identity, progress)

    def expand(passages: Iterator[Passage]) -> Iterator[Passage]:
        while batch := list(islice(passages, BATCH)):
            found = find(passage.id for passage in batch)
            for passage in batch:
                yield expanded(passage, found[passage.id]) if passage.id in found else passage

    return expand


def in_order(path: Path) -> Expand:
    """Appends the expansions of a file that has one for each passage, in the order of the corpus."""
    return lambda passages: starmap(expanded, zip(passages, read_expansions(path), strict=True))


def expanded(passage: Passage, expansion: Passage) -> Passage:
    if passage.id != expansion.id:
        raise DataError(
            f"{passage.id}: stands where the expansion of {expansion.id} was expected; the corpus has changed"
        )
    return passage._replace(text=f"{passage.text} {expansion.text}")


def held(path: Path) -> Find:
    """Expansions by id, in memory."""
    expansions: dict[str, Passage] = {}
    for expansion in read_expansions(path):
        expansions.setdefault(expansion.id, expansion)

    def find(ids: Iterable[str]) -> dict[str, Passage]:
        return {id_: expansions[id_] for id_ in ids if id_ in expansions}

    return find
