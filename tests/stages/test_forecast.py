"""What stages would take, worked out by hand for a small encoder and for the published settings."""

from typing import Any

import pytest

from seedcli.base.config import resolve
from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.pretrain import PretrainConfig
from seedcli.models.flops import Encoder
from seedcli.stages import forecast
from seedcli.stages.forecast import Model, Part, Reading, Texts

TINY = Encoder(2, 128, 512, 1_000)
BLOCK = 4 * 128**2 + 2 * 128 * 512  # 196,608 weights a layer
MODEL = Model(TINY, query_length=8, passage_length=10)
QUERIES, PASSAGES = Texts(100, 5.0), Texts(1_000, 30.0)
QUERY = 5 * 2 * 2 * (BLOCK + 2 * 5 * 128)  # 3,957,760 operations forward: tokens, layers, two a weight and product
PASSAGE = 10 * 2 * 2 * (BLOCK + 2 * 10 * 128)  # 7,966,720


def finetune(**flags: Any) -> FinetuneConfig:
    given = {"optimize.steps": 30, "optimize.batch_size": 8, **flags}
    return resolve(FinetuneConfig, {"out": "o", "model": "m", "data": "d"}, given, "a test")


def test_texts_are_cut_at_what_a_model_reads():
    assert forecast.query_read(MODEL, Texts(1, 5.5)) == Reading(1, 5.5)
    assert forecast.query_read(MODEL, Texts(1, 50)) == Reading(1, 8)
    assert forecast.passage_read(MODEL, PASSAGES) == Reading(1, 10)


@pytest.mark.parametrize(
    ("tokens", "segments", "overlap", "reading"),
    [
        (10, 4, 0, Reading(1, 10)),
        (11, 4, 0, Reading(2, 11)),
        (30, 4, 0, Reading(3, 30)),
        (99, 4, 0, Reading(4, 40)),
        (11, 4, 2, Reading(2, 13)),  # 1-10, 9-11
        (99, 4, 2, Reading(4, 40)),
        (1, 4, 2, Reading(1, 1)),
    ],
)
def test_a_passage_is_read_in_segments(tokens, segments, overlap, reading):
    model = MODEL._replace(segments=segments, overlap=overlap)
    assert forecast.passage_read(model, Texts(1, tokens)) == reading


def test_pretraining_of_bert_base_takes_the_operations_of_the_specification():
    config = resolve(PretrainConfig, {"out": "o", "text": "t"}, {}, "a test")
    made = forecast.pretraining(config, Encoder(12, 768, 3_072, 30_522))
    assert (made.number, made.tokens) == (1_000_000, 1_000_000 * 256 * 512)
    assert round(made.operations / made.tokens / 1e6) == 856
    assert made.disk == 4 * ((30_522 + 512) * 768 + 12 * 12 * 768**2)


def test_a_step_of_lists_reads_a_query_its_positive_and_its_negatives():
    made = forecast.training(finetune(**{"negatives.hard": 3}), MODEL, QUERIES, PASSAGES)
    assert made.tokens == 30 * 8 * (5 + 4 * 10)
    assert made.operations == pytest.approx(3 * 30 * 8 * (QUERY + 4 * PASSAGE))
    assert made.disk == 4 * (1_512 * 128 + 2 * BLOCK)
    assert made.trained


def test_a_step_of_triples_reads_one_negative_however_many_a_query_has():
    made = forecast.training(finetune(**{"negatives.hard": 20, "loss.loss": "pairwise"}), MODEL, QUERIES, PASSAGES)
    assert made.tokens == 30 * 8 * (5 + 2 * 10)
    assert made.operations == pytest.approx(3 * 30 * 8 * (QUERY + 2 * PASSAGE))


def test_chunks_are_computed_once_more():
    plain, chunked = (
        forecast.training(finetune(**{"optimize.chunk": chunk}), MODEL, QUERIES, PASSAGES) for chunk in (None, 4)
    )
    assert chunked.operations == pytest.approx(plain.operations * 4 / 3)
    assert chunked.tokens == plain.tokens


