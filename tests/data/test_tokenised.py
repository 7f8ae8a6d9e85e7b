"""Texts on disk as a model reads them."""

from pathlib import Path

import numpy as np

from seedcli.data.ids import fingerprint
from seedcli.data.records import Passage, Query
from seedcli.data.templates import render
from seedcli.data.tokenised import TextWriter, open_texts, write_texts
from seedcli.data.tokenizer import BATCH, Tokenizer

TEMPLATE = "{title} [SEP] {text}"


def test_tokens_are_those_of_the_texts_that_the_template_writes(
    wordpiece: Tokenizer, texts: list[str], tmp_path: Path
) -> None:
    passages = [Passage(f"p{row}", f"part {row}", text) for row, text in enumerate(texts * 25)]
    assert len(passages) > BATCH  # more than are handed over at a time
    found = write_texts(tmp_path, iter(passages), TEMPLATE, wordpiece, 9)
    rendered = [render(TEMPLATE, passage) for passage in passages]
    assert [row.tolist() for row in found.tokens] == [ids.tolist() for ids in wordpiece.encode(rendered, 9)]
    assert found.tokens.values.dtype == "uint16"
    assert found.ids.rows(["p0", "p1001", "p1499", "p1500"]).tolist() == [0, 1001, 1499, -1]
    assert found.numbers.tolist() == [fingerprint(text) for text in rendered]


def test_equal_texts_share_a_number_whatever_fields_they_come_from(wordpiece: Tokenizer, tmp_path: Path) -> None:
    passages = [
        Passage("a", "", "the otter eats"),
        Passage("b", "the", "otter eats"),
        Passage("c", "the otter", "eats", url="elsewhere"),
        Passage("d", "The", "otter eats"),  # the same tokens, yet another text
    ]
    a, b, c, d = write_texts(tmp_path / "1", passages, "{title} {text}", wordpiece, 16).numbers.tolist()
    assert a == b == c != d
    titles = write_texts(tmp_path / "2", passages, "{title}", wordpiece, 16).numbers.tolist()
    assert len(set(titles)) == 4


def test_texts_that_differ_where_they_are_cut_off_have_different_numbers(wordpiece: Tokenizer, tmp_path: Path) -> None:
    queries = [Query("a", "the otter eats trout"), Query("b", "the otter eats moths")]
    found = write_texts(tmp_path, queries, "{text}", wordpiece, 4)
    assert found.tokens[0].tolist() == found.tokens[1].tolist()
    assert found.numbers[0] != found.numbers[1]


def test_queries_that_say_nothing_share_no_number(wordpiece: Tokenizer, tmp_path: Path) -> None:
    """Readers of MIND without a history: what one of them clicks on would else be right for all."""
    asked = [Query("1", ""), Query("2", " "), Query("3", "an otter"), Query("4", "an otter")]
    first, second, *rest = write_texts(tmp_path / "1", asked, "query: {text}", wordpiece, 8).numbers.tolist()
    assert [first, second] == [fingerprint("1"), fingerprint("2")]
    assert rest == [fingerprint("query: an otter")] * 2
    empty = [Passage("1", "", ""), Passage("2", "", "")]  # which the model can't tell apart
    assert write_texts(tmp_path / "2", empty, "{text}", wordpiece, 8).numbers.tolist() == [fingerprint("")] * 2


def test_what_is_written_opens_again(wordpiece: Tokenizer, tmp_path: Path) -> None:
    made = write_texts(tmp_path / "new" / "folder", [Query("q", "the heron"), Query("r", "")], "{text}", wordpiece, 8)
    again = open_texts(tmp_path / "new" / "folder")
    assert [row.tolist() for row in again.tokens] == [row.tolist() for row in made.tokens]
    assert again.tokens[1].tolist() == [*wordpiece.prefix, *wordpiece.suffix]
    assert again.ids.rows(["r"]).tolist() == [1]
    assert np.array_equal(again.numbers, made.numbers)


def test_no_texts_are_texts(wordpiece: Tokenizer, tmp_path: Path) -> None:
    found = write_texts(tmp_path, [], "{text}", wordpiece, 8)
    assert (len(found.tokens), len(found.numbers), len(found.ids)) == (0, 0, 0)
    assert found.ids.rows(["q"]).tolist() == [-1]


def test_a_writer_gives_the_numbers_and_counts_its_rows(wordpiece: Tokenizer, tmp_path: Path) -> None:
    with TextWriter(tmp_path, wordpiece, 8) as writer:
        assert writer.rows == 0
        first = writer.extend(["a", "b"], ["one otter", "two herons"])
        assert writer.extend([], []).tolist() == []
        assert writer.rows == 2
        second = writer.extend(["c"], ["one otter"])
    assert first[0] == second[0] != first[1]
    assert open_texts(tmp_path).numbers.tolist() == [*first, *second]
