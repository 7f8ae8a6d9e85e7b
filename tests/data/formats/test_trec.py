"""Classic topics, as TREC has written them over the years."""

from pathlib import Path

import pytest

from seedcli.base.errors import DataError
from seedcli.data.formats.trec import read_topics
from seedcli.data.records import Query

ROBUST = """
<top>

<num> Number: 301
<title> International Organized Crime

<desc> Description:
Identify organizations that participate in international criminal
activity, the activity, and, if possible, collaborating organizations
and the countries involved.

<narr> Narrative:
A relevant document must as a minimum identify <the> organization.

</top>

<top>
<num> Number: 302
<title> Poliomyelitis and Post-Polio
<desc> Description:
Is the disease of Poliomyelitis (polio) under control?
</top>
"""


def topics(tmp_path: Path, text: str) -> list[Query]:
    path = tmp_path / "topics.txt"
    path.write_text(text)
    return list(read_topics(path))


def test_the_title_of_a_topic_is_the_query(tmp_path: Path) -> None:
    assert topics(tmp_path, ROBUST) == [
        Query("301", "International Organized Crime"),
        Query("302", "Poliomyelitis and Post-Polio"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<top><num>51</num><title>airbus subsidies</title><desc>x</desc></top>",
        "<top>\n<head> Tipster Topic\n<num> Number:  051\n<title> Topic:  airbus\n   subsidies\n<desc>\nx\n</top>",
        "<TOP>\n<NUM> 51 </NUM>\n<TITLE>\nairbus\nsubsidies\n</TITLE>\nnot the title\n</TOP>",
        "<topics>\n<top> <num> 51 <title> airbus subsidies <narr> x </top>\n</topics>",
    ],
)
def test_tags_may_be_closed_or_not_and_stand_over_several_lines(tmp_path: Path, text: str) -> None:
    assert topics(tmp_path, text) == [Query("51", "airbus subsidies")]


def test_a_number_may_be_a_name_and_a_title_hold_a_sign(tmp_path: Path) -> None:
    assert topics(tmp_path, "<top><num>Number: MB01<title>R&D < 5 % of sales</top>") == [
        Query("MB01", "R&D < 5 % of sales")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<top>\n<num> 1\n<title> a\n</top>\nstray\n", "topics.txt:5: expected <top>, got 'stray'"),
        ("<top>\n<num> 1\n<title> a\n</top>\n</top>\n", "topics.txt:5: expected <top>, got '</top>'"),
        ("<top>\n<num> 1\n<title> a\n<top>\n", "topics.txt:4: expected the </top> of line 1, got <top>"),
        ("\n<top>\n<num> 1\n<title> a\n", "topics.txt:2: <top> without </top>"),
        ("<top>\n<title> a\n</top>", "topics.txt:1: expected a topic's number as <num> Number: 301, got ''"),
        ("<top>\n<num> 1 2\n<title> a\n</top>", "topics.txt:1: expected a topic's number as <num> Number: 301"),
        ("<top>\n<num> 1\n<title>\n<desc> a</top>", "topics.txt:1: the topic 1 has no <title>"),
        ("\n", "topics.txt: no topics in it"),
    ],
)
def test_broken_topics_are_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        topics(tmp_path, text)
    assert message in str(error.value)
