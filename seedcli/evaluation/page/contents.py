"""What a report's page draws from: values, hits and texts of each query, as plain lists that are small as JSON.

Letters: R runs, M measures, Q judged queries, H first hits.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.data.records import SEPARATOR, Passage, Qrels
from seedcli.evaluation.cutoffs import Places, by_cutoff, cutoffs, places
from seedcli.evaluation.judging import Judgements
from seedcli.evaluation.metrics import Values
from seedcli.retrieval.runs import Run

SCALE = 1_000_000  # values are kept as so many parts of 1
FIRST = 3  # hits of a query that are shown
LONGEST = 400  # characters of a passage that are kept
QUERY = 300  # characters of a query
MOST = 400  # queries, about, whose hits are kept with their texts

Find = Callable[[Iterable[str]], Mapping[str, Passage]]


class Found(NamedTuple):
    """Rankings and what they were judged by: what can be shown beyond the values."""

    runs: Mapping[str, Run]  # one for each of the report's names
    qrels: Qrels
    queries: Mapping[str, str]  # texts by id, as far as there are some
    find: Find | None  # where the texts of passages are


def contents(values: Values, baseline: str | None, found: Found | None, cases: int) -> dict[str, Any]:
    """All that the page's script reads. `cases` queries each way of each two runs have their passages' texts, at most.

    Values are whole numbers of SCALE; what is no number is None.
    """
    scaled = np.rint(values.values * SCALE)
    held: dict[str, Any] = {
        "systems": values.names,
        "measures": values.measures,
        "baseline": values.names.index(baseline) if baseline else 0,
        "scale": SCALE,
        "ids": values.queries,
        "values": [[whole(row) for row in rows] for rows in scaled],
    }
    if found is None:
        return held
    texts = [cut(found.queries.get(query, ""), QUERY) for query in values.queries]
    documents = Numbers()
    judged = [{id_ for id_, grade in found.qrels.get(query, {}).items() if grade > 0} for query in values.queries]
    best = [best_of(found.qrels.get(query, {})) for query in values.queries]  # [Q]
    runs, judgements = [found.runs[name] for name in values.names], Judgements(found.qrels)
    placed = [places(judgements.find(run), judgements) for run in runs]
    hits = [[hits_of(run, query, right, documents) for query, right in zip(values.queries, judged, strict=True)]
            for run in runs]  # fmt: skip
    shown = extremes(scaled, cases)
    wanted = {hit >> 1 for query in shown for own in hits for hit in own[query]}
    wanted |= {documents.of(id_) for query in shown if (id_ := best[query]) is not None}
    return held | {
        "texts": texts if any(texts) else None,
        "hits": hits,
        "relevant": [-1 if id_ is None else documents.of(id_) for id_ in best],
        "ranks": [each.first.tolist() for each in placed],
        "passages": passages(documents.names, sorted(wanted), found.find),
        "documents": documents.names,
        "curves": curves(placed, judgements),
    }


class Numbers:
    """Ids by number, in the order in which they are met."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self.rows.setdefault(name, len(self.rows))

    @property
    def names(self) -> list[str]:
        return list(self.rows)


def whole(row: NDArray[np.float64]) -> list[int | None]:
    if np.isfinite(row).all():
        return row.astype(int).tolist()  # type: ignore[no-any-return]
    return [int(value) if np.isfinite(value) else None for value in row]


def best_of(grades: Mapping[str, int]) -> str | None:
    """The first of the documents with the highest grade, if that makes it relevant."""
    best = max(grades, key=lambda id_: grades[id_], default=None)
    return best if best is not None and grades[best] > 0 else None


def hits_of(run: Run, query: str, relevant: set[str], documents: Numbers) -> list[int]:
    """The first hits as twice their numbers, and one more where they are relevant; [H]."""
    ids = (document.decode() for document in run.ranking(query)[0][:FIRST].tolist())
    return [2 * documents.of(id_) + (id_ in relevant) for id_ in ids]


def extremes(scaled: NDArray[np.float64], cases: int) -> list[int]:
    """The queries that gain and lose most between any two runs, in each measure; [R, M, Q] -> numbers of queries.

    Those that come first among equals, as the page's script lists them. The more pairs, the fewer of each.
    """
    pairs = list(combinations(range(len(scaled)), 2))
    each = min(cases, max(1, MOST // max(1, 2 * len(pairs) * scaled.shape[1]))) if cases else 0
    chosen = set[int]()
    for one, other in pairs:
        for difference in np.nan_to_num(scaled[one] - scaled[other]):  # [Q]
            for signed in (difference, -difference):
                first = np.argsort(-signed, kind="stable")[:each]
                chosen.update(first[signed[first] > 0].tolist())
    if len(scaled) == 1 and cases:  # one run alone: where it is worst
        chosen.update(np.argsort(scaled[0, 0], kind="stable")[:cases].tolist())
    return sorted(chosen)


def passages(documents: Sequence[str], wanted: Sequence[int], find: Find | None) -> dict[int, list[str]]:
    """Title and text of documents by their numbers, as far as they are found."""
    texts = find([documents[number] for number in wanted]) if find and wanted else {}
    return {
        number: [cut(passage.title), cut(passage.text)]
        for number in wanted
        if (passage := texts.get(documents[number])) is not None
    }


def cut(text: str, longest: int = LONGEST) -> str:
    text = text.replace(SEPARATOR, " [SEP] ")
    return text if len(text) <= longest else text[:longest].rstrip() + " …"


def curves(found: Sequence[Places], judgements: Judgements) -> dict[str, Any]:
    """Each family of measures by cut-off, a curve a run, as long as its rankings."""
    cuts = cutoffs(max(each.depth for each in found))
    lines = [by_cutoff(each, judgements, [cut for cut in cuts if cut <= each.depth]) for each in found]
    rounded = {family: [[round(point, 4) for point in line[family]] for line in lines] for family in lines[0]}
    return {"cuts": cuts, "families": rounded}
