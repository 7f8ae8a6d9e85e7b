"""seed index --kind bm25: a corpus, expanded by queries if these are given or written here -> a Lucene index, tuned."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from seedcli.base.errors import ConfigError
from seedcli.base.files import read_json, write_json, write_text
from seedcli.base.machine import Used, cores
from seedcli.base.progress import Progress
from seedcli.base.runtime import runtime
from seedcli.configs.index import Expander, IndexConfig, Tuning, Words
from seedcli.data.collections import Collection
from seedcli.data.expansions import Expand, appended, in_order, survey_expansions
from seedcli.data.lines import read_lines
from seedcli.data.records import Passage
from seedcli.data.sources import open_collection, source_path
from seedcli.data.survey import Survey, survey_passages
from seedcli.retrieval.expanding import write_expansions
from seedcli.retrieval.lucene import Built, Scoring, WordSearcher, heap_bytes, index_collection
from seedcli.stages.estimates import announce
from seedcli.stages.stage import Outcome, Stage, hush_libraries
from seedcli.stages.word_index import LUCENE, STOP_WORDS, wording
from seedcli.stages.word_tuning import Tuned, check, tune

EXPANSIONS = "expansions.jsonl"
BUILT = "built.json"  # tells a command that is repeated that Lucene is done
LANGUAGES = (
    "en",
    "ar",
    "bn",
    "da",
    "de",
    "es",
    "fa",
    "fi",
    "fr",
    "hi",
    "hu",
    "id",
    "it",
    "ja",
    "ko",
    "nl",
    "no",
    "pl",
    "pt",
    "ru",
    "sv",
    "te",
    "th",
    "tr",
    "uk",
    "zh",
)  # fmt: skip  (Anserini's)
JAVA = 200 << 20  # bytes that its process takes beside its heap, about
QUERY = 40  # bytes of a query that a model writes, about


def word_inputs(config: IndexConfig, progress: Progress) -> dict[str, Path]:
    """The corpus and what else a bm25 index reads, by name. Raises ConfigError for options that don't go together."""
    words, expander, tuning = config.words, config.expander.expander, config.tuning
    if words.language not in LANGUAGES:
        raise ConfigError(f"--language {words.language}: Lucene parts words of {', '.join(LANGUAGES)}")
    if words.language != Words.language and (words.stemmer, words.stop_words) != (Words.stemmer, Words.stop_words):
        raise ConfigError(f"--stemmer and --stop-words are for English; --language {words.language} brings its own")
    if words.rm3 and wording(words, config.out).boosts:
        raise ConfigError("--rm3 reads one field: it goes without --title-boost and --text-boost")
    heap_bytes(config.heap)
    for given, plain, flag in ((config.tuning, Tuning(), "--tune"), (config.expander, Expander(), "--expander")):
        if given != plain and getattr(given, flag[2:]) is None:
            raise ConfigError(f"{flag} is not given, and options of it are")
    open_collection(str(config.corpus), progress)
    paths = {"corpus": source_path(str(config.corpus))}
    if words.stop_words not in {"default", "none"}:
        paths["stop_words"] = Path(words.stop_words)
    if words.expansions is not None:
        paths["expansions"] = Path(words.expansions)
    if expander is not None:
        from seedcli.models.encoder import model_folder

        paths["expander"] = model_folder(expander)
    if tuning.tune is not None:
        check(tuning, open_collection(tuning.tune, progress))
        paths["tune"] = source_path(tuning.tune)
    return paths


def build_words(config: IndexConfig, stage: Stage) -> Outcome:
    """A bm25 index of a corpus."""
    collection, generated = open_collection(stage.inputs["corpus"].path), stage.folder / EXPANSIONS
    survey = survey_passages(collection, stage.inputs["corpus"].identity, stage.progress)
    survey.problems.settle(str(config.corpus), config.problems, stage.progress)
    expand = expansion(config, stage, collection, survey)
    outputs = []
    if "stop_words" in stage.inputs:
        outputs.append(stage.folder / STOP_WORDS)
        copy_stop_words(Path(stage.inputs["stop_words"].path), outputs[-1])
    if "expander" in stage.inputs:
        outputs.append(generated)
        generate(config, stage, collection, survey.records, generated)
    built = build(config, stage, collection, survey.records, expand)
    stage.progress.say(f"Java: {built.used}")
    scoring, java = Scoring(config.words.k1, config.words.b), {"index": built.used._asdict()}
    metrics: dict[str, Any] = {"passages": built.documents, "java": java}
    if "tune" in stage.inputs:
        tuned, used = tuned_index(config, stage, scoring)
        scoring, metrics["tuned"], java["tune"] = tuned.scoring, tuned.plain(config.tuning), used._asdict()
    metrics |= {"k1": scoring.k1, "b": scoring.b}
    if scoring.rm3:
        metrics["rm3"] = scoring.rm3._asdict()
    return Outcome(outputs, metrics, variable=[path for path in (stage.folder / LUCENE).iterdir() if path.is_file()])


