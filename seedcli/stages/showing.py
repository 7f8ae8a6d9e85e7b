"""What an evaluation shows beside its table: the page of its report, and curves over what its runs were made with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seedcli.base.errors import ConfigError
from seedcli.base.files import read_json
from seedcli.base.manifest import identify
from seedcli.configs.evaluate import EvaluateConfig, Showing
from seedcli.data.collections import PassageFiles
from seedcli.data.lookup import finder, has_lines
from seedcli.data.records import Qrels
from seedcli.data.sources import open_collection
from seedcli.evaluation.page.contents import Found, contents
from seedcli.evaluation.page.page import write_page
from seedcli.evaluation.report import Report
from seedcli.evaluation.steps import Step, flattened
from seedcli.evaluation.trends import Point, logarithmic, placed, plot_trends
from seedcli.retrieval.runs import Run
from seedcli.stages.judging import asked
from seedcli.stages.lineage import lineage
from seedcli.stages.stage import Stage
from seedcli.stages.told import called


def show(config: EvaluateConfig, stage: Stage, report: Report, runs: Sequence[Run] | None, qrels: Qrels) -> list[Path]:
    """The files that are left beside the report's own. `runs`: those that the report's systems have, if any."""
    summary, steps, files = read_json(stage.folder / "report.json"), lineages(stage), []
    if config.showing.curve is not None:
        files += trends(config, stage, summary, steps)
    if config.showing.page:
        files.append(stage.folder / "report.html")
        found = None if runs is None else judged(config, stage, firsts(report.runs.names, runs), qrels)
        write_page(files[-1], summary, contents(report, config.baseline, found, config.showing.cases), steps)
    return files


def firsts(systems: Sequence[str], runs: Sequence[Run]) -> dict[str, Run]:
    """A run of each system: of several, the first. `systems` are those of the runs, one by one."""
    return {name: runs[systems.index(name)] for name in systems}


def trends(config: EvaluateConfig, stage: Stage, summary: Mapping[str, Any], steps: Sequence[Step]) -> list[Path]:
    """The plots that --curve asks for."""
    asked, runs = config.showing, summary["runs"]
    points = places(asked, steps)
    means, intervals = ({name: run[part] for name, run in runs.items()} for part in ("means", "intervals"))
    return plot_trends(
        stage.folder, points, means, intervals, str(asked.curve), asked.curve_scale, summary["queries"]
    )  # fmt: skip


def check(config: EvaluateConfig, runs: Mapping[str, Path]) -> None:
    """Raises ConfigError before any work for runs that have no place on the curve that is asked for."""
    if config.showing.curve is not None:
        places(config.showing, [lineage(path, identify(path).identity, role(key)) for key, path in runs.items()])
    elif config.showing.curve_by is not None:
        raise ConfigError("--curve-by: is for --curve")


def places(asked: Showing, steps: Sequence[Step]) -> list[Point]:
    """Where the runs stand on the curve; of several runs of a name, the first. Raises ConfigError for no place."""
    configs = dict[str, dict[str, Any]]()
    for step in steps:
        configs.setdefault(step.role, flattened(step))
    points = placed(configs, str(asked.curve), asked.curve_by)
    logarithmic([point.x for point in points], asked.curve_scale)
    return points


def role(key: str) -> str:
    return called(key).removeprefix("runs ")


def judged(config: EvaluateConfig, stage: Stage, runs: Mapping[str, Run], qrels: Qrels) -> Found:
    """Rankings and judgements, with texts where the judgements are those of a collection."""
    collection, identity = open_collection(config.qrels), stage.inputs["qrels"].identity
    texts = {query.id: query.text for query in asked(collection, config.split)} if collection.query_readers else {}
    reader = collection.passage_reader
    if reader is None or not config.showing.cases:
        return Found(runs, qrels, texts, None)
    listed = isinstance(reader, PassageFiles) and all(map(has_lines, reader.paths))  # a copy would take much room
    return Found(runs, qrels, texts, finder(collection, identity, stage.progress, make=listed))


def lineages(stage: Stage) -> list[Step]:
    """What led to each of the runs."""
    given = [(key, each) for key, each in stage.inputs.items() if key.startswith("runs.")]
    return [lineage(Path(each.path), each.identity, role(key)) for key, each in given]
