"""Runs as files: both formats give back what was written, in parts or at once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seedcli.base.errors import DataError
from seedcli.retrieval import run_files
from seedcli.retrieval.run_files import (
    begun_queries,
    holds_run,
    part_path,
    read_run,
    run_path,
    write_in_parts,
    write_run,
)
from seedcli.retrieval.runs import Ranking, run_of

FORMATS = pytest.mark.parametrize("name", ["run.trec", "run.parquet"])


def rankings(count: int = 600) -> list[Ranking]:
    """Of one to seven documents; some queries have none, some scores tie."""
    rng = np.random.default_rng(0)
    return [
        Ranking(f"q{query}", [f"dé{row}" for row in rng.permutation(20)[: query % 8]],
                rng.choice(rng.normal(size=5).astype(np.float32), query % 8))
        for query in range(count)
    ]  # fmt: skip


def assert_same(path: Path, given: list[Ranking]) -> None:
    run, expected = read_run(path), run_of(ranking for ranking in given if ranking.documents)
    assert run.queries == expected.queries
    for column in ("offsets", "documents", "scores"):
        np.testing.assert_array_equal(getattr(run, column), getattr(expected, column))


@FORMATS
def test_a_run_reads_back_to_the_bit_from_a_file_of_either_format(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / name, iter(rankings()), "tag")
    assert_same(tmp_path / name, rankings())
    assert holds_run(tmp_path / name)
    assert holds_run(tmp_path)
    assert run_path(tmp_path) == tmp_path / name


def test_parquet_has_the_columns_of_a_run_and_its_tag(tmp_path: Path) -> None:
    write_run(tmp_path / "run.parquet", rankings(3), "mine")
    table = pq.read_table(tmp_path / "run.parquet")
    expected = [(f"q{q}", d, r, s) for q, d, r, s in trec_rows(tmp_path)]
    assert list(zip(*table.to_pydict().values(), strict=True)) == expected
    assert table.schema.metadata[b"tag"] == b"mine"


def trec_rows(folder: Path) -> Iterator[tuple[int, str, int, float]]:
    write_run(folder / "run.trec", rankings(3), "mine")
    for line in (folder / "run.trec").read_text(encoding="utf-8").splitlines():
        query, _, document, rank, score, _ = line.split()
        yield int(query[1:]), document, int(rank), float(np.float32(score))


@FORMATS
def test_a_run_that_was_broken_off_goes_on_after_its_last_whole_part(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files, "PART", 100)
    given, path = rankings(430), tmp_path / name

    def broken() -> Iterator[Ranking]:
        yield from given[:250]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_in_parts(path, 430, broken(), "t")
    assert begun_queries(path, 430) == 200
    assert not path.exists()
    asked = []

    def rest() -> Iterator[Ranking]:
        for ranking in given[200:]:
            asked.append(ranking.query)
            yield ranking

    write_in_parts(path, 430, rest(), "t")
    assert asked[0] == "q200"
    assert_same(path, given)
    assert begun_queries(path, 430) == 430
    write_run(tmp_path / "whole" / name, given, "t")
    if name == "run.trec":
        assert path.read_bytes() == (tmp_path / "whole" / name).read_bytes()
    write_in_parts(path, 430, iter(()), "t")  # all parts are there: killed while they were joined
    assert_same(path, given)


def test_rankings_are_asked_for_until_there_are_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the last part is full: other processes may wait for each other after the last ranking."""
    monkeypatch.setattr(run_files, "PART", 100)
    ended = []

    def given() -> Iterator[Ranking]:
        yield from rankings(200)
        ended.append(True)

    write_in_parts(tmp_path / "run.trec", 200, given(), "t")
    assert ended


def test_what_is_no_run_in_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    path.write_text("no parquet")
    with pytest.raises(DataError, match=r"run\.parquet: not a Parquet file"):
        read_run(path)
    for columns, message in (
        ({"query": ["q"], "document": ["d"]}, "no column 'score' of a run; it has query, document"),
        ({"query": ["q"], "document": ["d"], "score": [float("nan")]}, "a score is not a number"),
        ({"query": ["q", None], "document": ["d", "e"], "score": [1.0, 2.0]}, "a row without a query"),
        ({"query": pa.array([], "string"), "document": pa.array([], "string"), "score": pa.array([], "float32")},
         "no rankings in it"),
    ):  # fmt: skip
        pq.write_table(pa.table(columns), path)
        with pytest.raises(DataError, match=message):
            read_run(path)


def test_parts_of_a_run_lie_beside_it(tmp_path: Path) -> None:
    assert part_path(tmp_path / "run.parquet", 7) == tmp_path / "parts-of-4096" / "00007.parquet"
