"""A survey: what one pass over passages or queries counts, kept in the cache by what the source holds."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from seedcli.base.files import cache_folder, read_json, write_json
from seedcli.base.manifest import digest
from seedcli.base.progress import Progress, counted
from seedcli.data.collections import Collection
from seedcli.data.problems import Problems
from seedcli.data.records import Passage, Query

RULES = 1  # to be raised when a survey would count something else


@dataclass(frozen=True)
class Survey:
    """Records and characters, and what is wrong: ids that stand twice, empty texts."""

    records: int
    characters: int
    problems: Problems


def survey_passages(collection: Collection, identity: str, progress: Progress) -> Survey:
    """The survey of a corpus, whose content `identity` stands for."""
    return _kept(["passages", identity], collection.passages, "passages", progress)


def survey_queries(
    queries: Callable[[], Iterator[Query]], part: str | None, identity: str, progress: Progress
) -> Survey:
    """The survey of some queries: of a `part` of what `identity` stands for, such as a split."""
    return _kept(["queries", part, identity], queries, "queries", progress)


def survey_qrels(collection: Collection, split: str, identity: str, progress: Progress) -> Problems:
    """What is wrong with judgements: ids that corpus or queries lack, queries without a positive."""
    path = cache_folder() / f"survey-{digest([RULES, 'qrels', split, identity])[:16]}.json"
    if not path.is_file():
        problems, qrels = Problems(), collection.qrels(split)
        if collection.passage_reader:
            missing = dict.fromkeys(passage for grades in qrels.values() for passage in grades)
            with progress.track("survey", None, "passages") as advance:
                for passage in counted(collection.passages(), advance):
                    missing.pop(passage.id, None)
            for name in missing:
                problems.add("passages of the qrels that the corpus lacks", name)
        asked = {query.id for query in collection.queries(split)} if collection.query_readers else qrels.keys()
        for query, grades in qrels.items():
            if query not in asked:
                problems.add("queries of the qrels without a text", query)
            if not any(grade > 0 for grade in grades.values()):
                problems.add("queries without a positive, scored 0", query)
        write_json(path, problems.plain())
    return Problems.of(read_json(path))


def _kept(
    key: list[str | None], records: Callable[[], Iterator[Passage | Query]], unit: str, progress: Progress
) -> Survey:
    path = cache_folder() / f"survey-{digest([RULES, *key])[:16]}.json"
    if not path.is_file():
        made = survey(records, unit, progress)
        write_json(path, {"records": made.records, "characters": made.characters, "problems": made.problems.plain()})
    kept = read_json(path)
    return Survey(kept["records"], kept["characters"], Problems.of(kept["problems"]))


def survey(records: Callable[[], Iterator[Passage | Query]], unit: str, progress: Progress) -> Survey:
    """What is counted in one pass; a second one only when ids seem to stand twice."""
    problems, hashes, characters = Problems(), array("q"), 0
    with progress.track("survey", None, unit) as advance:
        for record in counted(records(), advance):
            hashes.append(hash(record.id))
            text = record.title + record.text if isinstance(record, Passage) else record.text
            characters += len(text)
            if not text or text.isspace():
                problems.add(f"{unit} with an empty text", record.id)
    values, counts = np.unique(np.array(hashes, dtype=np.int64), return_counts=True)
    repeated = set(values[counts > 1].tolist())
    if repeated:  # a second pass tells whether they are one id or two of the same hash
        ids = Counter(record.id for record in records() if hash(record.id) in repeated)
        for id_, count in ids.items():
            if count > 1:
                problems.add(f"ids of {unit} that stand twice or more", id_)
    return Survey(len(hashes), characters, problems)
