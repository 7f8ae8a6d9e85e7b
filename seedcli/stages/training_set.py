"""What seed finetune trains on: texts as the model reads them, and examples over them, both kept in the cache."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import cache_folder, made_whole, read_json, write_json
from seedcli.base.machine import size
from seedcli.base.manifest import digest
from seedcli.base.progress import counted
from seedcli.configs.finetune import FinetuneConfig
from seedcli.data import tokenised
from seedcli.data.collections import Collection
from seedcli.data.problems import Problems
from seedcli.data.records import Example, Qrels
from seedcli.data.sources import open_collection
from seedcli.data.tokenised import Texts
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.towers import Towers
from seedcli.negatives import examples
from seedcli.negatives.bm25 import mine
from seedcli.negatives.examples import TrainingSet, chosen, from_qrels, part_of, positive_ids
from seedcli.negatives.filters import Margins, answered, cut, drop, histogram, too_near
from seedcli.negatives.renewal import write_report
from seedcli.retrieval.run_files import holds_run, read_run, run_path
from seedcli.retrieval.runs import Run, run_of
from seedcli.stages.estimates import (
    announce,
    checkpointed,
    rounded,
    text_bytes,
    weights,
)
from seedcli.stages.given_examples import Answers, looked_at
from seedcli.stages.stage import Stage
from seedcli.stages.texts import Source
from seedcli.stages.training_memory import memory_held
from seedcli.training.objectives import TAUGHT

READ = (  # settings that decide the tokens
    "query_template", "passage_template", "query_length", "passage_length", "segments", "segment_overlap",
)  # fmt: skip
FILE = "file"  # as a source of negatives: those that the training file brings
ANCE = "ance"  # those that the model in training ranks first
DROPPED = {  # what is said of candidates that were left out
    "positive": "are positives",
    "text of a positive": "have the text of one",
    "not in the corpus": "aren't in the corpus",
    "right for the query": "are right for the query",
    "answer": "hold an answer",
    "absolute margin": "score within the absolute margin",
    "relative margin": "score within the relative margin",
}
DEPTH = re.compile(r"(?:(\d+):)?(\d+)")


@dataclass(frozen=True)
class Preparation:
    """A training set in the making."""

    config: FinetuneConfig
    stage: Stage
    towers: Towers
    tokenizer: Tokenizer
    collection: Collection

    @cached_property
    def source(self) -> Source:
        stage = self.stage
        identity = stage.inputs["data"].identity
        return Source(self.collection, identity, self.towers.settings, self.tokenizer, stage.runtime, stage.progress)

    def training_set(self) -> TrainingSet:
        """The training set; negatives.json says what was left out."""
        config, given = self.config, self.examples()
        data, report, problems = self.from_examples(given) if given else self.from_qrels()
        problems.settle(self.named, config.problems, self.stage.progress)
        if config.loss.loss in TAUGHT and data.scores is not None:
            data = self.taught(data)
        if masks := self.stage.runtime.share(lambda: self.masks(data)):
            data, dropped = drop(data, masks)
            report["candidates dropped"] |= dropped
        without = data.negatives.empty if self.has_candidates else 0
        report["queries without"]["negative"] = without
        report["scores"] = histogram(data.scores) if data.scores is not None and self.stage.runtime.first else {}
        if not len(data.trained):
            raise DataError(f"{config.data}: no query of {config.split!r} has both a text and a positive in the corpus")
        if self.has_candidates and without == len(data.trained):
            raise DataError(self.without_candidates(report))
        if self.stage.runtime.first:
            write_report(self.stage.folder, {**report, "problems": problems.plain()})
        self.tell(data, report)
        return data

    def taught(self, data: TrainingSet) -> TrainingSet:
        """The examples that a teacher scored. Raises DataError when there is none."""
        known, scores = np.ones(len(data.trained), dtype=bool), data.scores
        for part in scores or ():
            owners = np.repeat(np.arange(len(part)), np.diff(part.offsets))[np.isfinite(part.values)]
            known &= np.bincount(owners, minlength=len(part)) > 0
        if not known.any():
            raise DataError(f"{self.named}: no example has a teacher's score of a positive and of a negative")
        if not known.all():
            left = len(known) - int(known.sum())
            self.stage.progress.say(
                f"{left:,} examples are left out: no teacher's score of a positive and of a negative"
            )
            return part_of(data, known)
        return data

    @property
    def has_candidates(self) -> bool:
        """Whether hard negatives are chosen from candidates that are there before training."""
        return self.config.negatives.hard > 0 and self.config.negatives.negatives != ANCE

    @property
    def named(self) -> str:
        """What the examples come from, as it was given."""
        source = self.config.negatives.negatives
        return self.config.data if source == FILE or self.examples() is None else source

    def without_candidates(self, report: dict[str, Any]) -> str:
        """Why no query has a negative, as far as can be told."""
        source, split = self.config.negatives.negatives, self.config.split
        if any(report["candidates dropped"].values()):
            return f"{source}: of the candidates none is left for any query of {split!r}: {told_drops(report)}"
        if self.examples() is not None:
            return f"{self.named}: no example has a negative; --hard 0 trains on the batch's passages alone"
        depth = f"--negative-depth {self.config.negatives.negative_depth}"
        return (
            f"{source}: ranks no passage for any query of {split!r}; is it of another split, or shorter than {depth}?"
        )

    def tell(self, data: TrainingSet, report: dict[str, Any]) -> None:
        without = report["queries without"]["negative"]
        lacking = f"; {without:,} of the queries have no candidate: random passages stand in" if without else ""
        say = self.stage.progress.say
        say(f"{len(data.trained):,} training queries, {len(data.passages.tokens):,} passages{lacking}")
        if self.has_candidates and any(report["candidates dropped"].values()):
            say(f"candidates left out: {told_drops(report)}")

    def examples(self) -> Callable[[], Iterator[Example]] | None:
        """The training file's examples, or triples that stand for negatives; None when qrels and a run serve."""
        if "negatives" not in self.stage.inputs:
            return None
        path = Path(self.stage.inputs["negatives"].path)
        if not holds_examples(self.config.negatives.negatives, path):
            return None
        return open_collection(path).example_reader(self.config.split)

    def from_qrels(self) -> tuple[TrainingSet, dict[str, Any], Problems]:
        config = self.config
        texts = self.texts(whole_file=False)
        qrels = self.collection.qrels(config.split)
        judged = [query for query, grades in qrels.items() if positive_ids(grades)]
        kept = chosen(judged, config.fraction, config.max_queries, config.optimize.seed)
        unused = set(judged) - kept
        wanted = [query for query in qrels if query not in unused]
        return from_qrels(*texts, qrels, self.negatives_run(kept), places(config.negatives.negative_depth), set(wanted))

    def from_examples(self, given: Callable[[], Iterator[Example]]) -> tuple[TrainingSet, dict[str, Any], Problems]:
        """Examples by the rows of their texts."""
        config, stage, settings = self.config, self.stage, self.towers.settings
        by_id, scored = looked_at(given)
        inputs = {name: found.identity for name, found in stage.inputs.items() if name in {"data", "negatives"}}
        reads = [
            *map(dataclasses.asdict(settings).get, READ),
            self.tokenizer.backend.to_str(),
            config.split,
            config.negatives.negative_depth,
            config.negatives.drop_answers and not by_id,
        ]
        kept = cache_folder() / f"examples-{digest([examples.RULES, tokenised.RULES, inputs, *reads])[:16]}"
        source, qrels, texts = bytes_read(given), Qrels(), None
        if by_id:
            texts = self.texts(True, 0 if kept.is_dir() else 3 * source)
            if self.collection.judges(config.split):
                qrels = self.collection.qrels(config.split)  # what they know to be right is no negative
        else:
            self.expect(f"about {size(source)} of examples", 0 if kept.is_dir() else source)

        def make() -> Path:
            if not kept.is_dir():
                answers = Answers(config.negatives.drop_answers and not by_id)
                with made_whole(kept) as aside, stage.progress.track("examples", None, "examples") as advance:
                    cut_down = (answers.without(cut(each, places(config.negatives.negative_depth))) for each in given())
                    found = examples.write_examples(
                        aside, cut_down, settings, self.tokenizer, texts, scored, advance, qrels
                    )
                    known = examples.right_candidates(examples.open_examples(aside, texts))
                    write_json(aside / "problems.json", found.plain())
                    write_json(aside / "dropped.json", answers.told(config.data) | {"right for the query": known})
            return kept

        data = examples.open_examples(stage.runtime.cached(make), texts)
        problems = Problems.of(read_json(kept / "problems.json"))
        problems.counts.pop(examples.WITHOUT, 0)
        if config.fraction < 1 or config.max_queries:
            asked = data.queries.numbers[data.trained]
            named = [str(number) for number in np.unique(asked).tolist()]
            wanted = {int(name) for name in chosen(named, config.fraction, config.max_queries, config.optimize.seed)}
            data = part_of(data, np.isin(asked, list(wanted)))
        report = {
            "queries": len(data.trained), "queries without": {}, "candidates dropped": read_json(kept / "dropped.json")
        }  # fmt: skip
        return data, report, problems

    def sifted(self, data: TrainingSet) -> tuple[TrainingSet, dict[str, int]]:
        """Without the candidates that filters drop, and how many each did; for the process that calls it alone."""
        return drop(data, self.masks(data))

    def masks(self, data: TrainingSet) -> dict[str, Any]:
        """By the name of a filter, which candidates it drops."""
        options, masks = self.config.negatives, dict[str, Any]()
        if options.hard and options.drop_answers and len(data.passages.ids) and len(data.negatives.values):
            masks["answer"] = self.answered(data)
        margins = Margins(options.absolute_margin, options.relative_margin)
        if options.hard and margins.any and data.scores is not None:
            masks |= too_near(data, data.scores, margins)
        return masks

    def answered(self, data: TrainingSet) -> Any:
        trained = set(np.unique(data.trained).tolist())
        queries = [query for query in self.collection.queries_of_file(self.config.split) if query.answers]
        rows = data.queries.ids.rows([query.id for query in queries]).tolist()
        answers = {row: query.answers for row, query in zip(rows, queries, strict=True) if row in trained}
        if not answers:
            raise ConfigError(f"--set negatives.drop_answers: the queries of {self.config.data} bring no answers")
        total = len(data.passages.tokens)
        with self.stage.progress.track("answers", total, "passages") as advance:
            return answered(data, counted(self.collection.passages(), advance), answers)

    def texts(self, whole_file: bool, more: int = 0) -> tuple[Texts, Texts]:
        """Queries and passages as the model reads them; the cache will take `more` bytes for other things.

        Examples name any query of their split's file; else those that its qrels judge are read.
        """
        source = self.source
        queries, passages = source.queries(self.config.split, whole_file), source.passages()
        tokens = 0.0
        for reading in (queries, passages):
            reading.survey.problems.settle(self.config.data, self.config.problems, self.stage.progress)
            read = source.tokens(reading)
            tokens += read
            more += source.cached_bytes(reading, read)
        counts = [f"{reading.survey.records:,}" for reading in (queries, passages)]
        searches = self.config.negatives.negatives == ANCE
        encoded = passages.survey.records * self.vector_bytes if searches else 0
        self.expect(f"{counts[0]} queries and {counts[1]} passages, about {rounded(tokens)} tokens", more, encoded)
        return source.texts(queries), source.texts(passages)

    @property
    def vector_bytes(self) -> int:
        """What the vectors of a passage take on disk at most while negatives of ANCE are searched for."""
        settings = self.towers.settings
        return settings.segments * settings.token_vectors * (4 * self.towers.passage.size + 28)

    def expect(self, reads: str, cached: int, encoded: int = 0) -> None:
        """Tell what is to come; `encoded` vectors' bytes lie in the folder for a time."""
        config, numbers = self.config, weights(self.towers)
        saved = checkpointed(numbers, config.saving.keep_last) + 4 * numbers * 3 * (config.watch.dev is not None)
        holds = memory_held(config, self.towers, self.stage.runtime.world)
        announce(self.stage, reads, holds, {cache_folder(): cached, self.stage.folder: saved + encoded})

    def negatives_run(self, wanted: set[str]) -> Run:
        """The run that negatives come from: given, or searched with BM25 and kept beside the model."""
        config, stage = self.config, self.stage
        if not self.has_candidates:
            return run_of([])
        if "negatives" in stage.inputs:
            return read_run(run_path(Path(stage.inputs["negatives"].path)))
        identity, depth = stage.inputs["data"].identity, places(config.negatives.negative_depth).stop
        stage.runtime.share(
            lambda: mine(self.collection, identity, config.split, wanted, depth, stage.folder, stage.progress)
        )
        return read_run(stage.folder / "bm25.trec")


def told_drops(report: dict[str, Any]) -> str:
    """What was dropped, for a person: "1,204 are positives, 33 hold an answer"."""
    return ", ".join(
        f"{count:,} {DROPPED.get(name, name)}" for name, count in report["candidates dropped"].items() if count
    )


def places(depth: int | str) -> slice:
    """The places of a ranking that --negative-depth names. Raises ConfigError for words that name none."""
    found = DEPTH.fullmatch(str(depth).strip())
    if found is None or int(found[1] or 0) >= int(found[2]):
        raise ConfigError(f"--negative-depth {depth}: give how many are candidates, as in 100, or a part, as in 10:200")
    return slice(int(found[1] or 0), int(found[2]))


def holds_examples(source: str, path: Path) -> bool:
    """Whether a source of negatives brings whole examples: the word file, or a path that holds no run."""
    return source == FILE or not holds_run(path)


def bytes_read(reader: Callable[[], Any]) -> int:
    """Bytes of text in the files that a reader opens, as far as it names them."""
    given = getattr(reader, "args", ())
    paths = [path for part in given for path in (part if isinstance(part, list) else [part]) if isinstance(path, Path)]
    return sum(map(text_bytes, paths))
