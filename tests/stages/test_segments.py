"""Passages of several vectors through the chain: MaxP finds what FirstP can't see, and every stage knows of it."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seedcli as seed
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import finished
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.configs.finetune import FinetuneConfig, Negatives, Optimize
from seedcli.models.towers import open_towers
from seedcli.retrieval.run_files import read_run
from seedcli.stages.training_memory import memory_held, smaller_chunk

FOOD = {
    "heron": "frogs and eels", "otter": "trout and crayfish", "beaver": "bark and willow twigs",
    "falcon": "pigeons and starlings", "badger": "earthworms and acorns", "salmon": "shrimps and herring",
    "hedgehog": "beetles and slugs", "bison": "prairie grass", "walrus": "clams and mussels",
    "gecko": "moths and crickets", "condor": "dead deer", "lynx": "snowshoe hares",
}  # fmt: skip
STEPS = {"optimize.steps": 3, "optimize.batch_size": 4, "optimize.warmup": 1, "saving.log_every": 1}
COSINE = {"tower.similarity": "cosine", "loss.temperature": 0.05}
MAXP = {"tower.passage_length": 16, "tower.query_length": 16, "tower.segments": 3}
SEVERAL = {"tower.passage_length": 12, "tower.segments": 3, "tower.segment_overlap": 4, "tower.token_vectors": 3}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve passages that begin alike, with fourteen words of no meaning; each query is what one says after these."""
    folder = tmp_path_factory.mktemp("long") / "long"
    (folder / "qrels").mkdir(parents=True)
    says = {animal: f"the {animal} lives on {food}" for animal, food in FOOD.items()}
    passages = [{"_id": animal, "text": f"{'the ' * 14}{text}"} for animal, text in says.items()]
    queries = [{"_id": f"q:{animal}", "text": text} for animal, text in says.items()]
    for name, records in (("corpus", passages), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for split, half in (("train", list(says)[:6]), ("test", list(says)[6:])):
        lines = "".join(f"q:{animal}\t{animal}\t1\n" for animal in half)
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
    (folder / "run.trec").write_text(
        "".join(f"q:{one} Q0 {other} 1 1 t\n" for one in list(says)[:6] for other in list(says)[:3] if one != other)
    )
    return folder


@pytest.fixture(scope="module")
def made(chain, long, perform, tmp_path_factory) -> Callable[..., Path]:
    """Fine-tunes on the long passages, encodes them in shards of five, indexes and searches; the folder of all."""

    def chained(name: str, **flags: Any) -> Path:
        root = tmp_path_factory.getbasetemp() / "segments" / name
        if not root.exists():
            tune = {"negatives.negatives": long / "run.trec", "watch.dev": "test"} | STEPS | COSINE
            perform("finetune", out=root / "model", model=chain.encoder, data=long, **tune | flags)
            perform("encode", out=root / "vectors", model=root / "model", corpus=long, shard_size=5)
            perform("index", out=root / "flat", vectors=root / "vectors")
            given = {"index": [str(root / "flat")], "queries": long}
            perform("search", out=root / "found", **given, split="test")
            perform("search", out=root / "scored", **given, candidates=root / "found")
        return root

    return chained


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_what_stands_in_a_later_segment_is_found_by_maxp_alone(made):
    maxp, firstp = made("maxp", **MAXP), made("firstp", **MAXP | {"tower.segments": 1})
    found, missed = (read_run(root / "found" / "run.trec") for root in (maxp, firstp))
    assert [ranking.documents[0] for ranking in found.rankings()] == [
        query.removeprefix("q:") for query in found.queries
    ]
    for ranking in found.rankings():
        assert ranking.scores[0] == pytest.approx(1, abs=1e-6)  # the words of the query are those of the segment
        assert sorted(ranking.documents) == sorted(FOOD)  # each once, at the default depth
    for ranking in missed.rankings():
        assert np.ptp(ranking.scores) < 1e-6  # all begin alike
    looks = [
        [record["dev_mrr@10"] for record in log(root / "model") if "dev_mrr@10" in record] for root in (maxp, firstp)
    ]
    assert looks[0] == [1, 1]
    assert max(looks[1]) < 1


def test_folders_tell_passages_and_vectors(made):
    root = made("maxp", **MAXP)
    encoded = finished(root / "vectors").metrics
    vectors = seed.open_vectors(root / "vectors")
    assert {name: encoded[name] for name in ("passages", "vectors", "shards")} == {
        "passages": 12, "vectors": len(vectors.ids()), "shards": 3
    }  # fmt: skip
    assert list(dict.fromkeys(vectors.ids())) == list(FOOD)
    assert {vectors.ids().count(animal) for animal in FOOD} == {2}
    assert finished(root / "flat").metrics == {"passages": 12, "vectors": 24, "width": 128}
    assert finished(root / "scored").metrics == {"queries": 6, "candidates": 6 * 12}
    stored = json.loads((root / "model" / "model.json").read_text())
    assert (stored["segments"], stored["segment_overlap"], stored["token_vectors"]) == (3, 0, 1)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("several", {}),
        ("pairwise", {"loss.loss": "pairwise", "optimize.chunk": 3, "tower.untied": True}),
        ("widths", {"tower.dimensions": [32], "loss.symmetric": True, "negatives.hard": 0}),
    ],
)
def test_runs_hold_the_best_of_all_vectors(made, long, name, flags):
    """Those that Python gives one by one; candidates score as all do, to the bit."""
    root = made(name, **SEVERAL, **flags)
    model = seed.open_model(root / "model")
    texts, asked = (
        {record["_id"]: record["text"] for record in map(json.loads, (long / file).read_text().splitlines())}
        for file in ("corpus.jsonl", "queries.jsonl")
    )
    passages = dict(zip(texts, model.encode_passages(list(texts.values())), strict=True))
    assert {len(vectors) for vectors in passages.values()} == {9}
    ids = seed.open_vectors(root / "vectors").ids()
    np.testing.assert_allclose(
        seed.open_vectors(root / "vectors").array(), np.concatenate([*passages.values()]), atol=1e-5
    )
    assert ids == [id_ for id_, vectors in passages.items() for _ in vectors]
    run = seed.open_run(root / "found")
    for ranking in run:
        query = model.encode(asked[ranking.query], "query")[0]
        best = {id_: float((vectors @ query).max()) for id_, vectors in passages.items()}
        assert dict(zip(ranking.documents, ranking.scores.tolist(), strict=True)) == pytest.approx(best, abs=1e-5)
    assert (root / "scored" / "run.trec").read_bytes() == (root / "found" / "run.trec").read_bytes()
    record = log(root / "model")[-1]
    assert np.isfinite([record["loss"], record["gradient_norm"]]).all()


