"""The screen for questions: what is marked, what is cut, and what no terminal must obey."""

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from seedcli import answers, console
from seedcli.data.records import Passage
from seedcli.data.sentences import Sentence, sentences
from seedcli.retrieval.best_sentences import Scored
from seedcli.retrieval.hits import Hit
from seedcli.stages.asking import Answer, Reason

BOLD = "\x1b[1;32m"
LONG = "The heron waits. " * 20 + "An otter eats trout. " + "Reeds move in the wind. " * 20


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool, width: int = 80, **environment: str) -> io.StringIO:
    """What is written to stdout from now on."""
    file = io.StringIO()
    settings = {"TERM": "xterm-256color"} | environment
    made = Console(file=file, width=width, highlight=False, force_terminal=terminal, _environ=settings)
    monkeypatch.setattr(console, "out", made)
    return file


def answer(text: str, marked: str | None = None, **fields: Any) -> Answer:
    begin = text.index(marked) if marked else 0
    passage = Passage(fields.get("id", "p7"), fields.get("title", ""), text)
    return Answer(Hit(passage, fields.get("score", 0.5)), Sentence(begin, begin + len(marked)) if marked else None)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def test_in_a_pipe_a_hit_is_two_whole_lines_with_its_sentence_between_marks(monkeypatch):
    file = shown(monkeypatch, terminal=False)
    answers.hits([answer(LONG, "An otter eats trout.", title="Otters", id="p1", score=12.34567)])
    head, text = file.getvalue().splitlines()
    assert head == "  1  12.3457  Otters  p1"
    assert re.fullmatch(r"     …(The heron waits\. )*»An otter eats trout\.« (Reeds move in the wind\. ?)+.*…", text)
    assert 150 < len(text) <= answers.SNIPPET + answers.INDENT + 2


@pytest.mark.parametrize("width", [30, 80, 200])
def test_on_a_terminal_the_sentence_is_bold_and_two_lines_hold_it(monkeypatch, width):
    file = shown(monkeypatch, terminal=True, width=width)
    answers.hits([answer(LONG, "An otter eats trout.", title="Otters")])
    lines = plain(file.getvalue()).splitlines()
    assert len(lines) == 3
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(re.findall(re.escape(BOLD) + r"([^\x1b]*)", file.getvalue())).startswith("An otter eats")
    assert "»" not in file.getvalue()


def test_where_nothing_can_be_bold_there_are_marks(monkeypatch):
    file = shown(monkeypatch, terminal=True, TERM="dumb")
    answers.hits([answer(LONG, "An otter eats trout.")])
    assert "»An otter eats trout.«" in " ".join(file.getvalue().split())


def test_without_colours_the_sentence_is_still_bold(monkeypatch):
    file = shown(monkeypatch, terminal=True, NO_COLOR="1")
    answers.hits([answer(LONG, "An otter eats trout.")])
    assert "\x1b[1mAn otter eats trout." in file.getvalue()
    assert "\x1b[1;32m" not in file.getvalue()


def test_a_long_sentence_has_a_line_more_and_one_that_stays_too_long_is_cut(monkeypatch):
    file = shown(monkeypatch, terminal=True)
    sentence = "otter " * 60
    answers.hits([answer(sentence.strip(), sentence.strip())])
    lines = plain(file.getvalue()).splitlines()
    assert len(lines) == 1 + answers.MOST
    assert lines[-1].rstrip().endswith("otter…")


def test_wide_characters_count_twice(monkeypatch):
    file = shown(monkeypatch, terminal=True, width=40)
    text = "水獺住在河邊。" * 30
    answers.hits([Answer(Hit(Passage("1", "", text), 1.0), sentences(text)[9])])
    lines = plain(file.getvalue()).splitlines()
    assert len(lines) == 3
    assert all(cell_len(line) <= 40 for line in lines)
    assert lines[1].strip().startswith("…")
    assert f"{BOLD}水獺住在河邊。" in file.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"), [("", ""), (" \n", ""), ("No word of it is asked.", "No word of it is asked.")]
)
def test_a_text_without_a_sentence_that_answers_is_shown_from_its_beginning(monkeypatch, text, expected):
    file = shown(monkeypatch, terminal=False)
    answers.hits([answer(text)])
    assert file.getvalue().splitlines()[1].strip() == expected
    assert answers.snippet("word " * 100, None, 20, bold=True).plain == "word word word word…"


