"""What the stages of a recipe would take, and how long that is on the devices that someone assumes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seedcli.base.errors import ConfigError, SeedError
from seedcli.base.progress import Progress
from seedcli.configs.encode import EncodeConfig
from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.index import IndexConfig
from seedcli.configs.pretrain import PretrainConfig
from seedcli.configs.search import SearchConfig
from seedcli.stages import forecast
from seedcli.stages.forecast import Part
from seedcli.stages.run import Step
from seedcli.stages.search import DEPTH
from seedcli.stages.sizes import Expected, SizeError, Sizes, known
from seedcli.stages.training_set import places

ASSUMED = "8xA100@40%"
PEAKS = {"t4": 65, "v100": 125, "l4": 121, "a10": 125, "l40s": 362, "a100": 312, "h100": 989, "h200": 989}
# TFLOP/s in dense products of 16-bit numbers, by NVIDIA's data sheets
DEVICES = re.compile(r"(?:(\d+)x)?(\w+(?:\.\d+)?)@(\d+(?:\.\d+)?)%")


class Devices(NamedTuple):
    """`number` devices that could do `peak` operations a second each, and reach a share of them."""

    number: int
    peak: float
    share: float

    def hours(self, part: Part) -> float:
        return part.operations / (self.number * self.peak * self.share) / 3600

    def __str__(self) -> str:
        many = "device" if self.number == 1 else "devices"
        return f"{self.number} {many} of {self.peak / 1e12:g} TFLOP/s, of which {100 * self.share:g} % is reached"


class Outlook(NamedTuple):
    """A stage's parts, or why there is no estimate of them."""

    stage: str
    parts: Sequence[Part]
    unknown: str = ""


def devices(words: str) -> Devices:
    """What --assume names: 8xA100@40%, or 8x312@40% by their TFLOP/s. Raises ConfigError."""
    found = DEVICES.fullmatch(words.strip())
    peak = PEAKS.get(found[2].lower()) or speed(found[2]) if found else 0.0
    if found is None or not peak or not 0 < float(found[3]) <= 100 or found[1] == "0":
        raise ConfigError(
            f"--assume {words}: expected devices and the share of their speed that is reached, as in {ASSUMED}, or by "
            f"TFLOP/s as in 8x312@40%; known by name are {', '.join(name.upper() for name in PEAKS)}"
        )
    return Devices(int(found[1] or 1), peak * 1e12, float(found[3]) / 100)


def speed(word: str) -> float:
    """TFLOP/s as a number; 0 for another word."""
    return float(word) if re.fullmatch(r"\d+(\.\d+)?", word) else 0.0


def outlooks(
    picked: Sequence[Step], steps: Sequence[Step], expected: Mapping[str, Expected], progress: Progress
) -> Iterator[Outlook]:
    """Of the stages that are `picked` among all steps of a recipe."""
    sizes = Sizes({str(step.config.out): step for step in steps}, expected, progress)
    for step in picked:
        try:
            yield Outlook(step.name, list(parts(step.config, sizes)))
        except SeedError as error:
            yield Outlook(step.name, [], str(error))


def parts(config: Any, sizes: Sizes) -> Iterator[Part]:
    """What a stage does that takes long or leaves much. Raises SizeError for what nothing tells."""
    match config:
        case PretrainConfig():
            yield forecast.pretraining(config, sizes.pretrained(config))
        case FinetuneConfig():
            yield from finetuning(config, sizes)
        case EncodeConfig(corpus=str(source)):
            yield forecast.encoding(sizes.model(config.model), sizes.passages(source), "passage")
        case EncodeConfig(queries=str(source)):
            yield forecast.encoding(sizes.model(config.model), sizes.queries(source, config.split), "query")
        case IndexConfig(corpus=str(source)):
            if config.expander.expander is not None:
                raise SizeError(f"how long {config.expander.expander} takes to write queries of all passages")
            yield forecast.word_index(sizes.passages(source), config.words.rm3)
        case SearchConfig(queries=str()):
            yield searching(config, sizes)


def finetuning(config: FinetuneConfig, sizes: Sizes) -> Iterator[Part]:
    model, queries, passages = sizes.finetuned(config), sizes.trained(config), sizes.passages(config.data)
    source, watch = config.negatives.negatives, config.watch
    yield forecast.training(config, model, queries, passages)
    if source == "bm25" and config.negatives.hard:
        yield forecast.mined(config, queries, places(config.negatives.negative_depth).stop)
    if source == "ance":
        yield forecast.refreshes(config, model, queries, passages)
    if watch.dev is not None:
        looked = watch.dev_data or config.data
        asked = sizes.queries(looked, watch.dev)
        yield forecast.looks(config, model, queries, asked, sizes.passages(looked))


def searching(config: SearchConfig, sizes: Sizes) -> Part:
    """One run, of one index or several."""
    if config.candidates is not None:
        raise SizeError(f"how many candidates {config.candidates} names")
    source, split, depth = str(config.queries), config.split, config.depth or DEPTH
    encoded = sizes.config(source)
    if isinstance(encoded, EncodeConfig):
        source, split = str(encoded.queries), encoded.split
    queries = sizes.queries(source, split)
    if encoded is not None:
        queries = queries._replace(tokens=0.0)  # read already
    run = forecast.word_searching(queries, depth)
    for index in (known(sizes.config(folder), f"what {folder} was made from") for folder in config.index):
        if index.kind != "bm25":  # approximate ones compare fewer vectors than this counts
            vectors = known(sizes.config(str(index.vectors)), f"what {index.vectors} was made from")
            model, passages = sizes.model(vectors.model), sizes.passages(str(vectors.corpus))
            dense = forecast.searching(model, queries, forecast.vectors_of(model, passages), depth)
            run = run._replace(tokens=run.tokens + dense.tokens, operations=run.operations + dense.operations)
    return run


def plain(outlook: Outlook, assumed: Devices) -> dict[str, Any]:
    """An outlook for scripts: its parts, with hours."""
    told = [{**part._asdict(), "hours": assumed.hours(part)} for part in outlook.parts]
    return {"parts": told, "assumed": assumed._asdict(), "unknown": outlook.unknown or None}


def told_unset(unset: Mapping[str, str], expected: Mapping[str, Expected], recipe: Path) -> list[str]:
    """Environment variables that are still to be set, and to what."""
    places = {name: where.removeprefix(f"{recipe}: ") for name, where in unset.items()}
    about = {name: expected.get(f"${{{name}}}", Expected()).about for name in unset}
    return [f"{name} is not set: {about[name] or f'named by {place}'}" for name, place in places.items()]
