"""The Python API: what README shows runs, the functions do what the commands do, and type checkers know the options."""

import gc
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import seedcli as seed
import seedcli.console  # now: it chooses its colours when imported, and a test below plays the terminal
from seedcli.api import keywords
from seedcli.base.config import options
from seedcli.configs import VERBS
from seedcli.retrieval.run_files import read_run

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("## The same from Python\n")[1].split("\n## ")[0]
CHAIN, TEXTS = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
SMALL = {'"mini"': '"tiny"', "length=128": "length=32", "steps=20_000": "steps=2", "steps=500": "steps=2"}
QUESTION = "where does the otter live"


def lines(code: str) -> list[str]:
    return [line for line in code.splitlines() if line.strip()]


@pytest.mark.slow
def test_the_chain_of_the_readme_runs_in_ten_lines(beir, tmp_path, monkeypatch, perform, capsys):
    code = CHAIN
    for written, small in SMALL.items():
        assert code.count(written) == 1
        code = code.replace(written, small)
    (tmp_path / "scifact").symlink_to(beir)
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), made)
    assert len(lines(CHAIN)) == 10
    assert capsys.readouterr().out == (tmp_path / "report" / "report.md").read_text() + "\n"
    assert made["report"].means.keys() == {"dense", "fused"}
    again = perform("index", kind="flat", vectors="vectors", out="flat")  # as the command would: it finds this done
    assert again == made["flat"].manifest


def test_search_over_texts_takes_five_lines(capsys):
    exec(compile(TEXTS, "README.md", "exec"), {})
    assert len(lines(TEXTS)) <= 5
    assert re.fullmatch(r"0\.\d\d  Trout swim upstream\.\n", capsys.readouterr().out)


def test_functions_leave_what_the_commands_leave(chain, tmp_path):
    """The same folders, to the byte; a result is given where a folder is expected."""
    vectors = seed.encode(
        model=chain.retriever, corpus=chain.beir, out=tmp_path / "vectors", options={"shard_size": 16}
    )
    flat = seed.index(vectors=vectors, out=tmp_path / "flat")
    dense = seed.search(index=[flat], queries=chain.beir, split="test", depth=20, out=tmp_path / "found")
    words = seed.search(index=chain.words, queries=chain.beir, split="test", depth=20, out=tmp_path / "words")
    report = seed.evaluate(
        runs={"bm25": words, "dense": dense}, qrels=chain.beir, baseline="bm25", examples=2, out=tmp_path / "report"
    )
    for result, folder in [(vectors, chain.vectors), (flat, chain.flat), (dense, chain.found), (report, chain.report)]:
        assert result.manifest.identity == seed.Result(folder).manifest.identity
        outputs = (made.manifest.outputs.items() for made in (result, seed.Result(folder)))
        one, other = (dict(item for item in each if item[0] != "report.html") for each in outputs)
        assert one == other  # the page tells the folders' names


def test_a_finished_folder_is_left_as_it_is_and_another_plan_is_refused(chain, tmp_path, listing):
    given = {"index": chain.words, "queries": chain.beir, "split": "test", "out": tmp_path / "found"}
    seed.search(depth=3, **given)
    before = listing(tmp_path)
    seed.search(depth=3, **given)
    assert listing(tmp_path) == before
    with pytest.raises(seed.FolderError, match=r"depth was 3, now 4"):
        seed.search(depth=4, **given)
    assert len(seed.search(depth=4, overwrite=True, **given).ranking("q:otter-diet").documents) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lrr": 1e-3}, r"seed\.finetune: no option lrr: did you mean lr\?"),
        ({"batchsize": 4}, r"seed\.finetune: no option batchsize: did you mean batch_size\?"),
        ({"beta2": 0.9}, r"beta2 is one of the rare options: give options={'optimize\.beta2': \.\.\.}"),
        ({"options": {"optimize.beta3": 0.9}}, r"no option optimize\.beta3: did you mean beta2\?"),
        ({"steps": "many"}, r"--steps: got 'many'; it should be a valid integer"),
        ({"lr": True}, r"--lr: got True; it should be a valid number"),
        ({"lr": -1}, r"--lr: got -1; it should be greater than 0"),
        ({"steps": object()}, r"--steps: <object .*> can't be read as INTEGER"),
        ({"data": None}, r"--data: got None; it should be a valid string"),
    ],
)
def test_a_wrong_option_is_told_as_by_the_command(tmp_path, given, message):
    with pytest.raises(seed.ConfigError, match=message):
        seed.finetune(**{"model": "m", "data": "d", "out": tmp_path / "out"} | given)


