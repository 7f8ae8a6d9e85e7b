"""What is wrong with data: counted, named, told or refused."""

import json

import pytest

from seedcli.base.errors import DataError
from seedcli.base.progress import Silent
from seedcli.data.problems import Problems


class Heard(Silent):
    """What was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def problems_of(**names: str) -> Problems:
    """Problems of some kinds, each named by the words of a text."""
    problems = Problems()
    for kind, words in names.items():
        for word in words.split(" "):
            problems.add(kind, word)
    return problems


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("a", "1 gone (a)"),
        ("a b c", "3 gone (a, b, c)"),
        ("a b c d", "4 gone (a, b, c, ...)"),
        (" ".join(map(str, range(1_204))), "1,204 gone (0, 1, 2, ...)"),
        ("x" * 80, f"1 gone ({'x' * 60})"),
    ],
)
def test_a_kind_is_a_line_with_its_count_and_the_first_three_names(words: str, line: str) -> None:
    assert list(problems_of(gone=words)) == [line]


def test_what_has_no_name_is_counted() -> None:
    problems = Problems()
    problems.add("empty", "")
    assert list(problems) == ["1 empty"]
    problems.add("empty", "a")
    assert list(problems) == ["2 empty (a, ...)"]


def test_kinds_stand_in_the_order_they_were_met_and_no_problem_is_no_line() -> None:
    assert list(problems_of(z="1", a="2 3")) == ["1 z (1)", "2 a (2, 3)"]
    assert list(Problems()) == []


def test_what_json_keeps_of_them_comes_back() -> None:
    problems = problems_of(gone="a b c d", empty="e")
    again = Problems.of(json.loads(json.dumps(problems.plain())))
    assert problems.plain() == {"gone": {"count": 4, "names": ["a", "b", "c"]}, "empty": {"count": 1, "names": ["e"]}}
    assert again.plain() == problems.plain()
    assert list(again) == list(problems)
    again.add("gone", "f")
    assert next(iter(again)) == "5 gone (a, b, c, ...)"
    assert list(Problems.of({})) == []


def test_report_says_a_line_a_kind_and_goes_on() -> None:
    heard = Heard()
    problems_of(gone="a b", empty="c").settle("corpus.jsonl", "report", heard)
    assert heard.lines == ["corpus.jsonl: 2 gone (a, b)", "corpus.jsonl: 1 empty (c)"]


def test_stop_raises_with_all_kinds_and_what_to_do() -> None:
    heard = Heard()
    with pytest.raises(DataError) as stopped:
        problems_of(gone="a b", empty="c").settle("corpus.jsonl", "stop", heard)
    assert str(stopped.value) == (
        "corpus.jsonl: 2 gone (a, b); 1 empty (c)\n--problems report tells of them and goes on"
    )
    assert heard.lines == []


@pytest.mark.parametrize("policy", ["report", "stop"])
def test_nothing_wrong_is_nothing_said(policy: str) -> None:
    heard = Heard()
    Problems().settle("corpus.jsonl", policy, heard)  # type: ignore[arg-type]
    assert heard.lines == []
