"""The rules of pre-training blocks, with words of one token each: [CLS] is <, [SEP] is |."""

import os
import random
import signal
import string
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import accumulate, count
from pathlib import Path

import numpy as np
import pytest

from seedcli.base.errors import DataError
from seedcli.base.progress import Silent
from seedcli.data import workers
from seedcli.data.blocks import blocks, make_blocks
from seedcli.data.ragged import Ragged, RaggedWriter
from seedcli.data.text import Document, read_documents
from seedcli.data.tokenizer import SPECIAL, Tokenizer, pretrained, wordpiece
from seedcli.data.worker import SENTENCE

NAMES = ["-", "?", "<", "|", "_", *string.ascii_lowercase, "."]


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    names = [*SPECIAL, *NAMES[len(SPECIAL) :]]
    return Tokenizer(pretrained(wordpiece({name: row for row, name in enumerate(names)}), 64))


def made_of(
    documents: Iterable[Document], tokenizer: Tokenizer, length: int, pack: bool, workers: int | None = None
) -> list[list[int]]:
    made: list[list[int]] = []
    for values, counts in blocks(documents, tokenizer, length, pack, workers):
        ends = np.cumsum(counts)
        made += (part.tolist() for part in np.split(values, ends[:-1]) if counts)
        assert len(values) == sum(counts)
    return made


def slowly(documents: Iterable[Document], tokenizer: Tokenizer, length: int, pack: bool) -> list[list[int]]:
    """The same blocks, a line after the other."""
    cls, sep = tokenizer.prefix, tokenizer.suffix
    room = length - len(cls) - len(sep)
    made, block = [], [*cls]
    for document in documents:
        opens = not pack
        for line in document:
            (words,) = tokenizer.words([line])
            sentences = tokenizer.words(SENTENCE.split(line)) if len(words) > room else [words]
            for sentence in sentences:
                for begin in range(0, len(sentence), room):
                    unit = sentence[begin : begin + room]
                    if len(block) > len(cls) and (opens or len(block) + len(unit) + len(sep) > length):
                        made.append(block)
                        block = [*cls]
                    block += [*unit, *sep]
                    opens = False
    return [*made, block] if len(block) > len(cls) else made


def children() -> set[str]:
    """The processes that this one has started."""
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


def written(tokenizer: Tokenizer, documents: list[list[str]], length: int, pack: bool) -> list[str]:
    return ["".join(NAMES[id_] for id_ in block) for block in made_of(documents, tokenizer, length, pack)]


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
def test_blocks_by_pencil(letters: Tokenizer, documents: list[list[str]], packed: list[str], apart: list[str]) -> None:
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


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("processes", [1, 3])
def test_any_number_of_workers_makes_the_blocks_of_a_slow_loop(
    wordpiece: Tokenizer, texts: list[str], pack: bool, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHUNK", 700)
    odd = [
        "",
        " ",
        "\u200b",
        "日本語です。犬。",
        "Ünïcode\tnaïve e\u0301\xa0co-op; 3.14?",
        "[SEP] [MASK]##s",
        "x" * 300,
    ]
    rng = random.Random(0)
    documents = [
        [" ".join(rng.choices([*texts, *odd], k=rng.choice([1, 1, 2, 9]))) for _ in range(rng.randint(0, 5))]
        for _ in range(120)
    ]
    expected = slowly(documents, wordpiece, 24, pack)
    assert len(expected) > 1_000
    assert made_of((iter(document) for document in documents), wordpiece, 24, pack, processes) == expected


def test_a_line_that_is_broken_is_told_while_others_are_worked_on(
    letters: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHUNK", 100)
    (tmp_path / "a.txt").write_bytes(b"a b c. d e f.\n" * 400 + b"fr\xf6hlich\n" + b"a b c.\n" * 400)
    before = children()
    with pytest.raises(DataError, match=r"a\.txt:401: not UTF-8 text"):
        make_blocks(read_documents([tmp_path / "a.txt"], "text"), letters, 8, True, tmp_path / "out", Silent(), None, 3)
    assert children() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_ctrl_c_leaves_neither_processes_nor_files(
    letters: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHUNK", 100)
    before, during = children(), set()

    def endless() -> Iterator[Document]:
        for number in count():
            if number == 200:
                during.update(children())
                raise KeyboardInterrupt
            yield ["a b c. d e f."]

    with pytest.raises(KeyboardInterrupt):
        make_blocks(endless(), letters, 8, True, tmp_path / "out", Silent(), workers=2)
    assert len(during - before) == 2
    assert children() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(letters: Tokenizer, tmp_path: Path) -> None:
    """One document of 1 MB and one of 8 MB: neither this process nor the two workers hold it."""
    letters.save(tmp_path / "tokenizer")
    code = """if True:
        import resource, sys
        from pathlib import Path
        from seedcli.base.progress import Silent
        from seedcli.data import workers
        from seedcli.data.blocks import make_blocks
        from seedcli.data.text import read_documents
        from seedcli.data.tokenizer import SPECIAL, open_tokenizer, wordpiece
        from seedcli.data.wordpiece import count_words

        workers.CHUNK = 1 << 16
        root = Path(sys.argv[1])
        tokenizer = open_tokenizer(root / "tokenizer")
        frame = wordpiece({token: row for row, token in enumerate(SPECIAL)})

        def peaks(lines):
            with (root / "a.txt").open("w") as file:
                file.writelines(f"a b c {row % 999} f g.\\n" for row in range(lines))
            text = lambda: read_documents([root / "a.txt"], "text")
            made = make_blocks(text(), tokenizer, 32, True, root / str(lines), Silent(), workers=2)
            assert len(count_words((line for document in text() for line in document), frame, 2)) == 1005
            return [resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]

        few, many = peaks(60_000), peaks(480_000)
        print(*(after - before for after, before in zip(many, few)))
    """
    grown = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env=os.environ, check=True, capture_output=True, text=True
    )
    assert max(map(int, grown.stdout.split())) < 5


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
