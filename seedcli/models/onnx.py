"""An encoder as an ONNX graph: token ids to vectors in one file, held against the encoder itself.

Letters: B texts, n tokens of the longest, D vector width.
"""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seedcli.base.errors import ConfigError, DataError
from seedcli.data.batches import Sequences, padded
from seedcli.data.tokenizer import Tokenizer
from seedcli.models.encoder import Encoder

GRAPH = "model.onnx"
INPUTS = ("input_ids", "attention_mask")  # int64 [B, n], any B and n
OUTPUT = "embedding"  # float32 [B, D]
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
LARGEST = 2_000_000_000  # bytes of weights in model.onnx, which may have 2 GiB; those of a larger model stand beside
TOLERANCE = 1e-4
BATCHES = (1, 2, 5)  # texts at a time when the graph is checked


class Graph(nn.Module):
    """An encoder as ONNX calls it: by two matrices, [B, n] twice -> [B, D]."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(Sequences(input_ids, attention_mask))  # type: ignore[no-any-return]


def missing_packages() -> list[str]:
    """Those that the export and a session need and that aren't installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def check_packages(option: str) -> None:
    """Raises ConfigError when one is missing that an option needs."""
    if missing := missing_packages():
        raise ConfigError(f'{option} needs {" and ".join(missing)}: pip install "seedcli[onnx]"')


def write_graph(folder: Path, encoder: Encoder, attention: bool = False) -> list[Path]:
    """Leave model.onnx, and model.onnx.data where it is too large for one file; the files written.

    With `attention` it is one operator, which is quicker and which newer runtimes alone know (opset 23).
    """
    graph = Graph(encoder).eval()
    example = torch.zeros((2, 9), dtype=torch.int64), torch.ones((2, 9), dtype=torch.int64)
    axes = {0: "batch", 1: "length"}
    with unheard():
        program = torch.onnx.export(
            graph, example, input_names=INPUTS, output_names=[OUTPUT], dynamo=True, verbose=False,
            dynamic_shapes=dict.fromkeys(INPUTS, axes), **(one_attention() if attention else {}),
        )  # fmt: skip
    assert program is not None
    plain(program)
    size = sum(weight.numel() * weight.element_size() for weight in graph.parameters())
    program.save(folder / GRAPH, external_data=size >= LARGEST)
    return sorted(folder.glob(f"{GRAPH}*"))


def one_attention() -> dict[str, Any]:
    """What makes the exporter write attention as an operator over [B, n, D], whose heads need no transposing."""
    from onnxscript import opset23 as op

    def reshaped(values: Any, *shape: int) -> Any:
        target: Any = op.Constant(value_ints=shape)
        return op.Reshape(values, target)

    def flat(heads: Any) -> Any:
        return reshaped(op.Transpose(heads, perm=[0, 2, 1, 3]), 0, 0, -1)

    def attention(
        query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,  # noqa: ARG001
        scale: float | None = None, enable_gqa: bool = False,  # noqa: ARG001
    ) -> Any:  # fmt: skip
        """As torch has it, over heads [B, H, n, D / H]."""
        count = {"q_num_heads": query.shape[1], "kv_num_heads": key.shape[1]}
        found, *_ = op.Attention(
            flat(query), flat(key), flat(value), attn_mask, is_causal=int(is_causal), scale=scale, **count
        )
        return op.Transpose(reshaped(found, 0, 0, query.shape[1], -1), perm=[0, 2, 1, 3])

    translations = {torch.ops.aten.scaled_dot_product_attention.default: attention}
    return {"opset_version": 23, "custom_translation_table": translations}


def plain(program: "torch.onnx.ONNXProgram") -> None:
    """Take out of a graph the lines of Python it came from, and names that stand twice."""
    graph = program.model.graph
    program.model.metadata_props.clear()
    graph.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            if value.name == OUTPUT and value not in graph.outputs:
                value.name = f"{OUTPUT}_of_tokens"


def largest_difference(folder: Path, encoder: Encoder, tokenizer: Tokenizer) -> float:
    """Between the vectors of a graph and its encoder's, over texts of all lengths, alone and padded.

    Raises DataError when it is over TOLERANCE.
    """
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 4  # what it raises says enough
    session = InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
    differences = []
    for texts in probes(encoder, tokenizer):
        inputs = zip(INPUTS, (texts.tokens.numpy(), texts.attention.long().numpy()), strict=True)
        (found,) = session.run([OUTPUT], dict(inputs))
        with torch.inference_mode():
            differences.append((encoder(texts) - torch.from_numpy(found)).abs().max())
    largest = float(torch.stack(differences).max())
    if not largest <= TOLERANCE:  # nor is NaN
        raise DataError(f"{folder / GRAPH}: its vectors are up to {largest:.1e} from the model's, over {TOLERANCE}")
    return largest


def probes(encoder: Encoder, tokenizer: Tokenizer) -> Iterator[Sequences]:
    """Batches of random words between the tokenizer's special ones, as long as the settings allow and shorter."""
    rng = np.random.default_rng(0)
    words = np.setdiff1d(np.arange(tokenizer.size), tokenizer.special_ids)
    least = len(tokenizer.prefix) + len(tokenizer.suffix)
    for longest in (encoder.settings.query_length, encoder.settings.passage_length):
        for batch in BATCHES:
            lengths = [longest, *rng.integers(least, longest, batch - 1, endpoint=True)]
            rows = [[*tokenizer.prefix, *rng.choice(words, length - least), *tokenizer.suffix] for length in lengths]
            yield padded([np.array(row) for row in rows], tokenizer.pad)


@contextmanager
def unheard() -> Iterator[None]:
    """Without what the exporter warns of: packages that it can do without, and its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
