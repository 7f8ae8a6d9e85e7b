"""What the stages of a recipe will read: as earlier stages will leave it, as it is there, or as the recipe expects it.

A recipe says under `expect` what a source holds that need not be there for a dry run:

    expect:
      ${MSMARCO}: {passages: 8_841_823, passage_tokens: 75, queries: {train: 502_939}, query_tokens: 9}
      ${SEED_ENCODER}: {size: base}
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_doc import Doc
from annotated_types import Ge, Gt

from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError, SeedError
from seedcli.base.manifest import identify, read_manifest
from seedcli.base.progress import Progress
from seedcli.configs import VERBS
from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.pretrain import PretrainConfig
from seedcli.data.collections import Collection
from seedcli.data.sources import open_collection
from seedcli.data.survey import Survey, survey_passages, survey_queries
from seedcli.models.encoder import SIZES, EncoderSettings, Size, read_config, read_settings
from seedcli.models.flops import Encoder, encoder_shape
from seedcli.models.heads import PARTS, read_modules
from seedcli.models.towers import tower_folder, untied
from seedcli.stages.forecast import Model, Texts
from seedcli.stages.pretrain import SIZE, TOKEN
from seedcli.stages.pretraining_text import VOCABULARY
from seedcli.stages.run import REFERENCE, Step
from seedcli.stages.training_set import FILE

Value = TypeVar("Value")

SPECIAL = 2  # tokens of a text beside its words


class SizeError(SeedError):
    """A size that nothing tells."""


@dataclass(frozen=True)
class Expected:
    """What a source holds: texts, or a model."""

    about: Annotated[str | None, Doc("What it is, for those who have yet to set it.")] = None
    passages: Annotated[int | None, Ge(1), Doc("How many.")] = None
    passage_tokens: Annotated[float | None, Gt(0), Doc("Of a passage on average, before it is cut.")] = None
    queries: Annotated[dict[str, Annotated[int, Ge(1)]], Doc("How many, or how many examples, by split.")] = field(
        default_factory=dict
    )
    query_tokens: Annotated[float | None, Gt(0), Doc("Of a query on average.")] = None
    size: Annotated[Size | None, Doc("Of a model.")] = None
    vocabulary: Annotated[int, Ge(1), Doc("Of a model's tokenizer; left out: BERT's.")] = 30_522


def read_expected(recipe: Mapping[str, Any], where: str) -> dict[str, Expected]:
    """What a recipe expects, by source as its stages name it. Raises ConfigError for what can't be read."""
    written = recipe.get("expect") or {}
    if not isinstance(written, dict) or not all(isinstance(given, dict) for given in written.values()):
        raise ConfigError(f"{where}: expect: names sources, each with a mapping such as {{passages: 1000}}")
    sources = [REFERENCE.sub(lambda found: os.environ.get(found[1], found[0]), str(source)) for source in written]
    return {
        source: resolve(Expected, given, {}, f"{where}: expect: {source}")
        for source, given in zip(sources, written.values(), strict=True)
    }


@dataclass(frozen=True)
class Sizes:
    """Looks sizes up. What only a download would tell is expected or unknown."""

    steps: Mapping[str, Step]  # by folder
    expected: Mapping[str, Expected]
    progress: Progress

    def passages(self, source: str) -> Texts:
        if opened := there(source):
            return texts(survey_passages(opened, identify(Path(source)).identity, self.progress))
        given = self.expected.get(source, Expected())
        return Texts(
            known(given.passages, f"how many passages {source} has"),
            known(given.passage_tokens, f"how long the passages of {source} are"),
        )

    def queries(self, source: str, split: str | None) -> Texts:
        """Those that a split's qrels judge; of no split, all."""
        if opened := there(source):
            identity = identify(Path(source)).identity
            return texts(survey_queries(lambda: opened.queries(split), split, identity, self.progress))
        return self.queries_expected(source, split)

    def queries_expected(self, source: str, split: str | None) -> Texts:
        given = self.expected.get(source, Expected())
        count = given.queries.get(split) if split is not None else sum(given.queries.values()) or None
        return Texts(
            known(count, f"how many queries {source} has" + (f" in {split}" if split else "")),
            known(given.query_tokens, f"how long the queries of {source} are"),
        )

    def trained(self, config: FinetuneConfig) -> Texts:
        """The training queries. The examples of a file are not counted, since that takes a reading of it."""
        if config.negatives.negatives != FILE:
            return self.queries(config.data, config.split)
        return self.queries_expected(config.data, config.split)

    def config(self, folder: str) -> Any:
        """The options of the stage that leaves a folder, or that left it; None where no stage does."""
        if folder in self.steps:
            return self.steps[folder].config
        made = read_manifest(Path(folder))
        return None if made is None else resolve(VERBS[made.verb], made.config, {}, folder)

    def model(self, name: str) -> Model:
        """A model folder or name: as a stage's options will have it, as it is there, or as it is expected."""
        config = self.steps[name].config if name in self.steps else None
        if isinstance(config, FinetuneConfig):
            return self.finetuned(config)
        if isinstance(config, PretrainConfig):
            encoder, length = self.pretrained(config), config.words.length
            return Model(encoder, min(64, length), length)
        if (tower_folder(Path(name), "passage") / "config.json").is_file():
            return opened_model(Path(name))
        given = self.expected.get(name, Expected())
        if given.size is None:
            raise SizeError(f"what size the model {name} has")
        usual = EncoderSettings()
        return Model(encoder_of(given.size, given.vocabulary), usual.query_length, usual.passage_length)

    def pretrained(self, config: PretrainConfig) -> Encoder:
        """What pre-training starts from."""
        model, words = config.model, config.words
        if model.init is not None:
            return self.model(model.init).encoder
        vocabulary = words.vocabulary or VOCABULARY
        if words.tokenizer not in {None, "train"}:
            vocabulary = self.model(str(words.tokenizer)).encoder.vocabulary
        return encoder_of(model.size or SIZE, vocabulary)

    def finetuned(self, config: FinetuneConfig) -> Model:
        """The model that fine-tuning starts from, as the options change it."""
        start, tower = self.model(config.model), config.tower
        return start._replace(
            query_length=tower.query_length or start.query_length,
            passage_length=tower.passage_length or start.passage_length,
            segments=tower.segments or start.segments,
            overlap=start.overlap if tower.segment_overlap is None else tower.segment_overlap,
            vectors=tower.token_vectors or start.vectors,
            towers=2 if tower.untied else start.towers,
            head=start.head if tower.head is None else tower.head == "linear",
        )


def there(source: str) -> Collection | None:
    """The collection at a path, None where there is none."""
    return open_collection(source) if Path(source).exists() else None


def texts(survey: Survey) -> Texts:
    return Texts(survey.records, survey.characters / max(1, survey.records) / TOKEN + SPECIAL)


def known(value: Value | None, what: str) -> Value:
    if value is None:
        raise SizeError(what)
    return value


def encoder_of(size: Size, vocabulary: int) -> Encoder:
    layers, hidden = SIZES[size]
    return Encoder(layers, hidden, 4 * hidden, vocabulary)


def opened_model(folder: Path) -> Model:
    """A model that is there."""
    place = tower_folder(folder, "passage")
    architecture = read_config(place)
    settings = asdict(read_settings(place, architecture))
    return Model(
        encoder_shape(architecture),
        settings["query_length"],
        settings["passage_length"],
        settings.get("segments", 1),
        settings.get("segment_overlap", 0),
        settings.get("token_vectors", 1),
        2 if untied(folder) else 1,
        any(module.kind in PARTS for module in read_modules(place)),
    )
