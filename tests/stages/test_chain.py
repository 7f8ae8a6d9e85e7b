"""The chain over a small collection, each stage by what it reads and what it leaves."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

from seedcli.base.errors import ConfigError, DataError, FolderError
from seedcli.base.manifest import finished, identify, located, read_manifest
from seedcli.cli import app
from seedcli.data.sources import open_collection
from seedcli.retrieval.run_files import read_run

SMALL = {"optimize.steps": 3, "optimize.batch_size": 8, "optimize.warmup": 1}


@pytest.fixture
def tree(chain, tmp_path) -> Path:
    """A copy of the chain's folders to spoil."""
    return Path(shutil.copytree(chain.beir.parent, tmp_path / "tree"))


def ranked(folder: Path) -> dict[str, dict[str, float]]:
    """The scores in a folder of seed search: query -> passage -> score."""
    return {
        query: dict(zip(ids, scores.tolist(), strict=True))
        for query, ids, scores in read_run(folder / "run.trec").rankings()
    }


def test_a_report_leads_back_to_the_text(chain):
    folder = chain.report
    for verb, name, before in [
        ("evaluate", "runs.1.dense", chain.found),
        ("search", "index.0", chain.flat),
        ("index", "vectors", chain.vectors),
        ("encode", "model", chain.retriever),
        ("finetune", "model", chain.encoder),
        ("pretrain", "text.0", chain.beir),
    ]:
        manifest = finished(folder, verb)
        folder = located(folder, manifest, name)
        assert folder.samefile(before)
        assert manifest.inputs[name].identity == identify(folder).identity
        assert not Path(manifest.inputs[name].path).is_absolute()


def test_a_dense_run_is_what_transformers_and_a_product_find(chain):
    """The scores by the libraries alone: [CLS] of the retriever's folder, scaled to length 1."""
    tokenizer, model = AutoTokenizer.from_pretrained(chain.retriever), AutoModel.from_pretrained(chain.retriever).eval()

    def encoded(texts: list[str]) -> np.ndarray:
        batch = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
        with torch.inference_mode():
            vectors = model(**batch).last_hidden_state[:, 0]
        return torch.nn.functional.normalize(vectors, dim=-1).numpy()

    collection = open_collection(chain.beir)
    passages, queries = list(collection.passages()), list(collection.queries("test"))
    scores = encoded([query.text for query in queries]) @ encoded([f"{p.title} {p.text}" for p in passages]).T
    found = ranked(chain.found)
    assert list(found) == [query.id for query in queries]
    for query, row in zip(queries, scores, strict=True):
        best = {passage.id: float(score) for passage, score in zip(passages, row, strict=True)}
        assert len(found[query.id]) == 20
        assert found[query.id] == pytest.approx({id_: best[id_] for id_ in found[query.id]}, abs=1e-5)
        assert min(found[query.id].values()) >= sorted(best.values())[-20] - 1e-5


def test_bm25_finds_what_the_words_say(chain):
    found = ranked(chain.found_words)
    assert len(found) == 20
    assert next(iter(found["q:otter-diet"])) == "otter-diet"
    summary = json.loads((chain.report / "report.json").read_text())
    assert summary["runs"]["bm25"]["means"]["recall@100"] == 1.0
    assert "p_values" not in summary["runs"]["bm25"]
    assert summary["runs"]["dense"]["p_values"].keys() == {"mrr@10", "recall@100", "ndcg@10"}


def test_a_repeated_command_is_done_before_and_changes_no_byte(chain, perform, listing):
    before = listing(chain.beir.parent)
    again = perform("encode", out=chain.vectors, model=chain.retriever, corpus=chain.beir, shard_size=16)
    assert again == read_manifest(chain.vectors)
    perform("index", out=chain.flat, vectors=chain.vectors)
    perform("index", out=chain.words, kind="bm25", corpus=chain.beir, heap="512m")
    perform("search", out=chain.found, index=[str(chain.flat)], queries=chain.beir, split="test", depth=20)
    assert listing(chain.beir.parent) == before


def test_a_changed_option_is_refused_and_overwrite_takes_it(tree, perform):
    given = {"index": [str(tree / "flat")], "queries": tree / "animals", "split": "test"}
    with pytest.raises(FolderError, match=r"another plan \(depth was 20, now 5\)"):
        perform("search", out=tree / "found", depth=5, **given)
    perform("search", out=tree / "found", depth=5, overwrite=True, **given)
    assert {len(scores) for scores in ranked(tree / "found").values()} == {5}


def test_encoding_queries_is_another_plan_than_encoding_passages(tree, perform):
    with pytest.raises(FolderError, match="of another plan"):
        perform("encode", out=tree / "vectors", model=tree / "retriever", queries=tree / "animals", shard_size=16)


