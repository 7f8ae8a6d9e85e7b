"""Two processes under torchrun leave what one leaves, whether they are stopped on their way or not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seedcli.training.checkpoint import checkpoints

pytestmark = pytest.mark.slow
SEED = Path(sys.executable).with_name("seed")
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SEED)]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def torchrun(*arguments: Any, fails: bool = False) -> str:
    """Run a command in two processes; what it tells."""
    command = [*LAUNCHER, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=ENVIRONMENT)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_like(folders: tuple[Path, Path], keys: tuple[str, ...]) -> None:
    """Two logs tell the same of the first four steps."""
    logs = [[record for record in records(folder) if record["step"]][:4] for folder in folders]
    assert [record["step"] for record in logs[1]] == [1, 2, 3, 4]
    for one, two in zip(*logs, strict=True):
        for key in (*keys, "gradient_norm", "lr"):
            assert two[key] == pytest.approx(one[key], rel=1e-4), key


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_two_processes_encode_the_same_shards(runtime, chain, tmp_path, perform, listing):
    """By ONNX Runtime too: the graph that the first one makes serves both, and a process alone."""
    if runtime == "onnx":
        pytest.importorskip("onnxscript", reason='needs pip install "seedcli[onnx]"')
    options = {"model": chain.retriever, "corpus": chain.beir, "shard_size": 7, "machine.runtime": runtime}
    given = ["--set", "shard_size=7", "--threads", 1, "--runtime", runtime]
    torchrun("encode", "--model", chain.retriever, "--corpus", chain.beir, "--out", tmp_path / "two", *given)
    one = perform("encode", out=tmp_path / "one", **options)
    assert one.metrics["runtime"] == runtime
    two = perform("encode", out=tmp_path / "two", **options)  # done before
    assert two.outputs == one.outputs
    assert two.identity == one.identity
    assert len(two.outputs) == 9
    assert listing(tmp_path / "two").keys() == listing(tmp_path / "one").keys()


def test_two_processes_search_their_shards_and_leave_what_one_leaves(chain, tmp_path, perform):
    """Nine shards, or one; queries as words, and as vectors; a bound of memory; more passages asked than there are."""
    vectors, index, asked = tmp_path / "vectors", tmp_path / "index", tmp_path / "asked"
    perform("encode", out=vectors, model=chain.retriever, corpus=chain.beir, shard_size=7)
    perform("encode", out=asked, model=chain.retriever, queries=chain.beir)
    perform("index", out=index, vectors=vectors)
    cases = {"words": ["--queries", chain.beir, "--depth", 5], "vectors": ["--queries", asked, "--memory", "1g"]}
    for name, options in [*cases.items(), ("one", cases["vectors"])]:
        index = chain.flat if name == "one" else index
        told = torchrun("search", "--index", index, "--out", tmp_path / f"two-{name}", "--threads", 1, *options)
        assert told.count("run.trec") <= 1
        done = subprocess.run(
            [SEED, "search", "--index", index, "--out", tmp_path / f"one-{name}", "--threads", "1", *map(str, options)],
            capture_output=True, text=True, check=False, env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        one, two = ((tmp_path / f"{count}-{name}" / "run.trec").read_bytes() for count in ("one", "two"))
        assert one == two
        assert len(one) > 1_000
        assert not list((tmp_path / f"two-{name}").glob("parts*"))


def test_a_question_is_answered_by_one_process(chain):
    told = torchrun("search", "--index", chain.flat, "what does the otter eat", fails=True)
    assert "questions are answered by one process: call it without torchrun" in told


def test_bm25_and_fusion_are_one_process(chain, tmp_path):
    told = torchrun(
        "search", "--index", chain.words, "--queries", chain.beir, "--out", tmp_path / "out", fails=True
    )  # fmt: skip
    assert "bm25 and approximate indexes, fusion and --candidates run as one process: call it without torchrun" in told
    assert not (tmp_path / "out").exists()


PRETRAINING = {
    "words.length": 32, "model.size": "tiny", "model.dropout": 0, "optimize.steps": 40, "optimize.batch_size": 9,
    "optimize.micro_batch": 2, "optimize.warmup": 1, "optimize.lr": 1e-3, "saving.log_every": 1,
}  # fmt: skip


def pretraining(chain: Any, out: Path) -> list[Any]:
    options = {**PRETRAINING, "words.tokenizer": chain.encoder}
    assigned = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    return ["pretrain", "--text", chain.beir, "--threads", 1, "--out", out, *assigned]


@pytest.fixture(scope="module")
def pretrained(chain, tmp_path_factory):
    """What two processes leave that nothing stops."""
    out = tmp_path_factory.mktemp("torchrun") / "two"
    torchrun(*pretraining(chain, out))
    return out


def test_two_processes_pretrain_like_one(chain, pretrained, tmp_path, perform):
    perform(
        "pretrain", out=tmp_path / "one", text=[str(chain.beir)], **PRETRAINING, **{"words.tokenizer": chain.encoder}
    )
    assert_like((tmp_path / "one", pretrained), ("loss", "mlm", "decoder"))
    assert not (pretrained / "checkpoints").exists()


def as_in_a_terminal() -> None:
    """What starts in the background may be told to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_stopped_processes_save_the_same_step_and_go_on_to_the_same_bytes(chain, pretrained, tmp_path):
    """torchrun hands Ctrl-C on to both, one after the other."""
    out = tmp_path / "stopped"
    command = [*LAUNCHER, *map(str, pretraining(chain, out))]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=as_in_a_terminal
    ) as process:
        while not (out / "log.jsonl").exists() and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    ((step, _),) = checkpoints(out / "checkpoints")
    assert 1 <= step < 40
    assert told.count(f"stopped after step {step}, which is saved; repeat the command to go on") == 1
    assert "Connection closed" not in told
    torchrun(*pretraining(chain, out))
    assert (out / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()
    assert (out / "log.jsonl").read_text().count("\n") == 40


def test_two_processes_fine_tune_like_one(chain, tmp_path, perform):
    """From texts that neither has in its cache yet: the first fills it for both, and mines the negatives. Both look at
    dev, each at its share.
    """
    options = {
        "tower.passage_length": 30, "optimize.steps": 4, "optimize.batch_size": 9, "optimize.warmup": 1,
        "optimize.lr": 1e-3, "saving.log_every": 1, "optimize.chunk": 4, "tower.untied": "true",
        "watch.dev": "test", "watch.watch_every": 2, "watch.patience": 9, "watch.dev_passages": 40,
    }  # fmt: skip
    assigned = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    plain = {"words.tokenizer": chain.encoder, "words.length": 32, "model.size": "tiny", "model.dropout": 0}
    perform("pretrain", out=tmp_path / "start", text=[str(chain.beir)], **plain, **{"optimize.steps": 0})
    given = ["--model", tmp_path / "start", "--data", chain.beir, "--threads", 1]
    torchrun("finetune", *given, "--out", tmp_path / "two", *assigned)
    perform("finetune", out=tmp_path / "one", model=tmp_path / "start", data=chain.beir, **options)
    assert_like((tmp_path / "one", tmp_path / "two"), ("loss", "in-batch", "negatives", "accuracy"))
    looks = [
        {record["step"]: record["dev_mrr@10"] for record in records(tmp_path / name) if "dev_mrr@10" in record}
        for name in ("one", "two")
    ]
    assert looks[0].keys() == {0, 2, 4}
    assert looks[1] == pytest.approx(looks[0], abs=0.01)


def test_two_processes_search_for_the_negatives_that_one_finds(chain, tmp_path, perform):
    options = {
        "negatives.negatives": "ance", "negatives.refresh": 2, "optimize.steps": 4, "optimize.batch_size": 9,
        "optimize.warmup": 1, "optimize.lr": 1e-3, "saving.log_every": 1,
    }  # fmt: skip
    assigned = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    torchrun(
        "finetune", "--model", chain.encoder, "--data", chain.beir, "--threads", 1, "--out", tmp_path / "two", *assigned
    )
    perform("finetune", out=tmp_path / "one", model=chain.encoder, data=chain.beir, **options)
    one, two = (
        [record for record in records(tmp_path / name) if "negatives_step" in record] for name in ("one", "two")
    )
    assert [record["step"] for record in two] == [0, 2]
    assert two[0]["negatives_above_positive"] == one[0]["negatives_above_positive"]
    first = [json.loads((tmp_path / name / "negatives.json").read_text())["sets"][0] for name in ("one", "two")]
    assert first[0] == first[1]
    assert two[1]["negatives_overlap"] == pytest.approx(one[1]["negatives_overlap"], abs=0.05)  # dropout differs
    assert not (tmp_path / "two" / "ance").exists()


def test_a_mistake_ends_both_processes_and_is_told_once(chain, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "corpus.jsonl").write_text('{"_id": "1", "text": "whole"}\n{"_id": "2"}\n')
    told = torchrun(
        "encode", "--model", chain.retriever, "--corpus", tmp_path / "data", "--out", tmp_path / "out", fails=True
    )
    assert told.count("corpus.jsonl:2: no field 'text'") == 1
    assert "Connection closed" not in told
    assert not (tmp_path / "out").exists()
