"""What a look at held-out text finds, without a trace. Run as a program, this file is one of two processes."""

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForMaskedLM, BertConfig

from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime, runtime
from seedcli.data.batches import PretrainingBatch, PretrainingBatches
from seedcli.data.masking import Masking, mask_tokens
from seedcli.data.ragged import Ragged
from seedcli.data.tokenizer import SPECIAL, Tokenizer, pretrained, wordpiece
from seedcli.models.decoder import WeakDecoder
from seedcli.models.seed import SeedModel
from seedcli.training.loop import Training, train
from seedcli.training.objectives import PretrainingObjective
from seedcli.training.optimizers import adamw
from seedcli.training.watching import Watching, halves, parted, told

MASKING = Masking(mask=4, special=np.arange(5), vocabulary=90, share=0.3)
LENGTHS = [70, 12, 45, 66, 33, 50, 80, 41, 38, 64, 59]  # words of each block; in the second they are too few to halve


def tokenizer() -> Tokenizer:
    """[PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, and letters and numbers."""
    entries = [*SPECIAL, "a", *map(str, range(6, 90))]
    return Tokenizer(pretrained(wordpiece({word: row for row, word in enumerate(entries)}), 512))


def seed_model(decoder: bool = True) -> SeedModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=100, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
    )  # fmt: skip
    weak = WeakDecoder(32, 4, 64, 2, 2, 100, dropout=0.1) if decoder else None
    model = SeedModel(AutoModelForMaskedLM.from_config(config), weak)
    for parameter in model.parameters():  # weights of 0.02 hide what they do
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.2)
    return model.train()


def blocks(lengths: list[int]) -> Ragged:
    """A short line, and one of the length given."""
    rng = np.random.default_rng(1)
    return Ragged.of([[2, *rng.integers(5, 90, 4), 3, *rng.integers(5, 90, n), 3] for n in lengths], np.uint16)


ALONE, MUTE = Runtime(), Silent()


def watching(
    model: SeedModel, rows: Ragged, micro: int = 3, here: Runtime = ALONE, progress: Silent = MUTE
) -> Watching:
    return Watching(model, PretrainingBatches(rows, MASKING, 0, 1, micro, seed=0), tokenizer(), here, progress)


