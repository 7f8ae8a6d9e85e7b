"""What a worker makes of lines is what the library makes of them."""

import random
import string
from collections import Counter

import numpy as np
import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from seedcli.data import worker
from seedcli.data.tokenizer import SPECIAL, wordpiece
from seedcli.data.worker import count, parts_at_blanks, start, tokeniser

ODD = "\0\t\v\x1c\x1e\x7f\x85\xa0\xad\u0301\u200b\u2028\u3000\ufffdÄöéßİĲǅ日本😀"


def backend(lowercase: bool) -> Backend:
    """Of all characters below U+0250, first and inside, and some words."""
    pieces = [chr(code) for code in range(33, 0x250)]
    words = ["the", "##er", "ot", "##t", "en", "##-"]
    names = dict.fromkeys([*SPECIAL, *pieces, *(f"##{piece}" for piece in pieces), *words])
    return wordpiece({name: row for row, name in enumerate(names)}, lowercase)


def odd_texts() -> list[str]:
    rng = random.Random(0)
    alphabet = [*ODD, *string.printable, *string.ascii_letters, " ", " ", " "]
    return ["".join(rng.choices(alphabet, k=rng.randint(0, 60))) for _ in range(2_000)]


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_are_those_of_the_library(lowercase: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "REMEMBERED", 500)  # so that much is forgotten in between
    library = backend(lowercase)
    library.encode_special_tokens = True
    every = [f"{first}B{chr(code)}{last}" for code in range(1, 0x250) for first in "aÉ" for last in ("", "C9")]
    names = ["[SEP]", "the [MASK] otter[CLS]", "x" * 101, "the" * 40, "", " ", "   the  Otter   "]
    texts = [*every, *odd_texts(), *names]
    found = tokeniser(library.to_str(), [], "H")(texts)
    expected = [encoding.ids for encoding in library.encode_batch(texts, add_special_tokens=False)]
    assert [np.frombuffer(ids, np.uint16).tolist() for ids in found] == expected


@pytest.mark.parametrize("lowercase", [True, False])
def test_words_are_those_of_the_library(lowercase: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "REMEMBERED", 500)
    frame = backend(lowercase)
    texts = [*odd_texts(), *(f"a{chr(code)}B" for code in range(1, 0x250)), "x" * 100, "y" * 101]
    found, counts = count(frame.to_str())(texts)
    expected: Counter[str] = Counter()
    for text in texts:
        for word, _ in frame.pre_tokenizer.pre_tokenize_str(frame.normalizer.normalize_str(text)):
            expected[word] += len(word) <= 100
    made = zip(found.decode().split("\n"), np.frombuffer(counts, np.uint64).tolist(), strict=True)
    assert dict(made) == +expected


def test_words_are_remembered_only_where_blanks_part_them() -> None:
    plain = backend(True)
    assert parts_at_blanks(plain)
    plain.add_special_tokens(["<query>"])
    assert parts_at_blanks(plain)
    plain.add_tokens([AddedToken("sea otter", normalized=True)])
    assert not parts_at_blanks(plain)
    texts = ["a sea otter dives", "a sea  otter dives"]
    expected = [encoding.ids for encoding in plain.encode_batch(texts, add_special_tokens=False)]
    assert [np.frombuffer(ids, np.uint16).tolist() for ids in tokeniser(plain.to_str(), [], "H")(texts)] == expected


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "REMEMBERED", 10)
    made: list[str] = []
    kept = worker.Remembered(lambda key: made.append(key) or len(key))
    for row in range(100):
        assert (kept[f"{row}"], kept[f"{row}"], kept["x" * 65]) == (len(f"{row}"), len(f"{row}"), 65)
        assert len(kept) <= 10
    assert Counter(made) == {"x" * 65: 100} | {f"{row}": 1 for row in range(100)}


def test_units_by_pencil() -> None:
    """Ids: a is 1, b is 2, and so on; 9 ends a unit."""
    letters = wordpiece({name: row for row, name in enumerate(["_", *"abcdef.", *SPECIAL])})
    answer = start("tokenise", tokenizer=letters.to_str(), leaks=[], suffix=[9], room=3, code="I")
    counts, ids = answer(["", "a b", "", "a b. c d e f", "\u200b"])
    assert np.frombuffer(counts, np.uint32).tolist() == [0, 3, 0, 4, 4, 2]
    assert np.frombuffer(ids, np.uint32).tolist() == [1, 2, 9, 1, 2, 7, 9, 3, 4, 5, 9, 6, 9]
