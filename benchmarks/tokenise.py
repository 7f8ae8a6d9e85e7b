"""Speed and memory of making a text ready for pre-training: a tokenizer trained on it, then its blocks.

    python benchmarks/tokenise.py --text wiki.txt --megabytes 100

Prints a JSON line for each of the two: seconds, megabytes and tokens a second, the cores that were at work (processor
seconds by seconds), the largest resident memory of all processes together, and the same of a peer over the same lines:
the tokenizers library's own WordPieceTrainer, and its encode_batch with the ids cut into blocks of one length. `ratio`
is how many times as long the peer takes. Each runs in a process of its own, one after the other, and their own imports
are not timed; nothing else should be running.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

VOCABULARY, LENGTH = 30_522, 512
AT_ONCE = 1_000  # lines that the peer is given at a time
LOOK = 0.1  # seconds between looks at the memory
Part = Literal["tokenizer", "blocks", "peer-tokenizer", "peer-blocks"]


def main(
    text: Annotated[Path, typer.Option(help="A text file, .gz and .zst too.")],
    megabytes: Annotated[int, typer.Option(help="How much of it; 0: all.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes at work; 0: one per core.")] = 0,
    part: Annotated[Part | None, typer.Option(hidden=True)] = None,
    folder: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    if part:
        print(json.dumps(measured(part, text, folder, workers or None)))
    else:
        with tempfile.TemporaryDirectory() as name:
            compare(cut(text, Path(name) / "text.txt", megabytes * 1_000_000), Path(name), workers)


def compare(text: Path, folder: Path, workers: int) -> None:
    size = text.stat().st_size / 1e6
    for phase in ("tokenizer", "blocks"):
        ours, peer = (run(part, text, folder, workers) for part in (phase, f"peer-{phase}"))
        told = {"phase": phase, "megabytes": round(size), **figures(ours, size)}
        told |= {f"peer_{key}": value for key, value in figures(peer, size).items()}
        print(json.dumps(told | {"ratio": round(peer["seconds"] / ours["seconds"], 2)}), flush=True)


def figures(taken: dict[str, float], size: float) -> dict[str, float]:
    seconds, tokens = taken["seconds"], taken["tokens"]
    return {
        "seconds": round(seconds, 1),
        "mb_per_s": round(size / seconds, 2),
        **({"tokens_per_s": round(tokens / seconds)} if tokens else {}),
        "cpu_seconds": round(taken["cpu"], 1),
        "cores": round(taken["cpu"] / seconds, 2),
        "peak_mib": round(taken["peak"] / 2**20),
    }


def cut(text: Path, path: Path, size: int) -> Path:
    """The whole lines of at most the first `size` bytes, or of all, in a file of their own."""
    from seedcli.data.lines import open_bytes

    if not size and text.suffix == ".txt":
        return text.absolute()
    written = 0
    with open_bytes(text) as lines, path.open("wb") as file:
        for line in lines:
            written += len(line)
            if size and written > size:
                break
            file.write(line)
    return path


def run(part: str, text: Path, folder: Path, workers: int) -> dict[str, float]:
    """What a part took in a process of its own; `peak` is the most that it and its children held, in bytes."""
    command: list[str | Path] = [
        sys.executable,
        __file__,
        "--text",
        text,
        "--part",
        part,
        "--folder",
        folder,
        "--workers",
        str(workers),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(LOOK)
        assert process.stdout is not None
        answer = process.stdout.read()
    if process.returncode:
        raise typer.Exit(process.returncode)
    return {**json.loads(answer), "peak": peak}


def resident(process: int) -> int:
    """Bytes in memory of a process and all below it; pages that they share count for each."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        below = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in below)


def measured(part: Part, text: Path, folder: Path, workers: int | None) -> dict[str, float]:
    """Seconds of a part, of its processors, and the tokens that it made."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # noqa: F401  (so that nobody's time has them)

    import seedcli.data.blocks
    import seedcli.data.wordpiece  # noqa: F401

    parts: dict[Part, Callable[[Path, Path, int | None], int]] = {
        "tokenizer": our_tokenizer,
        "blocks": our_blocks,
        "peer-tokenizer": peer_tokenizer,
        "peer-blocks": peer_blocks,
    }
    began, used = time.monotonic(), processor_seconds()
    tokens = parts[part](text, folder, workers)
    return {"seconds": time.monotonic() - began, "cpu": processor_seconds() - used, "tokens": tokens}


def processor_seconds() -> float:
    """Those of this process and of all that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def our_tokenizer(text: Path, folder: Path, workers: int | None) -> int:
    from seedcli.data.wordpiece import train_tokenizer

    train_tokenizer(lines_of(text), VOCABULARY, True, LENGTH, workers).save(folder / "tokenizer")
    return 0


def our_blocks(text: Path, folder: Path, workers: int | None) -> int:
    from seedcli.base.progress import Silent
    from seedcli.data.blocks import make_blocks
    from seedcli.data.text import read_documents
    from seedcli.data.tokenizer import open_tokenizer

    tokenizer, documents = open_tokenizer(folder / "tokenizer"), read_documents([text], "text")
    made = make_blocks(documents, tokenizer, LENGTH, True, folder / "blocks", Silent(), workers=workers)
    return len(made.values)


def peer_tokenizer(text: Path, folder: Path, _: int | None) -> int:
    from tokenizers.trainers import WordPieceTrainer

    from seedcli.data.tokenizer import SPECIAL, wordpiece

    backend = wordpiece({token: row for row, token in enumerate(SPECIAL)})
    backend.train_from_iterator(
        lines_of(text), WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=[*SPECIAL], show_progress=False)
    )
    backend.save(str(folder / "peer.json"))
    return 0


def peer_blocks(text: Path, folder: Path, _: int | None) -> int:
    import numpy as np
    from tokenizers import Tokenizer

    backend: Any = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    lines, rest, tokens = lines_of(text), [], 0
    with (folder / "peer.values").open("wb") as file:
        while batch := list(islice(lines, AT_ONCE)):
            for encoding in backend.encode_batch(batch, add_special_tokens=False):
                rest += encoding.ids
            end = len(rest) - len(rest) % LENGTH
            for begin in range(0, end, LENGTH):
                file.write(np.array(rest[begin : begin + LENGTH], np.uint16).tobytes())
            rest, tokens = rest[end:], tokens + end
    return tokens


def lines_of(text: Path) -> Iterator[str]:
    from seedcli.data.text import read_documents

    return (line for document in read_documents([text], "text") for line in document)


if __name__ == "__main__":
    typer.run(main)
