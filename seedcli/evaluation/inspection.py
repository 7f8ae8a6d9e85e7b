"""The vectors of several models side by side: as JSON, as a table, as plots."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seedcli.base.files import read_json, write_json, write_text
from seedcli.evaluation.plots import Curve, curves
from seedcli.evaluation.representations import Series

POSITIONS = (0, 4, 16, 64, 256)  # of the decoder's, those that the table shows
NONE = "–"


@dataclass(frozen=True)
class Look:
    """What was found of one model. Its vectors are `width` wide, of inputs of at most `longest` tokens."""

    pooling: str
    width: int
    longest: int
    cosine: Series  # by length in tokens, over pairs of texts
    left_out: dict[int, str]  # length -> why there is none
    alignment: float
    uniformity: float
    effective_rank: float
    norm: float  # mean length of a vector
    spectrum: list[float]
    decoder: Series | None  # by position, over texts


@dataclass(frozen=True)
class Inspection:
    models: dict[str, Look]
    texts: int  # that were drawn
    read: int  # that there are
    halved: int  # texts whose halves are the positives
    decoded: int  # texts that decoders read
    seed: int


class Row(NamedTuple):
    """A measure, and what each model has in it."""

    measure: str
    cells: list[str]


def read_inspection(folder: Path) -> Inspection:
    import pydantic

    return pydantic.TypeAdapter(Inspection).validate_python(read_json(folder / "inspect.json"))


def read_look(path: Path) -> Look:
    import pydantic

    return pydantic.TypeAdapter(Look).validate_python(read_json(path))


def write_inspection(inspection: Inspection, folder: Path) -> list[Path]:
    """inspect.json and inspect.md: the same inspection always gives the same bytes."""
    files = [folder / "inspect.json", folder / "inspect.md"]
    write_json(files[0], {"legend": list(legend(inspection)), **asdict(inspection)})
    write_text(files[1], markdown(inspection))
    return files


def plot_inspection(inspection: Inspection, folder: Path) -> list[Path]:
    """cosine, spectrum, and decoder where a model has one; each as PNG and SVG."""
    looks, files = inspection.models, []
    alike = {name: curve(look.cosine) for name, look in looks.items() if look.cosine.at}
    if alike:
        files += curves(
            folder / "cosine", alike, "length of the texts (tokens)", "mean cosine of random pairs",
            ticks=sorted({x for line in alike.values() for x in line.x}), log_x=True, y_range=(0, 1),
        )  # fmt: skip
    near = {name: curve(look.decoder) for name, look in looks.items() if look.decoder and look.decoder.at}
    if near:
        files += curves(
            folder / "decoder", near, "position (tokens)", "mean cosine of decoder state and h0", y_range=(0, 0)
        )
    spread = {name: cumulated(look.spectrum) for name, look in looks.items()}
    widest = max(len(look.spectrum) for look in looks.values())
    return files + curves(
        folder / "spectrum", spread, "directions, the strongest first", "share of the variance in so many directions",
        ticks=[2**power for power in range(widest.bit_length())], log_x=True, y_range=(0, 1),
    )  # fmt: skip


def curve(series: Series) -> Curve:
    return Curve(series.at, series.mean, series.low, series.high)


def cumulated(spectrum: Sequence[float]) -> Curve:
    """The share of the variance that the first directions have together."""
    variance = np.square(spectrum)
    return Curve(range(1, 1 + len(spectrum)), np.cumsum(variance / (variance.sum() or 1.0)).tolist())


def rows(inspection: Inspection) -> list[Row]:
    """The table: a row a measure, a column a model."""
    looks = inspection.models.values()
    lengths = sorted({length for look in looks for length in look.cosine.at})
    table = [Row("vector", [f"{look.pooling}, {look.width} wide" for look in looks])]
    table += [Row(f"cosine, {length} tokens", [cell(look.cosine, length) for look in looks]) for length in lengths]
    table += [
        Row("alignment", [f"{look.alignment:z.3f}" for look in looks]),
        Row("uniformity", [f"{look.uniformity:z.3f}" for look in looks]),
        Row("effective rank", [f"{look.effective_rank:.1f}" for look in looks]),
        Row("norm", [f"{look.norm:.2f}" for look in looks]),
    ]
    decoders = [look.decoder or Series([], [], [], [], []) for look in looks]
    return table + [
        Row(f"decoder to h0, position {position}", [cell(decoder, position) for decoder in decoders])
        for position in POSITIONS
        if any(position in decoder.at for decoder in decoders)
    ]


def cell(series: Series, at: int) -> str:
    """A mean with half the width of its interval."""
    if at not in series.at:
        return NONE
    place = series.at.index(at)
    return f"{series.mean[place]:z.3f} ±{(series.high[place] - series.low[place]) / 2:.3f}"


def legend(inspection: Inspection) -> Iterator[str]:
    """What the rows mean, and why some cells are empty."""
    looks = inspection.models
    pairs = sorted({count for look in looks.values() for count in look.cosine.of})
    drawn = f"{inspection.texts:,} texts drawn from {inspection.read:,} (seed {inspection.seed})"
    of = f"{pairs[0]:,}" if pairs[:1] == pairs[-1:] else f"{pairs[0]:,} to {pairs[-1]:,}" if pairs else "no"
    yield (
        f"Cosine: the mean over {of} pairs of random texts, each cut to exactly so many tokens, special ones included; "
        f"the same texts for all models, {drawn}. ± spans 95 %."
    )
    yield (
        f"Alignment: mean squared distance of the two halves of {inspection.halved:,} texts; uniformity: log of the "
        "mean of exp(-2 d²) over all pairs of first halves, d their distance (both of vectors of length 1: Wang & "
        "Isola 2020; the lower, the nearer and the more even)."
    )
    yield (
        "Effective rank: exp of the entropy of the singular values of the first halves' vectors, each of length 1, "
        "then centred (Roy & Vetterli 2007): at most the width, and less than the texts. Norm: the mean length of "
        "these vectors as they come."
    )
    if any(look.decoder for look in looks.values()):
        yield (
            f"Decoder to h0: the mean over {inspection.decoded:,} texts, or as many as reach the position, of the "
            "cosine of the decoder's last state to the encoder's output at [CLS]."
        )
    reasons: dict[tuple[int, str], list[str]] = {}
    for name, look in looks.items():
        for length, reason in look.left_out.items():
            reasons.setdefault((length, reason), []).append(name)
    for (length, reason), names in reasons.items():
        whose = "" if len(names) == len(looks) else f" ({', '.join(names)})"
        yield f"No cosine at {length} tokens: {reason}{whose}."


def markdown(inspection: Inspection) -> str:
    """The table with its legend."""
    table = [["", *inspection.models], [":--", *("--:" for _ in inspection.models)]]
    table += [[row.measure, *row.cells] for row in rows(inspection)]
    lines = ["| " + " | ".join(escaped(part) for part in row) + " |" for row in table]
    return "\n".join(lines) + "\n\n" + "\n\n".join(legend(inspection)) + "\n"


def escaped(text: str) -> str:
    return text.replace("|", "\\|")
