"""Sizes of indexes against arithmetic by hand, and against the files that they lead to."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seedcli.base.errors import ConfigError
from seedcli.base.progress import Silent
from seedcli.retrieval.design import KINDS, TAKES, Asked, design

MILLION = 1_000_000


def test_lists_and_codes_of_a_million_vectors():
    """4 √N = 4,000, nearest to 4,096; 40 vectors train each; √4,096 are looked into; a sixteenth of 3,072 bytes."""
    made = design("ivfpq", MILLION, 768, Asked())
    assert (made.factory, made.train, made.knob, made.setting) == ("IVF4096,PQ192", 40 * 4_096, "probes", 64)
    assert made.bytes == MILLION * (8 + 192) + 4 * 4_096 * 768 + 4 * 256 * 768
    turned = design("opq", MILLION, 768, Asked())
    assert turned.factory == "OPQ192,IVF4096,PQ192"
    assert turned.bytes == made.bytes + 4 * 768 * 768
    whole = design("ivf", MILLION, 768, Asked())
    assert (whole.factory, whole.bytes) == ("IVF4096,Flat", MILLION * (8 + 3_072) + 4 * 4_096 * 768)


def test_graphs_have_more_links_from_a_hundred_thousand_vectors_on():
    """Of M links at each level and twice as many at the lowest, 4 bytes each, M/(M-1) levels of a vector."""
    few, many = design("hnsw", 99_999, 100, Asked()), design("hnsw", 100_000, 100, Asked())
    assert [made.factory for made in (few, many)] == ["HNSW16", "HNSW32"]
    assert [(made.ef_construction, made.knob, made.setting, made.train) for made in (few, many)] == [
        (64, "ef_search", 128, 0)
    ] * 2
    assert many.bytes == pytest.approx(100_000 * (400 + 256 + 128 / 31 + 16), abs=1)


def test_few_vectors_have_fewer_lists_and_no_codes():
    assert design("ivf", 399, 8, Asked()).factory == "IVF9,Flat"
    assert design("ivf", 39, 8, Asked()).factory == "IVF1,Flat"
    assert design("ivf", 1, 8, Asked()).factory == "IVF1,Flat"
    for kind, factory in (("pq", "Flat"), ("ivfpq", "IVF6,Flat")):
        made = design(kind, 255, 8, Asked())
        assert made.factory == factory
        assert any("too few to train codes on, which takes 256" in reason for reason in made.reasons)
    assert design("pq", 256, 8, Asked()).factory == "PQ2"


@pytest.mark.parametrize(("memory", "factory", "train"), [
    (10**9, "HNSW16", 0), (5_500_000, "HNSW16_SQfp16", 0), (3_900_000, "HNSW16_SQ8", 10_000),
])  # fmt: skip
def test_a_graph_stores_as_much_of_a_vector_as_memory_has_room_for(memory: int, factory: str, train: int):
    """10,000 vectors of 200: 8,000,000, 4,000,000 and 2,000,000 bytes, and 1,483,000 of links."""
    made = design("hnsw", 10_000, 200, Asked(memory=memory))
    assert (made.factory, made.train) == (factory, train)
    assert made.bytes is not None
    assert made.bytes <= memory
    assert made.bytes == pytest.approx({0: 4, 1: 2, 2: 1}[["HNSW16", "HNSW16_SQfp16", "HNSW16_SQ8"].index(factory)]
                                       * 2_000_000 + 10_000 * (128 + 64 / 15 + 16), abs=1)  # fmt: skip


def test_codes_are_as_long_as_memory_has_room_for():
    heads = 4 * 256 * 96
    assert design("pq", MILLION, 96, Asked(memory=heads + MILLION * 48)).factory == "PQ48"
    assert design("pq", MILLION, 96, Asked(memory=heads + MILLION * 48 - 1)).factory == "PQ32"
    assert design("sq", 1_000, 96, Asked()).factory == "SQ8"
    assert [design("sq", 1_000, 96, Asked(memory=size)).factory for size in (192_000, 191_999, 95_999)] == [
        "SQfp16", "SQ8", "SQ4",
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "asked", "message"), [
    ("hnsw", Asked(memory=1000), "--memory 1000 bytes: an index of this kind takes 1.7 MiB at least; give 2m, or"),
    ("ivfpq", Asked(code_size=7), "--set faiss.code_size=7: no part of 32 numbers; take one of 1, 2, 4, 8, 16, 32"),
    ("ivf", Asked(nlist=10_001), "--set faiss.nlist=10001: more than the 10,000 vectors to train on"),
    ("ivf", Asked(nlist=41, train=40), "--set faiss.nlist=41: more than the 40 vectors to train on"),
    ("hnsw", Asked(nlist=4), "--set faiss.nlist: hnsw has none; it takes --set faiss.ef_construction, --ef-search, "),
    ("pq", Asked(probes=4), "--probes: pq has none; it takes --set faiss.code_size, --memory, --set faiss.train"),
    ("sq", Asked(m=4), "--set faiss.m: sq has none; it takes --memory, --set faiss.train"),
])  # fmt: skip
def test_what_can_not_be_is_told(kind: str, asked: Asked, message: str):
    with pytest.raises(ConfigError) as error:
        design(kind, 10_000, 32, asked)
    assert str(error.value).startswith(message)


def test_what_is_asked_for_is_taken_and_told():
    asked = Asked(nlist=77, probes=5, code_size=4, train=3_000)
    made = design("ivfpq", 10_000, 32, asked)
    assert (made.factory, made.train, made.setting) == ("IVF77,PQ4", 3_000, 5)
    assert sum(reason.endswith("as asked") for reason in made.reasons) == 4
    graph = design("hnsw", 10_000, 32, Asked(m=5, ef_construction=9, ef_search=3))
    assert (graph.factory, graph.ef_construction, graph.setting) == ("HNSW5", 9, 3)
    assert {kind: TAKES[kind] for kind in KINDS}.keys() == TAKES.keys()


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "sq", "ivfpq"])
def test_files_are_as_large_as_was_estimated(kind: str, tmp_path: Path):
    pytest.importorskip("faiss", reason='pip install "seedcli[cpu]"')
    from seedcli.retrieval.ann import Rows, built
    from seedcli.retrieval.vectors import open_shards, shard_path, write_shard

    vectors = np.random.default_rng(0).normal(size=(4_000, 32)).astype(np.float32)
    write_shard(shard_path(tmp_path, 0), [str(row) for row in range(4_000)], vectors)
    made = design(kind, 4_000, 32, Asked(train=260, code_size=2) if kind == "ivfpq" else Asked())
    path = tmp_path / "index.faiss"
    built(path, tmp_path / "parts", made, Rows(open_shards(tmp_path)), 0, torch.device("cpu"), Silent())
    assert made.bytes is not None
    assert path.stat().st_size == pytest.approx(made.bytes, rel=0.03)
