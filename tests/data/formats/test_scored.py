"""Examples with a teacher's scores, in the layouts that circulate; broken ones are named with their line."""

import json
from pathlib import Path

import numpy as np
import pytest

from seedcli.base.errors import DataError
from seedcli.data.formats import dpr, fields, msmarco
from seedcli.data.formats.files import readers_of
from seedcli.data.formats.scored import read_scored_lists, read_scored_triples
from seedcli.data.records import Example, Passage, Query
from seedcli.data.sources import open_collection


def text(words: str) -> Passage:
    return Passage("", "", words)


def test_scores_stand_before_a_triple_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "ensemble.tsv"
    path.write_text("9.25\t-3.5\t400296\t1540783\t3518497\n1e1\t0.5\t662731\t193249\t2975302\n")
    assert list(open_collection(path).examples("train")) == [
        Example("400296", ("1540783",), ("3518497",), (9.25,), (-3.5,)),
        Example("662731", ("193249",), ("2975302",), (10.0,), (0.5,)),
    ]


def test_scores_stand_before_a_triple_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text("9.25\t-3.5\twho eats\tthe otter\tthe eel\n1.0\t2.0\twhy\tbecause\tnot\n")
    assert list(open_collection(path).examples("train")) == [
        Example(Query("", "who eats"), (text("the otter"),), (text("the eel"),), (9.25,), (-3.5,)),
        Example(Query("", "why"), (text("because"),), (text("not"),), (1.0,), (2.0,)),
    ]


def test_lists_of_ids_and_scores_begin_with_the_positive(tmp_path: Path) -> None:
    path = tmp_path / "examples.json"
    path.write_text('[7, [19, 0.5], [23, -1], [4, 2.5]]\n["q8", ["p1", 3], ["p2", 1e-3]]\n')
    assert list(open_collection(path).examples("train")) == [
        Example("7", ["19"], ["23", "4"], (0.5,), (-1.0, 2.5)),
        Example("q8", ["p1"], ["p2"], (3.0,), (0.001,)),
    ]


def test_records_bring_scores_in_fields_of_their_own_or_in_their_passages(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    records = [
        {"query": "q", "pos": ["a"], "neg": ["b", "c"], "pos_scores": [0.9], "neg_scores": [0.5, -1]},
        {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": 2, "neg_scores": 1.5},
        {"query": "q", "pos": [{"text": "a", "score": 3}], "neg": [{"text": "b", "score": 0.25}]},
        {"query": "q", "pos": ["a"], "neg": ["b"]},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = [(given.positive_scores, given.negative_scores) for given in open_collection(path).examples("train")]
    assert found == [((0.9,), (0.5, -1)), ((2,), (1.5,)), ((3,), (0.25,)), ((), ())]


def test_passages_without_a_score_beside_others_have_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    wrong = [{"text": "b", "score": 0.25}, {"text": "c"}, {"text": "d", "score": "high"}]
    path.write_text(json.dumps({"query": "q", "pos": [{"text": "a", "score": "sure"}], "neg": wrong}))
    (found,) = fields.read_examples(path)
    assert found.positive_scores == ()
    assert found.negative_scores[0] == 0.25
    assert np.isnan(found.negative_scores[1:]).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("9.5\tnan\tq\tp\tn", r":2: the score 'nan' is not a number"),
        ("9.5\tq\tp\tn", r":2: expected 'score TAB score TAB query TAB positive TAB negative', got '9.5"),
        ("9.5\t1.0\tq\tp\tn m", r":2: expected three ids after the scores"),
        ("inf\t1.0\tq\tp\tn", r":2: the score 'inf' is not a number"),
    ],
)
def test_a_broken_triple_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"1.0\t2.0\tq\tp\tn\n{line}\n")
    with pytest.raises(DataError, match=rf"a\.tsv{message}"):
        list(read_scored_triples(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('["q", ["p", 1]]', "expected a query, its positive and some negatives"),
        ('["q", ["p", 1], ["n"]]', r"expected \[query, \[passage, score\], ...\], got"),
        ('["q", ["p", 1], ["n", "high"]]', "the score 'high' is not a number"),
        ('["q", ["p", 1], ["n", true]]', "the score True is not a number"),
        ('[["q"], ["p", 1], ["n", 2]]', "expected a query, its positive"),
        ('{"q": 1}', "expected a query, its positive"),
        ('["q", ["p", 1], ["n", 2]', r"expected \[query"),
        ("[" * 100_000, r"expected \[query"),
    ],
)
def test_a_broken_list_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'["q", ["p", 1], ["n", 2]]\n{line}\n')
    with pytest.raises(DataError, match=rf"a\.jsonl:2: {message}"):
        list(read_scored_lists(path))


@pytest.mark.parametrize("scores", [{"neg_scores": [1]}, {"pos_scores": []}, {"neg_scores": ["x", 1]}])
def test_scores_that_do_not_fit_their_passages_are_named(scores: object, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    record = {"query": "q", "pos": ["a"], "neg": ["b", "c"], "pos_scores": [1], "neg_scores": [1, 2]}
    path.write_text(json.dumps(record) + "\n" + json.dumps({**record, **scores}) + "\n")  # type: ignore[dict-item]
    if scores == {"pos_scores": []}:  # the same as none
        assert [given.positive_scores for given in fields.read_examples(path)] == [(1,), ()]
        return
    with pytest.raises(
        DataError, match=r"a\.jsonl:2: (1 scores, and 2 passages in 'neg'|the score 'x' is not a number)"
    ):
        list(fields.read_examples(path))


def test_files_without_scores_are_told_apart(tmp_path: Path) -> None:
    for name, line, reader in (
        ("a.tsv", "7\t8\t9", msmarco.read_triples),
        ("b.json", '[{"question": "q", "positive_ctxs": []}]', dpr.read_examples),
        ("c.json", "[", dpr.read_examples),
        ("d.tsv", "1.5\t2\t7\t8\t9", None),
    ):
        (tmp_path / name).write_text(f"{line}\n")
        assert readers_of(tmp_path / name).examples == reader
