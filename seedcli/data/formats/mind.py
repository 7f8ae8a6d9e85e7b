"""MIND's files: news, and what their readers were shown and clicked on."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from sys import intern

from seedcli.base.errors import DataError
from seedcli.data.collections import Collection, PassageFiles
from seedcli.data.formats.filenames import first_file
from seedcli.data.lines import field, id_field, read_table
from seedcli.data.records import SEPARATOR, Example, Impression, Passage, Qrels, Query, Shown

NEWS = ("id", "category", "subcategory", "title", "abstract", "url", "entities of the title", "of the abstract")
BEHAVIORS = ("id", "user", "time", "history", "impressions")
UNLABELLED = "names no click, as MIND's test split"


def open_folder(folder: Path) -> Collection | None:
    """The collection in a folder, None where there is no news.tsv: news as passages, impressions as queries."""
    news, behaviors = first_file(folder, "news.tsv"), first_file(folder, "behaviors.tsv")
    if news is None:
        return None
    passages = PassageFiles([news], read_news)
    if behaviors is None:
        return Collection(folder, passages)
    queries = partial(read_histories, behaviors, news)
    qrels, examples = partial(read_clicks, behaviors), partial(read_examples, behaviors)
    shown = partial(read_shown, behaviors)
    return Collection(folder, passages, {"": queries}, {"": qrels}, {"": examples}, shown_reader=shown)


def read_news(path: Path) -> Iterator[Passage]:
    """news.tsv: of each news its id, title, abstract and url."""
    for where, row in read_table(path, NEWS):
        yield Passage(id_field(row, "id", where), *(field(row, name, where) for name in ("title", "abstract", "url")))


def read_impressions(path: Path) -> Iterator[Impression]:
    """behaviors.tsv. The test split names no clicks: there, all that was shown stands among the unclicked."""
    for where, row in read_table(path, BEHAVIORS):
        clicked, unclicked = _shown(row["impressions"].split(), where)
        yield Impression(id_field(row, "id", where), row["user"], row["history"].split(), clicked, unclicked)


def read_shown(path: Path) -> Iterator[Shown]:
    """What each impression of behaviors.tsv showed, with clicks or, as in the test split, without."""
    for where, row in read_table(path, BEHAVIORS):
        candidates = row["impressions"].split()
        _shown(candidates, where)
        yield Shown(id_field(row, "id", where), [name.rpartition("-")[0] or name for name in candidates])


def _shown(candidates: list[str], where: str) -> tuple[list[str], list[str]]:
    """The news that were clicked, and the others; without their labels, N1-1 and N1-0."""
    if not candidates:
        raise DataError(f"{where}: an impression of no news")
    if not any("-" in candidate for candidate in candidates):
        return [], candidates
    if wrong := next((candidate for candidate in candidates if candidate[-2:] not in {"-1", "-0"}), None):
        raise DataError(f"{where}: expected news such as N1-1, clicked, or N1-0, got {wrong!r:.40}")
    clicked, unclicked = ([name[:-2] for name in candidates if name.endswith(label)] for label in ("-1", "-0"))
    return clicked, unclicked


def read_histories(path: Path, news: Path) -> Iterator[Query]:
    """The readers of behaviors.tsv, one an impression: the titles that they clicked on before, the newest first."""
    titles = {passage.id: passage.title for passage in read_news(news)}
    for impression in read_impressions(path):
        known = (titles[id_] for id_ in reversed(impression.history) if id_ in titles)
        yield Query(impression.id, SEPARATOR.join(known))


def read_clicks(path: Path) -> Qrels:
    """The news of each impression, 1 for the clicked, 0 for the rest. Raises DataError when no click is named."""
    qrels = {}
    clicks = 0
    for impression in read_impressions(path):
        grades = enumerate((impression.unclicked, impression.clicked))
        qrels[impression.id] = {intern(id_): grade for grade, ids in grades for id_ in ids}
        clicks += len(impression.clicked)
    if not clicks:
        raise DataError(f"{path}: {UNLABELLED}; it can't be evaluated with")
    return qrels


def read_examples(path: Path) -> Iterator[Example]:
    """An example a click: the impression, the news clicked on, and all news shown that weren't.

    Raises DataError when no click is named.
    """
    clicks = 0
    for impression in read_impressions(path):
        clicks += len(impression.clicked)
        for click in impression.clicked:
            yield Example(impression.id, (click,), impression.unclicked)
    if not clicks:
        raise DataError(f"{path}: {UNLABELLED}; it can't be trained on")