def expansion(config: IndexConfig, stage: Stage, collection: Collection, survey: Survey) -> Expand:
    """What makes passages longer before they are indexed. Tells what is to come."""
    steps, characters = list[Expand](), survey.characters
    reads = f"{survey.records:,} passages"
    if "expansions" in stage.inputs:
        given, corpus = stage.inputs["expansions"], stage.inputs["corpus"]
        found = survey_expansions(Path(given.path), given.identity, collection, corpus.identity, stage.progress)
        found.problems.settle(given.path, config.problems, stage.progress)
        characters += found.characters
        reads += f", {found.records:,} expansions"
        steps.append(appended(Path(given.path), given.identity, stage.progress))
    if "expander" in stage.inputs:
        characters += QUERY * config.expander.written * survey.records
        steps.append(in_order(stage.folder / EXPANSIONS))
    share = 1.0 if config.words.rm3 else 0.5  # SQuAD's takes half of that; merging as much again
    holds = JAVA + heap_bytes(config.heap)
    announce(stage, reads, holds, {stage.folder: int(share * characters)})

    def expand(passages: Iterator[Passage]) -> Iterator[Passage]:
        for step in steps:
            passages = step(passages)
        return passages

    return expand


def copy_stop_words(source: Path, path: Path) -> None:
    """As they are compared: in small letters."""
    write_text(path, "".join(f"{line.strip().lower()}\n" for _, line in read_lines(source)))


def generate(config: IndexConfig, stage: Stage, collection: Collection, total: int, path: Path) -> None:
    """Leave a file of the queries that a model writes of each passage."""
    if path.is_file():
        return
    from seedcli.models.expander import Generation, open_expander

    hush_libraries()
    asked = config.expander
    generation = Generation(asked.written, asked.sampled, asked.query_length, asked.passage_length)
    with runtime(config.machine.device, asked.expander_precision, config.machine.threads) as here:
        model = open_expander(Path(stage.inputs["expander"].path), generation, here)

        def write(texts: Sequence[str], number: int) -> list[list[str]]:
            return model.write(texts, int(np.random.default_rng([asked.expander_seed, number]).integers(2**63)))

        write_expansions(collection.passages(), path, write, asked.expander_batch, total, stage.progress)


def build(config: IndexConfig, stage: Stage, collection: Collection, total: int, expand: Expand) -> Built:
    """The Lucene index, unless it is there already."""
    lucene = stage.folder / LUCENE
    if not (lucene / BUILT).is_file():
        words, rm3 = wording(config.words, stage.folder), config.words.rm3
        built = index_collection(collection, lucene, stage.progress, total, config.heap, words, rm3, expand)
        write_json(lucene / BUILT, built._asdict() | {"used": built.used._asdict()})
    kept = read_json(lucene / BUILT)
    return Built(kept["documents"], Used(**kept["used"]))


def tuned_index(config: IndexConfig, stage: Stage, scoring: Scoring) -> tuple[Tuned, Used]:
    """The best of the grid on the dev queries, and what Java took for it."""
    words, queries = wording(config.words, stage.folder), open_collection(stage.inputs["tune"].path)
    searcher = WordSearcher(stage.folder / LUCENE, scoring, words, cores(), config.heap)
    with closing(searcher):
        tuned = tune(searcher, queries, config.tuning, scoring, config.words.rm3, stage.progress)
        stage.progress.say(tuned.told(config.tuning.tune_measure))
        return tuned, searcher.used() or Used(0.0, 0)
