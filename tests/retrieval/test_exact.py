"""Exact search against a plain double loop, and the same to the bit however the work is cut."""

from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedcli.base.errors import DataError
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.data.ragged import Ragged
from seedcli.retrieval import exact, fast
from seedcli.retrieval import matrix as matrix_module
from seedcli.retrieval.matrix import Matrix
from seedcli.retrieval.rough import Copies
from seedcli.retrieval.runs import Ranking
from seedcli.retrieval.vectors import Kind, open_shards, shard_path, write_shard

Floats = np.ndarray[Any, np.dtype[np.float32]]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def folder_of(folder: Path, ids: list[str], vectors: Floats, size: int, kind: Kind = "float32") -> Path:
    for number, begin in enumerate(range(0, len(ids), size)):
        write_shard(shard_path(folder, number), ids[begin : begin + size], vectors[begin : begin + size], kind)
    return folder


def found(folder: Path, queries: Floats, depth: int, **cut: Any) -> list[Ranking]:
    names = [f"q{row}" for row in range(len(queries))]
    return list(exact.search(names, queries, Matrix(open_shards(folder), CPU, **cut), depth, Silent()))


def brute_force(ids: list[str], vectors: Floats, queries: Floats, depth: int) -> list[list[tuple[str, float]]]:
    """Every score in float64, sorted as Python sorts: by float32 score, then by the id's bytes, both descending."""
    rankings = []
    for query in queries.astype(np.float64):
        rows = zip(vectors.astype(np.float64), ids, strict=True)
        scored = [(float(np.float32(vector @ query)), id_.encode()) for vector, id_ in rows]
        rankings.append([(id_.decode(), score) for score, id_ in sorted(scored, reverse=True)[:depth]])
    return rankings


def pairs(rankings: list[Ranking]) -> list[list[tuple[str, float]]]:
    return [list(zip(ranking.documents, ranking.scores.tolist(), strict=True)) for ranking in rankings]


def ordinary() -> tuple[list[str], Floats, Floats]:
    """Vectors of all directions, some of them twice, and some that tie with their mirror image; ids of any kind."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(150, 12)).astype(np.float32)
    vectors[40:60] = vectors[20:40]
    vectors[60:80] = vectors[0]
    vectors[80:100] = rng.integers(-1, 2, (20, 12))
    queries = rng.normal(size=(7, 12)).astype(np.float32)
    queries[3] = 0
    queries[4] = rng.integers(-1, 2, 12)
    names = [f"{'日é zZ'[row % 5]}{row // 2:d}{'x' * (row % 2)}" for row in rng.permutation(150)]
    return names, vectors, queries


def treacherous() -> tuple[list[str], Floats, Floats]:
    """Great whole numbers that cancel out and leave small ones: float32 loses these on the way, float64 is exact."""
    rng = np.random.default_rng(1)
    half = rng.integers(1, 30_000, (120, 12))
    great = rng.permuted(np.concatenate([half, -half], axis=1), axis=1)
    vectors = np.concatenate([great, rng.integers(0, 400, (120, 1))], axis=1)
    queries = np.array([[factor] * 24 + [1] for factor in (30_011, 29_989, 20_011, 10_007, 1)])
    return [f"d{row}" for row in range(120)], vectors.astype(np.float32), queries.astype(np.float32)


@pytest.mark.parametrize("depth", [1, 10, 33, 149, 150, 400])
def test_search_finds_what_a_double_loop_finds(tmp_path: Path, depth: int) -> None:
    ids, vectors, queries = ordinary()
    rankings = found(folder_of(tmp_path, ids, vectors, 60), queries, depth)
    assert [ranking.query for ranking in rankings] == [f"q{row}" for row in range(7)]
    assert pairs(rankings) == brute_force(ids, vectors, queries, depth)
    assert all(ranking.scores.dtype == np.float32 for ranking in rankings)


@pytest.mark.parametrize("spare", [0, 1, 32])
def test_search_is_right_where_float32_is_wrong(tmp_path: Path, spare: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, vectors, queries = treacherous()
    expected = brute_force(ids, vectors, queries, 10)
    scores = torch.from_numpy(queries) @ torch.from_numpy(vectors).T
    rough = [{ids[row] for row in rows} for rows in scores.topk(10 + spare).indices.tolist()]
    best = [{id_ for id_, _ in ranking} for ranking in expected]
    assert sum(not one <= other for one, other in zip(best, rough, strict=True)) >= 2, "float32 alone is right"
    monkeypatch.setattr(exact, "SPARE", spare)
    assert pairs(found(folder_of(tmp_path, ids, vectors, 50), queries, 10)) == expected


@pytest.mark.parametrize("made", [ordinary, treacherous])
@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_results_do_not_depend_on_how_work_is_cut(
    tmp_path: Path, made: Any, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards, blocks, batches, threads, candidates, and what stays in memory, rough copies too: 108 times the same."""
    ids, vectors, queries = made()
    if kind == "float16":
        vectors = np.clip(vectors, -60_000, 60_000)
    folders = {size: folder_of(tmp_path / str(size), ids, vectors, size, kind) for size in (7, 64, 1000)}
    meant = np.concatenate([shard.vectors for shard in open_shards(folders[7])])
    expected = brute_force(ids, meant, queries, 10)
    monkeypatch.setattr(matrix_module, "WORTH", 0)
    monkeypatch.setattr(matrix_module, "MANY", 0)
    for size, floats, threads, spare in product(folders, (600, 3_000, 1 << 20), (1, 2), (0, 32)):
        torch.set_num_threads(threads)
        monkeypatch.setattr(exact, "SPARE", spare)
        for keep, rough, group in ((True, False, 64), (False, False, 4), (True, True, 4)):
            monkeypatch.setattr(fast, "GROUP", group)
            assert pairs(found(folders[size], queries, 10, floats=floats, keep=keep, rough=rough)) == expected


