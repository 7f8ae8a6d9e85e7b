"""Vectors that take less room, from seed encode to seed search."""

import numpy as np
import pytest

import seedcli as seed
from seedcli.retrieval.run_files import read_run
from seedcli.retrieval.vectors import open_shards


@pytest.fixture(scope="module")
def stored(chain, tmp_path_factory, perform):
    """The same collection encoded, indexed and searched with each kind of numbers."""
    root = tmp_path_factory.mktemp("storage")
    for kind in ("float32", "float16", "int8"):
        perform("encode", out=root / kind, model=chain.retriever, corpus=chain.beir, shard_size=25, storage=kind)
        perform("index", out=root / f"{kind}-index", vectors=root / kind)
        perform("search", out=root / f"{kind}-found", index=[str(root / f"{kind}-index")], queries=chain.beir, depth=10)
    return root


@pytest.mark.parametrize(("kind", "bytes_each", "near"), [("float16", 2, 1e-3), ("int8", 1, 8e-3)])
def test_fewer_bytes_give_nearly_the_same_vectors_and_scores(stored, kind, bytes_each, near):
    whole, cut = (np.concatenate([s.vectors for s in open_shards(stored / name)]) for name in ("float32", kind))
    largest = np.abs(whole).max(axis=1, keepdims=True)
    assert 0 < (np.abs(cut - whole) / largest).max() <= near
    size = sum(shard.bytes for shard in open_shards(stored / kind))
    assert size == cut.size * bytes_each + 4 * len(cut) * (kind == "int8")
    one, other = (read_run(stored / f"{name}-found" / "run.trec") for name in ("float32", kind))
    assert one.queries == other.queries
    np.testing.assert_allclose(other.scores, one.scores, rtol=20 * near)
    assert (one.scores != other.scores).any()


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_python_reads_them_as_float32(stored, kind):
    vectors = seed.open_vectors(stored / kind)
    assert vectors.array().dtype == np.float32
    assert len(vectors.ids()) == len(vectors.array()) == len(seed.open_vectors(stored / "float32").ids())
    hits = seed.open_index(stored / f"{kind}-index").search("what does the otter eat", depth=3)
    assert len({hit.id for hit in hits}) == 3