@pytest.mark.parametrize("terminal", [False, True])
def test_markup_is_text_and_no_control_character_reaches_the_terminal(monkeypatch, terminal):
    file = shown(monkeypatch, terminal)
    text = "[bold]An otter[/bold] \x1b[2J\x1b]0;owned\x07 \u202edives.\r\nNext\x00."
    found = answer(text, "An otter[/bold] \x1b[2J\x1b]0;owned\x07", title="[red]T\x1b[31m", id="\x1b[3mid[/]")
    answers.hits([found])
    answers.passage(found.hit.passage)
    answers.reasons(1, found.hit, [Reason("a\x1b[31m[b]", 1, 0.5, [Scored(found.sentence, 0.5)], [])], 60)
    written = plain(file.getvalue())
    assert not {"\x1b", "\x07", "\x00", "\u202e", "\r"} & set(written)
    assert written.count("[bold]") >= 2
    assert "[red]T" in written


def test_hits_keep_their_ids_whole_or_folded(monkeypatch):
    file = shown(monkeypatch, terminal=True, TERM="dumb")
    name = "https://example.org/" + "long/" * 20
    answers.hits([answer("an otter", id=name, score=12.34567), answer("a heron", id="7", title="words " * 30)])
    assert all(len(line) <= 80 for line in file.getvalue().splitlines())
    assert name in re.sub(r"\s", "", file.getvalue())
    assert file.getvalue().count("words") == 30


def test_no_hit_is_told(monkeypatch):
    file = shown(monkeypatch, terminal=False)
    answers.hits([])
    assert file.getvalue() == "no hits\n"


def test_a_passage_is_shown_whole_line_by_line(monkeypatch):
    file = shown(monkeypatch, terminal=False)
    answers.passage(Passage("p7", "A title", "One line.\n\nAnother " + "long " * 40 + "line.", "https://example.org"))
    assert file.getvalue().splitlines() == [
        "A title  p7", "https://example.org", "One line.", "Another " + "long " * 40 + "line."
    ]  # fmt: skip


def test_the_reasons_for_a_fused_hit_are_its_ranks_sentences_and_words(monkeypatch):
    file = shown(monkeypatch, terminal=False)
    text = "Otters dive. They eat trout."
    scored = [Scored(Sentence(13, 28), 0.75), Scored(Sentence(0, 12), 0.25)]
    found = [
        Reason("flat", 2, 0.5, scored, []),
        Reason("words", 1, 7.5, [], [("what", 0.0), ("otter", 2.5), ("eat", 5.0)]),
        Reason("others", None, None, [], []),
    ]
    answers.reasons(3, Hit(Passage("p1", "", text), 1 / 62 + 1 / 61), found, 60)
    assert file.getvalue().splitlines() == [
        "  3  0.0325  p1",
        "     0.0325 = 1/(60 + 2) + 1/(60 + 1)",
        "     flat: rank 2, score 0.5000",
        "          0.7500  They eat trout.",
        "          0.2500  Otters dive.",
        "     words: rank 1, score 7.5000",
        "          5.0000  eat",
        "          2.5000  otter",
        "          not in it: what",
        "     others: not among its hits",
    ]


def test_rows_tell_where_the_sentence_stands_in_the_text():
    found = [
        answer("Otters dive. They eat trout.", "They eat trout.", id="1", title="t", score=2.5),
        answer("", id="2"),
    ]
    first, second = answers.rows(found)
    assert first == {
        "rank": 1, "id": "1", "score": 2.5, "title": "t", "text": "Otters dive. They eat trout.",
        "sentence": {"text": "They eat trout.", "begin": 13, "end": 28},
    }  # fmt: skip
    assert second["sentence"] is None
