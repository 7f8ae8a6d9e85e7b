"""A page of two runs whose names, ids and texts would be markup and scripts, were they not escaped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from seedcli.data.records import Passage, Qrels
from seedcli.evaluation.metrics import Values, measure
from seedcli.evaluation.page.contents import Found, contents
from seedcli.evaluation.page.page import page
from seedcli.evaluation.steps import Step
from seedcli.retrieval.runs import Ranking, Run, run_of

TAKEN = "document.title='taken over'"
BAD = "</script><script>" + TAKEN + "</script>"
NAMES = ("bm25 <b>&\"'", BAD)


@dataclass
class Made:
    values: Values
    found: Found
    summary: dict[str, Any]
    held: dict[str, Any]
    html: str


@pytest.fixture(scope="session")
def pages() -> Callable[..., Made]:
    return made


def made(
    queries: int = 60, address: str = "https://example.invalid", cases: int = 10,
    measures: Sequence[str] = ("mrr@10", "recall@3"),
) -> Made:  # fmt: skip
    """The first run has the relevant document second and the other first, but for every fourth query, where neither has
    it in the first three hits: there the first run has it fifth."""
    names = [
        f'q{number}"><img src={address}/{number} onerror={TAKEN}>'.replace(" ", "\u00a0") for number in range(queries)
    ]
    right = [f"d{number}<i>".replace(" ", "") for number in range(queries)]
    qrels: Qrels = {name: {right[number]: 1, "other": 0} for number, name in enumerate(names)}

    def run(place: Callable[[int], int]) -> Run:
        rankings = []
        for number, name in enumerate(names):
            documents = [f"x{rank}&{number}" for rank in range(6)]
            if place(number):
                documents.insert(place(number) - 1, right[number])
            scores = np.arange(len(documents), 0, -1, dtype=np.float32)
            rankings.append(Ranking(name, documents, scores))
        return run_of(rankings)

    runs = {
        NAMES[0]: run(lambda number: 5 if number % 4 == 0 else 2),
        NAMES[1]: run(lambda number: 0 if number % 4 == 0 else 1),
    }
    values = measure(runs, qrels, measures)
    texts = {
        name: f"heron {number} {BAD}\u2028<img src='{address}/text'>" if number % 2 else f"otter {number} & \ud800 'x'"
        for number, name in enumerate(names)
    }

    def find(ids: Any) -> dict[str, Passage]:
        return {id_: Passage(id_, f"title of {id_}", f"text of {id_} {BAD}") for id_ in ids}

    found = Found(runs, qrels, texts, find)
    means = values.values.mean(axis=2)
    summary = {
        "queries": queries,
        "measures": values.measures,
        "significance": {"baseline": NAMES[0], "level": 0.05},
        "legend": [f"Means & {BAD}"],
        "runs": {
            name: {
                "means": dict(zip(values.measures, means[row].tolist(), strict=True)),
                "intervals": {name: [0.1, 0.9] for name in values.measures},
                **(
                    {"corrected": {"mrr@10": 0.01, "recall@3": 0.5}, "marks": {"mrr@10": "†", "recall@3": ""}}
                    if row
                    else {}
                ),
            }
            for row, name in enumerate(values.names)
        },
    }
    given = Step("corpus", BAD, None, "b" * 64, {}, {}, "", [])
    step = Step(BAD, "found", "search", "a" * 64, {"depth": BAD, "k": 1}, {"depth": BAD}, "", [given])
    held = contents(values, NAMES[0], found, cases)
    return Made(values, found, summary, held, page(summary, held, [step]))