def test_reports_of_runs_in_another_order_are_other_reports(tree, perform):
    runs = [f"dense={tree / 'found'}", f"bm25={tree / 'found_words'}"]
    with pytest.raises(FolderError, match="of another plan"):
        perform("evaluate", out=tree / "report", runs=runs, qrels=tree / "animals", baseline="bm25", examples=2)


def test_folders_that_moved_together_still_work(tree, chain, perform):
    perform(
        "search", out=tree / "b" / "found", index=[str(tree / "flat")], queries=tree / "animals", split="test", depth=20
    )
    assert (tree / "b" / "found" / "run.trec").read_bytes() == (chain.found / "run.trec").read_bytes()
    assert finished(tree / "b" / "found").identity == finished(chain.found).identity


def test_a_model_changed_after_encoding_is_refused(tree, perform):
    given = {"index": [str(tree / "flat")], "queries": tree / "animals", "split": "test"}
    (tree / "retriever" / "model.json").write_text((tree / "retriever" / "model.json").read_text() + " ")
    with pytest.raises(FolderError, match=r"model\.json: missing or not as seed finetune wrote it"):
        perform("search", out=tree / "new", **given)
    shutil.rmtree(tree / "retriever")
    shutil.copytree(tree / "encoder", tree / "retriever")
    with pytest.raises(FolderError, match=r"retriever, which has changed since; make .*vectors anew"):
        perform("search", out=tree / "new", **given)
    shutil.rmtree(tree / "retriever")
    with pytest.raises(FolderError, match="retriever, which is no longer there"):
        perform("search", out=tree / "new", **given)


def test_vectors_of_another_model_are_refused_as_queries(tree, perform):
    perform("encode", out=tree / "asked", model=tree / "encoder", queries=tree / "animals", split="test")
    with pytest.raises(DataError, match="encoded by another model than the queries"):
        perform("search", out=tree / "new", index=[str(tree / "flat")], queries=tree / "asked")


def test_encoded_queries_find_what_their_words_find(tree, chain, perform):
    asked = {"model": tree / "retriever", "queries": tree / "animals", "split": "test", "shard_size": 7}
    assert perform("encode", out=tree / "asked", **asked).metrics["role"] == "query"
    perform("search", out=tree / "b" / "found", index=[str(tree / "flat")], queries=tree / "asked", depth=20)
    assert (tree / "b" / "found" / "run.trec").read_bytes() == (chain.found / "run.trec").read_bytes()


def test_several_indexes_are_fused_by_reciprocal_rank(chain, tmp_path, perform):
    perform(
        "search", out=tmp_path / "fused", index=[str(chain.words), str(chain.flat)], queries=chain.beir, split="test",
        depth=7, fusion_depth=20,
    )  # fmt: skip
    fused = ranked(tmp_path / "fused")
    expected: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for folder in (chain.words, chain.flat):
        scores = ranked(chain.found_words if folder == chain.words else chain.found)
        for query, ids in scores.items():
            for rank, id_ in enumerate(ids, 1):
                expected[query][id_] += 1 / (60 + rank)
    for query, scores in expected.items():
        assert len(fused[query]) == 7
        assert fused[query] == pytest.approx({id_: scores[id_] for id_ in fused[query]}, rel=1e-6)
        assert sorted(fused[query].values()) == pytest.approx(sorted(scores.values())[-7:], rel=1e-6)


def asked(*arguments: object) -> str:
    answer = CliRunner().invoke(app, ["search", *map(str, arguments)], env={"COLUMNS": "300"})
    assert answer.exit_code == 0, answer.stderr
    return answer.stdout


