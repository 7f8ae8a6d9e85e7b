"""What seed search leaves: the same run however much memory there is, in either format."""

import pytest

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.machine import resident
from seedcli.retrieval.run_files import read_run


def test_memory_changes_no_byte_of_a_run(chain, tmp_path, perform):
    options = {"index": [str(chain.flat)], "queries": chain.beir, "depth": 30}
    for name, memory in (("most", f"{(resident() >> 20) + 8_000}m"), ("least", f"{(resident() >> 20) + 40}m")):
        perform("search", out=tmp_path / name, memory=memory, **options)
    perform("search", out=tmp_path / "free", **options)
    runs = {(tmp_path / name / "run.trec").read_bytes() for name in ("most", "least", "free")}
    assert len(runs) == 1


@pytest.mark.parametrize(("memory", "message"), [
    ("1m", r"^--memory 1.0 MiB: too little; give \S+ [MG]iB or more$"),
    ("much", r"^--memory much: expected a number with k, m or g, such as 2g$"),
])  # fmt: skip
def test_memory_that_is_too_little_or_none_is_told(chain, tmp_path, perform, memory, message):
    with pytest.raises(ConfigError, match=message):
        perform("search", out=tmp_path / "out", index=[str(chain.flat)], queries=chain.beir, memory=memory)
    assert not (tmp_path / "out").exists()


def test_a_run_in_parquet_is_read_wherever_a_run_is(chain, tmp_path, perform):
    """By evaluate, which names it by its folder, and as candidates."""
    index = [str(chain.flat)]
    found = tmp_path / "found"
    made = perform("search", out=found, index=index, queries=chain.beir, depth=20, run_format="parquet")
    assert list(made.outputs) == ["run.parquet"]
    perform("search", out=tmp_path / "lines", index=index, queries=chain.beir, depth=20)
    one, other = read_run(found / "run.parquet"), read_run(tmp_path / "lines" / "run.trec")
    assert one.queries == other.queries
    assert (one.documents == other.documents).all()
    assert (one.scores == other.scores).all()
    perform("search", out=tmp_path / "again", index=index, queries=chain.beir, candidates=str(found))
    assert (tmp_path / "again" / "run.trec").read_bytes() == (tmp_path / "lines" / "run.trec").read_bytes()
    runs = [str(found / "run.parquet"), str(tmp_path / "lines")]
    report = perform("evaluate", out=tmp_path / "report", runs=runs, qrels=str(chain.beir), split="test")
    means = report.metrics
    assert len(means) >= 1
    assert "found" in str(means)
    assert "lines" in str(means)


@pytest.mark.parametrize("queries", [{}, {"queries": "animals"}])
def test_an_empty_file_is_no_run(tmp_path, perform, queries):
    (tmp_path / "empty.trec").touch()
    with pytest.raises(DataError, match=r"--index \S+empty.trec: no run, and no index, which is a folder; is the file"):
        perform("search", out=tmp_path / "out", index=[str(tmp_path / "empty.trec")], **queries)
