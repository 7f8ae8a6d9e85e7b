"""Pre-training here and plainly written, side by side: tokens a second, utilisation, and memory that activations take.

    python benchmarks/pretrain.py [--size base --length 512 --batch 4] [--dropout 0.1]

The same encoder, attention kernel, dtype, batch and optimiser for all: `mlm`, `seed` (3 layers, window 2) and `strong`
(5 layers, all tokens) are ours; `reference` is Hugging Face's BertForMaskedLM with full logits and, over its [CLS]
output, torch.nn.TransformerDecoder of 3 layers with full causal attention and full logits. They take turns, a round
after the other, and the median of each counts. Blocks are full and made up. Prints a JSON line each.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertLayer

from seedcli.base.runtime import Runtime
from seedcli.base.speed import matrix_rate, synchronise
from seedcli.data.batches import PretrainingBatch, PretrainingBatches
from seedcli.data.masking import Masking
from seedcli.data.ragged import Ragged
from seedcli.models.decoder import DecoderLayer, WeakDecoder
from seedcli.models.dropout import quicken
from seedcli.models.encoder import SIZES, new_masked_lm
from seedcli.models.flops import Decoder, Encoder, pretraining_operations
from seedcli.models.seed import SeedModel
from seedcli.training.loop import accumulate
from seedcli.training.objectives import PretrainingObjective
from seedcli.training.optimizers import adamw

DECODERS = {"mlm": None, "seed": Decoder(3, 2), "strong": Decoder(5, None), "reference": Decoder(3, None)}
SHARE = 0.15


class Reference(nn.Module):
    """What one would write first: full logits of both heads, and a Transformer decoder that reads [CLS] as memory."""

    terms = ("mlm", "decoder")

    def __init__(self, encoder: nn.Module, hidden: int, length: int, dropout: float):
        super().__init__()
        self.encoder = encoder
        self.positions = nn.Embedding(length, hidden)
        layer = nn.TransformerDecoderLayer(
            hidden, hidden // 64, 4 * hidden, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, 3, nn.LayerNorm(hidden))
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: PretrainingBatch) -> Tensor:
        tokens, attention = batch.original
        labels = torch.full_like(tokens, -100).flatten()
        labels[batch.chosen] = tokens.flatten()[batch.chosen]
        output = self.encoder.bert(input_ids=batch.masked, attention_mask=attention)[0]
        logits = self.encoder.cls(output)  # [B, n, V]
        masked = F.cross_entropy(logits.flatten(0, 1).float(), labels, reduction="sum")
        weight = self.encoder.get_input_embeddings().weight
        n = tokens.shape[1] - 1
        embedded = self.dropout(F.embedding(tokens[:, :-1], weight) + self.positions.weight[:n])
        mask = nn.Transformer.generate_square_subsequent_mask(n, device=tokens.device, dtype=embedded.dtype)
        states = self.decoder(embedded, output[:, :1], tgt_mask=mask, tgt_is_causal=True)
        decoded = states @ weight.T  # [B, n - 1, V]
        written = F.cross_entropy(decoded.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="sum")
        return torch.stack([masked, written])


class System(NamedTuple):
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--vocabulary", type=int, default=30_522)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4, help="blocks a step")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--systems", nargs="+", choices=DECODERS, default=list(DECODERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="each layer through torch.compile")
    parser.add_argument("--memory", choices=DECODERS, help="measure this system's memory alone, in this process")
    options = parser.parse_args()
    runtime = Runtime(device=torch.device(options.device), precision=options.precision)
    if options.memory:
        print(step_memory(options.memory, options, runtime))
        return
    lines = {}
    for line in compare(options, runtime):
        lines[line["system"]] = line
        print(json.dumps(line), flush=True)
    if lines.keys() == DECODERS.keys():
        print(json.dumps(ratios(lines)))


def build(name: str, options: argparse.Namespace, runtime: Runtime) -> System:
    torch.manual_seed(0)
    hidden = SIZES[options.size][1]
    encoder = new_masked_lm(options.size, options.vocabulary, options.length, 0, options.dropout)
    shape = DECODERS[name]
    if name == "reference":
        objective: nn.Module = Reference(encoder, hidden, options.length, options.dropout)
        quicken(objective)  # the same attention in the encoder, and the same dropout; PretrainingObjective does it
    else:
        decoder = shape and WeakDecoder(
            hidden, hidden // 64, 4 * hidden, shape.layers, shape.window, options.length, options.dropout
        )
        objective = PretrainingObjective(SeedModel(encoder, decoder))
    objective.to(runtime.device)
    for module in objective.modules() if options.compile else ():
        if isinstance(module, BertLayer | DecoderLayer | nn.TransformerDecoderLayer):
            module.compile()
    optimizer = adamw(objective, 1e-4, (0.9, 0.999), 1e-6, 0.01)
    return System(objective, optimizer, runtime.scaler())


def made_up(options: argparse.Namespace) -> Callable[[int], list[PretrainingBatch]]:
    """Full blocks of random words, as the loop draws them."""
    words = np.random.default_rng(0).integers(5, options.vocabulary, (64 * options.batch, options.length))
    words[:, 0], words[:, -1] = 2, 3
    masking = Masking(4, np.arange(5), options.vocabulary, SHARE)
    batches = PretrainingBatches(Ragged.of(words, np.uint16), masking, 0, options.batch, options.batch, 0)
    return lambda step: list(batches(step, 0, 1))


def train_step(system: System, batch: list[PretrainingBatch], runtime: Runtime, step: int) -> None:
    counts = torch.stack([part.counts for part in batch]).sum(0).to(runtime.device)
    accumulate(system.objective, batch, counts, system.scaler, runtime, [0, step])
    system.scaler.unscale_(system.optimizer)
    nn.utils.clip_grad_norm_(system.objective.parameters(), 1.0)
    system.scaler.step(system.optimizer)
    system.scaler.update()
    system.optimizer.zero_grad(set_to_none=True)


def compare(options: argparse.Namespace, runtime: Runtime) -> Iterator[dict[str, Any]]:
    """A line for each system, with its speed."""
    batches = made_up(options)
    systems = {name: build(name, options, runtime) for name in options.systems}
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    rates: list[float] = []
    for step in range(options.rounds + 1):
        rates.append(matrix_rate(runtime))
        for name, system in systems.items():
            batch = batches(step)
            synchronise(runtime.device)
            began = time.perf_counter()
            train_step(system, batch, runtime, step)
            synchronise(runtime.device)
            seconds[name].append(time.perf_counter() - began)
    del systems
    gc.collect()
    rate, tokens = statistics.median(rates), options.batch * options.length
    for name, times in seconds.items():
        middle = statistics.median(times[1:])  # the first warms up
        yield {
            "system": name,
            **shape_of(options),
            "tokens_per_second": round(tokens / middle, 1),
            "seconds_per_step": round(middle, 4),
            "million_operations_per_token": round(operations(name, options) / 1e6, 1),  # computed
            "utilisation": round(operations(name, options) * tokens / middle / rate, 3),
            "matrix_gflops": round(rate / 1e9, 1),
            "peak_mib": round(peak(name, options) / 2**20, 1),
        }


def ratios(lines: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What seed costs against our mlm, and what it gains on the reference."""
    time_of, room = ({name: line[key] for name, line in lines.items()} for key in ("seconds_per_step", "peak_mib"))
    return {
        "seed_over_mlm_time": round(time_of["seed"] / time_of["mlm"], 3),
        "seed_over_reference_speed": round(time_of["reference"] / time_of["seed"], 3),
        "seed_over_reference_memory": round(room["seed"] / room["reference"], 3),
    }