def test_passages_of_several_vectors_are_asked_for_by_name(made, chain):
    model = seed.open_model(made("maxp", **MAXP) / "model")
    with pytest.raises(DataError, match=r"model: gives a passage several vectors; model\.encode_passages\(texts\) has"):
        model.encode("the otter", "passage")
    assert model.encode("the otter", "query").shape == (1, 128)
    assert [part.shape for part in model.encode_passages(["the otter", "the " * 99])] == [(1, 128), (3, 128)]
    assert model.encode_passages([]) == []
    plain = seed.open_model(chain.retriever)
    np.testing.assert_array_equal(plain.encode_passages("the otter")[0], plain.encode("the otter", "passage"))


def test_settings_stay_with_the_model_and_can_be_taken_back(made, long, perform, tmp_path):
    root = made("maxp", **MAXP)
    given = {"model": root / "model", "data": long, "negatives.hard": 0} | STEPS
    perform("finetune", out=tmp_path / "same", **given)
    perform("finetune", out=tmp_path / "back", **given, **{"tower.segments": 1})
    told = [json.loads((tmp_path / name / "model.json").read_text())["segments"] for name in ("same", "back")]
    assert told == [3, 1]


def test_a_model_json_from_before_reads_passages_whole(chain, tmp_path):
    folder = Path(shutil.copytree(chain.retriever, tmp_path / "old"))
    stored = json.loads((folder / "model.json").read_text())
    for name in ("segments", "segment_overlap", "token_vectors"):
        del stored[name]
    (folder / "model.json").write_text(json.dumps(stored))
    before, now = (open_towers(path)[0].settings for path in (folder, chain.retriever))
    assert before == now
    assert not before.several


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tower.segments": 0}, r"--set tower\.segments: got 0; it should be greater than or equal to 1"),
        ({"tower.segmets": 3}, r"no option tower\.segmets: did you mean segments\?"),
        ({"tower.segment_overlap": 4}, "segment_overlap 4: needs segments of 2 or more; else give 0"),
        (
            {"tower.segments": 2, "tower.passage_length": 12, "tower.segment_overlap": 10},
            "segment_overlap 10: --passage-length 12 leaves room for 10 tokens beside the special ones; give at most 9",
        ),
        ({"tower.token_vectors": 2, "tower.pooling": "mean"}, "token_vectors 2: need --pooling cls, not mean"),
        (
            {"tower.token_vectors": 9, "tower.passage_length": 8},
            "token_vectors 9: more than the tokens of a passage, --passage-length 8",
        ),
    ],
)
def test_what_can_not_be_is_refused_before_any_work(flags, message, chain, long, perform, tmp_path):
    with pytest.raises(ConfigError, match=message):
        perform("finetune", out=tmp_path / "out", model=chain.encoder, data=long, **STEPS, **flags)
    assert not (tmp_path / "out").exists()


