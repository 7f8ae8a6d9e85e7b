"""benchmarks/evaluate.py: all systems are given the same runs, and find the same values."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "evaluate.py"
pytestmark = pytest.mark.slow


def test_the_systems_agree(tmp_path: Path) -> None:
    pytest.importorskip("pytrec_eval", reason="needs pytrec-eval-terrier")
    pytest.importorskip("ir_measures", reason="needs ir-measures")
    sizes = ["--queries", "30", "--depth", "40", "--rounds", "1", "--check"]
    command = [sys.executable, str(SCRIPT), "--work", str(tmp_path), *sizes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    systems = {"seed", "ranx", "pytrec_eval", "ir_measures"}
    assert line["same"] == dict.fromkeys(systems, True)
    assert line["seconds"].keys() == line["peak_mib"].keys() == systems
    assert line["ratio"].keys() == line["memory_ratio"].keys() == systems - {"seed"}
    assert min(line["ratio"].values()) > 0
