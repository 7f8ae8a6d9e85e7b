"""The quickstart through the real command, cut down until it takes a minute."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seedcli.base.config import read_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"
SHORTER = {  # for every stage of a verb
    "pretrain": ["words.length=64", "optimize.batch_size=16"],
    "finetune": ["split=dev", "tower.passage_length=16", "optimize.batch_size=16"],
    "search": ["depth=100", "fusion_depth=100"],
    "evaluate": ["permutations=1000"],
}
COMPUTING = {"pretrain", "finetune", "encode", "search"}


def shorter(stage: dict[str, Any], name: str) -> list[str]:
    """Options that make a stage of the recipe take seconds."""
    verb = stage.get("verb", name)
    options = [*SHORTER.get(verb, []), *(["machine.threads=1"] if verb in COMPUTING else [])]
    if stage.get("words", {}).get("tokenizer") == "train":
        options.append("words.vocabulary=1000")
    if stage.get("optimize", {}).get("steps"):
        options.append("optimize.steps=10")
    if stage.get("split") == "train":  # the negatives, of the split that is trained on here
        options.append("split=dev")
    return options


@pytest.mark.slow
def test_the_quickstart_ends_in_a_table(tmp_path):
    command = [str(Path(sys.executable).with_name("seed")), "run", str(RECIPE), "--out", str(tmp_path / "out")]
    for name, stage in read_recipe(RECIPE)["stages"].items():
        command += [f"--set={name}.{option}" for option in shorter(stage, name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert report["measures"] == ["mrr@10", "recall@100", "ndcg@10"]
    assert len(report["runs"]) == 4
    for name, run in report["runs"].items():
        assert name in done.stdout
        assert run["means"].keys() == set(report["measures"])
        assert all(0 <= mean <= 1 for mean in run["means"].values())
    assert report["runs"]["BM25"]["means"]["mrr@10"] > 0.3
