"""What runs are held against: the judgements of a collection, or the answers that its queries come with."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import read_manifest
from seedcli.base.progress import Progress
from seedcli.configs.evaluate import EvaluateConfig
from seedcli.data.collections import Collection
from seedcli.data.lookup import finder
from seedcli.data.records import Qrels, Query
from seedcli.data.sources import open_collection, source_path
from seedcli.evaluation.coverage import measure_coverage
from seedcli.evaluation.judging import judged_queries
from seedcli.evaluation.measures import covers, judges, measure_all, parse_all
from seedcli.evaluation.metrics import Values
from seedcli.retrieval.runs import Run
from seedcli.stages.stage import Stage


def judging_inputs(config: EvaluateConfig, progress: Progress) -> dict[str, Path]:
    """The collection of --qrels, and the corpus that answers are looked for in. Raises ConfigError where one lacks."""
    paths = {"qrels": source_path(config.qrels)}
    measures = parse_all(config.measures)
    if not covers(measures):
        if config.corpus is not None:
            raise ConfigError("--corpus is where answers@k finds passages: no such measure is asked for")
    elif config.corpus is not None:
        open_collection(config.corpus, progress)
        paths["corpus"] = source_path(config.corpus)
    read_judgements(config, progress)
    if covers(measures) and open_collection(paths.get("corpus", paths["qrels"])).passage_reader is None:
        source = config.corpus or config.qrels
        raise ConfigError(f"answers@k reads the passages that runs name: {source} holds none; give them with --corpus")
    return paths


def read_judgements(config: EvaluateConfig, progress: Progress | None = None) -> Qrels:
    """The judgements; where answers alone are asked for, queries that have some, without a judgement."""
    measures, collection = parse_all(config.measures), open_collection(config.qrels, progress)
    if judges(measures):
        return collection.qrels(config.split)
    queries = asked(collection, config.split)
    answered = {query.id: dict[str, int]() for query in queries if query.answers}
    if not answered:
        raise DataError(f"{config.qrels}: none of its queries comes with answers, as answers@k needs")
    if progress and (lacking := len(queries) - len(answered)):
        progress.say(f"{config.qrels}: {lacking:,} of {len(queries):,} queries have no answers and are left out")
    return answered


def asked(collection: Collection, split: str) -> list[Query]:
    """The queries of a split: those that its qrels judge, if there are any."""
    readers = collection.query_readers
    if collection.qrels_readers or split in readers:
        return [*collection.queries(split)]
    if readers.keys() - {""} and len(readers) > 1:
        raise DataError(
            f"{collection.source}: no queries {split!r}; name with --split one of {', '.join(sorted(readers))}"
        )
    return [*collection.queries()]


def values_of(config: EvaluateConfig, stage: Stage, runs: Mapping[str, Run], qrels: Qrels) -> Values:
    """All that is asked of the runs."""
    measures = parse_all(config.measures)

    def coverage(runs: Mapping[str, Run], some: Sequence[str]) -> Values:
        corpus = stage.inputs.get("corpus", stage.inputs["qrels"])
        find = finder(open_collection(corpus.path), corpus.identity, stage.progress)
        queries = answered_queries(config, judged_queries(qrels) if judges(measures) else list(qrels))
        return measure_coverage(runs, queries, some, find, config.answers, stage.progress)

    return measure_all(runs, qrels, measures, coverage)


def answered_queries(config: EvaluateConfig, wanted: list[str]) -> list[Query]:
    """The queries with their answers. Raises DataError when one has none: all measures are over the same queries."""
    queries = {query.id: query for query in asked(open_collection(config.qrels), config.split)}
    lacking = [id_ for id_ in wanted if id_ not in queries or not queries[id_].answers]
    if lacking:
        told = f"{len(lacking):,} of {len(wanted):,} judged queries come without answers, such as {lacking[0]!r:.40}"
        raise DataError(f"{config.qrels}: {told}; measure answers@k apart, over those that have some")
    return [queries[id_] for id_ in wanted]


def tell_tuned(config: EvaluateConfig, stage: Stage, runs: Mapping[str, Sequence[Path]], qrels: Qrels) -> None:
    """Tell which runs owe something to the very judgements that they are held against."""
    collection = open_collection(config.qrels)
    held = collection.qrels(config.split) if collection.judges(config.split) else qrels  # judged by answers, too
    each = [(name, path) for name, paths in runs.items() for path in paths]
    told = dict.fromkeys(name for name, path in each if any(shared(tuned, held) for tuned in tunings(path)))
    if told:
        stage.progress.say(f"{', '.join(told)}: tuned on {config.qrels}, {config.split}: what follows flatters")


def shared(tuned: Qrels, qrels: Qrels) -> bool:
    """Whether a judgement stands in both."""
    return any(tuned[query].keys() & qrels[query].keys() for query in tuned.keys() & qrels.keys())


def tunings(folder: Path) -> Iterator[Qrels]:
    """The judgements that a run, or an index or a run that it was made of, was tuned on, as far as they are there."""
    made = read_manifest(folder)
    if made is None:
        return
    for name, given in made.inputs.items():
        path = Path(os.path.normpath(folder / given.path))
        if name == "tune":
            if path.exists():
                yield open_collection(path).qrels(made.config["tuning"]["tune_split"])
        elif name.startswith("index"):
            yield from tunings(path)
