"""Sets of negatives: what they hold, what they leave out, how they are published, and that the search is exact."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedcli.base.errors import DataError, Interrupted
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.data.pairs import pairs_of
from seedcli.data.ragged import Ragged
from seedcli.data.records import Passage, Query
from seedcli.data.tokenised import write_texts
from seedcli.models.encoder import open_encoder
from seedcli.models.towers import Towers
from seedcli.negatives import refresh
from seedcli.negatives.ance import (
    Found,
    NegativeSet,
    as_released,
    covered,
    joined,
    negative_set,
    numbers_of,
    overlap,
    prune,
    read_set,
    set_path,
    step_of,
    write_set,
)
from seedcli.negatives.examples import Scores, TrainingSet
from seedcli.negatives.refresh import Search, find
from seedcli.retrieval.encoding import TextEncoder

PASSAGES = ["otters swim", "owls fly", "bees dance", "otters swim", "trout leap", "ants dig"]  # 0 and 3 are equal
QUERIES = ["who swims", "who flies"]


def whole(data: TrainingSet) -> tuple[TrainingSet, dict[str, int]]:
    return data, {}


@pytest.fixture
def data(tmp_path: Path, chain: Any) -> TrainingSet:
    """The first query has two positives, the last of them (1) judged last; the second has one (4)."""
    wordpiece = open_encoder(chain.retriever)[1]
    passages = write_texts(
        tmp_path / "p", [Passage(f"p{row}", "", text) for row, text in enumerate(PASSAGES)], "{text}", wordpiece, 16
    )
    queries = write_texts(
        tmp_path / "q", [Query(f"q{row}", text) for row, text in enumerate(QUERIES)], "{text}", wordpiece, 16
    )
    positives = Ragged.of([[0, 1], [4]], np.int64)
    right = pairs_of(queries.numbers[[0, 0, 1]], passages.numbers[[0, 1, 4]])
    nothing = Ragged.of([[], []], np.int64)
    return TrainingSet(queries, passages, np.array([0, 1]), positives, nothing, right)


def found() -> Found:
    """All passages, ranked for both queries."""
    return Found(
        np.array([0, 1]),
        Ragged.of([[3, 2, 1, 0, 5, 4], [0, 4, 3, 1, 2, 5]], np.int64),
        Ragged.of([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]], np.float32),
        Ragged.of([[3, 4], [5]], np.float32),
    )


def test_a_set_leaves_out_all_that_is_right_and_what_equals_it(data):
    made = negative_set(0, 7, data, found(), slice(0, 5), None, whole)
    assert [row.tolist() for row in made.negatives] == [[2, 5], [0, 3, 1, 2]]
    assert [row.tolist() for row in made.scores.negatives] == [[5, 2], [6, 4, 3, 2]]
    assert made.dropped == {"right": 4}  # 3, 1 and 0 of the first query, 4 of the second
    assert made.told == {"above_positive": 2 / 6}  # 5 > 4, 6 > 5


def test_only_some_places_of_the_ranking_count(data):
    made = negative_set(0, 7, data, found(), slice(1, 3), None, whole)
    assert [row.tolist() for row in made.negatives] == [[2], [3]]


def test_as_released_only_the_positive_that_is_judged_last_is_known(data):
    made = negative_set(0, 7, as_released(data), found(), slice(0, 5), None, whole)
    assert [row.tolist() for row in made.negatives] == [[3, 2, 0, 5], [0, 3, 1, 2]]
    assert made.dropped == {"right": 2}
    assert [row.tolist() for row in as_released(data).positives] == [[1], [4]]


def a_set(number: int, examples: list[int], negatives: list[list[int]]) -> NegativeSet:
    rows = Ragged.of(negatives, np.int64)
    scores = Scores(Ragged.of([[1.0]] * len(examples), np.float32), Ragged.of(negatives, np.float32))
    return NegativeSet(number, 10 * number, np.array(examples), rows, scores, {})


def test_overlap_is_the_share_of_candidates_that_the_same_example_had():
    old, new = a_set(0, [1, 2], [[5, 6], [7]]), a_set(1, [2, 3], [[7, 8, 9], [5]])
    assert overlap(new, old) == pytest.approx(1 / 3)
    assert overlap(new, a_set(0, [4], [[5]])) is None


def test_a_set_trains_its_own_examples_alone(data):
    part = a_set(0, [1], [[2, 0]]).of(data)
    assert part.trained.tolist() == [1]
    assert [row.tolist() for row in part.positives] == [[4]]
    assert [row.tolist() for row in part.negatives] == [[2, 0]]


def test_a_fifth_each_time_passes_all_queries_once_in_five_sets():
    sets = [covered(103, 5, number, seed=4) for number in range(6)]
    assert sorted(np.concatenate(sets[:5]).tolist()) == list(range(103))
    assert {len(part) for part in sets} == {20, 21}
    assert sets[5].tolist() == sets[0].tolist()
    assert covered(103, 1, 3, seed=4).tolist() == list(range(103))
    assert covered(103, 5, 0, seed=5).tolist() != sets[0].tolist()


def test_what_processes_found_comes_together_in_order():
    all_of_it = found()
    parts = [
        Found(all_of_it.examples[row : row + 1], *(Ragged.of([c[row]], c.values.dtype) for c in all_of_it[1:]))
        for row in (1, 0)
    ]
    both = joined(parts)
    assert both.examples.tolist() == [0, 1]
    for mine, theirs in zip(both[1:], all_of_it[1:], strict=True):
        assert mine.values.tolist() == theirs.values.tolist()
        assert mine.offsets.tolist() == theirs.offsets.tolist()


def test_a_published_set_reads_back_and_half_of_one_is_not_there(tmp_path):
    for number in range(4):
        write_set(tmp_path, a_set(number, [1, 5], [[number], [2, 3]])._replace(told={"overlap": 0.5}))
    (tmp_path / ".set-000009.safetensors.77.part").write_bytes(b"half")
    assert numbers_of(tmp_path) == [0, 1, 2, 3]
    assert step_of(tmp_path, 2) == 20
    read = read_set(tmp_path, 3)
    assert (read.number, read.step, read.told) == (3, 30, {"overlap": 0.5})
    assert read.examples.tolist() == [1, 5]
    assert [row.tolist() for row in read.negatives] == [[3], [2, 3]]
    prune(tmp_path, 2)
    assert numbers_of(tmp_path) == [2, 3]
    with pytest.raises(FileNotFoundError):
        read_set(tmp_path, 0)
    set_path(tmp_path, 2).write_bytes(set_path(tmp_path, 2).read_bytes()[:40])
    with pytest.raises(DataError, match="not a set of negatives"):
        read_set(tmp_path, 2)


@pytest.fixture
def search(data: TrainingSet, chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Of all passages, with the chain's retriever, two a shard."""
    monkeypatch.setattr(refresh, "share_size", lambda *_: 2)
    encoder, tokenizer = open_encoder(chain.retriever)
    return Search(data, Towers(encoder), tokenizer, 4, tmp_path / "vectors", Runtime(), Silent())