def test_a_question_is_answered_in_words_and_leaves_nothing(chain, listing, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = listing(chain.beir.parent)
    text = asked("--index", chain.words, "--depth", "3", "where does the otter live")
    assert "Look for the otter in quiet rivers." in text
    assert "otter-home" in text
    assert len([line for line in text.splitlines() if "  otter-" in line]) == 3
    assert asked("--index", chain.words, "zzz") == "no hits\n"
    assert "otter" in asked("--index", chain.words, "--index", chain.flat, "where does the otter live")
    assert listing(chain.beir.parent) == before
    assert not any(tmp_path.iterdir())


def test_a_question_over_two_collections_is_answered_from_both(tree, perform):
    (tree / "plants").mkdir()
    (tree / "plants" / "corpus.jsonl").write_text('{"_id": "oak-1", "text": "The oak bears acorns."}\n')
    perform("encode", out=tree / "plants-vectors", model=tree / "retriever", corpus=tree / "plants")
    perform("index", out=tree / "plants-flat", vectors=tree / "plants-vectors")
    text = asked("--index", tree / "flat", "--index", tree / "plants-flat", "--depth", "2", "who eats acorns")
    assert "The oak bears acorns." in text


def test_a_length_that_the_model_can_not_read_costs_no_finished_model(tree, perform, listing):
    before = listing(tree / "retriever")
    options = {"model": tree / "encoder", "data": tree / "animals", "tower.query_length": 500, **SMALL}
    with pytest.raises(ConfigError, match="--query-length 500: this model reads 4 to 32 tokens"):
        perform("finetune", out=tree / "retriever", overwrite=True, **options)
    assert listing(tree / "retriever") == before


def test_examples_without_texts_are_refused_before_any_work(chain, tmp_path, perform):
    (tmp_path / "qrels").write_text("q:otter-home 0 otter-home 1\n")
    with pytest.raises(ConfigError, match="--examples needs texts"):
        perform("evaluate", out=tmp_path / "out", runs=[str(chain.found)], qrels=tmp_path / "qrels", examples=1)
    assert not (tmp_path / "out").exists()


def test_qrels_of_other_queries_are_refused_before_a_table_of_zeros(chain, tmp_path, perform):
    told = "no query of it is judged by .*, split 'train': such as 'q:.*' where 'q:.*' is judged"
    with pytest.raises(DataError, match=told):
        perform("evaluate", out=tmp_path / "out", runs=[str(chain.found)], qrels=chain.beir, split="train")


def test_what_a_corpus_says_does_not_command_the_terminal(tree, perform):
    (tree / "odd").mkdir()
    (tree / "odd" / "corpus.jsonl").write_text(
        json.dumps({"_id": "1", "title": "\x1b[2J", "text": "acorn \x1b]0;x"}) + "\n"
    )
    perform("index", out=tree / "odd-words", kind="bm25", corpus=tree / "odd", heap="256m")
    assert "\x1b" not in asked("--index", tree / "odd-words", "acorn")


def test_negatives_mined_inside_are_those_of_the_run_it_leaves(chain, tmp_path, perform):
    assert len(read_run(chain.retriever / "bm25.trec").queries) == 40
    options = {"optimize.steps": 12, "optimize.batch_size": 8, "optimize.lr": 1e-3, "optimize.warmup": 2}
    options |= {"tower.similarity": "cosine", "loss.temperature": 0.05}
    given = {"model": chain.encoder, "data": chain.beir, "negatives.negatives": chain.retriever / "bm25.trec"}
    perform("finetune", out=tmp_path / "given", **given, **options)
    assert (tmp_path / "given" / "model.safetensors").read_bytes() == (
        chain.retriever / "model.safetensors"
    ).read_bytes()
    assert not (tmp_path / "given" / "bm25.trec").exists()
    report = json.loads((tmp_path / "given" / "negatives.json").read_text())
    assert report["queries"] == 40
    assert report["candidates dropped"]["positive"] == 40


def test_without_hard_negatives_no_ranking_is_asked_for(chain, tmp_path, perform):
    perform("finetune", out=tmp_path / "out", model=chain.encoder, data=chain.beir, **SMALL, **{"negatives.hard": 0})
    assert not (tmp_path / "out" / "bm25.trec").exists()


def test_a_run_of_another_collection_is_no_source_of_negatives(chain, tmp_path, perform):
    (tmp_path / "run").write_text("q:otter-home Q0 elsewhere 1 1 t\n")
    given = {"model": chain.encoder, "data": chain.beir, "negatives.negatives": tmp_path / "run"}
    with pytest.raises(DataError, match=r"run: of the candidates none is left for any query.*1 aren't in the corpus"):
        perform("finetune", out=tmp_path / "out", **given, **SMALL)
    assert not (tmp_path / "out").exists()


def test_what_a_stage_leaves_half_done_is_not_taken_by_the_next(chain, tmp_path, perform):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.jsonl").write_text('{"_id": "1", "text": "whole"}\n{"_id": "2"}\n')
    with pytest.raises(DataError, match=r"corpus\.jsonl:2: no field 'text'"):
        perform("encode", out=tmp_path / "vectors", model=chain.retriever, corpus=tmp_path / "corpus", shard_size=1)
    assert not (tmp_path / "vectors").exists()  # the survey finds it before any work
    manifest = shutil.copytree(chain.vectors, tmp_path / "vectors") / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"status": "finished"', '"status": "running"'))
    with pytest.raises(FolderError, match="vectors: unfinished; repeat the seed encode command"):
        perform("index", out=tmp_path / "flat", vectors=tmp_path / "vectors")


def test_a_gpu_that_is_not_there_is_refused(chain, tmp_path, perform):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="--device cuda: torch sees no GPU here"):
        perform("encode", out=tmp_path / "out", model=chain.retriever, corpus=chain.beir, **{"machine.device": "cuda"})
    assert not (tmp_path / "out").exists()
