"""Recall as it is told, against counting by numpy; settings that are found, against trying each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedcli.base.progress import Silent
from seedcli.retrieval import exact
from seedcli.retrieval.design import Asked, design
from seedcli.retrieval.matrix import Matrix
from seedcli.retrieval.recall import Point, Sample, Share, cheapest, doubled, measured, points, recall
from seedcli.retrieval.runs import run_of
from seedcli.retrieval.vectors import open_shards, shard_path, write_shard

pytest.importorskip("faiss", reason='pip install "seedcli[cpu]"')
from seedcli.retrieval.ann import Ann, Rows, built

Floats = np.ndarray[Any, np.dtype[np.float32]]
CPU = torch.device("cpu")
N, Q = 1_200, 70


def opened(folder: Path, vectors: Floats, kind: str, each: int = 1, **asked: int) -> Ann:
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    write_shard(shard_path(folder, 0), [f"d{row // each}" for row in range(len(vectors))], vectors)
    rows, path = Rows(open_shards(folder)), folder / "index.faiss"
    built(path, folder / "parts", design(kind, *vectors.shape, Asked(**asked)), rows, 0, CPU, Silent())
    return Ann(path, rows, each, CPU)


def sample_of(ann: Ann, queries: Floats) -> Sample:
    names = [str(row) for row in range(len(queries))]
    return Sample(
        names, queries, run_of(exact.search(names, queries, Matrix(ann.rows.shards, CPU), 100, Silent(), ann.each))
    )


def shares(ann: Ann, vectors: Floats, queries: Floats, depth: int, refine: int = 0) -> Floats:
    """How many of the true first documents are among the first `depth` of a search for 100, for each query."""
    of = np.array([int(id_[1:]) for id_ in ann.ids(np.arange(len(vectors))).tolist()])
    found = []
    for query, hits in zip(queries, ann.search(queries, 100, refine), strict=True):
        scores = np.full(of.max() + 1, -np.inf)
        np.maximum.at(scores, of, vectors.astype(np.float64) @ query.astype(np.float64))
        right = {*np.argsort(-scores)[:depth].tolist()}
        found.append(len(right & {int(id_[1:]) for id_ in hits.ids[:depth].tolist()}) / depth)
    return np.array(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ann, Floats, Floats, Sample]:
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(count, 12)).astype(np.float32) for count in (N, Q))
    ann = opened(tmp_path_factory.mktemp("ann") / "ivf", vectors, "ivf")
    return ann, vectors, queries, sample_of(ann, queries)


def test_recall_is_what_numpy_counts(made):
    ann, vectors, queries, sample = made
    for setting in (1, 5, 30):
        point = measured(ann, sample, setting, 0)
        for told, depth in ((point.recall_10, 10), (point.recall_100, 100)):
            counted = shares(ann, vectors, queries, depth)
            assert told.mean == pytest.approx(counted.mean(), abs=1e-12)
            assert told.error == pytest.approx(1.96 * counted.std(ddof=1) / np.sqrt(Q), abs=1e-12)
        assert recall(ann, sample, setting, 0) == point.recall_100
        assert point.setting == setting
        assert 0 < point.single < 10 * point.batch
    assert point.recall_100 == (1.0, 0.0)


def test_recall_is_what_numpy_counts_of_codes_of_documents_of_three_vectors(tmp_path):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(count, 12)).astype(np.float32) for count in (N, 20))
    ann = opened(tmp_path / "sq", vectors, "sq", each=3, memory=N * 6)
    sample = sample_of(ann, queries)
    for refine in (0, 2):
        point = measured(ann, sample, None, refine)
        assert point.recall_100.mean == pytest.approx(shares(ann, vectors, queries, 100, refine).mean(), abs=1e-12)
        assert point.recall_10.mean == pytest.approx(shares(ann, vectors, queries, 10, refine).mean(), abs=1e-12)
        assert (point.recall_100.mean < 1) == (not refine)


def test_what_ties_with_the_last_hit_is_right_too(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.integers(-1, 2, (N, 4)).astype(np.float32)
    ann = opened(tmp_path / "ivf", vectors, "ivf")
    point = measured(ann, sample_of(ann, vectors[:Q]), ann.lists, 0)
    assert (point.recall_10.mean, point.recall_100.mean) == (1.0, 1.0)


def test_settings_double_from_the_least_to_what_is_enough(made):
    ann, _, _, sample = made
    assert list(doubled(1, 30)) == [1, 2, 4, 8, 16, 30]
    assert list(doubled(100, 100)) == [100]
    first = measured(ann, sample, 5, 0)
    tried = points(ann, sample, first, 0, 0.0, Silent())
    assert [point.setting for point in tried][:4] == [1, 2, 4, 5]
    assert tried[3] is first
    means = [point.recall_100.mean for point in tried]
    assert means == sorted(means)
    assert means[-1] >= 0.99 > means[-2]
    alone = Point(None, Share(1, 0), Share(1, 0), 1, 1)
    assert points(ann, sample, alone, 0, 0.0, Silent()) == [alone]


@pytest.mark.parametrize("target", [0.3, 0.6, 0.85, 0.95, 1.0])
def test_the_cheapest_setting_reaches_the_target_and_the_next_cheaper_does_not(made, target):
    ann, _, _, sample = made
    tried = points(ann, sample, measured(ann, sample, 5, 0), 0, target, Silent())
    found = cheapest(ann, sample, tried, 0, target, Silent())
    every = {setting: recall(ann, sample, setting, 0).mean for setting in range(1, ann.lists + 1)}
    assert found.setting == min(setting for setting, mean in every.items() if mean >= target)
    assert found.recall_100.mean == every[found.setting]


def test_the_cheapest_ef_search_is_no_less_than_what_is_asked_for(tmp_path):
    """A search for 100 follows 100 at least: a lower setting would only harm searches for fewer."""
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(count, 12)).astype(np.float32) for count in (N, 20))
    ann = opened(tmp_path / "hnsw", vectors, "hnsw")
    sample = sample_of(ann, queries)
    for refine, least in ((0, 100), (2, 200)):
        tried = points(ann, sample, measured(ann, sample, 256, refine), refine, 0.5, Silent())
        assert tried[0].setting == least
        assert cheapest(ann, sample, tried, refine, 0.5, Silent()).setting == least


def test_a_target_out_of_reach_leaves_the_best_there_is(made):
    ann, _, _, sample = made
    best = Point(8, Share(0.9, 0), Share(0.8, 0), 1, 1)
    tried = [Point(4, Share(0.9, 0), Share(0.7, 0), 1, 1), best]
    assert cheapest(ann, sample, tried, 0, 0.9, Silent()) is best