def test_the_search_finds_what_a_plain_one_does(search, chain):
    encoder, tokenizer = open_encoder(chain.retriever)
    plain = TextEncoder(encoder, tokenizer, Runtime(), 1 << 12)
    scores = plain.encode(QUERIES, "query").astype(np.float64) @ plain.encode(PASSAGES, "passage").T
    search.towers.train()
    result = find(search, np.array([0, 1]), 5, lambda: 0)
    assert search.towers.training
    for row, ranked in enumerate(result.rows):
        best = sorted(range(len(PASSAGES)), key=lambda place: (scores[row, place].round(7), place), reverse=True)[:4]
        assert ranked.tolist() == best
        np.testing.assert_allclose(result.scores[row], scores[row, best], rtol=1e-5)
    np.testing.assert_allclose(result.positives.values, [scores[0, 0], scores[0, 1], scores[1, 4]], rtol=1e-5)


def test_a_search_that_was_stopped_keeps_what_it_encoded(search, monkeypatch):
    calls: list[int] = []
    encode_rows = refresh.encode_rows

    def counted(encoder: Any, rows: Any, role: str, *rest: Any) -> Any:
        if role == "passage":
            calls.append(len(rows))
        return encode_rows(encoder, rows, role, *rest)

    monkeypatch.setattr(refresh, "encode_rows", counted)
    with pytest.raises(Interrupted, match="repeat the command"):
        find(search, np.array([0]), 5, lambda: 15 * (len(calls) == 2))
    assert calls == [2, 2]
    find(search, np.array([0]), 5, lambda: 0)
    assert calls == [2, 2, 2]
    find(search, np.array([0]), 6, lambda: 0)  # other weights
    assert calls == [2] * 6
    assert [folder.name for folder in search.folder.iterdir()] == ["0000006"]


def test_dropout_of_the_model_in_training_does_not_disturb_the_search(search):
    torch.manual_seed(0)
    search.towers.train()
    first = find(search, np.array([0, 1]), 1, lambda: 0)
    shutil.rmtree(search.folder)
    second = find(search, np.array([0, 1]), 1, lambda: 0)
    assert first.scores.values.tolist() == second.scores.values.tolist()
