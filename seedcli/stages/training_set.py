"""What seed finetune trains on: texts as the model reads them, and examples over them, both kept in the cache."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seedcli.base.errors import DataError
from seedcli.base.files import cache_folder, made_whole, read_json, write_json
from seedcli.base.machine import size
from seedcli.base.manifest import digest, read_manifest
from seedcli.base.progress import counted
from seedcli.configs.finetune import FinetuneConfig
from seedcli.data import tokenised
from seedcli.data.collections import Collection
from seedcli.data.lines import first_line
from seedcli.data.problems import Problems
from seedcli.data.records import Example, Passage, Query
from seedcli.data.sources import open_collection
from seedcli.data.survey import Survey, survey_passages, survey_queries
from seedcli.data.templates import render
from seedcli.data.tokenised import Texts
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder
from seedcli.negatives import examples
from seedcli.negatives.bm25 import mine
from seedcli.negatives.examples import TrainingSet, from_qrels
from seedcli.retrieval.runs import Run, read_run, run_of, run_path
from seedcli.stages.estimates import (
    announce,
    checkpointed,
    mean_tokens,
    rounded,
    text_bytes,
    training_memory,
    weights,
)
from seedcli.stages.stage import Stage

READ = ("query_template", "passage_template", "query_length", "passage_length")  # settings that decide the tokens
FILE = "file"  # as a source of negatives: those that the training file brings
RUN = re.compile(r"(\S+\s+){3}-?\d+\s+\S+\s+\S+\s*")  # the fourth column is a rank; six words of a triple hold none


class Reading(NamedTuple):
    """Queries or passages, and how the model reads them."""

    unit: str
    records: Callable[[], Iterator[Passage | Query]]
    survey: Survey
    template: str
    length: int


@dataclass(frozen=True)
class Preparation:
    """A training set in the making: texts and examples are tokenised once, and kept in the cache."""

    config: FinetuneConfig
    stage: Stage
    encoder: Encoder
    tokenizer: Tokenizer
    collection: Collection

    def training_set(self) -> TrainingSet:
        """The training set; negatives.json says what was left out."""
        config, given = self.config, self.examples()
        data, report, problems = self.from_examples(given) if given else self.from_qrels()
        problems.settle(config.data, config.problems, self.stage.progress)
        if not len(data.trained):
            raise DataError(f"{config.data}: no query of {config.split!r} has both a text and a positive in the corpus")
        without, source = report["queries without"]["negative"], config.negatives.negatives
        if config.negatives.hard and without == len(data.trained):
            raise DataError(f"{source}: no negative for any query of {config.split!r} is in the corpus")
        if self.stage.runtime.first:
            write_json(self.stage.folder / "negatives.json", report)
        lacking = f"; {without:,} queries without a negative" if config.negatives.hard else ""
        self.stage.progress.say(
            f"{len(data.trained):,} training queries, {len(data.passages.tokens):,} passages{lacking}"
        )
        return data

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
        texts = self.texts(examples=False)
        qrels = self.collection.qrels(config.split)
        data, report, problems = from_qrels(*texts, qrels, self.negatives_run(), config.negatives.depth)
        return data, report | {"problems": problems.plain()}, problems

    def from_examples(self, given: Callable[[], Iterator[Example]]) -> tuple[TrainingSet, dict[str, Any], Problems]:
        """Examples by the rows of their texts."""
        config, stage, settings = self.config, self.stage, self.encoder.settings
        first = next(given(), None)
        inputs = {name: found.identity for name, found in stage.inputs.items() if name != "model"}
        reads = [
            *map(asdict(settings).get, READ),
            self.tokenizer.backend.to_str(),
            config.split,
            config.negatives.depth,
        ]
        kept = cache_folder() / f"examples-{digest([examples.RULES, tokenised.RULES, inputs, *reads])[:16]}"
        source, qrels = bytes_read(given), dict[str, dict[str, int]]()
        if first is not None and isinstance(first.query, str):
            texts = self.texts(True, 0 if kept.is_dir() else 3 * source)
            if self.collection.judges(config.split):
                qrels = self.collection.qrels(config.split)  # what they know to be right is no negative
        else:
            texts = None
            self.expect(f"about {size(source)} of examples", 0 if kept.is_dir() else source)

        def make() -> Path:
            if not kept.is_dir():
                with made_whole(kept) as aside, stage.progress.track("examples", None, "examples") as advance:
                    found = examples.write_examples(
                        aside, given(), settings, self.tokenizer, texts, config.negatives.depth, advance, qrels
                    )
                    write_json(aside / "problems.json", found.plain())
            return kept

        data = examples.open_examples(stage.runtime.cached(make), texts)
        problems = Problems.of(read_json(kept / "problems.json"))
        without = {"negative": problems.counts.pop(examples.WITHOUT, 0)}
        report = {"queries": len(data.trained), "queries without": without, "problems": problems.plain()}
        return data, report, problems

    def texts(self, examples: bool, more: int = 0) -> tuple[Texts, Texts]:
        """Queries and passages as the model reads them; the cache will take `more` bytes for other things.

        Examples name any query of their split's file; else those that its qrels judge are read.
        """
        stage, settings, identity = self.stage, self.encoder.settings, self.stage.inputs["data"].identity
        split, progress = self.config.split, stage.progress
        part = f"file of {split}" if examples else split

        def asked() -> Iterator[Query]:
            return self.collection.queries_of_file(split) if examples else self.collection.queries(split)

        surveys = (
            stage.runtime.cached(lambda: survey_queries(asked, part, identity, progress)),
            stage.runtime.cached(lambda: survey_passages(self.collection, identity, progress)),
        )
        queries = Reading(f"queries {part}", asked, surveys[0], settings.query_template, settings.query_length)
        passages = Reading(
            "passages", self.collection.passages, surveys[1], settings.passage_template, settings.passage_length
        )
        tokens = 0.0
        for reading in (queries, passages):
            reading.survey.problems.settle(self.config.data, self.config.problems, stage.progress)
            read = self.tokens(reading)
            tokens += read
            more += 0 if self.folder(reading).is_dir() else 24 * reading.survey.records + int(2 * read)
        counts = [f"{survey.records:,}" for survey in surveys]
        self.expect(f"{counts[0]} queries and {counts[1]} passages, about {rounded(tokens)} tokens", more)
        return self.kept(queries), self.kept(passages)

    def folder(self, reading: Reading) -> Path:
        """Where the cache keeps the texts of a reading."""
        read = [reading.unit, reading.template, reading.length, self.tokenizer.backend.to_str()]
        return cache_folder() / f"texts-{digest([tokenised.RULES, self.stage.inputs['data'].identity, *read])[:16]}"

    def kept(self, reading: Reading) -> Texts:
        """The texts of a reading from the cache, tokenised unless they are there."""
        folder, progress = self.folder(reading), self.stage.progress

        def make() -> Texts:
            if not folder.is_dir():
                total = reading.survey.records
                with made_whole(folder) as aside, progress.track("tokens", total, reading.unit.split()[0]) as advance:
                    records = counted(reading.records(), advance)
                    tokenised.write_texts(aside, records, reading.template, self.tokenizer, reading.length)
            return tokenised.open_texts(folder)

        return self.stage.runtime.cached(make)

    def tokens(self, reading: Reading) -> float:
        """About how many tokens all texts of a reading have."""
        texts = (render(reading.template, record) for record in reading.records())
        return reading.survey.records * mean_tokens(texts, self.tokenizer, reading.length)

    def expect(self, reads: str, cached: int) -> None:
        """Tell what is to come."""
        settings, built, config = self.encoder.settings, self.encoder.backbone.config, self.config
        queries = math.ceil(config.optimize.batch_size / self.stage.runtime.world)
        tokens = queries * (settings.query_length + (1 + config.negatives.hard) * settings.passage_length)
        holds = training_memory(weights(self.encoder), tokens, self.encoder.size, int(built.num_hidden_layers))
        saved = checkpointed(weights(self.encoder), config.saving.keep_last)
        announce(self.stage, reads, holds, {cache_folder(): cached, self.stage.folder: saved})

    def negatives_run(self) -> Run:
        """The run that negatives come from: given, or mined here with BM25 and kept beside the model."""
        config, stage = self.config, self.stage
        if not config.negatives.hard:
            return run_of([])
        if "negatives" in stage.inputs:
            return read_run(run_path(Path(stage.inputs["negatives"].path)))
        stage.runtime.share(
            lambda: mine(self.collection, config.split, config.negatives.depth, stage.folder, stage.progress)
        )
        return read_run(stage.folder / "bm25.trec")


def holds_examples(source: str, path: Path) -> bool:
    """Whether a source of negatives brings whole examples: the word file, or a path that holds no run.

    A run is a folder of seed search, or a file whose first line has a run's six columns.
    """
    if source == FILE:
        return True
    if path.is_dir():
        made = read_manifest(path)
        return not (path / "run.trec").is_file() and (made is None or made.verb != "search")
    return RUN.fullmatch(first_line(path)) is None


def bytes_read(reader: Callable[[], Any]) -> int:
    """Bytes of text in the files that a reader opens, as far as it names them."""
    given = getattr(reader, "args", ())
    paths = [path for part in given for path in (part if isinstance(part, list) else [part]) if isinstance(path, Path)]
    return sum(map(text_bytes, paths))
