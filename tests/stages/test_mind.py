"""MIND through every stage: from clicks to a model, from given candidates to a report."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from seedcli.data.sources import open_collection
from seedcli.data.tokenised import write_texts
from seedcli.models.encoder import EncoderSettings
from seedcli.negatives.examples import open_examples, write_examples
from seedcli.negatives.sampling import ContrastiveBatches, Grouping
from seedcli.retrieval.run_files import read_run

TOPICS = ("otter", "heron", "falcon", "salmon", "gecko", "walrus")
PHRASES = ("the {0}", "an old {0}", "look for the {0}", "where does the {0} live")
NEWS = {f"N{row}": PHRASES[row % 4].format(TOPICS[row // 4]) for row in range(24)}
FEW = {"optimize.steps": 90, "optimize.batch_size": 8, "optimize.lr": 2e-3, "optimize.warmup": 9}
COSINE = {"tower.similarity": "cosine", "loss.temperature": 0.05}


class Shown(NamedTuple):
    history: list[str]
    clicked: list[str]
    unclicked: list[str]


def impressions() -> dict[str, Shown]:
    """Readers of one topic click on more of it. Two have no history, one clicks on nothing, one on unknown news."""
    topics = [list(NEWS)[begin : begin + 4] for begin in range(0, 24, 4)]
    shown = {}
    for number in range(24):
        own, other = topics[number % 6], topics[(number + 1 + number // 6) % 6]
        shown[f"{number}"] = Shown(own[:2], own[2 : 3 + number % 2], [*other[:3], "N999"])
    shown["cold"], shown["colder"] = Shown([], ["N0"], ["N1", "N7"]), Shown([], ["N4", "N5"], ["N3"])
    shown["none"], shown["unknown"] = Shown(["N2"], [], ["N1", "N9"]), Shown(["N3"], ["N777"], ["N888"])
    return shown


@pytest.fixture(scope="module")
def mind(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mind")
    news = [f"{id_}\tnews\tworld\t{title}\t\thttps://a/{id_}\t[]\t[]\n" for id_, title in NEWS.items()]
    lines = []
    for id_, shown in impressions().items():
        candidates = [f"{name}-0" for name in shown.unclicked] + [f"{name}-1" for name in shown.clicked]
        lines.append(f"{id_}\tU{id_}\t11/12/2019\t{' '.join(shown.history)}\t{' '.join(candidates)}\n")
    (folder / "news.tsv").write_text("".join(news))
    (folder / "behaviors.tsv").write_text("".join(lines))
    return folder


def test_a_click_is_told_from_what_stood_beside_it(mind, wordpiece, tmp_path):
    """Of the batch's other news those are no negatives that the same reader clicked on; one without a history has
    nothing in common with another one."""
    collection, settings = open_collection(mind), EncoderSettings(query_length=32, passage_length=16)
    queries = write_texts(tmp_path / "queries", collection.queries(), settings.query_template, wordpiece, 32)
    passages = write_texts(tmp_path / "passages", collection.passages(), "{title}", wordpiece, 16)
    (tmp_path / "examples").mkdir()
    texts, given = (queries, passages), (settings, wordpiece)
    write_examples(tmp_path / "examples", collection.examples("train"), *given, texts, False, lambda _: None)
    data = open_examples(tmp_path / "examples", texts)
    clicks = [(id_, click) for id_, shown in impressions().items() for click in shown.clicked if click in NEWS]
    named = dict(zip(passages.numbers.tolist(), NEWS, strict=True))
    batches = ContrastiveBatches(data, wordpiece.pad, len(clicks), 1, 0, "pairwise", Grouping(400))
    drawn = Counter()
    for step in (1, 2, 3):
        (batch,) = batches(step, 0, 1)
        news = [named[number] for number in batch.texts.tolist()]
        asked = [clicks[row] for _, row in batches.rows(step)]
        right, wrong = news[: len(clicks)], news[len(clicks) :]
        for (id_, click), positive, negative, known in zip(asked, right, wrong, batch.right.tolist(), strict=True):
            assert positive == click
            assert negative in impressions()[id_].unclicked
            if not impressions()[id_].history:
                assert {named[number] for number in known if number >= 0} == set(impressions()[id_].clicked)
            drawn[id_, click] += 1
    assert drawn == dict.fromkeys(clicks, 3)


@pytest.fixture(scope="module")
def chain_of_mind(mind, chain, perform, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("chain_of_mind")
    clicks = {"negatives.negatives": "file", "loss.loss": "pairwise", "tower.passage_template": "mind"}
    perform("finetune", out=root / "retriever", model=chain.encoder, data=mind, **clicks, **FEW, **COSINE)
    perform("encode", out=root / "vectors", model=root / "retriever", corpus=mind, shard_size=10)
    perform("index", out=root / "flat", vectors=root / "vectors")
    perform("search", out=root / "found", index=[str(root / "flat")], queries=mind, candidates=mind)
    runs, measures = [str(root / "found")], ["mrr@10", "ndcg@5"]
    perform("evaluate", out=root / "report", runs=runs, qrels=mind, measures=measures)
    return root


def test_every_impression_is_trained_on_but_for_clicks_on_unknown_news(chain_of_mind):
    made = json.loads((chain_of_mind / "retriever" / "negatives.json").read_text())
    assert made["queries"] == 24 + 12 + 3
    assert made["problems"]["queries without a positive"] == {"count": 1, "names": ["unknown"]}


def test_the_known_candidates_of_each_impression_are_ranked_and_no_others(chain_of_mind):
    found = {ranking.query: sorted(ranking.documents) for ranking in rankings(chain_of_mind)}
    expected = {id_: sorted({*shown.clicked, *shown.unclicked} & NEWS.keys()) for id_, shown in impressions().items()}
    assert found == {id_: known for id_, known in expected.items() if known}
    assert expected.keys() - found.keys() == {"unknown"}


def test_what_was_clicked_comes_to_stand_first(chain_of_mind):
    first = [ranking.documents[0] in impressions()[ranking.query].clicked for ranking in rankings(chain_of_mind)]
    assert sum(first) >= 20  # of 26 that have a click; 15 after a single step


def test_the_report_says_what_the_run_gives_by_hand(chain_of_mind):
    """An impression without a click, or without a known candidate, counts as zero."""
    reciprocal, gains = 0.0, 0.0
    for ranking in rankings(chain_of_mind):
        clicked = impressions()[ranking.query].clicked
        ranks = [rank for rank, id_ in enumerate(ranking.documents, 1) if id_ in clicked]
        if ranks:
            reciprocal += 1 / ranks[0]
            ideal = sum(1 / math.log2(rank + 1) for rank in range(1, len(clicked) + 1))
            gains += sum(1 / math.log2(rank + 1) for rank in ranks if rank <= 5) / ideal
    means = json.loads((chain_of_mind / "report" / "report.json").read_text())["runs"]["found"]["means"]
    assert means == pytest.approx({"mrr@10": reciprocal / 28, "ndcg@5": gains / 28}, abs=1e-6)


def rankings(folder: Path):
    return list(read_run(folder / "found" / "run.trec").rankings())
