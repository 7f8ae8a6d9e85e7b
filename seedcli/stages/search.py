"""seed search: one index or several, finished runs among them, and queries -> a run."""

from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.machine import Used, processes
from seedcli.base.manifest import finished, read_manifest
from seedcli.base.progress import Progress
from seedcli.configs.search import SearchConfig
from seedcli.data.ragged import Ragged
from seedcli.data.records import Query
from seedcli.data.sources import open_collection, source_path
from seedcli.data.survey import survey
from seedcli.retrieval import exact
from seedcli.retrieval.run_files import begun_queries, parts_folder, read_run, run_path, write_in_parts, write_run
from seedcli.retrieval.vectors import read_ids
from seedcli.stages.candidates import candidates_path, known, read_candidates
from seedcli.stages.estimates import LIBRARIES, announce
from seedcli.stages.flat_index import FlatIndex
from seedcli.stages.found_run import is_run
from seedcli.stages.fusion_tuning import check_tuning, tune, tuned_on
from seedcli.stages.indexes import Searcher, check_fusion, opened
from seedcli.stages.predictions import check_shown, predict
from seedcli.stages.questions import Questions, read_questions
from seedcli.stages.stage import Outcome, Stage
from seedcli.stages.vector_index import VectorIndex

DEPTH = 1_000
LINE = {"trec": 48, "parquet": 16}  # bytes of a line of a run


def inputs(config: SearchConfig, progress: Progress) -> dict[str, Path]:
    """The indexes and the queries, by name."""
    kinds = [kind_of(source) for source in config.index] if config.out is not None else []
    if config.out is None or (config.queries is None and {*kinds} != {"run"}):
        raise ConfigError("give a QUESTION, or --queries and --out to write a run")
    if processes() > 1 and (kinds != ["flat"] or config.candidates is not None):
        told = "indexes in a store, bm25 and approximate indexes, fusion and --candidates run as one process"
        raise ConfigError(f"{told}: call it without torchrun")
    check_fusion(config)
    paths = {f"index.{row}": Path(folder) for row, folder in enumerate(config.index)}
    if config.queries is not None:
        if read_manifest(Path(config.queries)) is None:
            open_collection(config.queries, progress)
        paths["queries"] = source_path(config.queries)
    if config.tuning.tune is not None:
        check_tuning(config.tuning, open_collection(config.tuning.tune, progress))
        paths["tune"] = source_path(config.tuning.tune)
    if config.predictions is not None:
        check_shown(config.predictions)
        paths["predictions"] = Path(config.predictions)
    if config.candidates is not None:
        if kinds != ["flat"]:
            raise ConfigError("--candidates are scored by the vectors of one index: give --index once, a flat one")
        paths["candidates"] = candidates_path(config.candidates, config.split, progress)
    return paths


def kind_of(source: str) -> str:
    """What --index names. Raises a mistake where it is neither an index nor a run."""
    if is_run(source):
        return "run"
    if Path(source).is_file():
        raise DataError(f"--index {source}: no run, and no index, which is a folder; is the file empty or cut off?")
    made = opened(Path(source)).config
    return "store" if made.get("store") else str(made["kind"])


def run(config: SearchConfig, stage: Stage) -> Outcome:
    questions = read_questions(config.queries, config.split) if config.queries else questions_of_runs(config)
    if config.queries and questions.vectors is None:
        found = survey(lambda: iter(questions.queries), "queries", stage.progress)
        found.problems.settle(str(config.queries), config.problems, stage.progress)
    found_run = stage.folder / f"run.{config.run_format}"
    outputs, metrics = [found_run], dict[str, Any](queries=len(questions.queries))
    if config.candidates is not None:
        metrics = rerank(config, stage, questions, found_run)
    else:
        with closing(Searcher(config, stage.runtime, stage.progress)) as searcher:
            if config.tuning.tune is not None:
                metrics["tuned"] = weigh(config, stage, searcher, questions)
            java = find(config, stage, searcher, questions, found_run)
        for used in java.values():
            stage.progress.say(f"Java: {used}")
        if java:
            metrics["java"] = {name: used._asdict() for name, used in java.items()}
    if config.predictions is not None and stage.runtime.first:
        outputs += predict(Path(config.predictions), found_run, stage)
    return Outcome(outputs, metrics, scratch=[parts_folder(found_run)])


