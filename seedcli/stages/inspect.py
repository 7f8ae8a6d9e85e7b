"""seed model inspect: models, texts -> how alike random texts look to each model, how its vectors lie; table, plots."""

import dataclasses
from pathlib import Path

import numpy as np

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import write_json
from seedcli.base.progress import Progress, counted
from seedcli.configs.inspect import InspectConfig
from seedcli.data.sources import source_path
from seedcli.data.text import Document, collection_of, read_documents, text_files
from seedcli.evaluation.inspection import Inspection, plot_inspection, read_look, write_inspection
from seedcli.evaluation.looks import CHARACTERS, Choice, choose, look_at, subject
from seedcli.models.encoder import model_folder, read_config
from seedcli.stages.estimates import LIBRARIES, announce, rounded
from seedcli.stages.names import named
from seedcli.stages.stage import Outcome, Stage


def inputs(config: InspectConfig, progress: Progress) -> dict[str, Path]:
    """The models by their names, and the texts."""
    if not config.texts:
        raise ConfigError("--texts is empty: name files, folders or collections")
    models = {f"model.{row}.{name}": model_folder(source) for row, (name, source) in enumerate(sources(config).items())}
    texts = {f"texts.{row}": source_path(source, progress) for row, source in enumerate(config.texts)}
    for path in texts.values():
        if not collection_of(path):
            text_files(path)
    return models | texts


def run(config: InspectConfig, stage: Stage) -> Outcome:
    folders = [Path(stage.inputs[key].path) for key in stage.inputs if key.startswith("model.")]
    models = [subject(name, folder) for name, folder in zip(sources(config), folders, strict=True)]
    texts, read = drawn(config, stage)
    choice = choose(texts, models, config.pairs, config.seed, ", ".join(config.texts), stage.progress)
    expect(config, stage, texts, choice, folders)
    done = stage.folder / "looks"  # a command that was killed goes on with the next model
    parts = [done / f"{row}.json" for row in range(len(models))]
    for part, model in zip(parts, models, strict=True):
        if not part.is_file():
            look = look_at(model, choice, config.pooling, config.batch_tokens, stage.runtime, stage.progress)
            write_json(part, dataclasses.asdict(look))
    looks = {model.name: read_look(part) for part, model in zip(parts, models, strict=True)}
    inspection = Inspection(looks, len(texts), read, len(choice.halves), len(choice.decoded), config.seed)
    files, plots = write_inspection(inspection, stage.folder), plot_inspection(inspection, stage.folder)
    shown = ("alignment", "uniformity", "effective_rank")
    figures = {name: {measure: getattr(look, measure) for measure in shown} for name, look in looks.items()}
    return Outcome(files, {"texts": len(texts), "models": figures}, variable=plots, scratch=[done])


def sources(config: InspectConfig) -> dict[str, str]:
    """Where each model comes from, by its name."""
    return named(config.model, lambda source: Path(source).resolve().name, "MODEL", "models")


def drawn(config: InspectConfig, stage: Stage) -> tuple[list[str], int]:
    """Texts drawn evenly from all, the beginning of each, and how many there are.

    A reservoir filled in one pass (Vitter 1985, algorithm R).
    """
    paths = [Path(stage.inputs[name].path) for name in stage.inputs if name.startswith("texts.")]
    rng, kept, read = np.random.default_rng([config.seed, 0]), list[str](), 0
    with stage.progress.track("read", None, "texts") as advance:
        for document in counted(filter(None, read_documents(paths, config.field)), advance):
            place = read if read < config.sample else int(rng.integers(read + 1))
            if place < config.sample:
                kept[place : place + 1] = [beginning(document)]
            read += 1
    if not read:
        raise DataError(f"{', '.join(config.texts)}: no texts in it, or empty ones alone")
    return kept, read


def beginning(document: Document) -> str:
    """The first CHARACTERS of a text, whose further lines aren't read."""
    lines, size = list[str](), 0
    for line in document:
        lines.append(line)
        size += len(line) + 1
        if size >= CHARACTERS:
            break
    return " ".join(lines)[:CHARACTERS]


def expect(config: InspectConfig, stage: Stage, texts: list[str], choice: Choice, folders: list[Path]) -> None:
    """Tell what is to come."""
    weights = max(sum(path.stat().st_size for path in folder.glob("*.safetensors")) for folder in folders)
    width = max(int(read_config(folder).hidden_size) for folder in folders)
    holds = LIBRARIES + weights + 2 * sum(map(len, texts)) + 40 * config.batch_tokens * width
    announce(stage, f"{len(texts):,} texts; about {rounded(choice.tokens)} tokens a model", holds, {})
