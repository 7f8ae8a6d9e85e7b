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


def torchrun(*arguments: Any) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, str(SEED), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


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
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [record["step"] for record in logs[1]] == [1, 2, 3, 4]
    for one, two in zip(*logs, strict=True):
        for key in ("loss", "mlm", "decoder", "gradient_norm", "lr"):
            assert two[key] == pytest.approx(one[key], rel=1e-5), key
    assert not (tmp_path / "two" / "checkpoint.safetensors").exists()
