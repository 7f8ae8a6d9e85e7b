"""What must be true of the pre-training model (Lu et al. 2021): its window, its h0, its one embedding matrix, its head.

Letters: B sequences, n tokens, D = 32 hidden size, H = 4 heads, d = D / H, k window, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, BertConfig, PreTrainedModel

from seedcli.data.batches import PretrainingBatch, Sequences
from seedcli.models.decoder import DecoderLayer, WeakDecoder, window_attention
from seedcli.models.seed import SeedModel
from seedcli.training.objectives import PretrainingObjective

SMALL: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
FAMILIES = {
    "bert": BertConfig(**SMALL),
    "roberta": transformers.RobertaConfig(**SMALL),
    "xlm-roberta": transformers.XLMRobertaConfig(**SMALL),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=97, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=40, dropout=0.0,
        attention_dropout=0.0,
    ),
    "electra": transformers.ElectraConfig(**SMALL, embedding_size=32),
    "mpnet": transformers.MPNetConfig(**SMALL),
    "deberta": transformers.DebertaV2Config(
        **SMALL, relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False
    ),
    "modernbert": transformers.ModernBertConfig(
        **{key: value for key, value in SMALL.items() if "dropout" not in key}, local_attention=8, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    ),
}  # fmt: skip


def bert() -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(BertConfig(**SMALL))


def decoder(layers: int, window: int | None) -> WeakDecoder:
    torch.manual_seed(1)
    made = WeakDecoder(32, 4, 64, layers, window, positions=40, dropout=0.1).eval()
    for parameter in made.parameters():  # weights of 0.02 hide what they do
        nn.init.normal_(parameter, std=0.3)
    return made


def batch(lengths: tuple[int, ...] = (12, 12, 12)) -> PretrainingBatch:
    """Random texts, of which about every third word is masked by another."""
    torch.manual_seed(2)
    attention = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    tokens = torch.randint(5, 97, attention.shape) * attention
    chosen = attention & ((attention.cumsum(1) + attention.cumsum(0)) % 3 == 1)
    masked = torch.where(chosen, 4, tokens)
    places = [part.flatten().nonzero().squeeze(1) for part in (chosen, attention[:, 1:])]
    real = None if attention.all() else places[1]
    counts = torch.tensor([len(part) for part in places], dtype=torch.float64)
    return PretrainingBatch(Sequences(tokens, attention), masked, places[0], real, counts)


def allowed(n: int, window: int) -> list[list[bool]]:
    """The rule, place by place: j <= i and i - j < k, and place 0 always."""
    return [[(j <= i and i - j < window) or j == 0 for j in range(n)] for i in range(n)]


def footprint(outputs: Tensor, inputs: Tensor) -> list[list[bool]]:
    """Whether output place i has a gradient at input place j; [..., n, D] both."""
    weights = torch.randn(outputs.shape[-1])
    rows = []
    for place in range(outputs.shape[-2]):
        (gradient,) = torch.autograd.grad((outputs[..., place, :] * weights).sum(), inputs, retain_graph=True)
        rows.append(gradient.abs().sum(-1).flatten(0, -2).sum(0).ne(0).tolist())
    return rows


def over_heads(attention: Callable[..., Tensor], *given: Tensor | int) -> Tensor:
    """Attention that wants [B, n, H, d], of [B, H, n, d]."""
    turned = [part.transpose(1, 2) if isinstance(part, Tensor) else part for part in given]
    return attention(*turned).transpose(1, 2)


@pytest.mark.parametrize("window", [1, 2, 3, 8, 30])
@pytest.mark.parametrize("n", [1, 2, 7, 11])
def test_a_place_attends_to_its_window_and_the_first_place(n: int, window: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, n, 8, requires_grad=True) for _ in range(3))
    mixed = over_heads(window_attention, query, key, value, window)
    assert footprint(mixed, value) == allowed(n, window)
    weights_of_one = over_heads(window_attention, query, key, torch.ones_like(value), window)
    torch.testing.assert_close(weights_of_one, torch.ones_like(value))


@pytest.mark.parametrize("window", [1, 2, 4, None])
def test_in_one_layer_a_logit_has_no_gradient_outside_its_window(window: int | None) -> None:
    model, weak = bert(), decoder(1, window)
    embedded = torch.randn(1, 9, 32, requires_grad=True)
    logits = weak(embedded, torch.randn(1, 32)) @ model.get_input_embeddings().weight.T
    assert footprint(logits, embedded) == allowed(9, window or 9)


def test_three_layers_of_window_two_see_four_tokens() -> None:
    embedded = torch.randn(1, 9, 32, requires_grad=True)
    seen = footprint(decoder(3, 2)(embedded, torch.randn(1, 32)), embedded)
    assert seen == allowed(9, 4)


@pytest.mark.parametrize("window", [1, 2, 5, 40])
@pytest.mark.parametrize("n", [1, 4, 17])
def test_windowed_attention_is_masked_full_attention(n: int, window: int) -> None:
    torch.manual_seed(n)
    inputs = [torch.randn(2, 4, n, 8, requires_grad=True) for _ in range(3)]
    query, key, value = inputs
    hidden = ~torch.tensor(allowed(n, window))
    weights = (query @ key.transpose(-1, -2) / 8**0.5).masked_fill(hidden, float("-inf")).softmax(-1)
    mixed, expected = over_heads(window_attention, query, key, value, window), weights @ value
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-6)
    direction = torch.randn_like(mixed)
    ours, theirs = (torch.autograd.grad((output * direction).sum(), inputs) for output in (mixed, expected))
    for gradient, plain in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, plain, rtol=0, atol=1e-5)


def test_the_memory_of_a_window_grows_with_the_length_not_its_square() -> None:
    def kept(n: int) -> int:
        sizes: list[int] = []
        parts = [torch.randn(1, n, 4, 8, requires_grad=True) for _ in range(3)]
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()), lambda _: _):
            window_attention(*parts, 2)
        return sum(sizes)

    assert kept(512) < 2.05 * kept(256)


def test_the_injected_h0_is_cross_attention_over_one_key() -> None:
    layer = decoder(1, 2).layers[0]
    assert isinstance(layer, DecoderLayer)
    attention = nn.MultiheadAttention(32, 4, batch_first=True).eval()  # its query and key weights stay random
    with torch.no_grad():
        attention.in_proj_weight[64:], attention.in_proj_bias[64:] = layer.h0_value.weight, layer.h0_value.bias
        attention.out_proj.weight.copy_(layer.h0_out.weight)
        attention.out_proj.bias.copy_(layer.h0_out.bias)
    states, h0 = torch.randn(3, 7, 32), torch.randn(3, 32)
    attended = states + layer.attend(layer.norm_attention(states))
    told, _ = attention(attended, h0.unsqueeze(1), h0.unsqueeze(1))
    crossed = attended + told
    expected = crossed + layer.down(F.gelu(layer.up(layer.norm_forward(crossed))))
    torch.testing.assert_close(layer(states, h0), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(told, layer.h0_out(layer.h0_value(h0)).unsqueeze(1).expand_as(told), rtol=0, atol=1e-5)


def test_the_decoder_learns_of_the_encoder_through_h0_alone() -> None:
    model = SeedModel(bert(), decoder(2, 2))
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        output.last_hidden_state.retain_grad()
        kept.append(output.last_hidden_state)

    hook = model.encoder.base_model.register_forward_hook(keep)
    _, decoded = PretrainingObjective(model)(batch())
    hook.remove()
    decoded.backward()
    touched = kept[0].grad.abs().sum(-1).ne(0)  # [B, n]
    assert touched[:, 0].all()
    assert not touched[:, 1:].any()


def test_other_words_for_the_encoder_change_every_logit_of_the_decoder() -> None:
    model = SeedModel(bert(), decoder(1, 2)).eval()
    original, masked, chosen, _, _ = batch()
    words = original.tokens[:, :-1]
    _, h0 = model.encode(masked, original.attention, chosen)
    _, other = model.encode(original.tokens, original.attention, chosen)
    told, told_other = (model.decode(words, h) @ model.embedding.T for h in (h0, other))
    assert (told - told_other).abs().amax(-1).min() > 1e-6
    assert torch.equal(told, model.decode(words, h0.clone()) @ model.embedding.T)


def test_the_embedding_matrix_is_one_storage_and_there_are_two_position_tables() -> None:
    model = SeedModel(bert(), decoder(2, 2))
    places = {
        model.encoder.get_input_embeddings().weight.data_ptr(),
        model.encoder.get_output_embeddings().weight.data_ptr(),
        model.embedding.data_ptr(),
    }
    assert len(places) == 1
    words = [name for name, parameter in model.named_parameters() if parameter.shape[0] == 97 and parameter.ndim == 2]
    tables = [name for name, parameter in model.named_parameters() if parameter.shape == (40, 32)]
    assert len(words) == 1
    assert tables == ["encoder.bert.embeddings.position_embeddings.weight", "decoder.positions.weight"]


def test_the_losses_and_the_gradient_of_all_four_uses_are_those_of_plain_code() -> None:
    """Four copies of the embedding matrix, full logits, no masked selection: their gradients add up to the model's."""
    model = SeedModel(bert(), decoder(2, 3)).train()
    model.decoder.eval()  # its dropout
    texts = batch((12, 9, 4))
    losses = PretrainingObjective(model)(texts)
    losses.sum().backward()
    gradient = model.embedding.grad.clone()

    copies = [model.embedding.detach().clone().requires_grad_() for _ in range(4)]
    into_encoder, onto_words, into_decoder, onto_next = copies
    (tokens, attention), masked, places, _, _ = texts
    chosen = (masked != tokens).tolist()
    assert len(places) == sum(map(sum, chosen))
    hidden = model.encoder.bert(inputs_embeds=into_encoder[masked], attention_mask=attention).last_hidden_state
    head = model.encoder.cls.predictions
    logits = head.transform(hidden) @ onto_words.T + head.bias  # [B, n, V]
    states = model.decoder(into_decoder[tokens[:, :-1]], hidden[:, 0])
    following = states @ onto_next.T
    mlm = decoded = torch.zeros(())
    for row, length in enumerate(attention.sum(1).tolist()):
        for place in range(length):
            if chosen[row][place]:
                mlm = mlm - logits[row, place].log_softmax(-1)[tokens[row, place]]
        for place in range(1, length):
            decoded = decoded - following[row, place - 1].log_softmax(-1)[tokens[row, place]]
    torch.testing.assert_close(losses, torch.stack([mlm, decoded]), rtol=1e-5, atol=0)
    parts = torch.autograd.grad(mlm + decoded, copies)
    assert all(part.abs().max() > 1e-3 for part in parts)
    torch.testing.assert_close(gradient, sum(parts), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_at_chosen_places_is_the_head_everywhere(family: str) -> None:
    torch.manual_seed(0)
    encoder = AutoModelForMaskedLM.from_config(FAMILIES[family]).train()
    (tokens, attention), masked, chosen, _, _ = batch((12, 9, 5))
    pad = int(FAMILIES[family].pad_token_id)
    tokens, masked = tokens.masked_fill(~attention, pad), masked.masked_fill(~attention, pad)
    output = encoder(input_ids=masked, attention_mask=attention, output_hidden_states=True)
    plain = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    words, at_places = tokens.flatten()[chosen], output.logits.flatten(0, 1)[chosen]
    expected = torch.autograd.grad(F.cross_entropy(at_places, words), list(plain.values()))
    model = SeedModel(encoder, None)
    states, h0 = model.encode(masked, attention, chosen)
    logits = F.linear(states, model.projection.weight, model.projection.bias)
    torch.testing.assert_close(logits, at_places, rtol=0, atol=1e-6)
    torch.testing.assert_close(h0, encoder.base_model(input_ids=masked, attention_mask=attention)[0][:, 0])
    found = torch.autograd.grad(F.cross_entropy(logits, words), list(plain.values()))
    for name, gradient, other in zip(plain, found, expected, strict=True):  # and none is left without: DDP would wait
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    assert not encoder.base_model._forward_hooks
    assert encoder(input_ids=masked, attention_mask=attention).logits.shape[-1] == 97  # the projection is back


def test_a_batch_without_a_masked_word_is_no_mistake() -> None:
    model = SeedModel(bert(), decoder(1, 2))
    texts = batch()
    losses = PretrainingObjective(model)(texts._replace(chosen=texts.chosen[:0]))
    losses.sum().backward()
    assert losses[0] == 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_without_a_decoder_the_objective_is_masked_words_alone() -> None:
    losses = PretrainingObjective(SeedModel(bert(), None))(batch())
    both = PretrainingObjective(SeedModel(bert(), decoder(1, 2)))(batch())
    assert losses.tolist() == [both[0].item(), 0]
