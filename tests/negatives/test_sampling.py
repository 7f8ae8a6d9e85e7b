"""What a run leaves as negatives, and what batches draw from it."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedcli.data.batches import Groups
from seedcli.data.records import Passage, Qrels, Query
from seedcli.data.tokenised import Texts, write_texts
from seedcli.data.tokenizer import Tokenizer
from seedcli.negatives.examples import TrainingSet, from_qrels, positive_ids
from seedcli.negatives.sampling import ContrastiveBatches, Grouping
from seedcli.retrieval.runs import Ranking, Run, run_of
from seedcli.training.objectives import ContrastiveBatch, LossName

WORDS = ["otter", "heron", "beaver", "falcon", "badger", "salmon"]
WORDS += ["lynx", "walrus", "gecko", "condor", "bison", "frog"]
PASSAGES = [
    *(Passage(f"p{row}", "", f"the {word} eats") for row, word in enumerate(WORDS)),  # p0 ... p11
    Passage("twin0", "", "the otter eats"),
    Passage("twin1", "the", "heron eats"),  # the same once its title is written before it
]
QUERIES = [Query(f"q{row}", f"what eats the {word}") for row, word in enumerate(WORDS[:5])]
QRELS: Qrels = {
    "q0": {"p0": 1, "p1": 2, "p9": 0},  # judged, but wrong
    "q1": {"p1": 1, "gone": 1},
    "q2": {"p2": 1},
    "q3": {"gone": 1},
    "q4": {"p3": 0},
    "absent": {"p4": 1},
}
RANKED = {
    "q0": ["p1", "twin0", "p5", "p9", "p0", "p6", "twin1", "p7", "p8"],
    "q1": ["lost", "p3", "twin1", "p4"],
    "q2": ["p2"],
}


@pytest.fixture
def run() -> Run:
    return run_of(Ranking(query, ids, -np.arange(len(ids), dtype=np.float32)) for query, ids in RANKED.items())


@pytest.fixture
def queries(wordpiece: Tokenizer, tmp_path: Path) -> Texts:
    return write_texts(tmp_path / "queries", QUERIES, "{text}", wordpiece, 12)


@pytest.fixture
def passages(wordpiece: Tokenizer, tmp_path: Path) -> Texts:
    return write_texts(tmp_path / "passages", PASSAGES, "{title} {text}", wordpiece, 12)


def names(rows: Any) -> list[str]:
    return [PASSAGES[row].id for row in rows]


def pools(queries: Texts, passages: Texts, run: Run, depth: int) -> tuple[dict[str, list[str]], dict[str, Any]]:
    data, report, _ = from_qrels(queries, passages, QRELS, run, slice(depth))
    return {QUERIES[row].id: names(pool) for row, pool in zip(data.trained, data.negatives, strict=True)}, report


def test_equal_texts_share_a_number_whatever_their_fields(passages: Texts, wordpiece: Tokenizer) -> None:
    numbers = dict(zip((passage.id for passage in PASSAGES), passages.numbers.tolist(), strict=True))
    assert numbers["twin0"] == numbers["p0"]
    assert numbers["twin1"] == numbers["p1"]
    assert len(set(numbers.values())) == len(WORDS)
    assert passages.tokens[3].tolist() == wordpiece.encode(["the falcon eats"], 12)[0].tolist()


def test_a_pool_is_the_ranking_without_positives_and_their_twins(queries: Texts, passages: Texts, run: Run) -> None:
    found, report = pools(queries, passages, run, depth=100)
    assert found == {"q0": ["p5", "p9", "p6", "p7", "p8"], "q1": ["p3", "p4"], "q2": []}
    assert report == {
        "queries": 3,
        "queries without": {"text": 1, "positive": 2},
        "candidates dropped": {"positive": 3, "text of a positive": 3, "not in the corpus": 1},
    }


def test_candidates_come_from_the_first_places_alone(queries: Texts, passages: Texts, run: Run) -> None:
    found, report = pools(queries, passages, run, depth=4)
    assert found == {"q0": ["p5", "p9"], "q1": ["p3", "p4"], "q2": []}
    assert report["candidates dropped"] == {"positive": 2, "text of a positive": 2, "not in the corpus": 1}


def test_all_positives_in_the_corpus_are_known(queries: Texts, passages: Texts, run: Run) -> None:
    data, *_ = from_qrels(queries, passages, QRELS, run, slice(100))
    assert [names(rows) for rows in data.positives] == [["p0", "p1"], ["p1"], ["p2"]]
    assert positive_ids({"a": 0, "b": 1, "c": -1, "d": 3}) == ["b", "d"]


@pytest.fixture
def data(queries: Texts, passages: Texts, run: Run) -> TrainingSet:
    return from_qrels(queries, passages, QRELS, run, slice(100))[0]


class Drawn(list[tuple[str, str, tuple[str, ...]]]):
    """Query, positive and negatives of a batch, read back from its tokens."""

    def __init__(self, batch: ContrastiveBatch, data: TrainingSet):
        def rows(texts: Groups, source: Texts) -> list[int]:
            known = {tuple(ids.tolist()): row for row, ids in reversed(list(enumerate(source.tokens)))}
            there = [tuple(ids[real].tolist()) for part in texts.parts for ids, real in zip(*part, strict=True)]
            return [known[there[place]] for place in texts.places.flatten().tolist()]

        asked = [QUERIES[row].id for row in rows(batch.queries, data.queries)]
        found = names(rows(batch.passages, data.passages))
        right, wrong = found[: len(asked)], found[len(asked) :]
        each = len(wrong) // len(asked)
        hard = [tuple(wrong[row * each : (row + 1) * each]) for row in range(len(asked))]
        super().__init__(zip(asked, right, hard, strict=True))


def batches(
    data: TrainingSet, size: int, negatives: int, seed: int = 5, loss: LossName = "in-batch"
) -> ContrastiveBatches:
    return ContrastiveBatches(data, 0, size, negatives, seed, loss, Grouping(30))


def drawn(data: TrainingSet, step: int, negatives: int, rank: int = 0, world: int = 1, size: int = 3) -> Drawn:
    (batch,) = batches(data, size, negatives)(step, rank, world)
    assert batch.counts.tolist() == [len(batch.queries.places)] * 3
    return Drawn(batch, data)


def test_negatives_are_different_ones_of_the_pool_and_never_right(data: TrainingSet) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for step in range(200):
        for query, positive, wrong in drawn(data, step, negatives=2):
            assert positive in positive_ids(QRELS[query])
            if query != "q2":  # which has none
                assert len(set(wrong)) == 2
                assert set(wrong) <= {"q0": {"p5", "p9", "p6", "p7", "p8"}, "q1": {"p3", "p4"}}[query]
            seen.update((query, passage) for passage in (positive, *wrong))
    assert {passage for query, passage in seen if query == "q0"} == {"p0", "p1", "p5", "p9", "p6", "p7", "p8"}
    assert all(seen["q0", id_] == pytest.approx(80, abs=30) for id_ in ("p5", "p9", "p6", "p7", "p8"))
    assert seen["q0", "p0"] == pytest.approx(100, abs=30)
    assert seen["q1", "p3"] == seen["q1", "p4"] == 200


def test_a_pool_too_small_is_filled_with_others_that_are_not_right(data: TrainingSet) -> None:
    filled: Counter[str] = Counter()
    for step in range(200):
        for query, _, wrong in drawn(data, step, negatives=4):
            assert not set(positive_ids(QRELS[query])).intersection(wrong)
            if query == "q1":
                assert wrong[:2] == ("p3", "p4")
                filled.update(wrong[2:])
    assert set(filled) == {f"p{row}" for row in range(12)} - {"p1", "p3", "p4"}  # twin0 reads back as p0


def test_what_fills_a_pool_is_no_twin_of_a_positive_and_stands_once(data: TrainingSet) -> None:
    seven = batches(data, 3, 7)
    for place, right in enumerate([{"p0", "twin0", "p1", "twin1"}, {"p1", "twin1"}, {"p2"}]):
        for seed in range(100):
            wrong = names(seven._wrong(place, np.random.default_rng(seed))[0])
            assert len(set(wrong)) == 7
            assert not right.intersection(wrong)


def test_a_collection_too_small_gives_what_it_has(data: TrainingSet) -> None:
    wrong, places = batches(data, 3, 50)._wrong(0, np.random.default_rng(0))
    assert sorted(set(names(wrong))) == sorted({f"p{row}" for row in range(2, 12)})
    assert len(wrong) == len(places) == 50


def test_draws_follow_from_seed_and_step_alone(data: TrainingSet) -> None:
    steps = [drawn(data, step, 2) for step in range(6)]
    assert steps == [drawn(data, step, 2) for step in range(6)]
    assert len({tuple(step) for step in steps}) > 3
    (other,) = batches(data, 3, 2, seed=6)(0, 0, 1)
    assert [Drawn(other, data) != steps[0], Drawn(other, data) == drawn(data, 0, 2)] == [True, False]


@pytest.mark.parametrize("world", [2, 3])
def test_draws_are_the_same_for_any_number_of_processes(data: TrainingSet, world: int) -> None:
    for step in range(5):
        whole = drawn(data, step, 3, size=5)
        parts = [drawn(data, step, 3, rank, world, size=5) for rank in range(world)]
        assert sorted(chain.from_iterable(parts)) == sorted(whole)
        assert [len(part) for part in parts] == [len(range(rank, 5, world)) for rank in range(world)]


def test_every_query_stands_once_an_epoch(data: TrainingSet) -> None:
    asked = [query for step in range(6) for query, _, _ in drawn(data, step, 1, size=2)]
    assert [set(asked[begin : begin + 3]) for begin in range(0, 12, 3)] == [{"q0", "q1", "q2"}] * 4


def test_a_batch_tells_which_texts_are_right(data: TrainingSet) -> None:
    (batch,) = batches(data, 3, 1)(0, 0, 1)
    numbers = data.passages.numbers
    for row, (query, positive, _) in enumerate(Drawn(batch, data)):
        right = [id_ for id_ in positive_ids(QRELS[query]) if id_ != "gone"]
        assert set(batch.right[row].tolist()) - {-1} == set(numbers[data.passages.ids.rows(right)].tolist())
        assert batch.texts[row] == numbers[data.passages.ids.rows([positive])[0]]
    assert batch.texts.shape == (6,)


def test_without_hard_negatives_there_are_only_positives(data: TrainingSet) -> None:
    assert [wrong for _, _, wrong in drawn(data, 0, negatives=0)] == [()] * 3