def operations(name: str, options: argparse.Namespace) -> float:
    layers, hidden = SIZES[options.size]
    encoder, length = Encoder(layers, hidden, 4 * hidden, options.vocabulary), options.length
    if name != "reference":
        return pretraining_operations(encoder, DECODERS[name], length, SHARE)
    crossed = 3 * 2 * hidden**2  # queries and outputs of attention to [CLS], which ours leaves out
    return pretraining_operations(encoder, DECODERS[name], length, 1.0) + 6 * crossed


def shape_of(options: argparse.Namespace) -> dict[str, Any]:
    names = ("size", "vocabulary", "length", "batch", "dropout", "device", "precision", "compile")
    return {name: getattr(options, name) for name in names}


def peak(name: str, options: argparse.Namespace) -> int:
    """Bytes of one step above weights, gradients and optimiser state, measured in a process of its own."""
    flags = [part for key, value in shape_of(options).items() if key != "compile" for part in (f"--{key}", str(value))]
    flags += ["--compile"] * options.compile
    # Freed blocks go back to the system at once, so that resident memory is what is held.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    printed = subprocess.run(
        [sys.executable, __file__, "--memory", name, *flags], env=env, check=True, capture_output=True, text=True
    )
    return int(printed.stdout)


def step_memory(name: str, options: argparse.Namespace, runtime: Runtime) -> int:
    system, batches = build(name, options, runtime), made_up(options)
    gradients = sum(4 * parameter.numel() for parameter in system.objective.parameters())
    for step in range(2):  # the first makes the optimiser's state
        batch = batches(step)
        gc.collect()
        if runtime.device.type == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        else:
            before = resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        train_step(system, batch, runtime, step)
        most = torch.cuda.max_memory_allocated() if runtime.device.type == "cuda" else resident("VmHWM")
    return most - before - gradients


def resident(key: str) -> int:
    """Bytes of this process's memory, by Linux's name for them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key))) * 1024


if __name__ == "__main__":
    main()
