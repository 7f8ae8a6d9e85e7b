"""Dropout by the quicker way is the same model: what stays, by how much, and what the gradient is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
)

from seedcli.models import dropout as quick
from seedcli.models.dropout import Dropout, attention_with_dropout, dropout, kept, quicken


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_elements_stay_at_the_rate_independently_and_keep_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    keep, scale = kept((1000, 1001), rate)
    assert keep.float().mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / 1e6) ** 0.5)
    assert scale * (1 - rate) == pytest.approx(1, abs=1e-4)
    every_fourth = [keep.flatten()[lane::4].float().mean().item() for lane in range(4)]  # four to a random number
    assert every_fourth == pytest.approx([1 - rate] * 4, abs=0.005)
    pairs = (keep[:, 1:] & keep[:, :-1]).float().mean().item()
    assert pairs == pytest.approx((1 - rate) ** 2, abs=0.005)


def test_dropout_multiplies_state_and_gradient_by_the_same_mask() -> None:
    torch.manual_seed(0)
    states = torch.randn(50, 7, requires_grad=True)
    dropped = dropout(states, 0.3)
    (gradient,) = torch.autograd.grad(dropped.sum(), states)
    torch.testing.assert_close(dropped, states * gradient)
    assert gradient.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=1e-4)


def test_seeds_repeat_it() -> None:
    def drawn() -> Tensor:
        torch.manual_seed(3)
        return dropout(torch.ones(1000), 0.2)

    assert torch.equal(drawn(), drawn())


@pytest.mark.parametrize("tile", [1, 1 << 19])
@pytest.mark.parametrize("masked", ["none", "keys", "causal"])
def test_attention_is_plain_attention_with_these_weights_dropped(
    masked: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "TILE", tile)
    inputs = [torch.randn(2, 3, 17, 8, requires_grad=True) for _ in range(3)]
    query, key, value = inputs
    bias = {
        "none": None,
        "keys": torch.zeros(2, 17).masked_fill(torch.arange(17) > torch.tensor([[16], [9]]), float("-inf")),
        "causal": torch.full((1, 17, 17), float("-inf")).triu(1),
    }[masked]
    torch.manual_seed(5)
    keep, scale = kept((6, 17, 17), 0.3)
    torch.manual_seed(5)
    mixed = attention_with_dropout(query, key, value, bias, 0.3)
    scores = query @ key.transpose(-1, -2) / 8**0.5
    if bias is not None:
        scores = scores + (bias if masked == "causal" else bias[:, None, None])
    expected = (scores.softmax(-1) * keep.view(2, 3, 17, 17) * scale) @ value
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)
    direction = torch.randn_like(mixed)
    ours, plain = (torch.autograd.grad((output * direction).sum(), inputs) for output in (mixed, expected))
    for left, right in zip(ours, plain, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_attention_keeps_a_byte_a_weight_for_the_gradient() -> None:
    held: list[int] = []
    parts = [torch.randn(1, 2, 256, 4, requires_grad=True) for _ in range(3)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel() * t.element_size()), lambda _: _):
        attention_with_dropout(*parts, None, 0.1)
    assert sum(held) == 2 * 256 * 256 + 4 * 2 * 256 * 4 * 4


SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
BACKBONES = {
    "bert": lambda: BertModel(BertConfig(**SMALL)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SMALL, pad_token_id=1)),
    "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, attn_pdrop=0.1)),
    "modernbert": lambda: ModernBertModel(
        ModernBertConfig(**SMALL, pad_token_id=0, attention_dropout=0.1, local_attention=4, cls_token_id=1,
                         sep_token_id=2, bos_token_id=1, eos_token_id=2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", BACKBONES)
def test_a_quickened_model_is_the_same_model(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing is dropped by either, and in evaluation; with padding and without."""
    torch.manual_seed(0)
    model = BACKBONES[family]()
    tokens = torch.randint(5, 50, (3, 11))
    padding = torch.arange(11) < torch.tensor([[11], [7], [3]])
    plain = [model.eval()(tokens, attention_mask=mask)[0] for mask in (None, padding)]
    quicken(model)
    evaluated = [model(tokens, attention_mask=mask)[0] for mask in (None, padding)]
    monkeypatch.setattr(quick, "kept", lambda shape, _: (torch.ones(shape, dtype=torch.bool), 1.0))
    plainly = quick.sdpa_attention_forward  # of layers with a local mask

    def nothing_dropped(*given: Any, **rest: Any) -> Any:
        return plainly(*given[:5], 0.0, *given[6:], **rest)

    monkeypatch.setattr(quick, "sdpa_attention_forward", nothing_dropped)
    trained = [model.train()(tokens, attention_mask=mask)[0] for mask in (None, padding)]
    for expected, *others in zip(plain, evaluated, trained, strict=True):
        for other in others:
            torch.testing.assert_close(other, expected, rtol=0, atol=1e-5)


def test_a_quickened_bert_drops_by_the_quicker_way_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BACKBONES["bert"]()
    quicken(model)
    assert not [module for module in model.modules() if type(module) is nn.Dropout]
    assert [module for module in model.modules() if isinstance(module, Dropout)]

    def refused(*_: object, **__: object) -> Tensor:
        raise AssertionError("torch's own dropout was called")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refused)
    monkeypatch.setattr(torch.nn.functional, "dropout", refused)
    model.train()(torch.randint(5, 50, (2, 9)))[0].sum().backward()


def test_the_saved_config_does_not_name_the_attention(tmp_path: pytest.TempPathFactory) -> None:
    model = BACKBONES["bert"]()
    quicken(model)
    model.save_pretrained(tmp_path)
    assert BertModel.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
