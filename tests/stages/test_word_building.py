"""Indexes of words, by the options they are made with: what is then found, and what is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import Manifest, read_manifest
from seedcli.retrieval import expanding
from seedcli.retrieval.run_files import read_run
from seedcli.stages.word_index import made_with

HEAP = {"kind": "bm25", "heap": "256m"}


def found(perform: Callable[..., Manifest], index: Path, out: Path, **given: Any) -> dict[str, dict[bytes, float]]:
    """What each query of the index's corpus finds."""
    queries = next(iter(read_manifest(index).inputs.values())).path  # type: ignore[union-attr]
    perform("search", out=out, index=[str(index)], queries=str(index / queries), heap="256m", **given)
    run = read_run(out / "run.trec")
    return {query: dict(zip(*map(list, run.ranking(query)), strict=True)) for query in run.queries}


def written(path: Path, *records: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each word there are two passages: a short one that has it once, which is right, and a long one, twice."""
    folder = tmp_path_factory.mktemp("lengths") / "pairs"
    words = ["owl", "fox", "elk", "ram"]
    passages = [{"_id": f"{word}-right", "text": f"{word} den"} for word in words]
    passages += [{"_id": f"{word}-wrong", "text": f"{word} {word} " + "moss fern reed lake " * 3} for word in words]
    written(folder / "corpus.jsonl", *passages)
    written(folder / "queries.jsonl", *({"_id": word, "text": word} for word in words))
    (folder / "qrels").mkdir()
    judged = "".join(f"{word}\t{word}-right\t1\n" for word in words)
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def test_tuning_takes_the_best_of_its_grid_and_search_goes_by_it(lengths, tmp_path, perform):
    """b = 0 knows no length, so two words beat one; with b = 1 the short passage wins. A tie stays with what is given.

    The measure is 1 or 1/2, as the right passage stands first or second.
    """
    grid = {"tuning.try_k1": "[1.5, 2.5]", "tuning.try_b": "[0, 1]", "tuning.try_weight": "[0.6, 1]"}
    grid |= {"tuning.try_documents": "[2]", "tuning.try_terms": "[3]", "tuning.tune_queries": 3}
    given = {"words.b": 0.0, "words.rm3": True} | grid
    metrics = perform(
        "index", out=tmp_path / "words", corpus=lengths, **HEAP, **{"tuning.tune": str(lengths)}, **given
    ).metrics
    assert metrics["tuned"]["words"] == [
        [0.9, 0.0, 0.5], [1.5, 0.0, 0.5], [1.5, 1.0, 1.0], [2.5, 0.0, 0.5], [2.5, 1.0, 1.0],
    ]  # fmt: skip
    assert (metrics["k1"], metrics["b"]) == (1.5, 1.0)
    assert metrics["tuned"]["queries"] == 3
    assert [row[:3] for row in metrics["tuned"]["rm3"]] == [[2, 3, 0.6], [2, 3, 1.0]]
    assert metrics["rm3"]["documents"] == 2
    assert metrics["java"].keys() == {"index", "tune"}
    tuned = found(perform, tmp_path / "words", tmp_path / "tuned")
    assert [next(iter(hits)) for hits in tuned.values()] == [b"owl-right", b"fox-right", b"elk-right", b"ram-right"]
    asked = found(perform, tmp_path / "words", tmp_path / "asked", **{"words.b": 0.0})
    assert next(iter(asked["owl"])) == b"owl-wrong"
    wide = found(perform, tmp_path / "words", tmp_path / "wide", **{"words.rm3": True})
    assert wide["owl"][b"owl-right"] == pytest.approx(0.6 * tuned["owl"][b"owl-right"])  # too few passages for words
    java = read_manifest(tmp_path / "wide").metrics["java"]["index.0"]
    assert java["seconds"] > 0 < java["peak"]


def test_expansions_make_passages_findable_and_unknown_ids_are_told(lengths, tmp_path, perform):
    expansions = written(
        tmp_path / "expansions.jsonl",
        {"id": "owl-right", "queries": ["who hoots", "night bird"]},
        {"id": "gone", "queries": ["hoots"]},
        {"id": "owl-right", "queries": ["twice"]},
    )
    given = HEAP | {"corpus": lengths, "words.expansions": expansions}
    with pytest.raises(DataError, match=r"1 id of expansions that stand twice or more \(owl-right\); 1 id of expansi"):
        perform("index", out=tmp_path / "stopped", problems="stop", **given)
    perform("index", out=tmp_path / "words", **given)
    queries = written(tmp_path / "asked.jsonl", {"id": "q", "text": "hoots"}, {"id": "r", "text": "twice"})
    perform("search", out=tmp_path / "run", index=[str(tmp_path / "words")], queries=queries, heap="256m")
    run = read_run(tmp_path / "run" / "run.trec")
    assert run.queries == ["q"]
    assert run.documents.tolist() == [b"owl-right"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ('{"id": "a"}', "no list of texts in the field 'queries'"),
        ('{"queries": []}', "no field 'id'"),
    ],
)
def test_a_broken_expansion_is_told_by_its_line(lengths, tmp_path, perform, line, told):
    path = tmp_path / "expansions.jsonl"
    path.write_text('{"id": "owl-right", "queries": ["hoots"]}\n' + line + "\n")
    with pytest.raises(DataError, match=rf"expansions\.jsonl:2: {told}"):
        perform("index", out=tmp_path / "words", corpus=lengths, **HEAP, **{"words.expansions": path})


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory, wordpiece: Any) -> Path:
    """A T5 of random weights, and its tokenizer."""
    folder = tmp_path_factory.mktemp("writer") / "t5"
    ids = wordpiece.pretrained
    config = T5Config(
        vocab_size=wordpiece.size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0,
        pad_token_id=ids.pad_token_id, eos_token_id=ids.sep_token_id, decoder_start_token_id=ids.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    wordpiece.save(folder)
    return folder


@pytest.mark.parametrize("sampled", [4, 0])
def test_a_model_writes_queries_once_and_goes_on_where_it_was_killed(
    lengths, writer, tmp_path, perform, monkeypatch, sampled
):
    given = HEAP | {"corpus": lengths, "expander.expander": writer, "expander.sampled": sampled}
    given |= {"expander.written": 2, "expander.query_length": 6, "expander.expander_batch": 3}
    perform("index", out=tmp_path / "whole", **given)
    whole = (tmp_path / "whole" / "expansions.jsonl").read_text()
    records = [json.loads(line) for line in whole.splitlines()]
    assert [record["id"] for record in records] == [
        p["_id"] for p in map(json.loads, (lengths / "corpus.jsonl").open())
    ]
    assert all(len(record["queries"]) == 2 for record in records)
    written_words = {word for record in records for query in record["queries"] for word in query.split()}
    word = max((word for word in written_words if word.isalpha()), key=lambda word: (len(word), word))  # no stop word
    queries = written(tmp_path / "asked.jsonl", {"id": "q", "text": word})
    perform("search", out=tmp_path / "run", index=[str(tmp_path / "whole")], queries=queries, heap="256m")
    holders = {record["id"] for record in records if word in " ".join(record["queries"]).split()}
    assert holders <= {name.decode() for name in read_run(tmp_path / "run" / "run.trec").documents.tolist()}

    with monkeypatch.context() as patch:
        patch.setattr("seedcli.stages.word_building.write_expansions", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            perform("index", out=tmp_path / "killed", **given)
    begun = tmp_path / "killed" / "expansions.begun"
    begun.write_text("".join(whole.splitlines(keepends=True)[:4])[:-5])  # a batch, and a line that was cut off
    writes: list[int] = []
    wanted = expanding.write_expansions

    def watched(passages: Any, path: Path, write: Any, *rest: Any) -> None:
        wanted(passages, path, lambda texts, number: (writes.append(number), write(texts, number))[1], *rest)

    monkeypatch.setattr("seedcli.stages.word_building.write_expansions", watched)
    perform("index", out=tmp_path / "killed", **given)
    assert writes == [1, 2]
    assert (tmp_path / "killed" / "expansions.jsonl").read_text() == whole


def test_an_index_that_is_there_is_not_built_again_to_be_tuned(lengths, tmp_path, perform, monkeypatch):
    given = HEAP | {"corpus": lengths, "tuning.tune": lengths, "tuning.try_k1": "[1]", "tuning.try_b": "[1]"}
    with monkeypatch.context() as patch:
        patch.setattr("seedcli.stages.word_building.tuned_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            perform("index", out=tmp_path / "words", **given)
    monkeypatch.setattr("seedcli.stages.word_building.index_collection", None)  # which would be called
    assert perform("index", out=tmp_path / "words", **given).metrics["passages"] == 8


def test_queries_that_fit_no_passage_tune_nothing(lengths, tmp_path, perform):
    (tmp_path / "other" / "qrels").mkdir(parents=True)
    (tmp_path / "other" / "corpus.jsonl").write_text('{"_id": "nowhere", "text": "owl"}\n')
    (tmp_path / "other" / "queries.jsonl").write_text('{"_id": "1", "text": "owl"}\n')
    (tmp_path / "other" / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n1\tnowhere\t1\n")
    given = HEAP | {"corpus": lengths, "tuning.tune": tmp_path / "other", "tuning.try_k1": "[1]", "tuning.try_b": "[1]"}
    with pytest.raises(DataError, match=r"mrr@10 is 0 for all 1 queries of .*other, whatever k1 and b"):
        perform("index", out=tmp_path / "words", **given)


def test_stop_words_of_a_file_are_kept_with_the_index(lengths, tmp_path, perform):
    stop_words = tmp_path / "stop.txt"
    stop_words.write_text("Owl\n\n fox \n")
    perform("index", out=tmp_path / "words", corpus=lengths, **HEAP, **{"words.stop_words": stop_words})
    stop_words.unlink()
    hits = found(perform, tmp_path / "words", tmp_path / "run")
    assert hits.keys() == {"elk", "ram"}
    assert (tmp_path / "words" / "stop_words.txt").read_text() == "owl\nfox\n"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"words.language": "xx"}, "--language xx: Lucene parts words of en, ar"),
        ({"words.language": "de", "words.stemmer": "none"}, "for English; --language de brings its own"),
        ({"words.rm3": True, "words.title_boost": 2.0}, "--rm3 reads one field"),
        ({"tuning.tune": "DATA", "tuning.tune_split": "test"}, "no qrels 'test' to tune on"),
        ({"tuning.tune": "DATA", "tuning.tune_measure": "mrr@"}, "no measure 'mrr@'"),
        ({"tuning.tune": "DATA", "tuning.try_b": "[]"}, "one of the lists of values to try is empty"),
        ({"tuning.tune": "DATA", "tuning.try_k1": "[-1]"}, "--set tuning.try_k1: .* greater than or equal to 0"),
        ({"tuning.tune": "DATA", "tuning.try_b": "[7]"}, "--set tuning.try_b: .* less than or equal to 1"),
        ({"tuning.try_k1": "[1]"}, "--tune is not given, and options of it are"),
        ({"expander.written": 3}, "--expander is not given, and options of it are"),
        ({"heap": "5"}, "--set heap 5: expected a number with k, m or g"),
        ({"expander.expander": "no such model!"}, "no such model folder"),
        ({"kind": "flat", "corpus": None, "vectors": "v", "words.rm3": True}, "--kind flat knows no words"),
    ],
)
def test_options_that_cannot_be_are_refused_before_any_work(lengths, tmp_path, perform, given, told):
    given = {key: str(lengths) if value == "DATA" else value for key, value in given.items()}
    with pytest.raises((ConfigError, DataError), match=told):
        perform("index", out=tmp_path / "words", **HEAP | {"corpus": lengths} | given)
    assert not (tmp_path / "words").exists()


def test_rm3_needs_an_index_that_was_made_for_it(chain, tmp_path, perform):
    given = {"queries": chain.beir, "split": "test", "words.rm3": True}
    with pytest.raises(ConfigError, match=r"--rm3: .*words was made without it"):
        perform("search", out=tmp_path / "run", index=[str(chain.words)], **given)
    with pytest.raises(ConfigError, match="for a bm25 index: none is given"):
        perform("search", out=tmp_path / "run", index=[str(chain.flat)], **given)


def test_a_folder_of_before_there_were_these_options_opens(chain, tmp_path):
    old = Path(shutil.copytree(chain.words, tmp_path / "old"))
    manifest = json.loads((old / "manifest.json").read_text())
    config = {key: manifest["config"][key] for key in ("out", "kind", "vectors", "corpus", "problems", "heap")}
    (old / "manifest.json").write_text(json.dumps(manifest | {"config": config | {"k1": 1.5, "b": 0.3}}))
    words = made_with(read_manifest(old))
    assert (words.k1, words.b, words.language, words.rm3) == (1.5, 0.3, "en", False)
