"""Training sets: which passages are right for a query, and which candidates are wrong; from qrels and a run, or from
examples such as triples.

All positives of a query are excluded, and passages whose text equals one of them. Letters: E examples.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import DataError
from seedcli.base.progress import Advance
from seedcli.data.ids import fingerprint
from seedcli.data.pairs import Pairs, PairWriter, open_pairs, pairs_of
from seedcli.data.problems import Problems
from seedcli.data.ragged import Ragged, RaggedWriter, mapped
from seedcli.data.records import Example, Passage, Qrels, Query
from seedcli.data.templates import render
from seedcli.data.tokenised import Texts, TextWriter, open_texts
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import EncoderSettings, segmentation
from seedcli.retrieval.runs import Run

RULES = 2  # to be raised when other files would come out of the same examples
BATCH = 1 << 13  # examples held at a time
PART = 1 << 20  # examples looked at at a time
WITHOUT = "queries without a negative"
SCORES = ("positive_scores", "negative_scores")  # their files
NOTHING = np.empty(0, np.float32)


class TrainingSet(NamedTuple):
    """Rows of queries to train on, with rows of their positives and of their negatives."""

    queries: Texts
    passages: Texts
    trained: NDArray[np.int64]  # [E] rows of queries
    positives: Ragged  # [E] rows of passages
    negatives: Ragged  # [E] rows of passages, in the order of the run
    right: Pairs  # numbers of queries, and of the passages that are right for them
    scores: "Scores | None" = None


class Scores(NamedTuple):
    """What a run or a teacher gave to the passages of E examples, NaN where it gave nothing."""

    positives: Ragged  # [E], as those of the training set
    negatives: Ragged  # [E]


def positive_ids(grades: dict[str, int]) -> list[str]:
    return [passage for passage, grade in grades.items() if grade > 0]


def chosen(queries: Sequence[str], fraction: float, most: int | None, seed: int) -> set[str]:
    """A share of different queries, at least one and at most `most`; the same seed's larger share holds the smaller."""
    order = sorted(set(queries), key=lambda query: fingerprint(f"{seed} {query}"))
    count = max(1, round(fraction * len(order)))
    return set(order[: count if most is None else min(count, most)])


def part_of(data: TrainingSet, kept: NDArray[np.bool_]) -> TrainingSet:
    """Some of the examples [E]."""

    def of(rows: Ragged) -> Ragged:
        counts = np.diff(rows.offsets)
        return Ragged(rows.values[np.repeat(kept, counts)], np.append(0, np.cumsum(counts[kept])))

    scores = None if data.scores is None else Scores(*map(of, data.scores))
    positives, negatives = of(data.positives), of(data.negatives)
    return data._replace(trained=data.trained[kept], positives=positives, negatives=negatives, scores=scores)


def from_qrels(
    queries: Texts, passages: Texts, qrels: Qrels, run: Run, places: slice, wanted: Collection[str] | None = None
) -> tuple[TrainingSet, dict[str, Any], Problems]:
    """An example for every query that has a text and a positive; a report of what was dropped, and what is wrong.

    Candidates are the passages of its ranking at `places`. Only `wanted` queries give examples; what is right for the
    others is known all the same, as their texts may be equal.
    """
    trained, positives, negatives = [], [], []
    right_scores, wrong_scores = [], []
    dropped = dict.fromkeys(("positive", "text of a positive", "not in the corpus"), 0)
    without = {"text": 0, "positive": 0}
    problems = Problems()
    chosen_ones = qrels if wanted is None else {query: qrels[query] for query in qrels if query in wanted}
    asked = queries.ids.rows(list(chosen_ones))
    for (query, grades), row in zip(chosen_ones.items(), asked.tolist(), strict=True):
        named = positive_ids(grades)
        rows = passages.ids.rows(named)
        for id_ in (id_ for id_, found in zip(named, rows.tolist(), strict=True) if found < 0):
            problems.add("positives of the qrels that the corpus lacks", id_)
        right = rows[rows >= 0]
        if row < 0:
            without["text"] += 1
            problems.add("queries of the qrels without a text", query)
            continue
        if not len(right):
            without["positive"] += 1
            problems.add("queries without a positive in the corpus", query)
            continue
        documents, scores = run.ranking(query)
        found = [id_.decode() for id_ in documents[places].tolist()]
        pool = passages.ids.rows(found)
        for id_ in (id_ for id_, place in zip(found, pool.tolist(), strict=True) if place < 0):
            problems.add("negatives that the corpus lacks", id_)
        known, same = pool >= 0, np.isin(pool, right)
        equal = known & ~same & np.isin(passages.numbers[pool], passages.numbers[right])
        dropped["positive"] += int(same.sum())
        dropped["text of a positive"] += int(equal.sum())
        dropped["not in the corpus"] += int((~known).sum())
        kept = known & ~same & ~equal
        trained.append(row)
        positives.append(right)
        negatives.append(pool[kept])
        named = [id_ for id_, found_at in zip(named, rows.tolist(), strict=True) if found_at >= 0]
        right_scores.append([_score(id_, documents, scores) for id_ in named])
        wrong_scores.append(scores[places][kept])
    report = {"queries": len(trained), "queries without": without, "candidates dropped": dropped}
    pools = Ragged.of(positives, np.int64), Ragged.of(negatives, np.int64)
    rows = np.array(trained, dtype=np.int64)
    right_pairs = pairs_of(*judged_pairs(qrels, queries, passages))
    given = Scores(Ragged.of(right_scores, np.float32), Ragged.of(wrong_scores, np.float32))
    return TrainingSet(queries, passages, rows, *pools, right_pairs, given), report, problems


