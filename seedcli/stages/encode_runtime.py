"""What seed encode computes with: torch, or ONNX Runtime where it gives the same vectors sooner."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from seedcli.base.errors import ConfigError, SeedError
from seedcli.base.files import read_json, write_json
from seedcli.base.machine import size
from seedcli.configs.encode import EncodeConfig
from seedcli.data.segments import Rows
from seedcli.models.graphs import TOKENS, check_graph, graph_folder, kept_graph, open_graph
from seedcli.models.onnx import TOLERANCE, check_packages, missing_packages
from seedcli.models.towers import Role, untied
from seedcli.retrieval.encoding import Compute, TextEncoder
from seedcli.stages.estimates import weights
from seedcli.stages.stage import Stage

Name = Literal["torch", "onnx"]

CHOICE = "begun"  # the folder that a choice is kept in until the stage is finished
WORTH = 120  # seconds of work; making a graph takes some ten and comparing two, and it may save a quarter
PATIENCE = 2.0  # seconds of comparing at most, but for a round
ROUNDS = 3
MAKING = 14  # bytes held for each weight while a graph is made: the exporter's copies, and the session of its check


def check_options(config: EncodeConfig) -> None:
    """Raises ConfigError for options that exclude each other, and when a package is missing that they need."""
    machine = config.machine
    if machine.precision == "int8":
        if machine.runtime == "torch":
            raise ConfigError("--precision int8 is computed by ONNX Runtime: leave out --runtime torch")
        check_packages("--precision int8")
    elif machine.runtime == "onnx":
        if machine.precision != "fp32":
            raise ConfigError(
                f"--runtime onnx computes in fp32 or int8: leave it out with --precision {machine.precision}"
            )
        check_packages("--runtime onnx")


def encoder_for(
    config: EncodeConfig, stage: Stage, model: TextEncoder, role: Role, sample: Rows, tokens: float
) -> tuple[Name, TextEncoder]:
    """What encodes, and its name: the model itself, or one that computes by a graph and holds no weights of torch.

    Of all processes the first chooses, once for a folder; `sample` are some of its `tokens`.
    """
    folder = Path(stage.inputs["model"].path)
    identity = stage.inputs["model"].identity + (role if untied(folder) else "")
    kind: Literal["fp32", "int8"] = "int8" if config.machine.precision == "int8" else "fp32"

    def make() -> Path:
        if not graph_folder(identity, kind).is_dir():
            held = size(MAKING * weights(model.encoder))
            stage.progress.say(
                f"makes an ONNX graph of the model, once for all corpora: holds about {held} more meanwhile"
            )
        return kept_graph(model.encoder, model.tokenizer, identity, kind)

    def choose() -> Name:
        kept = stage.folder / CHOICE / "runtime.json"
        name, begun = settled(config, stage, model), read_json(kept) if kept.is_file() else None
        if name and begun and name != begun:
            told = f"its first shards were computed by {begun}, and now {name} would be: give --runtime {begun}"
            raise ConfigError(f"{stage.folder}: {told} on a CPU to go on, or --overwrite")
        name = name or begun or quicker(stage, model, make, role, sample, tokens)
        write_json(kept, name)
        return name

    name = stage.runtime.share(choose)
    if name == "torch":
        return name, model
    graph = open_graph(stage.runtime.cached(make))
    if kind == "int8":
        stage.runtime.share(lambda: tell_nearness(stage, model, graph, role, sample))
    return name, by_graph(model, graph, config.batch_tokens)


def settled(config: EncodeConfig, stage: Stage, model: TextEncoder) -> Name | None:
    """What the options, the device and the model leave to choose from, None when that is both."""
    machine, on_cpu = config.machine, stage.runtime.device.type == "cpu"
    if machine.precision == "int8" or machine.runtime == "onnx":
        if not on_cpu:
            raise ConfigError("--runtime onnx is for CPUs: give --device cpu with it, or leave it out")
        check_graph(model.encoder, "--precision int8" if machine.precision == "int8" else "--runtime onnx")
        return "onnx"
    several = model.encoder.settings.token_vectors > 1
    if machine.runtime == "torch" or machine.precision != "fp32" or not on_cpu or several or missing_packages():
        return "torch"
    return None


def quicker(
    stage: Stage, model: TextEncoder, make: Callable[[], Path], role: Role, sample: Rows, tokens: float
) -> Name:
    """The runtime that is quicker over some texts: torch where there is little to do, or where the vectors differ."""
    some = spread(sample, 2 * torch.get_num_threads() * model.budget.tokens)
    seconds, expected = timed(model, some, role)
    if seconds * tokens / stage.runtime.world < WORTH * sum(map(len, some)):
        return "torch"
    try:
        graph = open_graph(make())
    except SeedError as error:
        stage.progress.say(f"computes with torch: {error}")
        return "torch"
    models = {"torch": model, "onnx": beside(model, graph)}
    _, found = timed(models["onnx"], some, role)
    difference = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not difference <= TOLERANCE:  # nor is NaN
        stage.progress.say(f"computes with torch: ONNX Runtime's vectors are {difference:.0e} from its own")
        return "torch"
    took: dict[Name, list[float]] = {"torch": [], "onnx": []}
    until = time.monotonic() + PATIENCE
    while not took["torch"] or (len(took["torch"]) < ROUNDS and time.monotonic() < until):
        for name, seconds_of in took.items():
            seconds_of.append(timed(models[name], some, role)[0])
    ratio = min(took["torch"]) / min(took["onnx"])
    if ratio <= 1:
        stage.progress.say(f"computes with torch, which is {1 / ratio:.2f} times as fast here as ONNX Runtime")
        return "torch"
    equal = f"its vectors are the same to {difference:.0e}"
    stage.progress.say(f"computes with ONNX Runtime, which is {ratio:.2f} times as fast here as torch; {equal}")
    return "onnx"


def timed(model: TextEncoder, rows: Rows, role: Role) -> tuple[float, NDArray[np.float32]]:
    """Seconds that encoding took, and the vectors."""
    began = time.perf_counter()
    vectors = model.encode_rows(rows, role).vectors
    return time.perf_counter() - began, vectors


def spread(rows: Rows, tokens: int) -> Rows:
    """Rows of about so many tokens, of all lengths in the proportion that they have."""
    ordered = sorted(rows, key=len)
    step = max(1, sum(map(len, rows)) // tokens)
    return ordered[step // 2 :: step]


def tell_nearness(stage: Stage, model: TextEncoder, graph: Compute, role: Role, sample: Rows) -> None:
    """Tell how near the vectors of int8 are to those of float32, over a few texts."""
    some = spread(sample, 4 * model.budget.tokens)
    full = model.encode_rows(some, role).vectors
    near = beside(model, graph).encode_rows(some, role).vectors
    cosines = (full * near).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(near, axis=1)
    told = f"{cosines.mean():.4f} on average, {cosines.min():.4f} at least (over {len(cosines)} of these)"
    stage.progress.say(f"int8 vectors have a cosine of {told} with those of fp32")


def beside(model: TextEncoder, graph: Compute) -> TextEncoder:
    """What computes by a graph as the model does by its weights, which stay."""
    return TextEncoder(model.encoder, model.tokenizer, model.runtime, TOKENS, graph=graph, width=model.width)


def by_graph(model: TextEncoder, graph: Compute, batch_tokens: int | None) -> TextEncoder:
    """The model with a graph in the place of its weights, which go."""
    return TextEncoder(
        model.encoder.to("meta"), model.tokenizer, model.runtime, batch_tokens or TOKENS, model.budget.say, graph,
        model.width,
    )  # fmt: skip
