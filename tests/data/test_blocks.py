"""The rules of pre-training blocks, with words of one token each: [CLS] is <, [SEP] is |."""

import os
import random
import signal
import string
import subprocess
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from seedcli.base.errors import DataError
from seedcli.base.progress import Silent
from seedcli.data.blocks import blocks, make_blocks
from seedcli.data.ragged import Ragged, RaggedWriter
from seedcli.data.text import Document
from seedcli.data.tokenizer import SPECIAL, Tokenizer, pretrained, wordpiece

NAMES = ["-", "?", "<", "|", "_", *string.ascii_lowercase, "."]


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    names = [*SPECIAL, *NAMES[len(SPECIAL) :]]
    return Tokenizer(pretrained(wordpiece({name: row for row, name in enumerate(names)}), 64))


def written(tokenizer: Tokenizer, documents: list[Document], length: int, pack: bool) -> list[str]:
    return ["".join(NAMES[id_] for id_ in block) for block in blocks(documents, tokenizer, length, pack)]


@pytest.mark.parametrize(
    ("documents", "packed", "apart"),
    [
        ([["a b", "c d e"], ["f"]], ["<ab|cde|", "<f|"], ["<ab|cde|", "<f|"]),
        ([["a b"], ["c"], ["d", "e"]], ["<ab|c|d|", "<e|"], ["<ab|", "<c|", "<d|e|"]),
        ([["a b c d e f"]], ["<abcdef|"], ["<abcdef|"]),
        ([["a", "b c d e f g"]], ["<a|", "<bcdefg|"], ["<a|", "<bcdefg|"]),
        ([["a b. c d e. f"]], ["<ab.|", "<cde.|f|"], ["<ab.|", "<cde.|f|"]),  # eight tokens: by sentence
        ([["a b c d e f g h. i j."]], ["<abcdef|", "<gh.|", "<ij.|"], ["<abcdef|", "<gh.|", "<ij.|"]),  # in pieces
        ([["a", "a b c d. e f g."], ["h"]], ["<a|", "<abcd.|", "<efg.|h|"], ["<a|", "<abcd.|", "<efg.|", "<h|"]),
        ([[], ["a"], []], ["<a|"], ["<a|"]),
        ([["a"], ["\u200b", "b"], ["\u200b"], ["c"]], ["<a|b|c|"], ["<a|", "<b|", "<c|"]),  # a line without words
        ([], [], []),
    ],
)
def test_blocks_by_pencil(letters: Tokenizer, documents: list[Document], packed: list[str], apart: list[str]) -> None:
    assert written(letters, documents, 8, pack=True) == packed
    assert written(letters, documents, 8, pack=False) == apart


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("length", [3, 8, 13])
def test_nothing_is_lost_and_no_block_had_room_for_the_next_unit(letters: Tokenizer, length: int, pack: bool) -> None:
    rng = random.Random(length)
    words = [*string.ascii_lowercase, "z.", "y. "]
    documents = [
        [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(rng.randint(0, 4))] for _ in range(900)
    ]  # more lines than are tokenised at a time
    made = written(letters, documents, length, pack)
    text = "".join(line for document in documents for line in document).replace(" ", "")
    assert "".join(made).replace("<", "").replace("|", "") == text
    assert all(len(block) <= length and block[0] == "<" and block[-1] == "|" for block in made)
    assert all("||" not in block and block.count("<") == 1 for block in made)
    if pack:
        units = [block[1:].split("|")[:-1] for block in made]
        for block, (first, *_) in zip(made, units[1:], strict=False):
            assert len(block) + len(first) + 1 > length
    else:
        sizes = [len("".join(document).replace(" ", "")) for document in documents]
        ends = accumulate(len(block.replace("<", "").replace("|", "")) for block in made)
        assert set(accumulate(sizes)) <= {0, *ends}


def test_blocks_are_made_once(letters: Tokenizer, tmp_path: Path) -> None:
    def broken() -> Iterator[Document]:
        raise AssertionError("read again")
        yield []

    made = make_blocks([["a b"], ["c"]], letters, 8, False, tmp_path / "blocks", Silent())
    again = make_blocks(broken(), letters, 8, False, tmp_path / "blocks", Silent())
    assert [row.tolist() for row in made] == [row.tolist() for row in again] == [[2, 5, 6, 3], [2, 7, 3]]
    assert made.values.dtype == "uint16"
    assert [path.name for path in tmp_path.iterdir()] == ["blocks"]


def test_a_build_that_fails_leaves_nothing(letters: Tokenizer, tmp_path: Path) -> None:
    def failing() -> Iterator[Document]:
        yield ["a b"]
        raise DataError("a.txt:2: not UTF-8 text")

    with pytest.raises(DataError, match=r"a\.txt:2"):
        make_blocks(failing(), letters, 8, False, tmp_path / "blocks", Silent())
    assert not list(tmp_path.iterdir())


def test_a_build_that_was_killed_is_not_taken_for_whole(letters: Tokenizer, tmp_path: Path) -> None:
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from seedcli.base.files import made_whole
        from seedcli.data.ragged import RaggedWriter
        with made_whole(Path(sys.argv[1])) as aside, RaggedWriter(aside, "blocks", "uint16") as writer:
            writer.append([2, 9, 3])
            writer.values.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    child = subprocess.run([sys.executable, "-c", code, tmp_path / "blocks"], env=os.environ, check=False)
    assert child.returncode == -signal.SIGKILL
    assert [path.name.endswith(".part") for path in tmp_path.iterdir()] == [True]
    made = make_blocks([["a b"]], letters, 8, False, tmp_path / "blocks", Silent())
    assert [row.tolist() for row in made] == [[2, 5, 6, 3]]


def test_a_text_without_words_is_told(letters: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the text holds no words"):
        make_blocks([[], ["\u200b"]], letters, 8, True, tmp_path / "blocks", Silent())


def test_rows_in_memory_and_on_disk_are_the_same(tmp_path: Path) -> None:
    rows: list[list[int]] = [[1, 2, 3], [], [65_535]]
    with RaggedWriter(tmp_path, "rows", "uint16") as writer:
        for row in rows:
            writer.append(row)
    for ragged in (Ragged.open(tmp_path, "rows"), Ragged.of(rows, "uint16")):
        assert [row.tolist() for row in ragged] == rows
        assert len(ragged) == 3
    with RaggedWriter(tmp_path, "none", "uint16"):
        pass
    assert len(Ragged.open(tmp_path, "none")) == len(Ragged.of([], "uint16")) == 0
