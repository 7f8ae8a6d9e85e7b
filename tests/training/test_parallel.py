"""Two processes, micro-batches and one process train alike. Run as a program, this file is one of the processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig

from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime, gather_rows, runtime
from seedcli.data.batches import PretrainingBatches
from seedcli.data.ids import Ids
from seedcli.data.masking import Masking
from seedcli.data.pairs import pairs_of
from seedcli.data.ragged import Ragged
from seedcli.data.segments import WHOLE, Segmentation
from seedcli.data.tokenised import Texts
from seedcli.models.decoder import WeakDecoder
from seedcli.models.encoder import Encoder, EncoderSettings
from seedcli.models.heads import new_head
from seedcli.models.seed import SeedModel
from seedcli.models.towers import Towers
from seedcli.negatives.examples import Scores, TrainingSet
from seedcli.negatives.sampling import ContrastiveBatches, Grouping
from seedcli.training.loop import Batches, Told, Totals, Training, accumulate, train
from seedcli.training.objectives import ContrastiveObjective, Loss, PretrainingObjective

CONFIG = BertConfig(
    vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=24, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
MAXP = Segmentation(segments=5, length=5, overlap=1)
WORDS = "model.encoder.bert.embeddings.word_embeddings.weight"
Processes = tuple[Path, list[dict[str, dict[str, Tensor]]]]  # their folder, and what each found by case


class Case(NamedTuple):
    objective: nn.Module
    batches: Batches


def pretraining(micro: int) -> Case:
    """Eight of twenty texts a step, masked at very different rates: the longer the text, the more words it hides."""
    torch.manual_seed(0)
    model = SeedModel(AutoModelForMaskedLM.from_config(CONFIG), WeakDecoder(32, 4, 64, 2, 2, 24, dropout=0.0))
    rng = np.random.default_rng(0)
    blocks = Ragged.of([[2, *rng.integers(5, 90, length % 22 + 1), 3] for length in range(0, 100, 5)], np.uint16)
    masking = Masking(mask=4, special=np.arange(5), vocabulary=90, share=0.3)
    return Case(PretrainingObjective(model), PretrainingBatches(blocks, masking, 0, size=8, micro=micro, seed=1))


def contrastive(
    size: int, untied: bool = False, chunk: int | None = None, cut: Segmentation = WHOLE, **loss: Any
) -> Case:
    """`size` of twelve queries a step with two hard negatives each; some texts are right for several queries."""
    torch.manual_seed(0)
    settings = EncoderSettings(pooling="cls" if cut.vectors > 1 else "mean", token_vectors=cut.vectors)
    encoders = [Encoder(AutoModel.from_config(CONFIG), settings, new_head(32, 0.2)) for _ in range(1 + untied)]
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 90, rng.integers(3, 20)) for _ in range(52)]
    unnamed = Ids(np.empty(0, np.int64), np.empty(0, np.int64))
    queries = Texts(unnamed, Ragged.of(rows[:12], np.int64), np.arange(12))
    passages = Texts(unnamed, Ragged.of(rows[12:], np.int64), np.arange(40) % 37)
    positives = [[row, (row + 1) % 12] if row % 3 == 0 else [row] for row in range(12)]
    negatives = [rng.choice(np.arange(12, 40), 5, replace=False) for _ in range(12)]
    pools = Ragged.of(positives, np.int64), Ragged.of(negatives, np.int64)
    owners = np.repeat(np.arange(12), np.diff(pools[0].offsets))
    right = pairs_of(owners, passages.numbers[pools[0].values])
    scores = Scores(*(Ragged(rng.normal(size=len(part.values)).astype(np.float32), part.offsets) for part in pools))
    data = TrainingSet(queries, passages, np.arange(12), *pools, right, scores)
    chosen = Loss(**{"temperature": 5.0} | loss)
    objective = ContrastiveObjective(Towers(*encoders), chosen, recompute=chunk is not None)
    return Case(objective, ContrastiveBatches(data, 0, size, 2, 1, chosen.name, Grouping(60, chunk, cut)))


CASES = {
    "pretraining, micro-batches of 4": lambda: pretraining(4),
    "pretraining, micro-batches of 2": lambda: pretraining(2),
    "pretraining, micro-batches of 3": lambda: pretraining(3),
    "contrastive, 4 and 4": lambda: contrastive(8),
    "contrastive, 4 and 3": lambda: contrastive(7),
    "contrastive, 4 and 3, in chunks": lambda: contrastive(7, chunk=2),
    "contrastive, 4 and 4, in chunks": lambda: contrastive(8, chunk=5),
    "contrastive, two towers, in chunks": lambda: contrastive(7, untied=True, chunk=3),
    "contrastive, symmetric": lambda: contrastive(7, symmetric=True),
    "contrastive, several widths": lambda: contrastive(7, dimensions=(8, 32), cosine=True),
    "triplet": lambda: contrastive(7, name="triplet", margin=2.0),
    "pairwise, in chunks": lambda: contrastive(7, name="pairwise", chunk=2),
    "margin-mse": lambda: contrastive(7, name="margin-mse"),
    "kl": lambda: contrastive(7, name="kl"),
    "MaxP": lambda: contrastive(3, cut=MAXP),
    "MaxP, symmetric, several widths": lambda: contrastive(3, cut=MAXP, symmetric=True, dimensions=(8, 32)),
    "MaxP, pairwise, two towers, in chunks": lambda: contrastive(3, untied=True, chunk=3, cut=MAXP, name="pairwise"),
    "several vectors, in chunks": lambda: contrastive(3, chunk=2, cut=MAXP._replace(vectors=4)),
}


def gradient(case: Case, here: Runtime, step: int = 1) -> dict[str, Tensor]:
    """The gradient of one step by name, with the means of the loss terms."""
    module = here.parallel(case.objective).train()
    batches = list(case.batches(step, here.rank, here.world))
    counts = Totals(batches, False, here).counts
    sums = accumulate(module, batches, counts, here.scaler(), here, [0, step])
    found = {name: parameter.grad.clone() for name, parameter in case.objective.named_parameters()}
    return found | {"means": here.sum(sums) / counts}


def trained(case: Case, here: Runtime, folder: Path) -> dict[str, Tensor]:
    """Weights after five steps of plain gradient descent (Adam would make much of differences in the last bit)."""
    optimizer = torch.optim.SGD(case.objective.parameters(), lr=0.1)
    training = Training(5, warmup=1, lr=0.1, clip=1.0, seed=0, log_every=1, save_every=100, title="train")
    train(case.objective, optimizer, case.batches, training, folder, here, Silent())
    return {name: parameter.detach().clone() for name, parameter in case.objective.named_parameters()}


def main(out: Path) -> None:
    """One of the processes that torchrun would start; the first leaves what they found."""
    with runtime("cpu", "fp32", threads=1) as here:
        found = {name: gradient(make(), here) for name, make in CASES.items()}
        found["trained"] = trained(pretraining(2), here, out)
        told = Totals(list(pretraining(4).batches(1, here.rank, 2)), asked=here.rank == 1, runtime=here).told()
        found["told"] = {name: torch.tensor(value) for name, value in told._asdict().items()}
        rows = torch.full((here.rank, 2), float(here.rank), requires_grad=True)  # the first process has none
        everyone, begin = gather_rows(rows)
        (everyone * torch.tensor([[1.0, 10.0]]) * (here.rank + 1)).sum().backward()
        found["gathered"] = {"rows": everyone.detach(), "begin": torch.tensor(begin), "gradient": rows.grad}
        tensors = {f"{name}/{key}": value for name, part in found.items() for key, value in part.items()}
        save_file({key: value.contiguous() for key, value in tensors.items()}, out / f"{here.rank}.safetensors")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Processes:
    """Two real processes, as torchrun starts them."""
    out = tmp_path_factory.mktemp("processes")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": "2"}
    children = [
        subprocess.Popen([sys.executable, __file__, out], env=common | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in "01"
    ]
    try:
        assert [child.wait(120) for child in children] == [0, 0]
    finally:
        for child in children:
            child.kill()
    found: list[dict[str, dict[str, Tensor]]] = []
    for rank in range(2):
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(out / f"{rank}.safetensors").items():
            case, name = key.split("/")
            parts.setdefault(case, {})[name] = value
        found.append(parts)
    return out, found


def same(found: dict[str, Tensor], expected: dict[str, Tensor], far: float = 1e-6) -> None:
    """Every number within `far`, relative to the length of the whole when that is above 1."""
    assert found.keys() == expected.keys()
    far *= max(1.0, *(float(value.norm()) for value in expected.values()))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=far, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("micro", [1, 2, 3])
def test_micro_batches_add_up_to_the_batch(micro: int) -> None:
    same(gradient(pretraining(micro), Runtime()), gradient(pretraining(8), Runtime()))


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradient_of_one(case: str, processes: Processes) -> None:
    _, ranks = processes
    expected = gradient(CASES[case](), Runtime())
    assert max(float(value.abs().max()) for name, value in expected.items() if name.startswith(("m", "t"))) > 0.01
    for rank in ranks:
        same(rank[case], expected)


def test_the_processes_had_unequal_shares() -> None:
    """Or a mean of each process's mean would have passed, too."""
    shares = [next(pretraining(4).batches(1, rank, 2)).counts for rank in range(2)]
    assert (shares[0] != shares[1]).all()
    sizes = [next(contrastive(7).batches(1, rank, 2)).counts.tolist() for rank in range(2)]
    assert sizes == [[4] * 3, [3] * 3]
    several = [next(contrastive(3, cut=MAXP).batches(1, rank, 2)).passages.real for rank in range(2)]
    assert [part.sum(1).max().item() for part in several if part is not None] == [5, 4]
    assert [part.shape for part in several if part is not None] == [(6, 5), (3, 5)]
    whole = gradient(pretraining(8), Runtime())
    halves = [
        gradient(Case(pretraining(4).objective, lambda *_, r=rank: pretraining(4).batches(1, r, 2)), Runtime())
        for rank in range(2)
    ]
    assert ((halves[0][WORDS] + halves[1][WORDS]) / 2 - whole[WORDS]).abs().max() > 1e-4


