"""What a stage will read, hold and write, told before it starts; a disk too small is refused."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seedcli.base.errors import DataError, SeedError
from seedcli.base.files import files_of
from seedcli.base.machine import existing, memory, size
from seedcli.base.runtime import Runtime
from seedcli.data.lines import COMPRESSED
from seedcli.data.tokenizer import Tokenizer
from seedcli.stages.stage import Stage

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = 450 << 20  # bytes: Python with torch and transformers loaded, measured on Linux
PACKED = 3  # bytes of text in a byte of .gz or .zst
NO_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "bad_alloc")  # as torch says it
SAMPLE = 500  # texts whose tokens are counted


def announce(stage: Stage, reads: str, holds: int, writes: Mapping[Path, int]) -> None:
    """Tell the estimates, memory (of one process) and disk in bytes.

    What stands in the stage's folder already needs no more room. Raises DataError when a disk has less than is needed.
    """
    begun = text_bytes(stage.folder) if stage.folder.is_dir() else 0
    needed = {folder: max(0, count - begun * (folder == stage.folder)) for folder, count in writes.items()}
    refuse_full_disk(needed)
    each = f" in each of {stage.runtime.world} processes" if stage.runtime.world > 1 else ""
    stage.progress.say(f"reads   {reads}")
    stage.progress.say(f"holds   about {size(holds)}{each}")
    for folder, count in ((folder, count) for folder, count in needed.items() if count):
        stage.progress.say(f"writes  about {size(count)} to {folder} ({size(free(folder))} free)")
    room = memory()[1]
    if stage.runtime.device.type == "cpu" and holds * stage.runtime.world > room:
        stage.progress.say(f"that is more memory than is free now ({size(room)}): the system may end this command")


def refuse_full_disk(writes: Mapping[Path, int]) -> None:
    needs: Counter[int] = Counter()
    for folder, count in writes.items():
        disk = existing(folder).stat().st_dev
        needs[disk] += count
        if needs[disk] > free(folder):
            raise DataError(
                f"{folder}: about {size(needs[disk])} of this disk are needed, and {size(free(folder))} are free; "
                "make room, or name a folder on another disk"
            )


def free(folder: Path) -> int:
    """Bytes that can be written on the disk of a folder, which need not stand yet."""
    return shutil.disk_usage(existing(folder)).free


def text_bytes(path: Path) -> int:
    """Bytes of text in a file, or in all files of a folder; of packed ones an estimate."""
    return sum(file.stat().st_size * (PACKED if file.suffix in COMPRESSED else 1) for file in files_of(path))


def token_lengths(texts: Iterable[str], tokenizer: Tokenizer, length: int) -> NDArray[np.int64]:
    """Tokens of each of the first texts."""
    return np.array([len(row) for row in tokenizer.encode(list(islice(texts, SAMPLE)), length)], dtype=np.int64)


def mean_tokens(texts: Iterable[str], tokenizer: Tokenizer, length: int) -> float:
    """Tokens of a text on average, over the first of them."""
    lengths = token_lengths(texts, tokenizer, length)
    return float(lengths.mean()) if len(lengths) else 0.0


def training_memory(parameters: int, tokens: int, hidden: int, layers: int) -> int:
    """Bytes that training holds: weights, gradients and two moments, and what `tokens` leave for the backward pass.

    68 bytes of the hidden width a token and layer in fp32 (Korthikanti et al. 2022, eq. 2, without its attention term).
    """
    return LIBRARIES + 16 * parameters + 68 * tokens * hidden * layers


@contextmanager
def telling_memory(advice: str) -> Iterator[None]:
    """Where the device or this machine has no memory left, raises a SeedError that tells what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if not (type(error).__name__ == "OutOfMemoryError" or any(words in said for words in NO_MEMORY)):
            raise
        raise SeedError(f"no memory left; {advice}. What is saved stays: repeat the command with that") from None


def lower(flag: str, now: int, holds: Callable[[int], int], room: int) -> str:
    """Advice to lower an option to a power of two that is estimated to fit into four fifths of `room` bytes."""
    smaller = [2**power for power in range(now.bit_length()) if 2**power <= now / 2]
    fitting = [value for value in smaller if holds(value) <= 0.8 * room] or smaller[:1]
    if not fitting:
        return f"{flag} {now} can't be lower: take shorter texts or a smaller model"
    value = fitting[-1]
    return f"give {flag} {value} in place of {now} (estimate: {size(holds(value))} of {size(room)})"


def device_memory(runtime: Runtime) -> int:
    """Bytes of the GPU's memory, or of this machine's, shared by its processes."""
    import torch

    if runtime.device.type == "cuda":
        return int(torch.cuda.get_device_properties(runtime.device).total_memory)
    return memory()[0] // runtime.world


def checkpointed(weights: int, keep: int) -> int:
    """Bytes on the disk: the checkpoints that are kept, one more while it is written, and the model in the end."""
    return (12 * (keep + 1) + 4) * weights


def arithmetic(operations: float, rate: float) -> str:
    """Operations of a token, and how many a second matrix products reach: utilisation is told against that."""
    reached = f"{rate / 1e12:.1f} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.0f} GFLOP/s"
    return f"{operations / 1e6:,.1f} million operations a token; matrix products reach {reached} here"


def weights(module: "nn.Module") -> int:
    """How many numbers a model has."""
    return sum(parameter.numel() for parameter in module.parameters())


def rounded(count: float) -> str:
    """An estimated count, to two digits."""
    digits = max(0, len(str(int(count))) - 2)
    return f"{round(count / 10**digits) * 10**digits:,}"
