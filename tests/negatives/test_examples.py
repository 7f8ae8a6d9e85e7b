"""Training sets of examples: triples and what else names right and wrong passages, by id or with their texts."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from seedcli.base.errors import DataError
from seedcli.data.records import Example, Passage, Query
from seedcli.data.tokenised import Texts, write_texts
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import EncoderSettings
from seedcli.negatives import examples as module
from seedcli.negatives.examples import TrainingSet, from_qrels, open_examples, write_examples
from seedcli.negatives.filters import cut
from seedcli.negatives.sampling import ContrastiveBatches, Grouping
from seedcli.retrieval.runs import Ranking, run_of
from seedcli.training.objectives import ContrastiveBatch

SETTINGS = EncoderSettings(query_length=12, passage_length=12)
WORDS = ["otter", "heron", "beaver", "falcon", "badger", "salmon", "lynx", "walrus", "gecko", "condor"]
PASSAGES = [
    *(Passage(f"p{row}", "", f"the {word} eats") for row, word in enumerate(WORDS)),
    Passage("twin0", "the", "otter eats"),  # p0, once its title is written before it
]
QUERIES = [Query(f"q{row}", f"who eats the {word}") for row, word in enumerate(WORDS[:5])]
QUERIES.append(Query("again0", QUERIES[0].text))

Told = list[tuple[str, list[str], list[str]]]  # query, positives and negatives of each example


@pytest.fixture(scope="module")
def stored(wordpiece: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Texts, Texts]:
    folder = tmp_path_factory.mktemp("texts")
    return (
        write_texts(folder / "queries", QUERIES, SETTINGS.query_template, wordpiece, 12),
        write_texts(folder / "passages", PASSAGES, SETTINGS.passage_template, wordpiece, 12),
    )


Make = Callable[..., tuple[TrainingSet, list[str]]]


@pytest.fixture
def by_id(stored: tuple[Texts, Texts], wordpiece: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Examples that name ids, as a training set with its problems."""

    def made(examples: Iterable[Example], depth: int = 100) -> tuple[TrainingSet, list[str]]:
        folder = tmp_path_factory.mktemp("by_id")
        first = (cut(example, slice(depth)) for example in examples)
        problems = write_examples(folder, first, SETTINGS, wordpiece, stored, False, lambda _: None)
        return open_examples(folder, stored), sorted(problems)

    return made


