"""Filters against false negatives, by hand; and nested parts of the training queries."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from seedcli.data.records import Example, Passage, Qrels, Query
from seedcli.data.tokenised import Texts, write_texts
from seedcli.data.tokenizer import Tokenizer
from seedcli.negatives.examples import TrainingSet, chosen, from_qrels, part_of
from seedcli.negatives.filters import Margins, answered, cut, drop, histogram, too_near, without_answers
from seedcli.retrieval.runs import Ranking, run_of

PASSAGES = [Passage(f"p{row}", "Café", text) for row, text in enumerate([
    "the otter eats trout", "thirteen herons", "a trout, in the river", "the Café of an otter", "13 eels", "no more",
])]  # fmt: skip
QUERIES = [
    Query("q0", "what eats the otter", ("Trout",)),
    Query("q1", "how many", ("13", "thirteen")),
    Query("q2", "x"),
]
QRELS: Qrels = {"q0": {"p0": 1}, "q1": {"p1": 1, "p5": 1}, "q2": {"p5": 1}}
RANKED = {  # q2's positive is not ranked
    "q0": [("p3", 9.0), ("p0", 8.0), ("p2", 7.5), ("p4", 4.0), ("p5", -1.0)],
    "q1": [("p4", 5.0), ("p1", 4.0), ("p2", 3.5), ("p5", 2.0), ("p3", 1.0)],
    "q2": [("p1", 3.0), ("p2", 2.0)],
}


@pytest.fixture
def read(wordpiece: Tokenizer, tmp_path: Path) -> tuple[Texts, Texts]:
    return (
        write_texts(tmp_path / "queries", QUERIES, "{text}", wordpiece, 12),
        write_texts(tmp_path / "passages", PASSAGES, "{title} {text}", wordpiece, 12),
    )


@pytest.fixture
def data(read: tuple[Texts, Texts]) -> TrainingSet:
    run = run_of(
        Ranking(query, [id_ for id_, _ in found], np.array([score for _, score in found], np.float32))
        for query, found in RANKED.items()
    )
    return from_qrels(*read, QRELS, run, slice(100))[0]


def pools(data: TrainingSet) -> list[list[str]]:
    return [[PASSAGES[row].id for row in pool] for pool in data.negatives]


def test_candidates_keep_their_scores_and_positives_have_those_of_the_run(data: TrainingSet) -> None:
    assert pools(data) == [["p3", "p2", "p4", "p5"], ["p4", "p2", "p3"], ["p1", "p2"]]
    assert data.scores is not None
    assert [scores.tolist() for scores in data.scores.negatives] == [[9, 7.5, 4, -1], [5, 3.5, 1], [3, 2]]
    assert [scores.tolist() for scores in data.scores.positives][:2] == [[8], [4, 2]]
    assert np.isnan(data.scores.positives[2]).all()


@pytest.mark.parametrize(
    ("margins", "left"),
    [
        (Margins(absolute=0.5), [["p2", "p4", "p5"], ["p2", "p3"], []]),
        (Margins(absolute=0.6), [["p4", "p5"], ["p3"], []]),
        (Margins(absolute=0.0), [["p2", "p4", "p5"], ["p2", "p3"], []]),
        (Margins(relative=0.1), [["p4", "p5"], ["p2", "p3"], []]),
        (Margins(relative=0.05), [["p2", "p4", "p5"], ["p2", "p3"], []]),
        (Margins(absolute=4.5, relative=0.05), [["p5"], [], []]),
    ],
)
def test_a_candidate_keeps_its_distance_from_the_best_positive(
    margins: Margins, left: list[list[str]], data: TrainingSet
) -> None:
    """The scores of the best positives are 8 and 4; where none was ranked, no candidate is known to be wrong."""
    assert data.scores is not None
    kept, dropped = drop(data, too_near(data, data.scores, margins))
    assert pools(kept) == left
    assert sum(dropped.values()) == sum(map(len, pools(data))) - sum(map(len, left))
    assert kept.scores is not None
    assert [len(scores) for scores in kept.scores.negatives] == [len(pool) for pool in left]
    assert (kept.trained == data.trained).all()


def test_below_zero_a_share_is_still_a_distance(data: TrainingSet) -> None:
    assert data.scores is not None
    below = data.scores._replace(
        positives=type(data.scores.positives)(data.scores.positives.values - 10, data.scores.positives.offsets)
    )  # best positives: -2 and -6
    masks = too_near(data, below, Margins(relative=0.5))["relative margin"]  # at most -3 and -9
    assert masks.tolist() == [True] * 9


def test_a_candidate_dropped_by_two_filters_counts_once(data: TrainingSet) -> None:
    first = np.array([True, True] + [False] * 7)
    kept, dropped = drop(data, {"answer": first, "absolute margin": ~first | first})
    assert dropped == {"answer": 2, "absolute margin": 7}
    assert pools(kept) == [[], [], []]


def test_candidates_that_hold_an_answer_are_found_in_their_texts(data: TrainingSet) -> None:
    """Whole words, uncased, of the text alone: the title of all is Café."""
    rows = {query.id: row for row, query in enumerate(QUERIES)}
    answers: dict[int, Sequence[str]] = {rows["q0"]: ("TROUT", "café"), rows["q1"]: ("13", "teen")}
    found = answered(data, iter(PASSAGES), answers)
    named = [id_ for pool in pools(data) for id_ in pool]
    assert [(id_, hit) for id_, hit in zip(named, found.tolist(), strict=True)] == [
        ("p3", True), ("p2", True), ("p4", False), ("p5", False),  # otter: Café, trout
        ("p4", True), ("p2", False), ("p3", False), ("p1", False), ("p2", False),
    ]  # fmt: skip


def test_an_example_loses_negatives_with_their_scores() -> None:
    example = Example(QUERIES[0], [PASSAGES[0]], PASSAGES[1:5], [1.0], [4.0, 3.0, 2.0, 1.0])
    left = without_answers(example, QUERIES[0].answers)
    assert [passage.id for passage in left.negatives if not isinstance(passage, str)] == ["p1", "p3", "p4"]
    assert left.negative_scores == [4, 2, 1]
    assert without_answers(example._replace(negative_scores=()), ("eels",)).negative_scores == []
    part = cut(example, slice(1, 3))
    assert (part.negatives, part.negative_scores) == (PASSAGES[2:4], [3, 2])
    assert cut(example._replace(negative_scores=()), slice(1, 3)).negative_scores == ()


def test_the_histogram_has_both_sides_over_the_same_bins(data: TrainingSet) -> None:
    assert data.scores is not None
    told = histogram(data.scores)
    assert (told["edges"][0], told["edges"][-1], len(told["edges"])) == (-1, 9, 21)
    assert (sum(told["positives"]), sum(told["negatives"])) == (3, 9)
    assert told["positives without a score"] == 1
    assert told["negatives"][-1] == 1  # 9
    assert told["positives"][6] == 1  # 2: the bin from 2 to 2.5
    assert told["negatives"][6] == 1  # 2, too


def test_a_larger_share_of_the_queries_holds_the_smaller() -> None:
    names = [f"q{number}" for number in range(1_000)]
    shares = [chosen(names, fraction, None, seed=3) for fraction in (0.001, 0.01, 0.1, 0.5, 1.0)]
    assert [len(share) for share in shares] == [1, 10, 100, 500, 1_000]
    assert all(small < large for small, large in pairwise(shares))
    assert chosen(names, 1.0, 10, seed=3) == shares[1]
    assert chosen(names, 0.1, 10_000, seed=3) == shares[2]
    assert chosen(reversed([*names, *names]), 0.1, None, seed=3) == shares[2]  # type: ignore[arg-type]
    assert chosen(names, 0.1, None, seed=4) != shares[2]
    assert chosen(["only"], 0.001, None, seed=0) == {"only"}


def test_a_part_of_a_training_set_keeps_what_belongs_to_its_examples(data: TrainingSet) -> None:
    part = part_of(data, np.array([False, True, True]))
    assert pools(part) == pools(data)[1:]
    assert part.trained.tolist() == data.trained.tolist()[1:]
    assert [rows.tolist() for rows in part.positives] == [rows.tolist() for rows in data.positives][1:]
    assert part.scores is not None
    assert [scores.tolist() for scores in part.scores.negatives] == [[5, 3.5, 1], [3, 2]]