def test_the_losses_are_those_of_each_block_alone() -> None:
    model, rows = seed_model().eval(), blocks(LENGTHS)
    table = model.embedding
    mlm, decoded, other, masked_words = 0.0, 0.0, 0.0, 0
    h0 = []
    with torch.no_grad():
        for row, block in enumerate(rows):
            masked, chosen = mask_tokens(block, MASKING, np.random.default_rng([0, 0, row]))
            output = model.encoder(input_ids=torch.tensor(masked[None].astype(int)), output_hidden_states=True)
            targets = torch.tensor(block.astype(int))
            mlm += float(F.cross_entropy(output.logits[0][chosen], targets[chosen], reduction="sum"))
            masked_words += int(chosen.sum())
            h0.append(output.hidden_states[-1][:, 0])
        for row, block in enumerate(rows):
            tokens = torch.tensor(block[None].astype(int))
            far = h0[(row - len(h0) // 2) % len(h0)]
            losses = [
                F.cross_entropy((model.decode(tokens[:, :-1], given) @ table.T)[0], tokens[0, 1:], reduction="sum")
                for given in (h0[row], far)
            ]
            decoded, other = decoded + float(losses[0]), other + float(losses[1])
    words = sum(len(block) - 1 for block in rows)
    found = watching(model, rows)(0)
    assert found["held_out_mlm"] == pytest.approx(mlm / masked_words, rel=1e-5)
    assert found["held_out_decoder"] == pytest.approx(decoded / words, rel=1e-5)
    assert found["held_out_perplexity"] == pytest.approx(math.exp(decoded / words), rel=1e-4)
    assert found["held_out_decoder_other"] == pytest.approx(other / words, rel=1e-5)
    assert found["h0_worth"] == pytest.approx((other - decoded) / words, abs=1e-5)
    assert abs(found["h0_worth"]) > 1e-3


def test_the_probe_is_a_search_among_all_second_halves() -> None:
    model, rows = seed_model().eval(), blocks(LENGTHS)
    vectors = []
    with torch.no_grad():
        for half in halves(list(rows), [2], [3]):
            hidden = model.encoder.bert(input_ids=torch.tensor(half[None])).last_hidden_state[0, 0].numpy()
            vectors.append(hidden / np.linalg.norm(hidden))
    first, second = vectors[:10], vectors[10:]
    ranks = []
    for row, query in enumerate(first):
        found = sorted(range(10), key=lambda place, query=query: -float(query @ second[place]))
        ranks.append(found.index(row) + 1)
    assert len({*ranks}) > 3
    assert watching(model, rows)(0)["probe_mrr"] == pytest.approx(sum(1 / rank for rank in ranks) / 10)


def test_vectors_that_are_all_the_same_find_nothing() -> None:
    same = Ragged.of([[2, *range(10, 50), 3]] * 9, np.uint16)
    assert watching(seed_model(), same, micro=1)(0)["probe_mrr"] == pytest.approx(1 / 9)


def test_a_paragraph_stands_between_separators_and_is_halved() -> None:
    assert [part.tolist() for part in parted(np.array([2, 7, 8, 3, 9, 3]), [2, 3])] == [[], [7, 8], [9], []]
    long, longer = [*range(10, 42)], [*range(10, 43)]
    texts = [np.array([2, *long, 3, *longer, 3]), np.array([2, *long[1:], 3]), np.array([2, 1, *long, 3])]
    found = [half.tolist() for half in halves(texts, [2], [3])]
    assert found == [
        [2, *range(10, 26), 3], [2, 1, *range(10, 25), 3],
        [2, *range(26, 43), 3], [2, *range(25, 42), 3],
    ]  # fmt: skip


def test_without_a_decoder_the_masked_words_and_the_probe_are_left() -> None:
    whole, plain = (watching(seed_model(decoder), blocks(LENGTHS))(0) for decoder in (True, False))
    assert plain.keys() == {"held_out_mlm", "probe_mrr"}
    assert whole.keys() - plain.keys() == {
        "held_out_decoder", "held_out_perplexity", "held_out_decoder_other", "h0_worth"
    }  # fmt: skip


def test_where_there_is_little_to_look_at_little_is_found() -> None:
    seven = watching(seed_model(), blocks(LENGTHS[:8]))
    assert "probe_mrr" not in seven(0)
    assert (
        seven.about == "8 blocks that are not trained on; no retrieval probe: of 8 paragraphs of 32 tokens there are 7"
    )
    assert watching(seed_model(), blocks([9]))(0).keys() == {"held_out_mlm", "held_out_decoder", "held_out_perplexity"}


def test_a_look_leaves_no_trace_and_finds_the_same_again() -> None:
    model = seed_model()
    look = watching(model, blocks(LENGTHS))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert look(0) == look(10)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    look.model.eval()
    look(20)
    assert not any(module.training for module in model.modules())


def test_bfloat16_finds_about_the_same() -> None:
    exact, rough = (
        watching(seed_model(), blocks(LENGTHS), here=Runtime(precision=precision))(0) for precision in ("fp32", "bf16")
    )
    assert rough["held_out_mlm"] == pytest.approx(exact["held_out_mlm"], rel=0.02)
    assert rough["held_out_decoder"] == pytest.approx(exact["held_out_decoder"], rel=0.02)


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_a_look_is_told_in_a_line() -> None:
    values = {"held_out_mlm": 5.812, "held_out_decoder": 4.92, "held_out_decoder_other": 5.4, "h0_worth": 0.48}
    line = "step 1,000: held-out mlm 5.81, decoder 4.92 (another text's h0 5.40: h0 is worth 0.480)"
    assert told(1000, values) == line
    assert told(1000, values | {"probe_mrr": 0.214}) == f"{line}, probe MRR 0.21"
    assert told(0, {"held_out_mlm": 9.0}) == "step 0: held-out mlm 9.00"
    progress = Told()
    values = watching(seed_model(), blocks(LENGTHS), progress=progress)(3)
    assert progress.lines == [told(3, values)]


def trained(folder: Path, stop: int | None) -> SeedModel:
    """Eight steps, watched every third and saved every second; `stop` breaks them off while that step is drawn."""
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    model = seed_model()
    drawn = PretrainingBatches(blocks([9, 5, 30, 12, 8, 21, 14]), MASKING, 0, size=4, micro=2, seed=1)

    def batches(step: int, rank: int, world: int) -> Iterator[PretrainingBatch]:
        if step == stop:
            raise ConnectionResetError
        return drawn(step, rank, world)

    objective = PretrainingObjective(model)
    optimizer = adamw(objective, 1e-3, (0.9, 0.999), 1e-6, 0.01)
    training = Training(8, 2, 1e-3, 1.0, 7, log_every=1, save_every=2, title="train", watch_every=3)
    train(objective, optimizer, batches, training, folder, ALONE, MUTE, watching(model, blocks(LENGTHS)))
    return model


def test_a_run_that_is_broken_off_is_watched_as_one_that_was_not(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        trained(tmp_path / "broken", stop=5)
    models = [trained(tmp_path / "broken", stop=None).state_dict(), trained(tmp_path / "straight", None).state_dict()]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("broken", "straight")]
    for record in (record for records in logs for record in records):
        for name in [name for name in record if name.endswith("per_second")]:
            del record[name]
    assert logs[0] == logs[1]
    assert [record["step"] for record in logs[0] if "probe_mrr" in record] == [0, 3, 6, 8]


def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": "2"}
    children = [
        subprocess.Popen([sys.executable, __file__, tmp_path], env=common | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in "01"
    ]
    try:
        assert [child.wait(120) for child in children] == [0, 0]
    finally:
        for child in children:
            child.kill()
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    for micro, values in first.items():
        alone = watching(seed_model(), blocks(LENGTHS), int(micro))(0)
        assert values == pytest.approx(alone, rel=1e-6, abs=1e-6)
        assert alone == pytest.approx(watching(seed_model(), blocks(LENGTHS), 11)(0), rel=1e-6, abs=1e-6)


def main(folder: Path) -> None:
    """One of two processes; with micro-batches of 16 the second has nothing to do."""
    with runtime("cpu", "fp32", threads=1) as here:
        found = {micro: watching(seed_model(), blocks(LENGTHS), micro, here)(0) for micro in (2, 3, 16)}
        (folder / f"{here.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