def test_shards_of_several_processes_merge_to_what_one_finds(tmp_path: Path) -> None:
    """Each process of up to four has every n-th shard; the last may have none."""
    for made in (ordinary, several):
        ids, vectors, queries = made()
        bounds = [0, *(row for row in range(1, len(ids)) if ids[row] != ids[row - 1]), len(ids)]
        folder, ends = tmp_path / made.__name__, [*bounds[:-1:40], len(ids)]
        for number, (begin, end) in enumerate(pairwise(ends)):
            write_shard(shard_path(folder, number), ids[begin:end], vectors[begin:end])
        shards, names = open_shards(folder), [f"q{row}" for row in range(len(queries))]
        for world, depth in product((1, 2, 3, 4), (1, 10, 400)):
            parts = [
                exact.nearest(queries, Matrix(shards[rank::world], CPU), depth, lambda _, *__: None)
                for rank in range(1, world)
            ]
            matrix = Matrix(shards[::world], CPU)
            rankings = list(exact.search(names, queries, matrix, depth, Silent(), runtime=First(parts)))
            assert pairs(rankings) == pairs(found(folder, queries, depth))


class First(Runtime):
    """The first of several processes; the batches that the others come to are given."""

    def __init__(self, others: list[Any]):
        super().__init__(world=1 + len(others))
        object.__setattr__(self, "others", others)

    def gather(self, make: Any) -> list[Any]:
        return [make(), *(next(other, []) for other in self.others)]  # type: ignore[attr-defined]