def _score(id_: str, documents: NDArray[np.bytes_], scores: NDArray[np.float32]) -> float:
    """What a ranking gave to a document, NaN where it lacks it."""
    found = np.flatnonzero(documents == id_.encode())
    return float(scores[found[0]]) if len(found) else np.nan


def write_examples(
    folder: Path, examples: Iterable[Example], settings: EncoderSettings, tokenizer: Tokenizer,
    texts: tuple[Texts, Texts] | None, scored: bool, advance: Advance, qrels: Qrels | None = None,
) -> Problems:  # fmt: skip
    """Leave examples in a folder, a part held at a time: by rows of `texts` (queries, passages) when they name ids,
    else with their own texts. One without a positive is left out. What `qrels` judge to be right is no negative either.
    Where they are `scored`, their scores are left beside them.
    """
    problems, rest = Problems(), iter(examples)
    source: _ById | _ByText = _ById(*texts) if texts else _ByText(folder, settings, tokenizer)
    positives, negatives = (RaggedWriter(folder, name, np.int64) for name in ("positives", "negatives"))
    scores = [RaggedWriter(folder, name, np.float32) for name in SCORES] if scored else []
    right = PairWriter(folder)
    if texts and qrels:
        right.extend(*judged_pairs(qrels, *texts))
    with (folder / "trained").open("wb") as trained:
        while batch := list(islice(rest, BATCH)):
            asked, numbers = source.queries([example.query for example in batch], problems)
            found = source.passages([example.positives for example in batch], problems)
            wrong = source.passages([example.negatives for example in batch], problems)
            if scored:
                for example in batch:
                    if not (example.positive_scores and (example.negative_scores or not example.negatives)):
                        problems.add("examples without a teacher's scores", _name(example.query))
                found = found.scored([(example.positives, example.positive_scores) for example in batch])
                wrong = wrong.scored([(example.negatives, example.negative_scores) for example in batch])
            kept = (asked >= 0) & (found.counts > 0)
            for number in np.flatnonzero((asked >= 0) & (found.counts == 0)).tolist():
                problems.add("queries without a positive", _name(batch[number].query))
            for number in np.flatnonzero(kept & (wrong.counts == 0)).tolist():
                problems.add(WITHOUT, _name(batch[number].query))
            found, wrong = found.of(kept), wrong.of(kept)
            trained.write(asked[kept].tobytes())
            positives.extend_flat(found.rows, found.counts)
            negatives.extend_flat(wrong.rows, wrong.counts)
            for writer, part in zip(scores, (found, wrong), strict=False):
                writer.extend_flat(part.scores, part.counts)
            right.extend(np.repeat(numbers[kept], found.counts), found.numbers)
            advance(len(batch))
    for closing in (positives, negatives, *scores, right, source):
        closing.close()
    return problems