def test_examples_bring_passages_of_all_segments(chain, long, perform, tmp_path):
    """Texts of triples are cut to what all segments need, and kept apart by how they are cut."""
    records = [json.loads(line) for line in (long / "corpus.jsonl").read_text().splitlines()]
    path = tmp_path / "triples.jsonl"
    path.write_text(
        "".join(
            json.dumps({"query": f"the {one['_id']}", "positives": [one["text"]], "negatives": [other["text"]]}) + "\n"
            for one, other in zip(records, records[1:] + records[:1], strict=True)
        )
    )
    given = {"model": chain.encoder, "data": path, "negatives.negatives": "file"} | STEPS | {"optimize.batch_size": 12}
    losses = {}
    for segments in (1, 2):
        flags = MAXP | {"tower.segments": segments}
        perform("finetune", out=tmp_path / str(segments), **given, **flags)
        losses[segments] = log(tmp_path / str(segments))[0]["loss"]
    assert losses[1] != pytest.approx(losses[2], rel=1e-3)


class Heard(Silent):
    """What was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_encoding_tells_how_many_vectors_are_to_come(made, long, tmp_path):
    from seedcli.base.config import resolve
    from seedcli.configs import VERBS
    from seedcli.stages import stage

    model, told = made("maxp", **MAXP) / "model", Heard()
    flags = {"model": str(model), "corpus": str(long), "out": str(tmp_path / "vectors"), "machine.threads": 1}
    stage.perform("encode", resolve(VERBS["encode"], {}, flags, "a test"), told)
    assert "tokens, at most 44 each; about 24 vectors" in told.lines[0]  # 3 segments of 14 words, [CLS] and [SEP]


def test_training_holds_all_segments_of_a_passage(made):
    config = FinetuneConfig(Path("o"), "m", "d", negatives=Negatives(hard=1), optimize=Optimize(batch_size=4))
    towers, _ = open_towers(made("maxp", **MAXP) / "model")
    several = memory_held(config, towers, 1)
    assert smaller_chunk(config, towers, Runtime()).startswith("give --chunk 8 in place of 24")
    towers.passage.settings = dataclasses.replace(towers.settings, segments=1)
    assert several - memory_held(config, towers, 1) == 68 * (8 * 2 * 16) * 128 * 2  # more tokens; width, layers
    assert smaller_chunk(config, towers, Runtime()).startswith("give --chunk 4 in place of 8")


def test_a_graph_gives_one_vector_and_says_so(made, perform, tmp_path):
    pytest.importorskip("onnxscript", reason='the export needs pip install "seedcli[onnx]"')
    source = made("several", **SEVERAL) / "model"
    with pytest.raises(DataError, match=r"gives a passage the vectors of its first 3 tokens \(token_vectors\), and an"):
        perform("convert", source=source, out=tmp_path / "out", to="onnx")
    assert not (tmp_path / "out").exists()
