"""Queries and passages as a model reads them: tokenised once, and kept in the cache by what they are and how read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from seedcli.base.files import cache_folder, made_whole
from seedcli.base.manifest import digest
from seedcli.base.progress import Progress, counted
from seedcli.base.runtime import Runtime
from seedcli.data import tokenised
from seedcli.data.collections import Collection
from seedcli.data.records import Passage, Query
from seedcli.data.survey import Survey, survey_passages, survey_queries
from seedcli.data.templates import render
from seedcli.data.tokenised import Texts
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import EncoderSettings, segmentation
from seedcli.stages.estimates import mean_tokens


class Reading(NamedTuple):
    """Queries or passages, and how the model reads them."""

    unit: str
    records: Callable[[], Iterator[Passage | Query]]
    survey: Survey
    template: str
    length: int


@dataclass(frozen=True)
class Source:
    """A collection whose texts are read by one model. Processes wait for the one of their machine that reads."""

    collection: Collection
    identity: str
    settings: EncoderSettings
    tokenizer: Tokenizer
    runtime: Runtime
    progress: Progress

    def queries(self, split: str, whole_file: bool = False) -> Reading:
        """Those that a split's qrels judge, or all of its `whole_file`."""
        part = f"file of {split}" if whole_file else split

        def asked() -> Iterator[Query]:
            return self.collection.queries_of_file(split) if whole_file else self.collection.queries(split)

        survey = self.runtime.cached(lambda: survey_queries(asked, part, self.identity, self.progress))
        return Reading(f"queries {part}", asked, survey, self.settings.query_template, self.settings.query_length)

    def passages(self) -> Reading:
        survey = self.runtime.cached(lambda: survey_passages(self.collection, self.identity, self.progress))
        length = segmentation(self.settings, self.tokenizer).longest
        return Reading("passages", self.collection.passages, survey, self.settings.passage_template, length)

    def texts(self, reading: Reading) -> Texts:
        """Those of a reading from the cache, tokenised unless they are there."""
        folder = cache_folder() / f"texts-{self.key(reading)}"

        def make() -> Texts:
            if not folder.is_dir():
                total, unit = reading.survey.records, reading.unit.split()[0]
                with made_whole(folder) as aside, self.progress.track("tokens", total, unit) as advance:
                    records = counted(reading.records(), advance)
                    tokenised.write_texts(aside, records, reading.template, self.tokenizer, reading.length)
            return tokenised.open_texts(folder)

        return self.runtime.cached(make)

    def tokens(self, reading: Reading) -> float:
        """About how many all texts of a reading have."""
        texts = (render(reading.template, record) for record in reading.records())
        return reading.survey.records * mean_tokens(texts, self.tokenizer, reading.length)

    def cached_bytes(self, reading: Reading, tokens: float) -> int:
        """What the cache is still to take of a reading."""
        there = (cache_folder() / f"texts-{self.key(reading)}").is_dir()
        return 0 if there else 24 * reading.survey.records + int(2 * tokens)

    def key(self, reading: Reading) -> str:
        read = [reading.unit, reading.template, reading.length, self.tokenizer.backend.to_str()]
        return digest([tokenised.RULES, self.identity, *read])[:16]