def test_a_prompt_is_for_the_command_alone():
    with pytest.raises(seed.ConfigError, match=r"seed\.search: no option interactive"):
        seed.search(index=["i"], queries="q", out="o", interactive=True)


def test_a_missing_option_is_told():
    with pytest.raises(seed.ConfigError, match="--out is missing"):
        seed.finetune(model="m", data="d")
    with pytest.raises(seed.ConfigError, match="--queries and --out"):
        seed.search(index=["i"], queries="q")


@pytest.mark.parametrize("verb", VERBS)
def test_a_keyword_names_one_option(verb):
    leaves = [option.key.rsplit(".", 1)[-1] for option in options(VERBS[verb])]
    assert len({*leaves, *keywords.MANNER}) == len(leaves) + len(keywords.MANNER)
    assert all(leaf.isidentifier() for leaf in leaves)


def test_an_index_answers_what_a_run_holds(chain):
    index, run = seed.open_index(chain.flat), read_run(chain.found / "run.trec")
    queries = {record["_id"]: record["text"] for record in records(chain.beir / "queries.jsonl")}
    passages = {record["_id"]: record for record in records(chain.beir / "corpus.jsonl")}
    found = index.search([queries[query] for query in run.queries], depth=5)
    for query, hits in zip(run.queries, found, strict=True):
        documents, scores = run.ranking(query)
        assert [hit.id.encode() for hit in hits] == documents[:5].tolist()
        assert [hit.score for hit in hits] == pytest.approx(scores[:5].tolist(), abs=1e-6)
        assert [(hit.title, hit.text) for hit in hits] == [
            (passages[hit.id]["title"], passages[hit.id]["text"]) for hit in hits
        ]
    assert index.search([]) == []
    assert len(index.search(QUESTION)) == 10


def test_a_model_and_an_index_are_loaded_once(chain, monkeypatch):
    index, model = seed.open_index(chain.flat), seed.open_model(chain.retriever)
    before = index.search(QUESTION), model.encode(["otter"], "query")
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", None)
    monkeypatch.setattr("seedcli.stages.vector_index.open_shards", None)
    assert index.search(QUESTION) == before[0]
    assert np.array_equal(model.encode("otter", "query"), before[1])


def test_the_java_process_of_bm25_stays_for_all_questions(chain):
    index = seed.open_index(chain.words)

    def process(index: Any) -> Any:
        return index._asking.searcher.indexes[0].lucene.child.process

    ten = index.search(QUESTION, depth=10)
    first = process(index)
    assert index.search(QUESTION, depth=2) == ten[:2]
    assert index.search([QUESTION, "zzz"], depth=10) == [ten, []]
    assert process(index) is first
    assert index.search(QUESTION, depth=12)[:10] == ten
    assert process(index) is first
    assert first.poll() is None
    index.close()
    assert first.poll() is not None
    assert index.search(QUESTION, depth=10) == ten
    last = process(index)
    del index
    gc.collect()
    assert last.poll() is not None


@pytest.mark.parametrize("depth", [0, -1])
def test_a_question_without_words_or_depth_is_refused(chain, depth):
    index = seed.open_index(chain.flat)
    with pytest.raises(seed.ConfigError, match="empty"):
        index.search(["otter", " "])
    with pytest.raises(seed.ConfigError, match="at least 1"):
        index.search("otter", depth=depth)


def test_fused_indexes_answer_what_their_run_holds(chain, tmp_path):
    fusion = seed.fuse(chain.words, seed.open_index(chain.flat), k=10, depth=20)
    run = seed.search(
        index=[chain.words, chain.flat], queries=chain.beir, split="test", depth=7, out=tmp_path / "fused",
        options={"fusion_k": 10, "fusion_depth": 20},
    )  # fmt: skip
    _, documents, scores = run.ranking("q:otter-diet")
    hits = fusion.search("what does the otter eat", depth=7)
    assert [hit.id for hit in hits] == documents
    assert [hit.score for hit in hits] == scores.tolist()
    fusion.close()
    weighed = seed.fuse(chain.words, chain.flat, method="min-max", weights=[1, 0])
    alone = seed.open_index(chain.words).search("what does the otter eat", depth=2)
    assert [hit.id for hit in weighed.search("what does the otter eat", depth=2)] == [hit.id for hit in alone]
    weighed.close()
    with pytest.raises(seed.ConfigError, match="no index"):
        seed.fuse()
    with pytest.raises(seed.ConfigError, match="--weight: 1 for 2 indexes"):
        seed.fuse(chain.words, chain.flat, weights=[1]).search("what does the otter eat")
    with pytest.raises(seed.ConfigError, match="fusion_k: got -1"):
        seed.fuse(chain.words, k=-1)