def questions_of_runs(config: SearchConfig) -> Questions:
    """All queries of the runs that are given in the place of indexes. Raises DataError for one that shares none."""
    runs = [read_run(run_path(Path(source))).queries for source in config.index]
    for row, (source, own) in enumerate(zip(config.index, runs, strict=True)):
        others = {id_ for other in runs[:row] + runs[row + 1 :] for id_ in other}
        if others and others.isdisjoint(own):
            told = f"such as {own[0]!r:.40}, where they have {next(iter(others))!r:.40}"
            raise DataError(f"--index {source}: a run of other queries than the others, {told}")
    return Questions([Query(id_, "") for id_ in dict.fromkeys(id_ for own in runs for id_ in own)])


def weigh(config: SearchConfig, stage: Stage, searcher: Searcher, questions: Questions) -> dict[str, Any]:
    """Give the searcher the weights that are best on the dev queries; what was tried."""
    tuning, collection = config.tuning, open_collection(stage.inputs["tune"].path)
    queries, qrels = tuned_on(tuning, collection, questions.queries)
    chosen = tune(searcher.pools(Questions(queries)), qrels, tuning, stage.progress)
    stage.progress.say(chosen.told(tuning.tune_measure))
    searcher.weights = [*chosen.weights]
    return chosen.plain(tuning)


def find(config: SearchConfig, stage: Stage, searcher: Searcher, questions: Questions, path: Path) -> dict[str, Used]:
    """Write the run of all that the indexes hold; what Java took for it."""
    total, depth = len(questions.queries), config.depth or DEPTH
    expect(searcher, stage, questions, depth, LINE[config.run_format])
    if len(searcher.indexes) > 1:  # fusion gives no ranking to a query without hits
        write_run(path, searcher.search(questions, depth), "seed")
        return searcher.java()
    begun = stage.runtime.share(lambda: begun_queries(path, total))
    rankings = searcher.search(questions.at(range(begun, total)), depth)
    if stage.runtime.first:
        write_in_parts(path, total, rankings, "seed")
    else:
        deque(rankings, maxlen=0)
    return searcher.java()


def rerank(config: SearchConfig, stage: Stage, questions: Questions, path: Path) -> dict[str, int]:
    """Write the run of the candidates alone; how much it is."""
    folder, source = Path(config.index[0]), str(config.candidates)
    index = FlatIndex(folder, finished(folder, "index"), config, stage.runtime)
    names = [query.id for query in questions.queries]
    candidates = read_candidates(Path(stage.inputs["candidates"].path), config.split)
    (rows, counts), problems = known(candidates, names, index.shards)
    if not len(rows.values):
        named = f"{candidates.documents[0].decode()!r:.40} for query {candidates.queries[0]!r:.40}"
        other = f"query {names[0]!r:.40} is asked and {next(read_ids(index.shards))!r:.40} is indexed"
        raise DataError(f"{source}: no candidate in {folder} for any query: such as {named}, where {other}")
    problems.settle(source, config.problems, stage.progress)
    places = np.flatnonzero(counts)
    expect_candidates(index, stage, counts[places], len(rows.values), config)
    rows = Ragged(rows.values, np.unique(rows.offsets))  # without those that are empty
    begun = begun_queries(path, len(places))
    rest = questions.at(places[begun:])
    rankings = exact.score(
        [query.id for query in rest.queries], index.encode(rest), rows.after(begun), index.matrix, config.depth,
        stage.progress,
    )  # fmt: skip
    write_in_parts(path, len(places), rankings, "seed")
    return {"queries": len(places), "candidates": int(counts.sum())}


def expect(searcher: Searcher, stage: Stage, questions: Questions, depth: int, line: int) -> None:
    """Tell what is to come."""
    count = len(questions.queries)
    sizes = " and ".join(f"{index.size:,} {index.unit}" for index in searcher.indexes)
    holds = LIBRARIES + sum(index.memory() for index in searcher.indexes)
    if questions.vectors is None:
        holds += sum(index.model_bytes() for index in searcher.indexes if isinstance(index, VectorIndex))
    hits = min(depth, sum(index.size for index in searcher.indexes))
    announce(stage, f"{count:,} queries, {sizes}", holds, {stage.folder: 2 * line * count * hits})


def expect_candidates(
    index: FlatIndex, stage: Stage, counts: NDArray[np.int64], vectors: int, config: SearchConfig
) -> None:
    """Tell what is to come."""
    reads = f"{len(counts):,} queries, {counts.sum():,} candidates among {index.passages:,} passages"
    hits = int(np.minimum(counts, config.depth or counts.max()).sum())
    announce(
        stage, reads, LIBRARIES + index.memory() + 32 * vectors, {stage.folder: 2 * LINE[config.run_format] * hits}
    )
