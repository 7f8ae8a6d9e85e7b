"""What follows a finished evaluation: its lines in a log, and the lines of a log side by side."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seedcli.base.config import options
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import read_json, write_text
from seedcli.base.manifest import Manifest, identify
from seedcli.base.progress import Progress
from seedcli.base.verbs import typed
from seedcli.configs import VERBS
from seedcli.configs.evaluate import EvaluateConfig
from seedcli.data.sources import source_path
from seedcli.evaluation.measures import parse_all
from seedcli.evaluation.results_log import Board, Line, append, boards, markdown, read_log
from seedcli.evaluation.steps import flattened
from seedcli.stages.lineage import lineage


def check(config: EvaluateConfig) -> None:
    """Raises DataError and ConfigError before any work for a log or a leaderboard that can't be."""
    for path in (config.showing.log, config.showing.leaderboard):
        if path is not None and (path.exists() or path != config.showing.log):
            read_log(path)
    if config.showing.between is not None and config.showing.leaderboard is None:
        raise ConfigError("--between: is for --leaderboard")


def log(config: EvaluateConfig, manifest: Manifest, progress: Progress) -> None:
    """Append a finished report's lines to the log that it was asked for."""
    path = config.showing.log
    if path is not None:
        added = append(path, lines(config, manifest))
        progress.say(
            f"{path}: {added} {'line' if added == 1 else 'lines'} added" if added else f"{path}: holds it already"
        )


def lines(config: EvaluateConfig, manifest: Manifest) -> list[Line]:
    """A line for each name in the report; of several runs of one name, the first one's options."""
    summary, made = read_json(config.out / "report.json"), datetime.fromtimestamp(manifest.started, UTC)
    found = []
    for name, scored in summary["runs"].items():
        given = next(each for key, each in manifest.inputs.items() if key.split(".", 2)[::2] == ["runs", name])
        step = lineage(config.out / given.path, given.identity)
        found.append(
            Line(
                made.isoformat(timespec="seconds"), name, Path(config.qrels).name, config.split,
                manifest.inputs["qrels"].identity, summary["queries"], scored["means"], scored.get("intervals", {}),
                given.identity, str(manifest.identity), flattened(step), command("evaluate", manifest.config),
            )
        )  # fmt: skip
    return found


def command(verb: str, values: dict[str, Any]) -> str:
    """The command that a stage was called by, with the options that aren't as by default."""
    words = ["seed", *typed(verb).split()[1:]]
    for option in options(VERBS[verb]):
        value: Any = values
        for part in option.key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value in (option.default, None):
            continue
        for each in value if isinstance(value, list) else [value]:
            rare = option.typed.startswith("--set ")
            words += ["--set", f"{option.key}={each}"] if rare else flag(option.flag, each)
    return shlex.join(words)


def flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name if value else f"--no-{name[2:]}"]
    return [name, str(value)]


def leaderboard(config: EvaluateConfig, progress: Progress) -> list[Board]:
    """The lines of a log on the judgements that the config names, or of all; as Markdown, too, where --out names it."""
    path = config.showing.leaderboard
    if path is None:
        return []
    held = read_log(path)
    if not held:
        raise DataError(f"{path}: no lines in it; seed evaluate --log adds some")
    if config.qrels:
        judgements = identify(source_path(config.qrels, progress)).identity
        held = [line for line in held if line.judgements == judgements and line.split == config.split]
        if not held:
            raise ConfigError(f"--leaderboard {path}: no line on {config.qrels}, split {config.split!r}")
    asked, there = parse_all(config.measures), dict.fromkeys(name for line in held for name in line.means)
    usual = next(option.default for option in options(EvaluateConfig) if option.key == "measures")
    if asked != usual and there.keys().isdisjoint(asked):
        raise ConfigError(f"--leaderboard {path}: no line has {', '.join(asked)}; there are {', '.join(there)}")
    found = boards(held, asked)
    if config.showing.between is not None and len(found) > 1:
        raise ConfigError("--between names lines of one set of judgements: name it with --qrels and --split")
    if not config.runs and config.out.name:
        if config.out.is_dir():
            raise ConfigError(f"--out {config.out}: a folder; with --leaderboard alone it names a Markdown file")
        write_text(config.out, markdown(found, config.showing.between))
    return found
