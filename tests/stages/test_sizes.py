"""Sizes of what a recipe reads: what its own stages will leave, then what is there, then what is expected."""

from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig

from seedcli.base.config import parse_yaml
from seedcli.base.errors import ConfigError
from seedcli.base.progress import Silent
from seedcli.models.flops import Encoder
from seedcli.stages.forecast import Model, Texts
from seedcli.stages.run import read_steps
from seedcli.stages.sizes import SizeError, Sizes, read_expected

RECIPE = """
expect:
  ${SOME_MODEL}: {size: tiny, vocabulary: 1000}
  ${SOME_DATA}: {passages: 7, passage_tokens: 20.5, queries: {train: 3, dev: 2}, query_tokens: 4}
  ${SOME_DATA}/triples.tsv: {passages: 1, passage_tokens: 9}
stages:
  pretrain:
    text: ${SOME_DATA}
    words: {tokenizer: train, vocabulary: 300, length: 32}
    model: {size: mini}
  more: {verb: pretrain, text: "${SOME_DATA}", model: {init: "${SOME_MODEL}"}, words: {length: 128}}
  retriever:
    verb: finetune
    model: ${pretrain}
    data: ${SOME_DATA}
    tower: {head: linear, untied: true, passage_length: 16, segments: 4, segment_overlap: 2, token_vectors: 8}
  again: {verb: finetune, model: "${retriever}", data: "${SOME_DATA}", tower: {query_length: 8, head: none}}
  file: {verb: finetune, model: "${SOME_MODEL}", data: "${SOME_DATA}", negatives: {negatives: file}}
"""


@pytest.fixture(autouse=True)
def unset(monkeypatch, tmp_path) -> None:
    for name in ("SOME_MODEL", "SOME_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def sizes(text: str = RECIPE) -> Sizes:
    recipe: Any = parse_yaml(text, "r.yaml")
    steps = read_steps(recipe, Path("out"), {}, "r.yaml", {})
    return Sizes({str(step.config.out): step for step in steps}, read_expected(recipe, "r.yaml"), Silent())


def test_what_is_not_there_is_as_the_recipe_expects_it():
    found = sizes()
    assert found.passages("${SOME_DATA}") == Texts(7, 20.5)
    assert found.passages("${SOME_DATA}/triples.tsv") == Texts(1, 9)
    assert found.queries("${SOME_DATA}", "dev") == Texts(2, 4)
    assert found.queries("${SOME_DATA}", None) == Texts(5, 4)
    assert found.model("${SOME_MODEL}") == Model(Encoder(2, 128, 512, 1_000), 64, 256)


def test_what_is_there_counts(beir, monkeypatch):
    """Of the collection's texts, with five characters a token, and [CLS] and [SEP]."""
    monkeypatch.setenv("SOME_DATA", str(beir))
    found = sizes()
    passages = found.passages(str(beir))
    assert passages.number == 60
    assert 10 < passages.tokens < 30
    assert found.queries(str(beir), "train").number == 40
    assert found.queries(str(beir), "test").number == 20
    train = found.trained(found.config("out/file"))
    assert train == Texts(3, 4)  # examples of a file are expected


def test_a_name_that_only_a_download_would_tell_of_is_expected():
    recipe = RECIPE.replace("${SOME_DATA}: {pass", '"irds:nowhere": {pass').replace("${SOME_MODEL}:", "some/name:")
    found = sizes(recipe)
    assert found.passages("irds:nowhere") == Texts(7, 20.5)
    assert found.model("some/name").encoder == Encoder(2, 128, 512, 1_000)


def test_models_are_followed_through_the_stages_that_make_them():
    found = sizes()
    mini = Encoder(4, 256, 1_024, 300)
    assert found.model("out/pretrain") == Model(mini, 32, 32)
    assert found.model("out/more") == Model(Encoder(2, 128, 512, 1_000), 64, 128)
    assert found.model("out/retriever") == Model(mini, 32, 16, 4, 2, 8, 2, True)
    assert found.model("out/again") == Model(mini, 8, 16, 4, 2, 8, 2, False)


def test_a_model_that_is_there_is_read(tmp_path):
    config = BertConfig(
        vocab_size=211, hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=40,
    )  # fmt: skip
    config.save_pretrained(tmp_path / "made")
    found = sizes().model(str(tmp_path / "made"))
    assert found.encoder == Encoder(3, 64, 96, 211)
    assert found.passage_length == 40


def test_a_model_that_a_stage_will_make_anew_is_what_it_will_be(tmp_path):
    config = BertConfig(vocab_size=211, hidden_size=64, num_hidden_layers=3, num_attention_heads=2)
    config.save_pretrained(tmp_path / "out" / "pretrain")
    assert sizes().model("out/pretrain").encoder == Encoder(4, 256, 1_024, 300)


@pytest.mark.parametrize(
    ("look", "told"),
    [
        (lambda found: found.passages("nowhere"), "how many passages nowhere has"),
        (lambda found: found.queries("nowhere", "dev"), "how many queries nowhere has in dev"),
        (lambda found: found.queries("${SOME_DATA}", "test"), r"how many queries \$\{SOME_DATA\} has in test"),
        (lambda found: found.model("some/other"), "what size the model some/other has"),
    ],
)
def test_what_nothing_tells_is_named(look, told):
    with pytest.raises(SizeError, match=told):
        look(sizes())


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("{a: {passage: 7}}", "r.yaml: expect: a: no option passage: did you mean passages?"),
        ("{a: {passages: many}}", "r.yaml: expect: a: passages: got 'many'"),
        ("{a: {queries: {train: 0}}}", "r.yaml: expect: a: queries: got"),
        ("{a: {size: large}}", "r.yaml: expect: a: size: got 'large'"),
        ("{a: 7}", "r.yaml: expect: names sources, each with a mapping such as {passages: 1000}"),
        ("[a]", "r.yaml: expect: names sources"),
    ],
)
def test_a_mistake_in_what_is_expected_is_told(expect, message):
    with pytest.raises(ConfigError) as raised:
        read_expected({"expect": parse_yaml(expect, "r.yaml")}, "r.yaml")
    assert str(raised.value).startswith(message)
