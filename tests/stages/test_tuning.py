"""What seed finetune can be asked for: losses, towers, widths, chunks, filters, looks at dev; and what it refuses."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seedcli.base.errors import ConfigError, DataError, SeedError
from seedcli.base.manifest import read_manifest
from seedcli.stages import finetune, training_set
from seedcli.stages.estimates import lower, telling_memory
from seedcli.stages.training_set import places
from seedcli.training.optimizers import SCHEDULES

FEW = {"optimize.steps": 4, "optimize.batch_size": 8, "optimize.warmup": 1, "optimize.lr": 1e-3, "saving.log_every": 1}


@pytest.fixture
def tune(chain, perform, tmp_path):
    """Fine-tunes the chain's encoder on the collection, with negatives from the chain's BM25 run."""

    def tuned(name: str = "out", **flags: Any) -> Path:
        out = tmp_path / name
        given = {"model": chain.encoder, "data": chain.beir, "negatives.negatives": chain.retriever / "bm25.trec"}
        perform("finetune", out=out, **given | FEW | flags)
        return out

    return tuned


@pytest.fixture(scope="module")
def scored(beir, tmp_path_factory) -> Path:
    """Examples of texts with a teacher's scores: that of a negative is minus its place."""
    passages = [json.loads(line) for line in (beir / "corpus.jsonl").read_text().splitlines()]
    path = tmp_path_factory.mktemp("scored") / "scored.jsonl"
    records = [
        {
            "query": f"about {passage['title']} and {passage['_id']}",
            "positives": [passage["text"]],
            "negatives": [passages[row - place - 1]["text"] for place in range(3)],
            "positive_scores": [5.0],
            "negative_scores": [-1.0, -2.0, 4.8],
        }
        for row, passage in enumerate(passages)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def still(chain, tmp_path) -> Path:
    """The chain's encoder without dropout, whose draws follow chunks and precision."""
    model = Path(shutil.copytree(chain.encoder, tmp_path / "still"))
    settings = json.loads((model / "config.json").read_text())
    rates = {name: 0.0 for name in settings if name.endswith("dropout_prob")}
    assert len(rates) == 2
    (model / "config.json").write_text(json.dumps(settings | rates))
    (model / "manifest.json").unlink()
    return model


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def report(folder: Path) -> Any:
    return json.loads((folder / "negatives.json").read_text())


@pytest.mark.parametrize("loss", ["in-batch", "triplet", "pairwise"])
def test_each_loss_trains_on_a_run(loss, tune):
    records = log(tune(**{"loss.loss": loss, "optimize.steps": 12}))
    assert records[-1]["loss"] < records[0]["loss"]
    assert records[0][loss] == records[0]["loss"]
    assert records[0]["negatives"] == (pytest.approx(15, abs=1) if loss == "in-batch" else 1)
    assert 0 <= records[0]["accuracy"] <= 1


@pytest.mark.parametrize("loss", ["margin-mse", "kl"])
def test_a_teacher_is_followed_in_what_it_scored(loss, tune, scored):
    flags = {"data": scored, "negatives.negatives": "file", "negatives.hard": 3, "loss.loss": loss}
    records = log(tune(**flags, **{"optimize.steps": 12}))
    assert records[-1]["loss"] < records[0]["loss"]
    assert records[0]["negatives"] == (3 if loss == "kl" else 1)


def test_an_epoch_of_triples_passes_every_negative_of_every_query(tune):
    flags = {"optimize.steps": None, "optimize.epochs": 2, "negatives.hard": 3, "optimize.batch_size": 40}
    assert log(tune("triples", **flags, **{"loss.loss": "pairwise"}))[-1]["step"] == 2 * 3 * 40 / 40
    assert log(tune("lists", **flags))[-1]["step"] == 2 * 40 / 40


def test_two_towers_go_through_the_chain(tune, chain, perform, tmp_path):
    """Each of its own: queries are encoded by one, passages by the other, whatever asks for them."""
    out = tune(**{"tower.untied": True, "tower.head": "linear", "tower.similarity": "cosine"})
    assert not (out / "model.safetensors").exists()
    query, passage = (load_file(out / role / "model.safetensors") for role in ("query", "passage"))
    assert query.keys() == passage.keys()
    assert any(not torch.equal(value, passage[name]) for name, value in query.items())
    perform("encode", out=tmp_path / "vectors", model=out, corpus=chain.beir)
    perform("index", out=tmp_path / "index", kind="flat", vectors=tmp_path / "vectors")
    perform("encode", out=tmp_path / "asked", model=out, queries=chain.beir, split="test")
    found = []
    for name, queries in (
        ("words", {"queries": chain.beir, "split": "test"}),
        ("asked", {"queries": tmp_path / "asked"}),
    ):
        perform("search", out=tmp_path / f"found-{name}", index=[str(tmp_path / "index")], depth=5, **queries)
        lines = (tmp_path / f"found-{name}" / "run.trec").read_text().splitlines()
        found.append([line.split()[:3] for line in lines])
    assert found[0] == found[1]
    import seedcli as seed

    model = seed.Model(out)
    text = json.loads((chain.beir / "corpus.jsonl").read_text().splitlines()[0])["text"]
    assert not np.allclose(model.encode(text, "query"), model.encode(text, "passage"), atol=1e-3)
    again = tune("again", model=out)  # it stays untied, with its heads
    assert sorted(path.name for path in again.iterdir() if path.is_dir()) == ["passage", "query"]
    assert (again / "query" / "2_Dense" / "model.safetensors").is_file()


def test_a_head_is_added_kept_or_taken_away(tune):
    out = tune("with", **{"tower.head": "linear"})
    kinds = [row["type"].rsplit(".")[-1] for row in json.loads((out / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Dense", "LayerNorm"]
    kept = tune("kept", model=out, **{"tower.head": "linear", "optimize.lr": 1e-9})
    first, second = (load_file(folder / "2_Dense" / "model.safetensors") for folder in (out, kept))
    assert all(torch.allclose(value, second[name], atol=1e-6) for name, value in first.items())
    assert not (tune("without", model=out, **{"tower.head": "none"}) / "2_Dense").exists()


def test_widths_are_kept_with_the_model_and_trained(tune):
    out = tune(**{"tower.dimensions": [32, 8, 32]})
    assert json.loads((out / "model.json").read_text())["dimensions"] == [8, 32]
    assert log(out)[0]["loss"] != log(tune("whole"))[0]["loss"]
    assert json.loads((tune("again", model=out) / "model.json").read_text())["dimensions"] == [8, 32]
    with pytest.raises(ConfigError, match=r"--set tower\.dimensions: 500 is more than the \d+ of this model"):
        tune("wide", **{"tower.dimensions": [500]})


@pytest.mark.parametrize("loss", ["in-batch", "triplet"])
def test_chunks_have_the_losses_of_the_whole(loss, tune, still):
    flags = {"model": still, "loss.loss": loss}
    whole, chunked = (log(tune(f"{chunk}", **flags, **{"optimize.chunk": chunk})) for chunk in (None, 3))
    for ours, theirs in zip(chunked, whole, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-3)


def test_half_precision_trains(tune):
    flags = {"machine.precision": "bf16", "optimize.chunk": 5, "tower.head": "linear", "optimize.steps": 12}
    records = log(tune(**flags))
    assert records[-1]["loss"] < records[0]["loss"] * 0.85


def test_chunks_may_change_when_a_run_goes_on(tune, monkeypatch):
    """As one would after memory gave out."""
    with monkeypatch.context() as context:
        context.setattr(finetune, "train", lambda *_: torch.empty(1 << 60))
        with pytest.raises(SeedError, match=r"no memory left; give --chunk 2 in place of 4 .*repeat the command"):
            tune(**{"optimize.chunk": 4})
    out = tune(**{"optimize.chunk": 2})
    assert log(out)[-1]["step"] == 4


def test_two_new_heads_begin_alike(tune):
    out = tune(**{"tower.untied": True, "tower.head": "linear", "optimize.lr": 1e-12})
    heads = [load_file(out / role / "2_Dense" / "model.safetensors")["linear.weight"] for role in ("query", "passage")]
    torch.testing.assert_close(*heads, rtol=0, atol=1e-6)


def test_a_part_of_the_queries_still_knows_what_is_right_for_equal_ones(tune, chain, tmp_path, monkeypatch):
    """Two ids ask the same: what is right for the one that is left out is no negative of the other."""
    twins = tmp_path / "twins"
    twins.mkdir()
    (twins / "corpus.jsonl").symlink_to(chain.beir / "corpus.jsonl")
    (twins / "qrels").mkdir()
    asked = [json.dumps({"_id": id_, "text": "what does the otter eat"}) for id_ in ("one", "two")]
    (twins / "queries.jsonl").write_text("\n".join(asked))
    (twins / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\none\totter-diet\t1\ntwo\totter-home\t1\n")
    (tmp_path / "run").write_text("".join(f"{query} Q0 otter-{what} 1 1.0 x\n" for query in ("one", "two")
                                          for what in ("diet", "home", "young")))  # fmt: skip
    seen = {}
    monkeypatch.setattr(training_set.Preparation, "tell", lambda _, data, __: seen.update(data=data))
    tune(data=twins, max_queries=1, **{"negatives.negatives": tmp_path / "run", "optimize.batch_size": 2})
    data = seen["data"]
    assert len(data.trained) == 1
    assert len(data.right.of(int(data.queries.numbers[data.trained[0]]))) == 2


def test_lamb_and_the_cosine_schedule_are_taken(tune):
    flags = {"optimize.optimizer": "lamb", "optimize.schedule": "cosine", "optimize.steps": 9, "optimize.warmup": 0}
    records = log(tune(**flags))
    assert [record["lr"] for record in records] == pytest.approx(
        [1e-3 * SCHEDULES["cosine"](step, 0, 9) for step in range(9)]
    )
    assert records[-1]["loss"] < records[0]["loss"]


def test_training_may_end_before_the_rate_has_fallen(tune):
    records = log(tune(**{"optimize.schedule_steps": 10}))
    assert [record["lr"] for record in records] == pytest.approx([1e-3, 1e-3, 8e-4 / 0.9, 7e-4 / 0.9])
    with pytest.raises(ConfigError, match=r"schedule_steps=3: the rate would be nothing before the last of 4 steps"):
        tune("short", **{"optimize.schedule_steps": 3})


def test_a_fraction_takes_nested_parts_of_the_queries(tune, monkeypatch):
    trained = {}

    def told(self: Any, data: Any, _: Any) -> None:
        trained[self.config.fraction, self.config.max_queries] = set(data.trained.tolist())

    monkeypatch.setattr(training_set.Preparation, "tell", told)
    for fraction, most in ((0.1, None), (0.5, None), (1.0, None), (1.0, 20), (1.0, 7)):
        tune(f"{fraction}-{most}", fraction=fraction, max_queries=most)
    sizes = {key: len(rows) for key, rows in trained.items()}
    assert sizes == {(0.1, None): 4, (0.5, None): 20, (1.0, None): 40, (1.0, 20): 20, (1.0, 7): 7}
    assert trained[0.1, None] < trained[1.0, 7] < trained[0.5, None] == trained[1.0, 20] < trained[1.0, None]


def test_a_fraction_of_examples_takes_all_of_a_query(tune, scored, tmp_path):
    twice = tmp_path / "twice.jsonl"
    twice.write_text(scored.read_text() * 2)
    out = tune(data=twice, fraction=0.25, **{"negatives.negatives": "file"})
    assert report(out)["queries"] == 2 * 15


def test_bm25_is_searched_once_for_the_same_queries(tune, tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "cache"))
    first = tune("first", **{"negatives.negatives": "bm25", "max_queries": 10})
    (kept,) = (tmp_path / "cache").glob("bm25-*.trec")
    monkeypatch.setattr("seedcli.negatives.bm25.index_collection", None)  # which would be called
    second = tune("second", **{"negatives.negatives": "bm25", "max_queries": 10, "optimize.lr": 1e-4})
    runs = [(folder / "bm25.trec").read_bytes() for folder in (first, second)]
    assert runs == [kept.read_bytes()] * 2
    assert len({line.split()[0] for line in runs[0].splitlines()}) == 10
    with pytest.raises(TypeError):
        tune("third", **{"negatives.negatives": "bm25", "max_queries": 11})


def test_only_some_places_of_a_ranking_are_candidates(tune):
    whole, part = (report(tune(depth, **{"negatives.negative_depth": depth})) for depth in ("9", "4:9"))
    first = report(tune("first", **{"negatives.negative_depth": "0:4"}))

    def count(told: Any) -> int:
        return sum(told["scores"]["negatives"]) + told["candidates dropped"]["positive"]

    assert count(whole) == count(part) + count(first)
    assert 0 < count(part) < count(whole)
    assert (places("100"), places(" 10:200")) == (slice(0, 100), slice(10, 200))


@pytest.mark.parametrize("depth", ["0", "9:9", "9:3", "-1", "10:", "ten", "1:2:3", "1.5"])
def test_places_that_are_none_are_refused(depth):
    with pytest.raises(ConfigError, match=rf"--negative-depth {re.escape(depth)}: give how many are candidates"):
        places(depth)


def test_margins_drop_candidates_and_the_report_says_how_many(tune, scored):
    near = tune(**{"negatives.absolute_margin": 0.5})
    dropped = report(near)["candidates dropped"]
    assert dropped["absolute margin"] > 0
    taught = {"data": scored, "negatives.negatives": "file", "negatives.hard": 2}
    told = report(tune("taught", **taught, **{"negatives.relative_margin": 0.05}))
    assert told["candidates dropped"] == {"relative margin": 60, "right for the query": 0}  # 4.8, above .95 x 5
    assert (told["scores"]["edges"][0], told["scores"]["edges"][-1]) == (-2, 5)
    assert (sum(told["scores"]["positives"]), sum(told["scores"]["negatives"])) == (60, 120)
    with pytest.raises(DataError, match=r"none is left for any query.*180 score within the relative margin"):
        tune("none", **taught, **{"negatives.relative_margin": 5.0})


def test_candidates_with_an_answer_are_dropped(tune, chain, tmp_path):
    queries = tmp_path / "answers"
    queries.mkdir()
    for name in ("corpus.jsonl", "qrels"):
        (queries / name).symlink_to(chain.beir / name)
    records = [json.loads(line) for line in (chain.beir / "queries.jsonl").read_text().splitlines()]
    (queries / "queries.jsonl").write_text("".join(json.dumps(r | {"answers": ["otter"]}) + "\n" for r in records))
    run = [line.split() for line in (chain.retriever / "bm25.trec").read_text().splitlines()]
    otters = sum(document.startswith("otter") and query != f"q:{document}" for query, _, document, *_ in run)
    told = report(tune(data=queries, **{"negatives.drop_answers": True}))
    assert told["candidates dropped"]["answer"] == otters > 0
    with pytest.raises(ConfigError, match=r"--set negatives\.drop_answers: the queries of .* bring no answers"):
        tune("without", **{"negatives.drop_answers": True})


def test_the_best_model_is_left_and_the_last_one_beside_it(tune):
    """A rate that is far too high: what the first steps gained is lost."""
    flags = {"watch.dev": "test", "watch.watch_every": 2, "optimize.steps": 12, "optimize.lr": 0.05}
    out = tune(**flags, **{"loss.temperature": 0.05, "tower.similarity": "cosine"})
    looks = {record["step"]: record["dev_mrr@10"] for record in log(out) if "dev_mrr@10" in record}
    assert list(looks) == [0, 2, 4, 6, 8, 10, 12]
    manifest = read_manifest(out)
    assert manifest is not None
    best = max(looks, key=lambda step: (looks[step], -step))
    assert (manifest.metrics["best_step"], manifest.metrics["best_dev_mrr@10"]) == (best, looks[best])
    assert best < 12
    first, last = (load_file(folder / "model.safetensors") for folder in (out, out / "last"))
    assert any(not torch.equal(value, last[name]) for name, value in first.items())
    assert not (out / "checkpoints").exists()
    given = {"tower.similarity": "cosine", "loss.temperature": 0.05, "optimize.lr": 1e-12, "watch.dev": "test"}
    again = tune("again", model=out, **given, **{"optimize.steps": 1})
    assert log(again)[0]["dev_mrr@10"] == pytest.approx(looks[best])


def test_training_ends_when_looks_find_nothing_better(tune):
    flags = {"watch.dev": "test", "watch.watch_every": 1, "watch.patience": 2, "optimize.lr": 0.0 + 1e-12}
    out = tune(**flags, **{"optimize.steps": 50})
    assert log(out)[-1]["step"] == 2
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.metrics["best_step"], (out / "last").is_dir()) == (0, True)


def test_what_is_trained_on_is_no_dev(tune, chain, tmp_path):
    """A folder with one set of qrels gives it for whatever split is asked."""
    one = tmp_path / "one"
    one.mkdir()
    for name in ("corpus.jsonl", "queries.jsonl"):
        (one / name).write_bytes((chain.beir / name).read_bytes())
    (one / "judged.tsv").write_bytes((chain.beir / "qrels" / "train.tsv").read_bytes())
    (one / "collection.yaml").write_text("passages: corpus.jsonl\nqueries: queries.jsonl\nqrels: judged.tsv\n")
    with pytest.raises(ConfigError, match=r"--dev dev: .*one set of judgements, which is trained on"):
        tune(data=one, **{"watch.dev": "dev"})
    tune(data=one, **{"watch.dev": "test", "watch.dev_data": chain.beir})


def test_a_mistake_after_bm25_leaves_no_folder(tune, tmp_path):
    with pytest.raises(DataError, match="none is left for any query"):
        tune(**{"negatives.negatives": "bm25", "negatives.absolute_margin": 1e6})
    assert not (tmp_path / "out").exists()


def test_two_towers_are_not_made_one(tune):
    two = tune("two", **{"tower.untied": True})
    assert (tune("kept", model=two) / "query").is_dir()
    with pytest.raises(ConfigError, match=r"tower.untied=false: .* two towers"):
        tune("one", model=two, **{"tower.untied": False})


def test_dev_may_be_another_collection(tune, scored, chain):
    flags = {"data": scored, "negatives.negatives": "file", "watch.dev": "test", "watch.dev_data": chain.beir}
    out = tune(**flags, **{"watch.dev_queries": 5, "watch.dev_passages": 7})
    assert {"dev_mrr@10", "dev_recall@100"} <= log(out)[-1].keys()
    manifest = read_manifest(out)
    assert manifest is not None
    assert (out / manifest.inputs["dev"].path).samefile(chain.beir)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"loss.loss": "triplet", "negatives.hard": 0}, "--loss triplet: compares with hard negatives"),
        ({"loss.loss": "kl"}, "--loss kl: needs a teacher's scores; give --negatives file"),
        ({"loss.loss": "pairwise", "loss.symmetric": True}, r"--set loss\.symmetric: is for --loss in-batch"),
        ({"loss.loss": "pairwise", "loss.margin": 0.5}, r"--set loss\.margin: is for --loss triplet"),
        ({"loss.teacher_temperature": 0.5}, r"--set loss\.teacher_temperature: is for --loss kl"),
        ({"watch.patience": 3}, "need --dev"),
        ({"watch.dev": "nosuch"}, "no such split"),
        ({"fraction": 0.0}, "--fraction: got 0.0"),
        ({"negatives.negative_depth": "5:5"}, "--negative-depth 5:5"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_any_work(flags, message, tune, tmp_path):
    with pytest.raises(SeedError, match=message):
        tune(**flags)
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_is_missing_is_missed(tune, tmp_path):
    texts = tmp_path / "triples.tsv"
    texts.write_text("who eats\tthe otter\tthe eel\nwho sings\tthe heron\tthe bison\n")
    flags = {"data": texts, "negatives.negatives": "file", "loss.loss": "margin-mse", "optimize.batch_size": 2}
    with pytest.raises(ConfigError, match=r"--loss margin-mse: needs a teacher's scores .* brings none"):
        tune(**flags)
    with pytest.raises(ConfigError, match=r"--set negatives\.relative_margin: the examples of .* have no scores"):
        tune(**flags | {"loss.loss": "triplet", "negatives.relative_margin": 0.1})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("loss", ["margin-mse", "kl"])
def test_examples_that_a_teacher_scored_in_part_are_told_and_spoil_nothing(loss, tune, scored, tmp_path):
    lines = [json.loads(line) for line in scored.read_text().splitlines()]
    for row, line in enumerate(lines):
        if row % 3 == 0:
            del line["positive_scores"]
        if row % 3 == 1:
            del line["negative_scores"]
    part = tmp_path / "part.jsonl"
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = {"negatives.negatives": "file", "negatives.hard": 2, "loss.loss": loss}
    out = tune(data=part, **flags)
    assert all(np.isfinite(record["loss"]) and np.isfinite(record["gradient_norm"]) for record in log(out))
    assert report(out)["problems"]["examples without a teacher's scores"]["count"] == 40
    assert read_manifest(out).metrics["queries"] == 20  # the others would be steps without a gradient
    for line in lines:
        line.pop("negative_scores", None)
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"no example has a teacher's score of a positive and of a negative"):
        tune("none", data=part, **flags)


def test_answers_of_examples_are_read_or_missed(tune, scored, tmp_path):
    flags = {"negatives.negatives": "file", "negatives.drop_answers": True}
    with pytest.raises(ConfigError, match=r"--set negatives\.drop_answers: the examples of .* bring no answers"):
        tune("missed", data=scored, **flags)
    lines = [json.loads(line) | {"answers": ["otter", "heron"]} for line in scored.read_text().splitlines()]
    told = tmp_path / "told.jsonl"
    told.write_text("".join(json.dumps(line) + "\n" for line in lines))
    held = sum(
        any(animal in text.lower() for animal in ("otter", "heron")) for line in lines for text in line["negatives"]
    )
    assert report(tune(data=told, **flags))["candidates dropped"]["answer"] == held > 0


def test_candidates_that_another_example_calls_right_are_counted(tune, tmp_path):
    lines = [
        ("who eats", "the otter", "the eel"),
        ("who eats", "the eel", "the bison"),
        ("who sings", "the heron", "x"),
    ]
    texts = tmp_path / "triples.tsv"
    texts.write_text("".join("\t".join(line) + "\n" for line in lines))
    out = tune(data=texts, **{"negatives.negatives": "file", "optimize.batch_size": 2})
    assert report(out)["candidates dropped"] == {"right for the query": 1}


def test_advice_is_a_power_of_two_that_fits() -> None:
    """A unit holds ten bytes, beside a hundred."""

    def holds(value: int) -> int:
        return 100 + 10 * value

    assert lower("--chunk", 300, holds, 1_000).startswith("give --chunk 64 in place of 300 (estimate: ")
    assert lower("--chunk", 65, holds, 1_000).startswith("give --chunk 32 in place of 65")
    assert lower("--chunk", 2, holds, 1_000).startswith("give --chunk 1 ")
    assert lower("--chunk", 300, holds, 50).startswith("give --chunk 1 ")  # which may fit, for all we know
    assert lower("--chunk", 1, holds, 50) == "--chunk 1 can't be lower: take shorter texts or a smaller model"


def test_memory_that_gives_out_is_told_with_advice_and_a_bug_is_not() -> None:
    with pytest.raises(SeedError, match="no memory left; give less"), telling_memory("give less"):
        torch.empty(1 << 60)
    with pytest.raises(SeedError, match="no memory left; give less"), telling_memory("give less"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), telling_memory("give less"):
        torch.ones(2, 3) @ torch.ones(2, 3)
