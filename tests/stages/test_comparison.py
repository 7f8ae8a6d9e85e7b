"""seed index --compare: an index of each kind in a folder of its own, one table and one plot."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError
from seedcli.base.manifest import finished
from seedcli.cli import app
from seedcli.configs.index import IndexConfig
from seedcli.stages.comparison import kinds_of

pytest.importorskip("faiss", reason='pip install "seedcli[cpu]"')


def config(**given):
    return resolve(IndexConfig, {}, {"out": "out", "vectors": "v", **given}, "a test")


def test_a_comparison_leaves_indexes_a_table_and_a_plot(chain, tmp_path):
    out = tmp_path / "all"
    command = ["index", "--vectors", chain.vectors, "--compare", "flat,hnsw,sq", "--compare", "IVF2,Flat", "--out", out]
    done = CliRunner().invoke(app, [str(word) for word in command], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    kinds = ["flat", "hnsw", "sq", "IVF2-Flat"]
    whole = json.loads((out / "compare.json").read_text())["kinds"]
    assert list(whole) == kinds
    table = [line.split()[0] for line in done.output.splitlines() if line.split() and line.split()[0] in kinds]
    assert table == kinds
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    drawn = (out / "compare.svg").read_text()
    assert "</svg>" in drawn
    for kind in kinds:
        assert f"<!-- {kind} -->" in drawn
        assert finished(out / kind, "index").config["kind"] == kind.replace("-", ",")
        told = finished(out / kind, "index").metrics
        assert kind == "flat" or told["recall@100"] == whole[kind]["recall@100"]
        assert whole[kind]["milliseconds"] > 0
    assert whole["flat"]["recall@100"] == 1.0
    assert set(finished(out).outputs) == {"compare.json", "compare.png", "compare.svg"}
    again = CliRunner().invoke(app, [str(word) for word in command])
    assert again.exit_code == 0
    assert "done" in again.output
    searched = ["search", "--index", out, "--queries", chain.beir, "--out", tmp_path / "run"]
    refused = CliRunner().invoke(app, [str(word) for word in searched], env={"COLUMNS": "2000"})
    assert refused.exit_code == 2
    assert f"a comparison; search one of its indexes: {out / 'flat'}" in refused.output


def test_each_kind_takes_those_of_the_options_that_it_knows():
    given = {"faiss.probes": 3, "faiss.m": 5, "faiss.target_recall": 0.9, "faiss.memory": "1g", "faiss.sample": 7}
    flat, graph, lists, codes, own = kinds_of(config(compare=["flat,hnsw,ivf", "pq", "IVF8,Flat"], **given))
    assert [each.out for each in (flat, graph, lists, codes, own)] == [
        Path("out") / name for name in ("flat", "hnsw", "ivf", "pq", "IVF8-Flat")
    ]
    assert flat.faiss == config().faiss
    assert (graph.faiss.m, graph.faiss.probes, graph.faiss.target_recall) == (5, None, 0.9)
    assert (lists.faiss.m, lists.faiss.probes, lists.faiss.memory) == (None, 3, "1g")
    assert (codes.faiss.probes, codes.faiss.target_recall, codes.faiss.sample) == (None, None, 7)
    assert (own.faiss.probes, own.faiss.memory, own.faiss.target_recall) == (3, None, 0.9)


@pytest.mark.parametrize(("given", "message"), [
    ({"compare": ["flat,bm25"]}, "--compare bm25: it compares indexes of vectors"),
    ({"compare": ["hnsw"], "kind": "ivf"}, "--compare names the kinds itself: leave --kind out"),
    ({"compare": ["hnsw"], "faiss.measure": False}, "--compare needs what --measure finds"),
    ({"compare": ["flat,hnsw"], "faiss.metric": "cosine"}, "--compare flat: it compares by inner products"),
    ({"compare": ["hnsw,sq"], "faiss.probes": 3}, "--probes: none of hnsw, sq has that"),
])  # fmt: skip
def test_what_can_not_be_compared_is_told(given, message):
    with pytest.raises(ConfigError) as error:
        kinds_of(config(**given))
    assert str(error.value).startswith(message)
