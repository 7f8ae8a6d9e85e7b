"""MIND: news, readers with their histories, and what they clicked on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from seedcli.base.errors import DataError
from seedcli.data.formats.mind import open_folder, read_impressions, read_news
from seedcli.data.records import SEPARATOR, Example, Impression, Passage, Query
from seedcli.data.tokenizer import Tokenizer

NEWS = [
    'N1\tsports\tgolf\tA putt\tHe putts "well".\thttps://a/1\t[]\t[]',
    f'N2\tnews\tworld\tA{SEPARATOR}vote\t\thttps://a/2\t[{{"Label": "x"}}]\t[]',
    "N3\tnews\tworld\tA storm\tIt rains.\thttps://a/3\t[]\t[]",
]
BEHAVIORS = [
    "1\tU1\t11/12/2019 2:14:46 PM\tN1 N9 N2\tN3-1 N1-0 N2-1",
    "2\tU2\t11/13/2019 5:53:12 AM\t\tN1-0 N3-1",
]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(news: list[str] | None = None, behaviors: list[str] | None = None) -> Path:
        (tmp_path / "news.tsv").write_text("\n".join(NEWS if news is None else news) + "\n")
        (tmp_path / "behaviors.tsv").write_text("\n".join(BEHAVIORS if behaviors is None else behaviors) + "\n")
        return tmp_path

    return written


def test_a_folder_of_mind_is_news_and_impressions(write: Write) -> None:
    collection = open_folder(write())
    assert collection is not None
    assert list(collection.passages()) == [
        Passage("N1", "A putt", 'He putts "well".', "https://a/1"),
        Passage("N2", "A vote", "", "https://a/2"),
        Passage("N3", "A storm", "It rains.", "https://a/3"),
    ]
    assert collection.qrels("dev") == {"1": {"N3": 1, "N2": 1, "N1": 0}, "2": {"N3": 1, "N1": 0}}


def test_a_reader_is_the_titles_clicked_on_the_newest_first(write: Write) -> None:
    """N9 is no news of this folder; the second reader has no history."""
    collection = open_folder(write())
    assert collection is not None
    expected = [Query("1", f"A vote{SEPARATOR}A putt"), Query("2", "")]
    assert list(collection.queries()) == list(collection.queries("dev")) == expected


def test_a_history_is_cut_where_the_oldest_titles_stand(write: Write, wordpiece: Tokenizer) -> None:
    titles = ["the otter eats trout", "a heron", "beaver", "the falcon and the badger live on steep cliffs"]
    news = [f"N{row}\tc\ts\t{title}\t\t\t\t" for row, title in enumerate(titles)]
    collection = open_folder(write(news, ["1\tU1\t11/12/2019\tN3 N2 N1 N0\tN0-1"]))
    assert collection is not None
    (query,) = collection.queries()
    pieces = [wordpiece.backend.encode(title, add_special_tokens=False).ids for title in titles]
    parted = [id_ for title in pieces for id_ in (*title, wordpiece.separator)][:-1]
    for length in range(4, len(parted) + 4):
        (read,) = wordpiece.encode([query.text], length)
        assert read.tolist() == [*wordpiece.prefix, *parted[: length - 2], *wordpiece.suffix]


def test_every_click_is_an_example_against_all_that_was_left_unclicked(write: Write) -> None:
    lines = [
        *BEHAVIORS,
        "3\tU3\t11/13/2019\tN1\tN2-0 N3-0",
        "4\tU1\t11/14/2019\tN1\tN3-0 N2-1 N1-0",
        "5\tU4\t\tN1\tN2-1",
    ]
    collection = open_folder(write(behaviors=lines))
    assert collection is not None
    assert list(collection.examples("train")) == [
        Example("1", ("N3",), ["N1"]),
        Example("1", ("N2",), ["N1"]),
        Example("2", ("N3",), ["N1"]),
        Example("4", ("N2",), ["N3", "N1"]),
        Example("5", ("N2",), []),
    ]


def test_impressions_keep_their_order_and_history(write: Write) -> None:
    assert list(read_impressions(write() / "behaviors.tsv")) == [
        Impression("1", "U1", ["N1", "N9", "N2"], ["N3", "N2"], ["N1"]),
        Impression("2", "U2", [], ["N3"], ["N1"]),
    ]


def test_the_test_split_names_no_clicks(write: Write) -> None:
    folder = write(behaviors=["1\tU1\t11/15/2019\tN1\tN3 N2"])
    assert list(read_impressions(folder / "behaviors.tsv")) == [Impression("1", "U1", ["N1"], [], ["N3", "N2"])]
    collection = open_folder(folder)
    assert collection is not None
    assert list(collection.queries()) == [Query("1", "A putt")]
    with pytest.raises(DataError, match=r"behaviors\.tsv: names no click"):
        collection.qrels("test")
    with pytest.raises(
        DataError, match=r"behaviors\.tsv: names no click, as MIND's test split; it can't be trained on"
    ):
        list(collection.examples("test"))


def test_news_alone_are_a_corpus_and_no_news_no_collection(tmp_path: Path, write: Write) -> None:
    (write() / "behaviors.tsv").unlink()
    collection = open_folder(tmp_path)
    assert collection is not None
    assert len(list(collection.passages())) == 3
    with pytest.raises(DataError, match="holds no queries"):
        collection.queries()
    (tmp_path / "news.tsv").unlink()
    assert open_folder(tmp_path) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2\tU2\t11/13/2019\tN1", "behaviors.tsv:2: 4 columns, where 5 are expected: id, user, time, history"),
        ("\tU2\t11/13/2019\t\tN1-0", "behaviors.tsv:2: the id 'id' is empty"),
        ("2\tU2\t11/13/2019\t\t", "behaviors.tsv:2: an impression of no news"),
        ("2\tU2\t11/13/2019\t\tN1-0 N2", "behaviors.tsv:2: expected news such as N1-1, clicked, or N1-0, got 'N2'"),
        ("2\tU2\t11/13/2019\t\tN1-2", "behaviors.tsv:2: expected news such as N1-1, clicked, or N1-0, got 'N1-2'"),
    ],
)
def test_a_broken_impression_is_told_by_line(write: Write, line: str, message: str) -> None:
    impressions = read_impressions(write(behaviors=[BEHAVIORS[0], line]) / "behaviors.tsv")
    assert next(impressions).id == "1"
    with pytest.raises(DataError, match=message):
        next(impressions)


def test_broken_news_are_told_by_line(write: Write) -> None:
    news = read_news(write(news=[NEWS[0], "N2\tnews\ta title"]) / "news.tsv")
    assert next(news).id == "N1"
    with pytest.raises(DataError, match=r"news\.tsv:2: 3 columns, where 8 are expected"):
        next(news)