def test_two_towers_and_a_watched_training_leave_more():
    once = forecast.training(finetune(), MODEL, QUERIES, PASSAGES).disk
    assert forecast.training(finetune(), MODEL._replace(towers=2), QUERIES, PASSAGES).disk == 2 * once
    assert forecast.training(finetune(**{"watch.dev": "dev"}), MODEL, QUERIES, PASSAGES).disk == 2 * once
    assert forecast.training(finetune(), MODEL._replace(head=True), QUERIES, PASSAGES).disk == once + 4 * 128**2


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({}, 18_400),  # DPR: 58,880 questions, 40 times, by 128
        ({"optimize.steps": 7}, 7),
        ({"fraction": 0.1}, 1_840),
        ({"max_queries": 128}, 40),
        ({"loss.loss": "pairwise", "negatives.hard": 20}, 368_000),
        ({"loss.loss": "kl", "negatives.hard": 20}, 18_400),
    ],
)
def test_epochs_pass_over_queries_or_triples(flags, steps):
    config = finetune(**{"optimize.steps": None, "optimize.epochs": 40, "optimize.batch_size": 128} | flags)
    assert forecast.training_steps(config, Texts(58_880, 12)) == steps


def test_a_refresh_encodes_all_passages_and_a_share_of_the_queries_and_searches():
    flags = {"negatives.refresh": 12, "negatives.refresh_share": 0.2, "fraction": 0.5}
    made = forecast.refreshes(finetune(**flags), MODEL, QUERIES, PASSAGES)
    assert (made.unit, made.number, made.beside) == ("refreshes", 3, False)  # before steps 0, 12 and 24
    assert made.tokens == 3 * (1_000 * 10 + 10 * 5)
    assert made.operations == pytest.approx(3 * (1_000 * PASSAGE + 10 * QUERY + 2 * 10 * 1_000 * 128))
    assert forecast.refreshes(finetune(**{"negatives.ance": "async"}), MODEL, QUERIES, PASSAGES).beside


def test_looks_are_taken_before_now_and_then_and_after():
    flags = {"watch.watch_every": 10, "watch.dev_passages": 50, "watch.dev_queries": 7}
    made = forecast.looks(finetune(**flags), MODEL, QUERIES, Texts(9, 5), PASSAGES)
    assert made.number == 4  # at 0, 10, 20 and 30
    assert made.tokens == 4 * (50 * 10 + 7 * 5)
    everything = finetune(**flags | {"watch.dev_passages": None, "watch.dev_queries": None})
    assert forecast.looks(everything, MODEL, QUERIES, Texts(9, 5), PASSAGES).tokens == 4 * (1_000 * 10 + 9 * 5)


def test_encoding_leaves_a_vector_a_segment():
    made = forecast.encoding(MODEL._replace(segments=4), PASSAGES, "passage")
    assert made == Part("passages", 1_000, 30_000, made.operations, 3_000 * (4 * 128 + 24))
    assert made.operations == pytest.approx(3_000 * PASSAGE)
    assert forecast.encoding(MODEL._replace(vectors=8), PASSAGES, "passage").disk == 8_000 * (4 * 128 + 24)
    assert forecast.encoding(MODEL._replace(vectors=8), QUERIES, "query").disk == 100 * (4 * 128 + 24)


def test_exact_search_compares_every_query_with_every_vector():
    made = forecast.searching(MODEL, QUERIES, 3_000, 10)
    assert made.operations == pytest.approx(100 * QUERY + 2 * 100 * 3_000 * 128)
    assert (made.tokens, made.disk) == (500, 48 * 100 * 10)


def test_bm25_takes_disk_alone():
    assert forecast.word_index(PASSAGES) == Part("passages", 1_000, disk=1_000 * 30 * 5 / 2)
    assert forecast.word_searching(QUERIES, 10) == Part("queries", 100, disk=48_000)
    assert forecast.mined(finetune(fraction=0.5), QUERIES, 10) == Part("queries", 50, disk=24_000)
