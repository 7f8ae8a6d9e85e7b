"""seed evaluate: runs and qrels -> a table with significance, its files, and some examples."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import write_json
from seedcli.base.manifest import Manifest
from seedcli.base.progress import Progress
from seedcli.configs.evaluate import EvaluateConfig
from seedcli.data.lookup import finder
from seedcli.data.records import SEPARATOR, Qrels
from seedcli.data.sources import open_collection
from seedcli.data.survey import survey_qrels
from seedcli.evaluation.judging import compiling
from seedcli.evaluation.measures import judges, parse_all, plain
from seedcli.evaluation.metrics import parsed
from seedcli.evaluation.report import compare, pick_examples
from seedcli.evaluation.tables import write_report
from seedcli.retrieval.run_files import read_run, run_path
from seedcli.retrieval.runs import Run, without_own
from seedcli.stages import results, showing
from seedcli.stages.judging import judging_inputs, read_judgements, tell_tuned, values_of
from seedcli.stages.names import several_named
from seedcli.stages.stage import Outcome, Stage


def inputs(config: EvaluateConfig, progress: Progress) -> dict[str, Path]:
    """The runs and the judgements, by name."""
    parse_all(config.measures)
    named = named_runs(config)
    if config.baseline is not None and config.baseline not in named:
        raise ConfigError(f"--baseline {config.baseline}: no such run; there are {', '.join(named)}")
    if config.baseline is not None and config.all_pairs:
        raise ConfigError("--baseline and --all-pairs: tests against one run, or of all against each other; drop one")
    if config.examples and Path(config.qrels).is_file():
        raise ConfigError("--examples needs texts: give --qrels a collection")
    results.check(config)
    every = [(name, path) for name, paths in named.items() for path in paths]
    for _, path in every:
        run_path(path)
    runs = {f"runs.{row}.{name}": path for row, (name, path) in enumerate(every)}
    showing.check(config, runs)
    return runs | judging_inputs(config, progress)


def run(config: EvaluateConfig, stage: Stage) -> Outcome:
    qrels = read_judgements(config)
    measures = parse_all(config.measures)
    if judges(measures):
        report_problems(config, stage)
    tell_unreached(config, qrels, stage.progress)
    tell_tuned(config, stage, named_runs(config), qrels)
    runs = judged_runs(config, qrels, stage.progress)
    tell_compiling(plain(measures), stage.progress)
    with stage.progress.track("evaluate", len(runs), "runs") as advance:
        values = values_of(config, stage, {str(row): run for row, run in enumerate(runs)}, qrels)
        advance(len(runs))
    systems = [name for name, paths in named_runs(config).items() for _ in paths]  # of each run
    report = compare(
        dataclasses.replace(values, names=systems),
        config.baseline,
        config.permutations,
        config.seed,
        config.test,
        config.correction,
        config.all_pairs,
    )
    files = write_report(report, stage.folder)
    if config.examples:
        write_json(stage.folder / "examples.json", examples(config, stage, qrels, {systems[-1]: runs[-1]}))
        files.append(stage.folder / "examples.json")
    means = dict(zip(report.names, report.means.round(6).tolist(), strict=True))
    shown = showing.show(config, stage, report, runs, qrels)
    return Outcome(files, {name: dict(zip(measures, row, strict=True)) for name, row in means.items()}, variable=shown)


def conclude(config: EvaluateConfig, manifest: Manifest, progress: Progress) -> None:
    results.log(config, manifest, progress)


def tell_compiling(measures: Sequence[str], progress: Progress) -> None:
    """Word of what takes long, the first time."""
    if "NUMBA_DISABLE_JIT" not in os.environ and compiling(measures):
        progress.say("compiling ranx's measures, once: about 30 s")


def tell_unreached(config: EvaluateConfig, qrels: Qrels, progress: Progress) -> None:
    """Word of measures that are 0 whatever is found, as no judgement has the grade that they ask for."""
    highest = max((grade for grades in qrels.values() for grade in grades.values()), default=0)
    for name in plain(parse_all(config.measures)):
        asked = parsed(name)
        if asked and asked.level > max(1, highest):
            progress.say(f"{config.qrels}: no judgement has grade {asked.level} or more, so {name} is 0 for all")


def report_problems(config: EvaluateConfig, stage: Stage) -> None:
    """Hold the judgements against the texts that the collection has."""
    collection, identity = open_collection(config.qrels), stage.inputs["qrels"].identity
    problems = survey_qrels(collection, config.split, identity, stage.progress)
    problems.settle(config.qrels, config.problems, stage.progress)


def named_runs(config: EvaluateConfig) -> dict[str, list[Path]]:
    """The runs of each system by its name: given, or that of the run's file, or of the folder that it is in."""

    def own(source: str) -> str:
        path = Path(source)
        return path.parent.name if path.name in {"run.trec", "run.parquet"} else path.stem

    sources = several_named(config.runs, own, "--runs", "runs")
    return {name: list(map(Path, paths)) for name, paths in sources.items()}


def judged_runs(config: EvaluateConfig, qrels: Qrels, progress: Progress) -> list[Run]:
    """All runs, those of a system after each other."""
    paths = [path for own in named_runs(config).values() for path in own]
    runs = []
    with progress.track("read", len(paths), "runs") as advance:
        for path in paths:
            runs.append(judged_run(path, qrels, config))
            advance(1)
    return runs


def judged_run(path: Path, qrels: Qrels, config: EvaluateConfig) -> Run:
    """The run that a path names. Raises DataError when the qrels are those of other queries."""
    run = read_run(run_path(path))
    if qrels.keys().isdisjoint(run.queries):
        others = f"such as {run.queries[0]!r:.40} where {next(iter(qrels))!r:.40} is judged"
        raise DataError(f"{path}: no query of it is judged by {config.qrels}, split {config.split!r}: {others}")
    return without_own(run) if config.drop_self else run


def examples(config: EvaluateConfig, stage: Stage, qrels: Qrels, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Some queries with the first three hits of runs, in words."""
    collection = open_collection(config.qrels)
    picked = pick_examples(qrels, collection.queries(config.split), runs, config.examples, 3, config.seed)
    find = finder(collection, stage.inputs["qrels"].identity, stage.progress, make=False)
    texts = find(id_ for example in picked for _, ids in example.hits for id_ in ids)
    return [
        {
            "run": name,
            "query": example.query.text.replace(SEPARATOR, " [SEP] "),
            "relevant": sorted(example.relevant),
            "hits": [
                {"id": id_, "text": f"{texts[id_].title} {texts[id_].text}".strip()} for id_ in ids if id_ in texts
            ],
        }
        for example in picked
        for name, ids in example.hits
    ]
