"""Answers in passages: what a token is, by pencil and by the category of each character, and whole tokens in a row."""

from unicodedata import category, normalize

import numpy as np
import pytest

from seedcli.data.answers import answer_tokens, holds_answer


def holds(passage: str, *answers: str) -> bool:
    return holds_answer(answer_tokens(passage), map(answer_tokens, answers))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Born in the U.S.", "born in the u . s ."),
        ("rock-n-roll", "rock - n - roll"),
        ("$3.50, or 50%", "$ 3 . 50 , or 50 %"),
        ("“It’s”", "“ it ’ s ”"),
        ("snake_case", "snake _ case"),
        ("caf\u00e9", "cafe\u0301"),  # a mark belongs to the run of letters
        ("\u0301a", "\u0301a"),
        ("½ x² Ⅷ", "½ x² ⅷ"),  # numbers that are no digits
        ("ΟΔΟΣ", "οδος"),
        ("東京都は、", "東京都は 、"),
        ("한", "\u1112\u1161\u11ab"),
        ("so 👍🏽!", "so 👍 🏽 !"),
        ("❤\ufe0f", "❤ \ufe0f"),  # what asks for colour is a mark
        ("👩\u200d🚀 co\u00adop \ufeffend\x00", "👩 🚀 co op end"),  # formats and controls are no tokens, and part them
        (" a\tb\u00a0c\u2028d\u3000e\n", "a b c d e"),
    ],
)
def test_tokens_by_pencil(text: str, tokens: str) -> None:
    assert answer_tokens(text) == f" {tokens} "


@pytest.mark.parametrize("text", ["", " \n", "\u200b\ufeff\x00"])
def test_nothing_visible_has_no_tokens(text: str) -> None:
    assert answer_tokens(text) == ""


def slow(text: str) -> list[str]:
    """Tokens by the category of one character after the other."""
    tokens, inside = [""], False
    for character in normalize("NFD", text):
        kind = category(character)[0]
        if kind in "LNM" and inside:
            tokens[-1] += character
        elif kind not in "ZC":
            tokens.append(character)
        inside = kind in "LNM"
    return [token.lower() for token in tokens[1:]]


def test_tokens_are_those_of_each_characters_category() -> None:
    """Any of the first two planes that Python's Unicode knows, in random company."""
    known = np.array([code for code in range(0x20000) if category(chr(code)) != "Cn"])
    rng = np.random.default_rng(0)
    for codes in np.split(rng.permutation(known), 100 * np.arange(1, len(known) // 100)):
        text = "".join(map(chr, codes))
        assert answer_tokens(text).split(" ")[1:-1] == slow(text)


@pytest.mark.parametrize(
    ("passage", "answer", "held"),
    [
        ("Paris is the capital.", "paris", True),  # at the start
        ("the capital is PARIS", "Paris", True),  # at the end
        ("Paris", "Paris", True),
        ("Parisian", "Paris", False),
        ("13 of them", "3", False),
        ("3 of 13", "3", True),
        ("the New York Times", "new york", True),
        ("a new car in York", "New York", False),  # in a row
        ("York", "New York", False),
        ("in the U.S. Army", "U.S.", True),
        ("in the US Army", "U.S.", False),
        ("the U.S", "U.S.", False),
        ("rock - n - roll", "Rock-n-Roll", True),
        ("rock n roll", "rock-n-roll", False),
        ("at the caf\u00e9", "cafe\u0301", True),  # composed and not
        ("at the cafe\u0301", "CAF\u00c9", True),
        ("at the caf\u00e9", "cafe", False),  # an accent counts
        ("the “King”", "King", True),
        ("it’s", "it's", False),  # a curly quote is another character
        ("why?!", "?!", True),
        ("why?", "!", False),
        ("very 👍🏽", "👍", True),
        ("東京都", "東京", False),  # a run of Han is one token
        ("東京 都", "東京", True),
        ("the Eiffel\nTower", "eiffel tower", True),
    ],
)
def test_an_answer_is_held_as_whole_tokens_in_a_row(passage: str, answer: str, held: bool) -> None:
    assert holds(passage, answer) is held


def test_one_of_the_answers_is_enough() -> None:
    assert holds("the capital is Paris", "Lyon", "Paris")
    assert not holds("the capital is Paris", "Lyon", "Nice")
    assert not holds("the capital is Paris")


def test_an_answer_without_tokens_is_never_held() -> None:
    assert not holds("some text", "", " ", "\u200b")
    assert not holds("", "", " ")
    assert holds("some text", "", "text")
