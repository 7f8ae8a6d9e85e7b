"""seed search --candidates: some passages alone, and their scores those of a search of all."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from seedcli.base.errors import DataError, FolderError
from seedcli.base.manifest import identify, read_manifest
from seedcli.data.sources import open_collection
from seedcli.retrieval.run_files import read_run
from seedcli.retrieval.runs import Ranking, run_of
from seedcli.retrieval.vectors import open_shards, shard_path, write_shard
from seedcli.stages.candidates import known


@pytest.fixture
def rerank(chain, perform, tmp_path):
    """Scores candidates in the chain's flat index; the folder."""

    def reranked(candidates, queries=chain.beir, **flags) -> Path:
        given = {"index": [str(chain.flat)], "queries": queries, "candidates": candidates} | flags
        perform("search", out=tmp_path / "out", overwrite=(tmp_path / "out").exists(), **given)
        return tmp_path / "out"

    return reranked


def ids(folder: Path) -> dict[str, list[str]]:
    return {ranking.query: list(ranking.documents) for ranking in read_run(folder / "run.trec").rankings()}


def test_what_exact_search_found_is_found_again_to_the_bit(chain, perform, rerank, tmp_path):
    """Whether the run is named by its folder or its file, and the queries are words or vectors."""
    run = (chain.found / "run.trec").read_bytes()
    split = {"split": "test"}
    assert (rerank(chain.found, **split) / "run.trec").read_bytes() == run
    assert (rerank(shutil.copy(chain.found / "run.trec", tmp_path / "a.txt"), **split) / "run.trec").read_bytes() == run
    perform("encode", out=tmp_path / "asked", model=chain.retriever, queries=chain.beir, **split)
    assert (rerank(chain.found, tmp_path / "asked") / "run.trec").read_bytes() == run


def test_candidates_of_words_get_the_scores_of_vectors(chain, perform, rerank, tmp_path):
    perform("search", out=tmp_path / "all", index=[str(chain.flat)], queries=chain.beir, split="test")
    everything, words = read_run(tmp_path / "all" / "run.trec"), read_run(chain.found_words / "run.trec")
    made = {ranking.query: ranking for ranking in read_run(rerank(chain.found_words) / "run.trec").rankings()}
    assert list(made) == words.queries
    for query, documents, scores in everything.rankings():
        candidates = {id_.decode() for id_ in words.ranking(query)[0].tolist()}
        kept = [row for row, id_ in enumerate(documents) if id_ in candidates]
        assert made[query].documents == [documents[row] for row in kept]
        assert made[query].scores.tolist() == scores[kept].tolist()


def test_qrels_name_candidates_whatever_their_grade(chain, rerank, tmp_path):
    judged = {"q:otter-home": {"otter-home": 1, "lynx-home": 0, "gecko-diet": 2}, "q:lynx-diet": {"lynx-diet": 0}}
    lines = [f"{query} 0 {id_} {grade}\n" for query, grades in judged.items() for id_, grade in grades.items()]
    (tmp_path / "some.qrels").write_text("".join(lines))
    found = ids(rerank(tmp_path / "some.qrels"))
    assert {query: sorted(own) for query, own in found.items()} == {query: sorted(judged[query]) for query in judged}
    deep = {query: own[:2] for query, own in found.items()}
    assert ids(rerank(tmp_path / "some.qrels", depth=2)) == deep
    of_split = {query: list(grades) for query, grades in open_collection(chain.beir).qrels("test").items()}
    assert ids(rerank(chain.beir, split="test")) == of_split


def test_what_the_index_or_the_candidates_lack_is_counted_and_named(tmp_path):
    named = {"q1": ["a", "yeti", "b"], "q2": ["yeti", "troll"], "q4": ["b"]}
    run = run_of(Ranking(query, own, np.zeros(len(own), np.float32)) for query, own in named.items())
    write_shard(shard_path(tmp_path, 0), ["b", "c", "a", "b"], np.zeros((4, 1), np.float32))
    (rows, counts), problems = known(run, ["q4", "q1", "q2", "q3"], open_shards(tmp_path))
    assert [sorted(own.tolist()) for own in rows] == [[0, 3], [0, 2, 3], [], []]  # b stands twice
    assert counts.tolist() == [1, 2, 0, 0]
    assert list(problems) == [
        "3 candidates that the index lacks (yeti, troll, ...)",
        "2 queries without a candidate, left out (q2, q3)",
    ]


@pytest.fixture
def faulty(tmp_path) -> Path:
    path = tmp_path / "faulty.trec"
    path.write_text(
        "q:otter-home Q0 otter-home 1 2 t\nq:otter-home Q0 yeti 2 1 t\n"
        "q:lynx-diet Q0 yeti 1 1 t\nq:unasked Q0 otter-home 1 1 t\n"
    )
    return path


def test_queries_without_a_candidate_are_left_out(rerank, faulty):
    out = rerank(faulty)
    assert ids(out) == {"q:otter-home": ["otter-home"]}
    made = read_manifest(out)
    assert made.metrics == {"queries": 1, "candidates": 1}
    assert made.inputs["candidates"].identity == identify(faulty).identity


def test_stop_names_what_is_lacking_and_leaves_nothing(rerank, faulty, tmp_path):
    told = r"faulty\.trec: 2 candidates that the index lacks \(yeti, \.\.\.\); 59 queries without a candidate"
    with pytest.raises(DataError, match=told):
        rerank(faulty, problems="stop")
    assert not (tmp_path / "out").exists()


def test_other_candidates_are_another_plan(chain, perform, faulty, tmp_path):
    given = {"out": tmp_path / "out", "index": [str(chain.flat)], "queries": chain.beir, "candidates": faulty}
    made = perform("search", **given)
    assert perform("search", **given) == made
    faulty.write_text(faulty.read_text().replace("lynx-diet", "lynx-home"))
    with pytest.raises(FolderError, match=r"another plan \(its inputs have changed"):
        perform("search", **given)


def test_candidates_of_other_queries_or_passages_are_refused(rerank, tmp_path):
    (tmp_path / "run").write_text("7 Q0 D1 1 9 t\n")
    told = "no candidate in .*flat for any query: such as 'D1' for query '7', where query 'q:heron-diet' is asked and"
    with pytest.raises(DataError, match=told):
        rerank(tmp_path / "run")
    assert not (tmp_path / "out").exists()