def test_a_model_encodes_what_the_stage_encodes(chain):
    passages = records(chain.beir / "corpus.jsonl")
    vectors, model = seed.open_vectors(chain.vectors), seed.open_model(chain.retriever)
    assert vectors.ids() == [passage["_id"] for passage in passages]
    expected = model.encode([f"{passage['title']} {passage['text']}" for passage in passages], "passage")
    np.testing.assert_allclose(vectors.array(), expected, atol=1e-5)


def test_a_run_is_its_rankings(chain):
    run, expected = seed.open_run(chain.found), read_run(chain.found / "run.trec")
    assert [ranking.query for ranking in run] == expected.queries
    for ranking in run:
        documents, scores = expected.ranking(ranking.query)
        assert run.ranking(ranking.query).documents == [document.decode() for document in documents]
        assert ranking.scores.tolist() == run.ranking(ranking.query).scores.tolist() == scores.tolist()
    assert run.ranking("nobody asked").documents == []


def test_a_report_tells_its_numbers(chain):
    report = seed.open_report(chain.report)
    summary = json.loads((chain.report / "report.json").read_text())["runs"]
    assert report.means["dense"]["mrr@10"] == summary["dense"]["means"]["mrr@10"]
    assert report.p_values == {"dense": summary["dense"]["p_values"]}
    assert report.corrected == {"dense": summary["dense"]["corrected"]}
    assert [(test["system"], test["measure"]) for test in report.tests] == [
        ("dense", name) for name in report.corrected["dense"]
    ]
    assert str(report) == (chain.report / "report.md").read_text()


@pytest.mark.parametrize("opener", [seed.open_vectors, seed.open_index, seed.open_run, seed.open_report, seed.fuse])
def test_a_folder_of_another_verb_is_refused(chain, tmp_path, opener):
    with pytest.raises(seed.FolderError, match="a folder of seed finetune, where one of seed"):
        opener(chain.retriever)
    with pytest.raises(seed.DataError, match=r"no manifest\.json"):
        opener(tmp_path)


def test_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(seed.DataError, match="no such model folder"):
        seed.open_model(tmp_path / "none")
    with pytest.raises(seed.DataError, match="no model in it"):
        seed.open_model(tmp_path).encode("text", "query")
    with pytest.raises(seed.ConfigError, match="role: got 'doc'; it should be 'query' or 'passage'"):
        seed.open_model(tmp_path).encode("text", "doc")
    with pytest.raises(seed.ConfigError, match="gpu"):
        seed.open_model(tmp_path, device="gpu")


def test_texts_come_in_three_forms():
    index = seed.index_texts(["one owl", ("b", "two owls"), {"id": 7, "title": "Owls", "text": "three", "year": 1999}])
    assert {(hit.id, hit.title, hit.text) for hit in index.search("owls")} == {
        ("0", "", "one owl"),
        ("b", "", "two owls"),
        ("7", "Owls", "three"),
    }


def test_texts_are_found_by_their_vectors_and_leave_nothing(chain, texts):
    index = seed.index_texts((text for text in texts), model=chain.retriever)
    model = seed.open_model(chain.retriever)
    scores = model.encode(texts, "passage") @ model.encode(QUESTION, "query")[0]
    assert index.search(QUESTION, depth=1)[0].text == texts[int(scores.argmax())]
    folder = Path(index).parent
    assert folder.is_dir()
    del index
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "texts: none given"),
        (["a", None], r"texts\[1\]: got None; expected a str, a pair"),
        ([("a", "b", "c")], r"texts\[0\]: got \('a', 'b', 'c'\)"),
        ([{"id": "a"}], r"texts\[0\]: its text is None; expected a str"),
        ([("a", 5)], r"texts\[0\]: its text is 5; expected a str"),
        ([("1", "a"), "b"], r"texts\[1\]: the id '1' stands twice"),
    ],
)
def test_what_is_no_text_is_told_by_its_place(texts, message):
    with pytest.raises(seed.DataError, match=message):
        seed.index_texts(texts)


