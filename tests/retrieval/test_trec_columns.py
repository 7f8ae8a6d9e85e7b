"""A run read by columns is the run read line by line."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from seedcli.base.errors import DataError
from seedcli.retrieval import trec_columns
from seedcli.retrieval.run_files import _line_parts, read_run
from seedcli.retrieval.runs import Run, collected
from seedcli.retrieval.trec_columns import UnclearError, read_columns

BLANKS = [" ", "  ", "\t", " \t ", "   "]
ENDS = ["\n", "\r\n", " \n", "\t\r\n", "\n\n", "\n \t\n", "\n  "]
SCORES = ["1", "-2.5", "1e-3", "inf", "-Infinity", "16777217.5", "0.1", "100000000000000000000", "3.4e38"]


def lines(seed: int, count: int = 400) -> str:
    """Words parted by any blanks, in queries that interleave."""
    rng = np.random.default_rng(seed)

    def line() -> str:
        query, document, score = f"q{rng.integers(9)}", f"dé{rng.integers(60)}", rng.choice(SCORES)
        words = [query, "Q0", document, str(rng.integers(99)), score, '"t'] if rng.random() < 0.9 else list("qQd1.t")
        words[4] = str(score)
        return "".join(word + str(rng.choice(BLANKS)) for word in words).rstrip() + str(rng.choice(ENDS))

    return "".join(line() for _ in range(count))


def line_by_line(path: Path) -> Run:
    numbers: dict[str, int] = {}
    return collected(numbers, _line_parts(path, numbers))


def assert_equal(one: Run, other: Run) -> None:
    assert one.queries == other.queries
    for column in ("offsets", "documents", "scores"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


@pytest.mark.parametrize("seed", range(4))
def test_blanks_and_ends_of_lines_of_any_kind(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trec_columns, "BLOCK", 1000 + 77 * seed)
    path, text = tmp_path / "run.gz", lines(seed)
    with gzip.open(path, "wt", encoding="utf-8-sig" if seed else "utf-8", newline="") as file:
        file.write(text if seed % 2 else text.strip())
    assert sum(map(len, read_columns(path))) > 300
    assert_equal(read_run(path), line_by_line(path))


@pytest.mark.parametrize("line", ["q\x0bQ0 d 1 1 t", "q\u2003Q0 d 1 1 t", "q Q0 d 1 +1_0.5 t"])
def test_what_columns_cannot_tell_is_read_line_by_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run"
    path.write_text(f"q Q0 a 1 5 t\n{line}\n", encoding="utf-8")
    with pytest.raises(UnclearError):
        list(read_columns(path))
    assert read_run(path).ranking("q")[0].tolist() in ([b"a", b"d"], [b"d", b"a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"q Q0 a 1 1 t\nq Q0 b 1 1 t u\n", ":2: expected 'query Q0 document rank score tag'"),
        (b"q Q0 a 1 1 t\n\nq Q0 b 1 \n", ":3: expected"),
        (b"q Q0 a 1 1 t\nq Q0 b 1  t\n", ":2: expected"),
        (b"q Q0 a 1 1 t\nq Q0 b 1 - t\n", ":2: the score '-' is not a number"),
        (b"q Q0 a 1 NaN t\n", ":1: the score 'NaN' is not a number"),
        (b"q Q0 a 1 1 t\nq Q0 \xff 1 1 t\n", ":2: not UTF-8 text"),
        (b"q\xc2\xa0r Q0 a 1 1 t\n", ":1: expected"),
        (b" \n\t\r\n", ": no rankings in it"),
        (b"", ": no rankings in it"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_run(path)
    assert str(error.value).startswith(f"{path}{message}")


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"q Q0 a 1 1 t\n" * 1000)
    (tmp_path / "run.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"run\.gz:\d+: broken gzip file"):
        read_run(tmp_path / "run.gz")
    with pytest.raises(DataError, match="no such file"):
        read_run(tmp_path / "absent")
