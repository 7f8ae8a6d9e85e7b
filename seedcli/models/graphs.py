"""An encoder as a graph that ONNX Runtime computes on a CPU: made once, kept in the cache, in int8 where that is asked.

Letters: B texts, n tokens of the longest, D vector width.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from seedcli.base.errors import ConfigError, SeedError, refusal
from seedcli.base.files import cache_folder, made_whole
from seedcli.base.manifest import digest
from seedcli.data.batches import Sequences
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder
from seedcli.models.onnx import GRAPH, INPUTS, OUTPUT, PACKAGES, largest_difference, write_graph

Kind = Literal["fp32", "int8"]

RULES = 1  # to be raised when another graph would come out of the same model
TOKENS = 512  # of a batch: what the caches of a core hold of a layer
SLOWER = [
    "SkipLayerNormFusion"
]  # of what is fused by itself: five times an addition and a norm (1.9 and 0.4 µs a token)


def check_graph(encoder: Encoder, option: str) -> None:
    """Raises ConfigError for an encoder whose vectors a graph can't give."""
    if encoder.settings.token_vectors > 1:
        told = f"this model keeps the vectors of {encoder.settings.token_vectors} tokens (token_vectors)"
        raise ConfigError(f"{option}: {told}, and a graph gives one of a text; take --runtime torch, in fp32 or bf16")


def graph_folder(identity: str, kind: Kind) -> Path:
    """Where the graph of a model is kept, whose content `identity` stands for."""
    versions = [torch.__version__, *(version(name) for name in (*PACKAGES, "transformers"))]
    made_of = [RULES, identity, kind, kind == "int8" and adds_int8_exactly(), versions]
    return cache_folder() / f"graph-{digest(made_of)[:16]}"


def kept_graph(encoder: Encoder, tokenizer: Tokenizer, identity: str, kind: Kind) -> Path:
    """The folder of a model's graph, made unless it is there. The encoder is on the CPU and in evaluation mode.

    Raises SeedError when no graph gives its vectors.
    """
    folder = graph_folder(identity, kind)
    if not folder.is_dir():
        with made_whole(folder) as aside:
            whole = aside / "whole" if kind == "int8" else aside
            whole.mkdir(exist_ok=True)
            files = write_checked(whole, encoder, tokenizer)
            if kind == "int8":
                quantise(whole / GRAPH, aside / GRAPH, large=len(files) > 1)
                shutil.rmtree(whole)
    return folder


def write_checked(folder: Path, encoder: Encoder, tokenizer: Tokenizer) -> list[Path]:
    """Leave a graph that gives the encoder's vectors, with attention as one operator where that works; its files."""
    for attention in (True, False):
        try:
            files = write_graph(folder, encoder, attention)
            largest_difference(folder, encoder, tokenizer)
        except Exception as error:  # whatever the exporter and ONNX Runtime raise
            if refusal(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            return files
    raise SeedError(f"ONNX Runtime can't compute this model; take --runtime torch ({reason:.200})")


def quantise(whole: Path, path: Path, large: bool) -> None:
    """Leave a graph whose weights are int8, scaled by column, and which rounds to int8 what they multiply.

    Embeddings, attention, norms and pooling stay in float32. The weights of a `large` one stand beside it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with unheard():
        quantize_dynamic(
            whole, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8,
            reduce_range=not adds_int8_exactly(), use_external_data_format=large,
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip


def adds_int8_exactly() -> bool:
    """Whether this processor sums products of int8 in 32 bits (VNNI); others in 16, where they may overflow: their
    weights have 7 bits."""
    described = Path("/proc/cpuinfo")
    return described.is_file() and "vnni" in described.read_text()


def open_graph(folder: Path) -> Callable[[Sequences], Tensor]:
    """What turns token ids [B, n] into vectors [B, 1, D], in the thread that calls it; many may at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # a plan of memory for each shape: texts have all shapes
    session = onnxruntime.InferenceSession(
        folder / GRAPH, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
    )

    def compute(texts: Sequences) -> Tensor:
        given = (texts.tokens.numpy(), texts.attention.numpy().astype(np.int64))
        (found,) = session.run([OUTPUT], dict(zip(INPUTS, given, strict=True)))
        return torch.from_numpy(found).unsqueeze(1)

    return compute


@contextmanager
def unheard() -> Iterator[None]:
    """Without the advice of the quantiser to prepare its graph."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