class Told:
    """A Progress that remembers what it is told, in words."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self.heard.append(name)
        return getattr(seed.Silent(), name)


def test_work_is_told_to_who_asks_and_on_a_terminal(chain, tmp_path, capfd, monkeypatch):
    given = {"index": chain.flat, "queries": chain.beir, "split": "test"}
    seed.search(out=tmp_path / "quiet", **given)
    told = Told()
    seed.search(out=tmp_path / "told", progress=told, **given)
    assert "track" in told.heard
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    seed.search(out=tmp_path / "screen", **given)
    assert "search" in capfd.readouterr().err


def test_a_recipe_gives_its_stages_results(chain, tmp_path, listing):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"stages:\n  words: {{verb: index, kind: bm25, corpus: {chain.beir}}}\n"
        f"  search: {{index: ['${{words}}'], queries: {chain.beir}, split: test, depth: 5}}\n"
    )
    made = seed.run(recipe, out=tmp_path / "out", options={"search.depth": 3})
    assert [(name, type(result)) for name, result in made.items()] == [("words", seed.Index), ("search", seed.Run)]
    assert {len(ranking.documents) for ranking in made["search"]} == {3}
    before = listing(tmp_path)
    assert seed.run(recipe, out=tmp_path / "out", options={"search.depth": 3}) == made
    assert listing(tmp_path) == before
    assert list(seed.run(recipe, out=tmp_path / "out", until="words")) == ["words"]
    with pytest.raises(seed.ConfigError, match="no such stage"):
        seed.run(recipe, only="encode")


def test_what_the_package_offers_is_there():
    assert set(seed.__all__) <= set(dir(seed))
    assert all(getattr(seed, name) for name in seed.__all__)
    with pytest.raises(AttributeError, match="no attribute 'finetun'"):
        seed.finetun  # noqa: B018
    folder = Path(seed.__file__).parent
    assert (folder / "py.typed").is_file()


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stub", ROOT / "scripts" / "stub.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_type_checkers_know_the_options_of_today():
    made = generator()
    assert made.STUB.read_text(encoding="utf-8") == made.stub(), "an option has changed: python scripts/stub.py"


RIGHT = """
import seedcli as seed
model: seed.Model = seed.finetune(model="m", data="d", steps=5, negatives="bm25", lr=1, out="o")
vectors: seed.Vectors = seed.encode(model=model, corpus="c", out="o", options={"shard_size": 1})
run: seed.Run = seed.search(index=[seed.index(vectors=vectors, out="o"), "words"], queries="q", out="o")
report: seed.Report = seed.evaluate(runs={"a": run}, qrels="q", out="o")
seed.evaluate(runs=[run, "b=c"], qrels="q", out="o")
one: list[seed.Hit] = seed.index_texts(["a", ("b", "c"), {"text": "d"}]).search("question")
many: list[list[seed.Hit]] = seed.fuse("a", "b").search(["question"])
"""
WRONG = [
    'seed.finetune(model="m", data="d", out="o", batchsize=3)',
    'seed.finetune(model="m", data="d", out="o", steps="5")',
    'seed.finetune(model="m", data="d", out="o", pooling="max")',
    'seed.finetune(model="m", data="d")',
    'seed.search(index=["a"], queries="q")',
    'seed.encode(model=5, corpus="c", out="o")',
    'seed.Model("m").encode(["text"])',
    "seed.index_texts([5])",
]


def test_mypy_passes_what_is_right_and_flags_what_is_wrong(tmp_path):
    """Of all imports, only the API's own modules are followed: the rest costs half a minute."""
    api = pytest.importorskip("mypy.api")
    program, package = tmp_path / "program.py", Path(seed.__file__).parent
    program.write_text(RIGHT + "\n".join(WRONG) + "\n")
    followed = [package / "__init__.pyi", *sorted((package / "api").glob("*.py")), package / "retrieval" / "hits.py"]
    flags = ["--strict", "--follow-imports=skip", f"--cache-dir={tmp_path / 'cache'}", "--config-file="]
    text, _, _ = api.run([*flags, str(program), *map(str, followed)])
    first = len(RIGHT.splitlines()) + 1
    flagged = {int(line) for line in re.findall(r"program\.py:(\d+): error", text)}
    assert flagged == {first + row for row in range(len(WRONG))}, text


def records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_texts_from_outside_yield_no_separator_and_no_traceback(chain):
    model = seed.open_model(chain.retriever)
    np.testing.assert_array_equal(model.encode("the\x1eotter", "query"), model.encode("the otter", "query"))
    assert model.encode("caf\udce9", "passage").shape == (1, 128)  # half a letter, as argv gives it