def test_ties_at_the_last_place_go_to_the_greatest_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred equal vectors: the fast pass may keep any few of them, so all must be looked at."""
    monkeypatch.setattr(exact, "SPARE", 0)
    ids = [f"d{row}" for row in range(100)]
    vectors = np.ones((100, 4), np.float32)
    (ranking,) = found(folder_of(tmp_path, ids, vectors, 30), np.ones((1, 4), np.float32), 3)
    assert ranking.documents == ["d99", "d98", "d97"]
    assert ranking.scores.tolist() == [4, 4, 4]


def test_wide_vectors_agree_with_float64(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(300, 769)).astype(np.float32)
    queries = rng.normal(size=(3, 769)).astype(np.float32)
    ids = [f"d{row}" for row in range(300)]
    for ranking, expected in zip(
        found(folder_of(tmp_path, ids, vectors, 128), queries, 50), brute_force(ids, vectors, queries, 50), strict=True
    ):
        assert list(ranking.documents) == [id_ for id_, _ in expected]
        np.testing.assert_allclose(ranking.scores, [score for _, score in expected], rtol=1e-6)


def test_the_error_bound_holds_for_float32_sums() -> None:
    rng = np.random.default_rng(3)
    for width in (1, 3, 64, 768):
        vectors = (rng.normal(size=(500, width)) * 10.0 ** rng.integers(-3, 4, (500, 1))).astype(np.float32)
        query = rng.normal(size=width).astype(np.float32)
        rough = (torch.from_numpy(vectors) @ torch.from_numpy(query)).numpy().astype(np.float64)
        slow = vectors.astype(np.float64) @ query.astype(np.float64)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        for error, norm in zip(np.abs(rough - slow), norms, strict=True):
            assert error <= float(fast.error_bound(torch.from_numpy(query)[None], norm)) / 2


def scored(folder: Path, queries: Floats, rows: list[list[int]], depth: int | None = None) -> list[Ranking]:
    shards, names = open_shards(folder), [f"q{row}" for row in range(len(queries))]
    own = Ragged.of(rows, np.int64)
    return list(exact.score(names, queries, own, Matrix(shards, CPU, floats=600), depth, Silent()))


@pytest.mark.parametrize("made", [ordinary, treacherous])
@pytest.mark.parametrize("size", [7, 1000])
def test_some_vectors_score_and_rank_as_among_all_to_the_bit(tmp_path: Path, made: Any, size: int) -> None:
    ids, vectors, queries = made()
    folder = folder_of(tmp_path, ids, vectors, size)
    rng = np.random.default_rng(4)
    rows = [rng.permutation(len(ids))[:count].tolist() for count in (1, 2, 30, 90, 5, 8, 13)[: len(queries)]]
    expected = [
        [hit for hit in ranking if hit[0] in {ids[row] for row in own}]
        for ranking, own in zip(pairs(found(folder, queries, len(ids))), rows, strict=True)
    ]
    assert pairs(scored(folder, queries, rows)) == expected
    assert pairs(scored(folder, queries, rows, 6)) == [ranking[:6] for ranking in expected]


def test_names_are_found_in_every_row_that_has_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ids = [f"N{number}" for number in rng.integers(0, 40, 60)] + ["é", "N"]
    names = [f"N{number}" for number in rng.integers(0, 60, 80)] + ["N", "é", "", "N1 and longer than all ids"]
    shards = open_shards(folder_of(tmp_path, ids, np.zeros((62, 1), np.float32), 11))
    rows = exact.rows_of(np.array([n.encode() for n in names]), shards)
    assert [own.tolist() for own in rows] == [[row for row, id_ in enumerate(ids) if id_ == name] for name in names]
    assert {len(own) for own in rows} >= {0, 1, 2}


def test_vectors_and_queries_of_no_numbers_are_refused(tmp_path: Path) -> None:
    ids, vectors, queries = ordinary()
    queries[2, 3] = np.nan
    with pytest.raises(DataError, match="a query's vector holds NaN"):
        found(folder_of(tmp_path / "a", ids, vectors, 60), queries, 3)
    for number in (np.nan, np.inf):
        vectors[100, 0] = number
        with pytest.raises(DataError, match=r"vectors-00001\.safetensors: a vector holds NaN"):
            found(folder_of(tmp_path / "b", ids, vectors, 60), queries[:1], 3)


def test_scores_of_pairs_do_not_depend_on_what_else_is_scored() -> None:
    """The order of additions is fixed by the width alone: of 5 numbers ((a + d) + c) + (b + e), of products."""
    values = torch.tensor([[1e16, 1.0, -1e16, 0.5, 2.0**-30]])
    assert fast.exact_scores(torch.ones(1, 5), values).tolist() == [np.float32((1e16 + 0.5 - 1e16) + (1 + 2.0**-30))]
    rng = np.random.default_rng(8)
    for width in (1, 2, 3, 64, 383):
        queries, vectors = torch.from_numpy(rng.normal(size=(2, 40, width)).astype(np.float32))
        whole = fast.exact_scores(queries, vectors)
        assert all(
            torch.equal(fast.exact_scores(queries[r : r + 1], vectors[r : r + 1])[0], whole[r]) for r in range(40)
        )
        expected = (queries.double() * vectors.double()).sum(1).float()
        assert torch.allclose(whole, expected, rtol=1e-6)


def test_no_queries_find_nothing(tmp_path: Path) -> None:
    ids, vectors, queries = ordinary()
    assert found(folder_of(tmp_path, ids, vectors, 60), queries[:0], 10) == []


def several() -> tuple[list[str], Floats, Floats]:
    """Documents of one to nine vectors, many of them twice or tied; some documents are equal throughout."""
    rng = np.random.default_rng(6)
    ids, vectors = list[str](), list[Floats]()
    for number in range(60):
        count = 9 if number % 7 == 0 else 1 + number % 3
        ids += [f"{'日é zZ'[number % 5]}{number}"] * count
        vectors.append(rng.integers(-2, 3, (count, 6)).astype(np.float32))
        if number % 4 == 3:
            vectors[-1][:] = vectors[-2][0]
        if number % 10 == 9:
            vectors[-1] = vectors[-1][rng.integers(0, count, count)]
    queries = rng.integers(-2, 3, (9, 6)).astype(np.float32)
    queries[4] = 0
    return ids, np.concatenate(vectors), queries


def best_of_each(ids: list[str], vectors: Floats, queries: Floats) -> list[list[tuple[str, float]]]:
    """Every document's best score, sorted."""
    rankings = []
    for ranking in brute_force(ids, vectors, queries, len(ids)):
        seen: dict[str, float] = {}
        for id_, score in ranking:
            seen.setdefault(id_, score)
        rankings.append(list(seen.items()))
    return rankings


