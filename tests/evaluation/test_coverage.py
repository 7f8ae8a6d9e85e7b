"""Answer coverage: hand-worked passages, DPR's definition spelled out, and patterns that are broken or slow."""

import json
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from seedcli.base.errors import DataError
from seedcli.base.progress import Silent
from seedcli.data import answers, workers
from seedcli.data.records import Passage, Query
from seedcli.data.sources import open_collection
from seedcli.evaluation.coverage import is_coverage, measure_coverage
from seedcli.retrieval.runs import Ranking, Run, run_of

TEXTS = {
    "1": "Rene\u0301e Zellweger was born in Katy.",  # decomposed, where the answer is composed
    "2": "A Parisian cafe, no caf\u00e9.",
    "3": "The U.S. Army moved to New  York, in 1,999.",
    "4": "",
    "5": "Paris!",
    "6": "She won 13 of 30 games.",
}
CORPUS = {id_: Passage(id_, "Paris, Katy and 3", text) for id_, text in TEXTS.items()}  # titles don't count


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def find(ids: Iterable[str]) -> dict[str, Passage]:
    return {id_: CORPUS[id_] for id_ in ids if id_ in CORPUS}


def run(**rankings: str) -> Run:
    """Rankings of passages of one digit, best first."""
    return run_of(Ranking(q, list(d), np.arange(len(d), 0, -1, dtype=np.float32)) for q, d in rankings.items())


def first(answer: str, kind: answers.Kind = "tokens", heard: Silent | None = None) -> str:
    """Which of the passages hold an answer."""
    runs = {id_: run(q=id_) for id_ in CORPUS}
    found = measure_coverage(runs, [Query("q", "?", (answer,))], ["answers@1"], find, kind, heard or Silent())
    return "".join(id_ for id_, (value,) in zip(runs, found.values[:, 0], strict=True) if value)


@pytest.mark.parametrize(
    ("answer", "holding"),
    [
        ("RENÉE", "1"),
        ("Renee", ""),  # a mark is a part of its word
        ("café", "2"),
        ("cafe", "2"),
        ("Paris", "5"),  # whole tokens
        ("paris !", "5"),
        ("Katy", "1"),
        ("u.s.", "3"),
        ("US", ""),
        ("new york", "3"),  # two blanks are as one
        ("1,999", "3"),
        ("3", ""),
        ("13 of 30", "6"),
        ("13 of 3", ""),
        ("", ""),
    ],
)
def test_answers_by_pencil(answer, holding):
    assert first(answer) == holding