@pytest.fixture
def by_text(wordpiece: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Examples that bring their texts."""

    def made(examples: Iterable[Example], depth: int = 100) -> tuple[TrainingSet, list[str]]:
        folder = tmp_path_factory.mktemp("by_text")
        first = (cut(example, slice(depth)) for example in examples)
        problems = write_examples(folder, first, SETTINGS, wordpiece, None, False, lambda _: None)
        return open_examples(folder, None), sorted(problems)

    return made


def triples(*lines: str) -> list[Example]:
    """Each line a query, its positives and its negatives, as in "q0 p1,p2 p3"; "-" is none of them."""
    parts = [[[] if part == "-" else part.split(",") for part in line.split(" ")] for line in lines]
    return [Example(query, right, wrong) for (query,), right, wrong in parts]


def in_words(*lines: str) -> list[Example]:
    """The same with texts: "otter heron,lynx falcon"."""
    return [
        Example(
            Query("", f"who eats the {query}"),
            *([Passage("", "", f"the {word} eats") for word in words] for words in (right, wrong)),
        )
        for query, right, wrong, *_ in triples(*lines)
    ]


def told(data: TrainingSet) -> Told:
    """A training set by ids."""
    return [
        (QUERIES[row].id, [PASSAGES[row].id for row in right], [PASSAGES[row].id for row in wrong])
        for row, right, wrong in zip(data.trained, data.positives, data.negatives, strict=True)
    ]


def told_in_words(data: TrainingSet, tokenizer: Tokenizer) -> Told:
    """A training set by the words that its tokens stand for."""
    framed = {
        tuple(ids.tolist()): word
        for word in WORDS
        for ids in tokenizer.encode([f"who eats the {word}", f"the {word} eats"], 12)
    }
    asked, found = ([framed[tuple(row.tolist())] for row in source.tokens] for source in (data.queries, data.passages))
    return [
        (asked[row], [found[row] for row in right], [found[row] for row in wrong])
        for row, right, wrong in zip(data.trained, data.positives, data.negatives, strict=True)
    ]


def test_ids_become_rows_of_texts_that_are_there(by_id: Make) -> None:
    data, problems = by_id(triples("q1 p1 p2", "q0 p0,p3 p4,p5,p2", "q1 p7 p2"))
    assert told(data) == [("q1", ["p1"], ["p2"]), ("q0", ["p0", "p3"], ["p4", "p5", "p2"]), ("q1", ["p7"], ["p2"])]
    assert problems == []


def test_records_with_ids_are_known_by_them(by_id: Make) -> None:
    found, _ = by_id([Example("q1", ["p1"], ["p2"]), Example(QUERIES[2], [PASSAGES[3]], [Passage("p4", "", "other")])])
    assert told(found) == [("q1", ["p1"], ["p2"]), ("q2", ["p3"], ["p4"])]


def test_texts_are_written_beside_the_examples(by_text: Make, wordpiece: Tokenizer) -> None:
    data, problems = by_text(in_words("otter heron falcon,lynx", "heron heron,gecko -", "otter lynx heron"))
    assert told_in_words(data, wordpiece) == [
        ("otter", ["heron"], ["falcon", "lynx"]),
        ("heron", ["heron", "gecko"], []),
        ("otter", ["lynx"], ["heron"]),
    ]
    assert problems == ["1 query without a negative (who eats the heron)"]


def test_texts_are_written_by_the_models_templates_and_cut_to_its_lengths(wordpiece: Tokenizer, tmp_path: Path) -> None:
    settings = EncoderSettings(
        query_length=5, passage_length=7, query_template="it {text}", passage_template="{title} [SEP] {text}"
    )
    query, passage = Query("", "the otter lives"), Passage("7", "Otter", "look for the otter")
    write_examples(tmp_path, [Example(query, [passage], [])], settings, wordpiece, None, False, lambda _: None)
    data = open_examples(tmp_path, None)
    (asked,), (found,) = (
        wordpiece.encode(["it the otter lives"], 5),
        wordpiece.encode(["Otter\x1elook for the otter"], 7),
    )
    assert (data.queries.tokens[0].tolist(), data.passages.tokens[0].tolist()) == (asked.tolist(), found.tolist())


def test_unknown_ids_are_counted_and_left_out(by_id: Make) -> None:
    data, problems = by_id(triples("q0 p0,gone lost,p1", "q9 p0 p1", "q1 gone p1", "q2 p2 lost", "q8 far p1"))
    assert told(data) == [("q0", ["p0"], ["p1"]), ("q2", ["p2"], [])]
    assert problems == [
        "1 query without a negative (q2)",
        "1 query without a positive (q1)",  # q8 is no query
        "2 queries of examples without a text (q9, q8)",
        "5 passages of examples that the corpus lacks (gone, far, lost, ...)",
    ]


def test_the_first_negatives_are_kept(by_id: Make) -> None:
    given = triples("q0 p0 p5,p4,p3,p2", "q1 p1 p2", "q2 p2 lost,p3,p4")
    assert [wrong for *_, wrong in told(by_id(given, depth=2)[0])] == [["p5", "p4"], ["p2"], ["p3"]]


def test_an_example_without_a_positive_is_left_out(by_id: Make, by_text: Make, wordpiece: Tokenizer) -> None:
    data, problems = by_id(triples("q0 - p1", "q1 p1 p2"))
    assert (told(data), problems) == ([("q1", ["p1"], ["p2"])], ["1 query without a positive (q0)"])
    data, problems = by_text(in_words("otter - heron", "heron lynx gecko"))
    assert told_in_words(data, wordpiece) == [("heron", ["lynx"], ["gecko"])]
    assert problems == ["1 query without a positive (who eats the otter)"]


def test_empty_texts_are_counted(by_text: Make) -> None:
    blank = Example(Query("", " "), [Passage("d7", "", ""), Passage("", "Otter", "")], [])
    assert [line for line in by_text([blank])[1] if "empty" in line] == [
        "1 passage with an empty text (d7)",
        "1 query with an empty text ( )",
    ]


def test_no_examples_are_a_training_set(by_id: Make, by_text: Make) -> None:
    for make in (by_id, by_text):
        data, problems = make([])
        assert (len(data.trained), len(data.positives), len(data.negatives), problems) == (0, 0, 0, [])


def test_an_id_among_texts_is_refused(by_text: Make) -> None:
    with pytest.raises(DataError, match="an example names the id 'q1', where those before it brought their texts"):
        by_text([*in_words("otter heron lynx"), *triples("q1 p1 p2")])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_how_many_examples_are_held_at_a_time_changes_nothing(
    by_id: Make, by_text: Make, wordpiece: Tokenizer, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    ids = triples("q0 p0,p3 p1", "q9 p1 p2", "q1 - p2", "q0 p0 -", "q2 p2 lost,p4", "q1 p1 p2", "q3 p5,p3 p7,p6")
    words = in_words("otter heron,lynx falcon", "heron - lynx", "otter gecko -", "lynx lynx heron,otter")
    whole = by_id(ids), by_text(words)
    expected = told(whole[0][0]), whole[0][1], told_in_words(whole[1][0], wordpiece), whole[1][1]
    right = [column.copy() for data, _ in whole for column in data.right]
    monkeypatch.setattr(module, "BATCH", size)
    parts = by_id(ids), by_text(words)
    assert (told(parts[0][0]), parts[0][1], told_in_words(parts[1][0], wordpiece), parts[1][1]) == expected
    assert all(np.array_equal(a, b) for a, b in zip(right, (c for d, _ in parts for c in d.right), strict=True))


def test_triples_and_qrels_with_a_run_that_say_the_same_are_one_training_set(
    by_id: Make, stored: tuple[Texts, Texts]
) -> None:
    pairs = [("q0", "p0", "p7"), ("q1", "p1", "p6"), ("q4", "p2", "p0"), ("q2", "p2", "p9")]
    qrels = {query: {right: 1} for query, right, _ in pairs}
    run = run_of(Ranking(query, [wrong], np.ones(1, np.float32)) for query, _, wrong in pairs)
    from_run, _, wrong = from_qrels(*stored, qrels, run, slice(100))
    from_triples, problems = by_id(triples(*map(" ".join, pairs)))
    assert told(from_run) == told(from_triples) == [(query, [right], [wrong]) for query, right, wrong in pairs]
    assert [column.tolist() for column in from_run.right] == [column.tolist() for column in from_triples.right]
    assert (list(wrong), problems) == ([], [])
    for step in range(20):
        ours, theirs = (batch_of(data, step, size=3) for data in (from_run, from_triples))
        assert all(a.equal(b) for a, b in zip(flat(ours), flat(theirs), strict=True))


def flat(batch: ContrastiveBatch) -> list[Tensor]:
    groups = [batch.queries, batch.passages]
    texts = [tensor for each in groups for part in each.parts for tensor in part] + [each.places for each in groups]
    return [*texts, batch.texts, batch.right, batch.usable, batch.counts]


def batches(data: TrainingSet, size: int, hard: int = 1, seed: int = 3) -> ContrastiveBatches:
    return ContrastiveBatches(data, 0, size, hard, seed, "in-batch", Grouping(40))


def batch_of(data: TrainingSet, step: int, size: int, hard: int = 1) -> ContrastiveBatch:
    (batch,) = batches(data, size, hard)(step, 0, 1)
    return batch


def known(batch: ContrastiveBatch) -> list[set[int]]:
    """The numbers of all texts that are right for each query of a batch."""
    return [set(row.tolist()) - {-1} for row in batch.right]


def test_the_positives_of_a_query_in_all_its_examples_are_known_in_each(
    by_id: Make, stored: tuple[Texts, Texts]
) -> None:
    """again0 asks what q0 asks, and twin0 says what p0 says."""
    data, _ = by_id(triples("q0 p0 p4", "q1 p1 p5", "q0 p2,p3 p6", "again0 p7,twin0 p5", "q1 p1 p8"))
    number = dict(zip((passage.id for passage in PASSAGES), stored[1].numbers.tolist(), strict=True))
    shared, own = ({number[id_] for id_ in ids} for ids in (("p0", "p2", "p3", "p7"), ("p1",)))
    of_query = {tuple(stored[0].tokens[row].tolist()): right for row, right in ((0, shared), (1, own), (5, shared))}
    for step in range(20):
        batch = batch_of(data, step, size=5)
        there = [tuple(row[real].tolist()) for part in batch.queries.parts for row, real in zip(*part, strict=True)]
        asked = [there[place] for place in batch.queries.places.tolist()]
        assert known(batch) == [of_query[tokens] for tokens in asked]


def test_a_positive_from_another_example_of_the_query_is_never_its_negative(by_id: Make) -> None:
    """A query's pools name, as wrong, what its other examples call right; the collection fills the pools up."""
    lines = [f"{query} p{row} p{(row + 1) % 4},p9" for query in ("q0", "again0") for row in range(4)]
    data, problems = by_id(triples(*lines))
    assert problems == []
    drawn = {
        PASSAGES[row].id
        for seed in range(300)
        for example in range(8)
        for row in batches(data, 8, 3, seed=0)._wrong(example, np.random.default_rng(seed))[0]
    }
    assert drawn == {f"p{row}" for row in range(4, 10)}  # p0 to p3 are right, and twin0 is p0


def test_passages_of_equal_queries_are_no_negatives_of_each_other_in_a_batch(by_text: Make) -> None:
    data, _ = by_text(in_words("otter heron falcon", "otter lynx gecko", "condor walrus heron"))
    batch = batch_of(data, 0, size=3)
    otters = [row for row, right in enumerate(known(batch)) if len(right) == 2]
    assert len(otters) == 2
    right = {int(batch.texts[row]) for row in otters}  # the positives stand first
    assert [known(batch)[row] for row in otters] == [right, right]
    wrong = {int(number) for number in batch.texts[3:]}
    assert len(right & wrong) == 1  # heron, which is wrong for the condor alone
    for row in otters:
        excluded = (batch.texts == batch.right[row].unsqueeze(-1)).any(0).tolist()  # as the objective has it
        assert [place for place in range(3) if excluded[place]] == sorted(otters)


def test_passages_of_an_example_that_was_left_out_are_right_for_nobody(by_text: Make) -> None:
    data, _ = by_text(in_words("otter - heron", "lynx gecko falcon"))
    assert len(data.right.firsts) == 1
    assert len(data.passages.tokens) == 3


@pytest.mark.slow
def test_examples_take_no_memory_each(tmp_path: Path) -> None:
    """400,000 triples of ids by a process that wrote 40,000 before: 30 bytes kept of each would be 11 MB."""
    code = """if True:
        import resource, sys
        from pathlib import Path
        import numpy as np
        from seedcli.data.ids import IdWriter, open_ids
        from seedcli.data.ragged import Ragged
        from seedcli.data.records import Example
        from seedcli.data.tokenised import Texts
        from seedcli.negatives.examples import open_examples, write_examples

        root = Path(sys.argv[1])
        writer = IdWriter(root)
        writer.extend(str(row) for row in range(50_000))
        writer.close()
        numbers = np.random.default_rng(0).integers(0, 2**63 - 1, 50_000)
        texts = Texts(open_ids(root), Ragged.of([], np.uint16), numbers)

        def peak(count):
            folder = root / str(count)
            folder.mkdir()
            triples = (Example(str(n // 9), (str(n % 49_999),), (str(n % 49_991),)) for n in range(count))
            problems = write_examples(folder, triples, None, None, (texts, texts), False, lambda _: None)
            assert not problems.counts
            assert len(open_examples(folder, (texts, texts)).right.firsts) == count
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

        few, many = peak(40_000), peak(400_000)
        print(many - few)
    """
    grown = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env=os.environ, check=True, capture_output=True, text=True
    )
    assert int(grown.stdout) < 10


def test_what_qrels_judge_to_be_right_is_no_negative_of_a_triple(
    stored: tuple[Texts, Texts], wordpiece: Tokenizer, tmp_path: Path
) -> None:
    """p1 is the negative of q0's triple, and judged right for q0: a batch draws another, and masks p1."""
    triples = [Example("q0", ["p0"], ["p1"])]
    qrels = {"q0": {"p0": 1, "p1": 2, "p2": 0}, "absent": {"p3": 1}}
    write_examples(tmp_path, triples, SETTINGS, wordpiece, stored, False, lambda _: None, qrels)
    data = open_examples(tmp_path, stored)
    right = {int(data.passages.numbers[row]) for row in (0, 1)}
    for step in range(50):
        batch = batch_of(data, step, size=1)
        assert set(batch.right[0].tolist()) == right
        assert int(batch.texts[1]) not in right