@pytest.mark.parametrize("spare", [0, 32])
def test_search_finds_distinct_documents_by_their_best_vectors(
    tmp_path: Path, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However shards part the documents and blocks part the vectors."""
    ids, vectors, queries = several()
    expected = best_of_each(ids, vectors, queries)
    assert {len(ranking) for ranking in expected} == {60}
    bounds = [0, *(row for row in range(1, len(ids)) if ids[row] != ids[row - 1]), len(ids)]
    monkeypatch.setattr(exact, "SPARE", spare)
    for step in (1, 9, 60):
        folder, ends = tmp_path / str(step), [*bounds[:-1:step], len(ids)]
        for number, (begin, end) in enumerate(pairwise(ends)):
            write_shard(shard_path(folder, number), ids[begin:end], vectors[begin:end])
        floats = {1: 1 << 20, 9: 1, 60: 400}[step]
        for depth in (1, 2, 3, 5, 10, 20, 40, 59, 60, 61):
            assert pairs(found(folder, queries, depth, floats=floats)) == [ranking[:depth] for ranking in expected]


def test_a_document_whose_vectors_take_all_first_places_counts_once(tmp_path: Path) -> None:
    """The first pass holds none but its own: the search widens until k others are found."""
    ids = ["many"] * 400 + [f"d{row}" for row in range(50)]
    vectors = np.array([[2.0]] * 400 + [[row / 50] for row in range(50)], np.float32)
    (ranking,) = found(folder_of(tmp_path, ids, vectors, 1_000), np.ones((1, 1), np.float32), 4)
    assert ranking.documents == ["many", "d49", "d48", "d47"]
    np.testing.assert_allclose(ranking.scores, [2, 0.98, 0.96, 0.94])


def test_candidates_score_by_their_best_vectors(tmp_path: Path) -> None:
    ids, vectors, queries = several()
    folder = folder_of(tmp_path, ids, vectors, 1_000)
    names = sorted(set(ids))
    rng = np.random.default_rng(7)
    own = [rng.choice(names, size, replace=False).tolist() for size in (1, 2, 5, 30, 60, 3, 8, 20, 4)]
    rows = [[row for name in some for row, id_ in enumerate(ids) if id_ == name] for some in own]
    expected = [
        [hit for hit in ranking if hit[0] in some]
        for ranking, some in zip(best_of_each(ids, vectors, queries), own, strict=True)
    ]
    assert pairs(scored(folder, queries, rows)) == expected
    assert pairs(scored(folder, queries, rows, 3)) == [ranking[:3] for ranking in expected]


@pytest.mark.parametrize("step", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("room", [700, 100_000])
def test_the_best_of_scores_in_any_order_are_kept(step: float, room: int) -> None:
    """Rising, so that every score beats those before it, falling, and at random; in small rooms and large."""
    torch.manual_seed(0)
    scores = torch.randn(3, 9_000).sort(dim=1).values if step else torch.randn(3, 9_000)
    vectors = (scores if step >= 0 else scores.flip(1)).T.contiguous()  # [N, 3]
    best = fast.Best(torch.eye(3), 20, torch.empty(room))
    for begin in range(0, 9_000, 200):
        best.add(vectors[begin : begin + 200])
    best.finish()
    expected = vectors.T.topk(20, dim=1)
    assert torch.equal(best.scores, expected.values)
    assert torch.equal(best.rows, expected.indices)


def test_a_process_without_shards_works_in_the_batches_of_the_others(tmp_path: Path) -> None:
    shards = open_shards(folder_of(tmp_path, ["a"], np.ones((1, 384), np.float32), 1))
    some, none = Matrix(shards, CPU, width=384), Matrix([], CPU, width=384)
    for candidates in (42, 1032):
        assert some.queries_a_block(candidates) == none.queries_a_block(candidates)
        assert some.queries_a_pass(candidates) == none.queries_a_pass(candidates)


def crowded(points: int, far: float) -> tuple[list[str], Floats, Floats]:
    """Vectors around a few far points; around one as those of a model that was never trained for retrieval."""
    rng = np.random.default_rng(6)
    centres = far * rng.normal(size=(points, 24))
    vectors = (centres[np.arange(4_000) % points] + rng.normal(size=(4_000, 24))).astype(np.float32)
    return [f"d{row}" for row in range(4_000)], vectors, (vectors[::100] + 0.1).astype(np.float32)


@pytest.mark.parametrize(("points", "far", "helps"), [(1, 0, True), (1, 100, True), (4, 1_000, False)])
def test_rough_copies_are_given_up_where_they_tell_too_little(
    points: int, far: float, helps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, vectors, queries = crowded(points, far)
    plain, plainly = [0], exact.plainly

    def counted(part: torch.Tensor, *rest: Any) -> Any:
        plain[0] += len(part)
        return plainly(part, *rest)

    monkeypatch.setattr(exact, "plainly", counted)
    shards, names = open_shards(folder_of(tmp_path, ids, vectors, 1_500)), [f"q{row}" for row in range(len(queries))]
    matrix = Matrix(shards, CPU, keep=True, rough=True)
    monkeypatch.setattr(matrix_module, "MANY", 0)
    rankings = list(exact.search(names, queries, matrix, 20, Silent()))
    assert matrix.rough == helps
    assert plain[0] < len(queries) / 4 if helps else plain[0] > len(queries) / 2
    assert pairs(rankings) == brute_force(ids, vectors, queries, 20)


def test_rough_copies_wait_for_many_queries(tmp_path: Path) -> None:
    ids, vectors, queries = crowded(1, 0)
    shards = open_shards(folder_of(tmp_path, ids, vectors, 1_500))

    def ways(asked: Floats, **given: Any) -> list[bool]:
        matrix = Matrix(shards, CPU, keep=True, **given)
        return [matrix.goes_rough(torch.from_numpy(asked), 60) for _ in range(3)]

    assert ways(queries[:30], rough=True) == [False, False, True]
    assert ways(np.tile(queries, (2, 1)), rough=True) == [True, True, True]
    assert ways(np.tile(queries, (2, 1))) == [False, False, False]
    assert ways(np.tile(queries, (2, 1)) * np.float32(1e32), rough=True) == [False, False, False]


@pytest.mark.parametrize("size", [1e-22, 1e-3, 1, 1e4])
@pytest.mark.parametrize("shift", [0, 1, 1e3])
def test_the_bound_of_rough_scores_holds(size: float, shift: float) -> None:
    rng = np.random.default_rng(7)
    for width in (1, 3, 64, 768):
        vectors = torch.from_numpy((size * (shift + rng.normal(size=(500, width)))).astype(np.float32))
        queries = torch.from_numpy((size * rng.normal(size=(9, width))).astype(np.float32))
        copies = Copies(vectors.mean(0))
        rough = torch.mm(queries.bfloat16(), copies.of(0, lambda: vectors).T)  # noqa: B023
        slow = queries.double() @ vectors.double().T
        for column in range(500):
            assert (slow[:, column] <= copies.most(queries, rough[:, column])).all()
        slack = copies.most(queries, rough[:, 0]) - slow[:, 0]
        assert size < 1e-20 or (slack <= 0.05 * queries.norm(dim=1) * vectors.norm(dim=1).max()).all()
