"""benchmarks/encode.py: all systems are given the same texts, and what is made of their figures."""

import argparse
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "encode.py"


@pytest.fixture(scope="module")
def encode() -> ModuleType:
    pytest.importorskip("sentence_transformers", reason='needs pip install "sentence-transformers[train]"')
    spec = importlib.util.spec_from_file_location("encode_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def options(encode: ModuleType, chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """SEED_DATA has the animals as medquad; the model is the chain's, read up to 20 tokens."""
    model = tmp_path / "model"
    shutil.copytree(chain.retriever, model, ignore=shutil.ignore_patterns("manifest.json"))
    settings = json.loads((model / "model.json").read_text()) | {"query_length": 20, "passage_length": 20}
    (model / "model.json").write_text(json.dumps(settings))
    (model / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": False}))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "medquad").symlink_to(chain.beir)
    monkeypatch.setenv("SEED_DATA", str(tmp_path / "data"))
    flags = ["--work", tmp_path / "work", "--model", model, "--texts", 9]
    monkeypatch.setattr(sys, "argv", ["encode.py", *map(str, flags)])
    found: argparse.Namespace = encode.read_options()
    encode.prepare(found)
    return found


def texts(folder: Path) -> list[str]:
    (file,) = folder.glob("*.jsonl")
    return [json.loads(line)["text"] for line in file.read_text().splitlines()]


def test_the_cases_hold_what_they_are_called_for(encode: ModuleType, options: argparse.Namespace) -> None:
    from seedcli.data.tokenizer import open_tokenizer

    lengths = {
        case: [len(row) for row in open_tokenizer(options.work / "model").encode(texts(options.work / case), 20)]
        for case in encode.CASES
    }
    assert {case: len(found) for case, found in lengths.items()} == {"long": 9, "mixed": 9, "queries": 9}
    assert set(lengths["long"]) == {20}
    assert max(lengths["queries"]) < 20
    assert options.system == [encode.PEER, "pyserini", *encode.OURS]


@pytest.mark.parametrize("case", ["mixed", "queries"])
def test_seed_and_sentence_transformers_are_given_the_same_texts(
    encode: ModuleType, options: argparse.Namespace, case: str
) -> None:
    options.case = [case]
    for name in (encode.PEER, "seed torch"):
        told = encode.PARTS[name](options, name)
        assert told["texts"] == 9
        assert told["seconds"] > 0
    near = encode.nearness(*(np.load(options.work / f"{case}-{name}.npy") for name in (encode.PEER, "seed torch")))
    assert near["cosine"] == pytest.approx(1, abs=1e-5)
    assert near["difference"] < 1e-5


def test_figures_are_medians_and_ratios_of_them(encode: ModuleType) -> None:
    rounds = [{"texts": 10, "seconds": seconds, "peak": peak << 20} for seconds, peak in ((1, 5), (4, 7), (2, 6))]
    told = encode.figures(rounds)
    assert told == {"texts_per_second": 5.0, "of_rounds": [10.0, 2.5, 5.0], "peak_mib": 6.0}
    near = encode.nearness(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [2.0, 2.0]]))
    assert near == {"cosine": 0.707107, "difference": 2.0}
    systems = {encode.PEER: told | near, "seed torch": told | near | {"texts_per_second": 10.0}}
    printed = encode.table({"case": "long", "texts": 9, "systems": systems, "ratios": {"seed torch / x": 2.0}})
    assert printed.splitlines()[2].split() == ["seed", "torch", "10.0", "2.00", "6", "0.7071", "2e+00"]
    assert printed.splitlines()[3] == "seed torch / x: 2.00"
