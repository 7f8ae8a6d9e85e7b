"""Two processes under torchrun leave what one leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
SEED = Path(sys.executable).with_name("seed")


def torchrun(*arguments: Any, fails: bool = False) -> str:
    """Run a command in two processes; what it tells."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, str(SEED), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr


def assert_like(folders: tuple[Path, Path], keys: tuple[str, ...]) -> None:
    """Two logs of four steps tell the same."""
    logs = [[json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in folders]
    assert [record["step"] for record in logs[1]] == [1, 2, 3, 4]
    for one, two in zip(*logs, strict=True):
        for key in (*keys, "gradient_norm", "lr"):
            assert two[key] == pytest.approx(one[key], rel=1e-4), key


def test_two_processes_encode_the_same_shards(chain, tmp_path, perform, listing):
    options = {"model": chain.retriever, "corpus": chain.beir, "shard_size": 7}
    set_size = ["--set", "shard_size=7", "--threads", 1]
    torchrun("encode", "--model", chain.retriever, "--corpus", chain.beir, "--out", tmp_path / "two", *set_size)
    one = perform("encode", out=tmp_path / "one", **options)
    two = perform("encode", out=tmp_path / "two", **options)  # done before
    assert two.outputs == one.outputs
    assert two.identity == one.identity
    assert len(two.outputs) == 9
    assert listing(tmp_path / "two").keys() == listing(tmp_path / "one").keys()


def test_two_processes_pretrain_like_one(chain, tmp_path, perform):
    options = {
        "words.tokenizer": chain.encoder, "words.length": 32, "model.size": "tiny", "model.dropout": 0,
        "optimize.steps": 4, "optimize.batch_size": 9, "optimize.micro_batch": 2, "optimize.warmup": 1,
        "optimize.lr": 1e-3, "saving.log_every": 1,
    }  # fmt: skip
    assigned = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    torchrun("pretrain", "--text", chain.beir, "--threads", 1, "--out", tmp_path / "two", *assigned)
    perform("pretrain", out=tmp_path / "one", text=[str(chain.beir)], **options)
    assert_like((tmp_path / "one", tmp_path / "two"), ("loss", "mlm", "decoder"))
    assert not (tmp_path / "two" / "checkpoint.safetensors").exists()


def test_two_processes_fine_tune_like_one(chain, tmp_path, perform):
    """From texts that neither has in its cache yet: the first fills it for both, and mines the negatives."""
    options = {
        "tower.passage_length": 30, "optimize.steps": 4, "optimize.batch_size": 9, "optimize.warmup": 1,
        "optimize.lr": 1e-3, "saving.log_every": 1,
    }  # fmt: skip
    assigned = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    plain = {"words.tokenizer": chain.encoder, "words.length": 32, "model.size": "tiny", "model.dropout": 0}
    perform("pretrain", out=tmp_path / "start", text=[str(chain.beir)], **plain, **{"optimize.steps": 0})
    given = ["--model", tmp_path / "start", "--data", chain.beir, "--threads", 1]
    torchrun("finetune", *given, "--out", tmp_path / "two", *assigned)
    perform("finetune", out=tmp_path / "one", model=tmp_path / "start", data=chain.beir, **options)
    assert_like((tmp_path / "one", tmp_path / "two"), ("loss", "nll"))


def test_a_mistake_ends_both_processes_and_is_told_once(chain, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "corpus.jsonl").write_text('{"_id": "1", "text": "whole"}\n{"_id": "2"}\n')
    told = torchrun(
        "encode", "--model", chain.retriever, "--corpus", tmp_path / "data", "--out", tmp_path / "out", fails=True
    )
    assert told.count("corpus.jsonl:2: no field 'text'") == 1
    assert "Connection closed" not in told
    assert not (tmp_path / "out").exists()