def judged_pairs(qrels: Qrels, queries: Texts, passages: Texts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of queries and of the passages that are judged right for them [K], [K]."""
    right = [(query, passage) for query, grades in qrels.items() for passage in positive_ids(grades)]
    asked = queries.ids.rows([query for query, _ in right])
    found = passages.ids.rows([passage for _, passage in right])
    known = (asked >= 0) & (found >= 0)
    return queries.numbers[asked[known]], passages.numbers[found[known]]


def open_examples(folder: Path, texts: tuple[Texts, Texts] | None) -> TrainingSet:
    """What write_examples left."""
    queries, passages = texts or (open_texts(folder / "queries"), open_texts(folder / "passages"))
    trained = mapped(folder / "trained", np.int64)
    rows = Ragged.open(folder, "positives"), Ragged.open(folder, "negatives")
    scored = (folder / f"{SCORES[0]}.dtype").is_file()
    scores = Scores(*(Ragged.open(folder, name) for name in SCORES)) if scored else None
    return TrainingSet(queries, passages, trained, *rows, open_pairs(folder), scores)


def right_candidates(data: TrainingSet) -> int:
    """How many candidates are known to be right for their query: they are never drawn. A part is held at a time."""
    count, keys = 0, right_keys(data)
    for begin in range(0, len(data.trained), PART):
        offsets = data.negatives.offsets[begin : begin + PART + 1]
        owners = np.repeat(np.arange(begin, begin + len(offsets) - 1), np.diff(offsets))
        count += int(is_right(data, keys, owners, data.negatives.values[offsets[0] : offsets[-1]]).sum())
    return count


def right_keys(data: TrainingSet) -> NDArray[np.uint64]:
    """What `is_right` looks among."""
    return np.sort(_key(data.right.firsts, data.right.seconds))


def is_right(
    data: TrainingSet, keys: NDArray[np.uint64], owners: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which passages, given by their `rows`, are right for the examples that own them, or equal one that is [K]."""
    asked = _key(data.queries.numbers[data.trained[owners]], data.passages.numbers[rows])
    found = np.minimum(np.searchsorted(keys, asked), max(0, len(keys) - 1))
    return np.asarray(keys[found] == asked) if len(keys) else np.zeros(len(rows), dtype=bool)


def _key(firsts: NDArray[np.int64], seconds: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Pairs of fingerprints as one number each."""
    return np.asarray(firsts).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ np.asarray(seconds).astype(np.uint64)


class _Found(NamedTuple):
    """Passages of some examples, one example's after the other's."""

    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    counts: NDArray[np.int64]  # of each example
    known: NDArray[np.bool_]  # of all that were named, whether they are among these
    scores: NDArray[np.float32] = NOTHING

    def of(self, kept: NDArray[np.bool_]) -> "_Found":
        """Those of some of the examples."""
        inside = np.repeat(kept, self.counts)
        scores = self.scores[inside] if len(self.scores) else self.scores
        return self._replace(
            rows=self.rows[inside], numbers=self.numbers[inside], counts=self.counts[kept], scores=scores
        )

    def scored(self, given: Sequence[tuple[Sequence[Any], Sequence[float]]]) -> "_Found":
        """With the scores that examples give to the passages they name, NaN where they give none."""
        flat = [score for named, scores in given for score in (scores or [np.nan] * len(named))]
        return self._replace(scores=np.array(flat, np.float32)[self.known])


class _ById:
    """Examples that name queries and passages by id: they are rows of texts that are there already."""

    def __init__(self, queries: Texts, passages: Texts):
        self.asked, self.found = queries, passages

    def queries(self, named: Sequence[Query | str], problems: Problems) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row and the number of each query [b], -1 where it is unknown."""
        ids = [query if isinstance(query, str) else query.id for query in named]
        rows = self.asked.ids.rows(ids)
        _tell(problems, "queries of examples without a text", ids, rows < 0)
        return rows, np.where(rows >= 0, self.asked.numbers[rows], -1)

    def passages(self, named: Sequence[Sequence[Passage | str]], problems: Problems) -> _Found:
        """The known passages of each example."""
        ids = [passage if isinstance(passage, str) else passage.id for passage in chain.from_iterable(named)]
        rows, owners = self.found.ids.rows(ids), np.repeat(np.arange(len(named)), _counts(named))
        known = rows >= 0
        _tell(problems, "passages of examples that the corpus lacks", ids, ~known)
        counts = np.bincount(owners[known], minlength=len(named))
        return _Found(rows[known], self.found.numbers[rows[known]], counts, known)

    def close(self) -> None:
        pass


class _ByText:
    """Examples that bring their texts: these are written beside them, as often as they stand there."""

    def __init__(self, folder: Path, settings: EncoderSettings, tokenizer: Tokenizer):
        self.settings = settings
        self.asked = TextWriter(folder / "queries", tokenizer, settings.query_length)
        self.found = TextWriter(folder / "passages", tokenizer, segmentation(settings, tokenizer).longest)

    def queries(self, named: Sequence[Query | str], problems: Problems) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._written(self.asked, self.settings.query_template, named, "queries", problems)

    def passages(self, named: Sequence[Sequence[Passage | str]], problems: Problems) -> _Found:
        flat = list(chain.from_iterable(named))
        written = self._written(self.found, self.settings.passage_template, flat, "passages", problems)
        return _Found(*written, _counts(named), np.ones(len(flat), bool))

    def _written(
        self, writer: TextWriter, template: str, named: Sequence[Query | Passage | str], unit: str, problems: Problems
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and numbers of texts that are now written."""
        texts = [render(template, _whole(record)) for record in named]
        _tell(
            problems,
            f"{unit} with an empty text",
            [_name(record) for record in named],
            np.array([not text for text in texts], dtype=bool),
        )
        begin = writer.rows
        numbers = writer.extend([], texts)  # nobody asks for them by id
        return np.arange(begin, writer.rows), numbers

    def close(self) -> None:
        self.asked.close()
        self.found.close()


def _counts(named: Sequence[Sequence[Passage | str]]) -> NDArray[np.int64]:
    return np.array([len(part) for part in named], dtype=np.int64)


def _tell(problems: Problems, kind: str, names: Sequence[str], where: NDArray[np.bool_]) -> None:
    for number in np.flatnonzero(where).tolist():
        problems.add(kind, names[number])


def _name(record: Query | Passage | str) -> str:
    return record if isinstance(record, str) else record.id or record.text


def _whole(record: Query | Passage | str) -> Query | Passage:
    if isinstance(record, str):
        raise DataError(f"an example names the id {record!r:.60}, where those before it brought their texts")
    return record
