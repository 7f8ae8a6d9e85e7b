"""Operations by arithmetic: the figures of the specification, and what PyTorch counts of the model itself."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, BertConfig

from seedcli.data.batches import PretrainingBatches
from seedcli.data.masking import Masking
from seedcli.data.ragged import Ragged
from seedcli.models.decoder import WeakDecoder
from seedcli.models.flops import Decoder, Encoder, encoder_shape, pretraining_operations
from seedcli.models.seed import SeedModel
from seedcli.training.objectives import PretrainingObjective

BASE = Encoder(12, 768, 3072, 30_522)


def test_bert_base_takes_588_million_operations_a_token_and_seed_856() -> None:
    assert round(pretraining_operations(BASE, None, 512, 0.15) / 1e6) == 588
    assert round(pretraining_operations(BASE, Decoder(3, 2), 512, 0.15) / 1e6) == 856


def test_a_small_model_spends_most_on_the_decoders_vocabulary() -> None:
    small = Encoder(4, 192, 768, 8_192)
    plain, seed = (pretraining_operations(small, decoder, 128, 0.15) for decoder in (None, Decoder(3, 2)))
    assert seed / plain == pytest.approx(2.3, abs=0.05)


@pytest.mark.parametrize("decoder", [None, Decoder(2, 2)])
def test_pytorch_counts_as_many(decoder: Decoder | None) -> None:
    """But for the window's few products, which it doesn't see (nor fused attention on a CPU), and each last token."""
    config = BertConfig(
        vocab_size=211, hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=40, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
    )  # fmt: skip
    weak = decoder and WeakDecoder(64, 2, 96, decoder.layers, decoder.window, 40, 0.0)
    objective = PretrainingObjective(
        SeedModel(AutoModelForMaskedLM.from_config(config, attn_implementation="eager"), weak)
    )
    rows = torch.randint(5, 211, (8, 40)).numpy()
    masking = Masking(4, rows[:0, 0], 211, 0.15)
    (batch,) = PretrainingBatches(Ragged.of(rows, "uint16"), masking, 0, 8, 8, 0)(0, 0, 1)
    with FlopCounterMode(display=False) as counter:
        objective(batch).sum().backward()
    masked = len(batch.chosen) / batch.tokens
    expected = pretraining_operations(encoder_shape(config), decoder, 40, masked) * batch.tokens
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.05)