def test_the_first_hit_with_an_answer_decides_at_every_cut():
    runs = {"a": run(q="2465", r="53"), "b": run(q="5", s="1")}
    asked = [Query("q", "?", ("Paris", "Army")), Query("r", "?", ("army",)), Query("s", "?", ("Katy", "x"))]
    values = measure_coverage(runs, asked, ["answers@1", "answers@2", "answers@4"], find, "tokens", Silent())
    assert values.values[0].tolist() == [[0, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert values.values[1].tolist() == [[1, 0, 1]] * 3
    assert values.lacking == [1, 1]
    assert (values.names, values.queries) == (["a", "b"], ["q", "r", "s"])


def by_definition(text: str, answer: str) -> bool:
    """DPR's own words: the tokens of the answer equal those of a window of the passage."""
    passage, wanted = (answers.answer_tokens(part).split() for part in (text, answer))
    return any(passage[row : row + len(wanted)] == wanted for row in range(len(passage) - len(wanted) + 1))


@pytest.mark.parametrize("count", [1, 2])
def test_random_runs_on_any_number_of_processes_are_as_the_definition_has_it(monkeypatch, count):
    monkeypatch.setattr(workers, "CHUNK", 400)
    monkeypatch.setattr("seedcli.evaluation.coverage.BATCH", 7)
    rng = np.random.default_rng(0)
    words = ["a", "b", "É", "e\u0301", "c.", "ab", "A", "B!"]
    texts = {str(row): " ".join(rng.choice(words, 6)) for row in range(60)}
    corpus = {id_: Passage(id_, "", text) for id_, text in texts.items()}
    asked = [
        Query(f"q{row}", "?", tuple(" ".join(rng.choice(words, rng.integers(1, 4))) for _ in range(rng.integers(1, 3))))
        for row in range(30)
    ]

    def ranked() -> Run:
        return run_of(
            Ranking(query.id, rng.choice([*texts], 20, replace=False).tolist(), rng.random(20).astype(np.float32))
            for query in asked
        )

    runs = {"one": ranked(), "two": ranked()}
    cuts = [1, 5, 20]

    def found(ids: Iterable[str]) -> dict[str, Passage]:
        return {id_: corpus[id_] for id_ in ids}

    values = measure_coverage(runs, asked, [f"answers@{cut}" for cut in cuts], found, "tokens", Silent(), count)
    for own, each in zip(values.values, runs.values(), strict=True):
        for query, row in zip(asked, own.T, strict=True):
            hits = [texts[document.decode()] for document in each.ranking(query.id)[0].tolist()]
            holding = [any(by_definition(text, answer) for answer in query.answers) for text in hits]
            assert row.tolist() == [float(any(holding[:cut])) for cut in cuts]
    assert 0.1 < values.values[:, 0].mean() < values.values[:, 2].mean()


def test_each_passage_is_looked_up_once():
    looked: list[str] = []

    def noted(ids: Iterable[str]) -> dict[str, Passage]:
        wanted = [*ids]
        looked.extend(wanted)
        return find(wanted)

    runs = {"a": run(q="123", r="321"), "b": run(q="12", r="3456")}
    asked = [Query("q", "?", ("x",)), Query("r", "?", ("y",))]
    measure_coverage(runs, asked, ["answers@3"], noted, "tokens", Silent())
    assert looked == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("pattern", "holding"),
    [
        (r"paris", "25"),  # no whole tokens, no case
        (r"^paris", "5"),
        (r"1,?999|30\s?games", "36"),
        ("ren\u00e9e", "1"),  # both are decomposed
        (r"(katy", ""),
        (r"(?:(a{1000}){1000}){1000}", ""),
        (r"katy\Z", ""),
    ],
)
def test_regular_expressions_by_pencil(pattern, holding):
    heard = Heard()
    assert first(pattern, "regex", heard) == holding
    broken = answers.answer_pattern(pattern) is None
    assert heard.lines == (
        [f"1 answers are no regular expressions and never match, such as {pattern!r} of query q"] if broken else []
    )


def test_a_line_of_a_passage_begins_anew():
    passage = normalize("NFD", "first\nSecond")
    assert answers.finds_answer(passage, [answers.answer_pattern("^second$")])


def test_a_pattern_that_takes_too_long_is_no_match_and_told_once(monkeypatch):
    monkeypatch.setattr(answers, "SECONDS", 0.05)
    slow = "(a?){300}a{300}b"
    corpus = {id_: Passage(id_, "", "a" * 3000 + ending) for id_, ending in (("1", ""), ("2", "c"), ("3", " Katy"))}
    asked = [Query("q", "?", (slow, "katy")), Query("r", "?", (slow,))]
    heard, runs = Heard(), {"a": run(q="123", r="1")}
    values = measure_coverage(
        runs, asked, ["answers@2", "answers@3"], lambda ids: {i: corpus[i] for i in ids}, "regex", heard
    )
    assert values.values[0].tolist() == [[0, 0], [1, 0]]
    assert heard.lines == [
        f"2 queries have answers that take too long to look for in some passages, such as q ({slow!r}); no match there"
    ]


def test_passages_that_the_corpus_lacks_hold_no_answer():
    heard = Heard()
    asked = [Query("q", "?", ("Paris",))]
    values = measure_coverage({"a": run(q="75")}, asked, ["answers@1", "answers@2"], find, "tokens", heard)
    assert values.values[0].tolist() == [[0], [1]]
    (line,) = heard.lines
    assert line.startswith("1 of 2 passages that the runs name are not in the corpus, such as '7'")
    with pytest.raises(DataError, match="none of the 1 passages that the runs name is in the corpus, such as '7'"):
        measure_coverage({"a": run(q="7")}, asked, ["answers@1"], find, "tokens", Silent())


def test_a_run_without_any_of_the_queries_has_no_coverage():
    values = measure_coverage({"a": run(x="1")}, [Query("q", "?", ("Paris",))], ["answers@1"], find, "tokens", Silent())
    assert values.values.tolist() == [[[0]]]
    assert values.lacking == [1]


def test_names_of_the_measures():
    assert all(map(is_coverage, ["answers@1", "answers@100"]))
    assert not any(map(is_coverage, ["answers", "answers@0", "answer@5", "answers@5-l2"]))


@pytest.mark.skipif("SEED_DATA" not in os.environ, reason="SEED_DATA names the folder of real data")
def test_coverage_on_squad_is_as_the_definition_has_it():
    """300 dev questions, each against its own passage and nineteen others in random order."""
    squad = open_collection(str(Path(os.environ["SEED_DATA"], "squad")))
    queries, right = list(islice(squad.queries("dev"), 300)), squad.qrels("dev")
    passages = {passage.id: passage for passage in squad.passages()}
    rng, ids = np.random.default_rng(0), list(passages)
    drawn = {query.id: [*right[query.id], *rng.choice(ids, 19, replace=False).tolist()] for query in queries}
    found = run_of(Ranking(query, hits, rng.permutation(len(hits)).astype(np.float32)) for query, hits in drawn.items())

    def texts(some: Iterable[str]) -> dict[str, Passage]:
        return {id_: passages[id_] for id_ in some}

    cuts = (1, 5, 20)
    values = measure_coverage(
        {"run": found}, queries, [f"answers@{cut}" for cut in cuts], texts, "tokens", Silent()
    ).values[0]
    for row, query in enumerate(queries):
        hits = [passages[document.decode()].text for document in found.ranking(query.id)[0].tolist()]
        holding = [any(by_definition(text, answer) for answer in query.answers) for text in hits]
        assert values[:, row].tolist() == [any(holding[:cut]) for cut in cuts]
    assert 0.9 < values[2].mean() < 1.01  # an answer of SQuAD stands in its passage, if rarely as part of a word
    assert values[0].mean() < 0.3


@pytest.mark.skipif("SEED_DATA" not in os.environ, reason="SEED_DATA names the folder of real data")
def test_curated_trecs_patterns_are_understood_but_for_three_that_decomposing_breaks():
    """As in DPR: what a backslash stands before is parted from its mark, and a letter alone may not be escaped."""
    path = Path(os.environ["SEED_DATA"], "qa", "topics.dpr.curated.test.txt")
    lines = path.read_text(encoding="utf-8").splitlines()
    patterns = [pattern for line in lines for pattern in json.loads(line)["answer"]]
    broken = [pattern for pattern in patterns if answers.answer_pattern(pattern) is None]
    assert len(patterns) == 694
    assert [part for pattern in broken for part in pattern.split("|") if "\\" in part] == [
        r"Sn\ě\žka",
        r"Marshal Philippe P\étain",
        r"Sultan K\ösen",
    ]