def test_the_micro_batches_had_unequal_shares() -> None:
    """Of masked words and of words for the decoder, in blocks of different lengths; each term has its own count."""
    drawn = list(pretraining(2).batches(1, 0, 1))
    shares = torch.stack([batch.counts for batch in drawn])
    assert shares.shape == (4, 2)
    assert all(len(set(column.tolist())) > 2 for column in shares.T)
    assert len({batch.masked.shape[1] for batch in drawn}) == 4
    assert (shares == 0).any()  # a micro-batch in which nothing is masked
    whole = gradient(pretraining(8), Runtime())[WORDS]
    alone = [gradient(Case(pretraining(2).objective, lambda *_, b=b: iter([b])), Runtime())[WORDS] for b in drawn]
    assert (torch.stack(alone).mean(0) - whole).abs().max() > 1e-4


def test_processes_know_the_tokens_of_all_and_what_one_was_asked(processes: Processes) -> None:
    (whole,) = pretraining(8).batches(1, 0, 1)
    tokens = int(whole.original.attention.sum())
    assert Totals([whole], False, Runtime()).told() == Told(tokens, asked=False)
    for rank in processes[1]:
        assert (int(rank["told"]["tokens"]), bool(rank["told"]["asked"])) == (tokens, True)


def test_two_processes_train_like_one(processes: Processes, tmp_path: Path) -> None:
    out, ranks = processes
    expected = trained(pretraining(8), Runtime(), tmp_path)
    for rank in ranks:
        same(rank["trained"], expected, far=3e-6)
    assert all(torch.equal(value, ranks[1]["trained"][name]) for name, value in ranks[0]["trained"].items())
    logs = [[json.loads(line) for line in (folder / "log.jsonl").open()] for folder in (out, tmp_path)]
    assert [record["step"] for record in logs[0]] == [1, 2, 3, 4, 5]
    for two, one in zip(*logs, strict=True):
        for key in ("loss", "mlm", "decoder", "gradient_norm", "lr"):
            assert two[key] == pytest.approx(one[key], rel=1e-5)
    start = pretraining(8).objective.state_dict()
    assert max(float((start[name] - value).abs().max()) for name, value in expected.items()) > 0.01


def test_rows_are_gathered_in_rank_order_with_their_gradients(
    processes: Processes,
) -> None:
    _, ranks = processes
    assert [rank["gathered"]["rows"].tolist() for rank in ranks] == [[[1.0, 1.0]]] * 2
    assert [int(rank["gathered"]["begin"]) for rank in ranks] == [0, 0]
    assert ranks[0]["gathered"]["gradient"].shape == (0, 2)
    assert ranks[1]["gathered"]["gradient"].tolist() == [[3.0, 30.0]]  # of both ranks' sums, once and twice


def test_alone_a_process_gathers_its_own() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    everyone, begin = gather_rows(rows)
    assert everyone is rows
    assert begin == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
