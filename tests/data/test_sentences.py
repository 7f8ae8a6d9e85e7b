"""Where sentences begin and end in texts of several scripts, and which words they share with a question."""

import math
import time

import pytest

from seedcli.data.sentences import LONGEST, sentences, shared_words, words


def parts(text: str) -> list[str]:
    return [text[begin:end] for begin, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("otter", ["otter"]),
        ("An otter dives.  It comes up! Does it? Yes", ["An otter dives.", "It comes up!", "Does it?", "Yes"]),
        ('He said "dive." It dived. (All of it.) Then', ['He said "dive."', "It dived.", "(All of it.)", "Then"]),
        ("Dr. J. Smith et al. saw 3.5 m, e.g. Ed. No.", ["Dr. J. Smith et al. saw 3.5 m, e.g. Ed.", "No."]),
        ("It weighs approx. nine kilograms. 12 live.", ["It weighs approx. nine kilograms.", "12 live."]),
        ("A heading\n\nA paragraph\nover lines. \r\n\r\n", ["A heading", "A paragraph\nover lines."]),
        ("水獺潛水。牠上來了！「對。」是嗎？是", ["水獺潛水。", "牠上來了！", "「對。」", "是嗎？", "是"]),
        ("Выдра ныряет. Она всплыла.", ["Выдра ныряет.", "Она всплыла."]),
        ("What?! No... and on… Yes.", ["What?!", "No... and on…", "Yes."]),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


def test_a_long_sentence_is_cut_at_blanks_and_nothing_is_lost() -> None:
    text = "  " + "word " * 200 + "end."
    assert all(len(part) <= LONGEST for part in parts(text))
    assert " ".join(parts(text)) == text.strip()
    assert max(len(part) for part in parts(text)) > LONGEST - 6


def test_a_text_without_blanks_is_cut_where_it_must_be() -> None:
    assert list(map(len, parts("獺" * 700))) == [300, 300, 100]
    assert "".join(parts("x" * 601)) == "x" * 601


def test_a_book_without_an_end_takes_no_time() -> None:
    began = time.process_time()
    assert len(parts("word\n" * 200_000)) > 3_000
    assert len(parts("\n" * 1_000_000)) == 0
    assert len(parts("a. " * 100_000)) > 1
    assert time.process_time() - began < 20  # seconds of a processor; with time that grows as a square, minutes


def test_words_are_compared_without_case_and_common_endings() -> None:
    assert list(words("Cells REPAIRED; the naïve 水獺 x2")) == ["cell", "repair", "the", "naïv", "水", "獺", "x2"]
    pairs = ["studies study", "causing causes", "disease diseases", "eating eats", "quickly quick", "swimmers swimmer"]
    for pair in pairs:
        first, second = words(pair)
        assert first == second, pair


def test_a_word_counts_by_how_few_texts_have_it() -> None:
    found = shared_words("Which cells heal cells", ["a cell heals", "cells, cell", "nothing"])
    assert found == pytest.approx([math.log(1 + 3 / 2) + math.log(1 + 3), math.log(1 + 3 / 2), 0])
    assert shared_words("what", []) == []
    assert shared_words("", ["a"]) == [0]
