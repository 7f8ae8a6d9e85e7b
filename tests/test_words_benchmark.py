"""benchmarks/words.py: all systems are given the same passages and queries, and find as many."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "words.py"
pytestmark = pytest.mark.slow


def test_the_systems_index_and_find_the_same(tmp_path: Path) -> None:
    sizes = ["--passages", "60", "--queries", "6", "--depth", "5", "--rounds", "1", "--threads", "2", "--heap", "256m"]
    command = [sys.executable, str(SCRIPT), "--work", str(tmp_path), *sizes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    index, search = map(json.loads, done.stdout.splitlines())
    assert index["same"] == {"seed": True, "pyserini": True, "anserini": True}
    assert search["same"] == {"seed": True, "pyserini": True, "pyserini-read": True}
    for line, others in ((index, {"pyserini", "anserini"}), (search, {"pyserini", "pyserini-read"})):
        assert line["ratio"].keys() == others
        assert min(line["ratio"].values()) > 0
        assert min(line["peak_mib"].values()) > 50
