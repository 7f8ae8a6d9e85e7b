"""SEED-Encoder pre-training: an encoder with a masked-word head, and a weak decoder that meets it in h0 alone.

Lu et al., "Less is More" (EMNLP 2021), section 3.4. Letters: B sequences, n tokens, D hidden size, M masked tokens,
V vocabulary.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from seedcli.models.decoder import WeakDecoder


class SeedModel(nn.Module):
    """Encoder and decoder, trained together. Token embeddings are one storage: the encoder's, used four times."""

    def __init__(self, encoder: PreTrainedModel, decoder: WeakDecoder | None):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    @property
    def embedding(self) -> Tensor:
        """[V, D]"""
        return embedding_of(self.encoder)

    def encode(self, tokens: Tensor, attention: Tensor | None, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The masked-word head's last states at the chosen places [M, D], and h0 [B, D].

        Takes tokens [B, n], where they are real [B, n] (None: everywhere), and places in the flattened text [M]. The
        head of any Hugging Face masked-LM class works on each position alone, so it is shown the chosen ones only, and
        its projection on the vocabulary is left to the loss: `projection` has it.
        """
        h0 = None

        def keep_chosen(_: nn.Module, __: Any, output: Any) -> Any:
            nonlocal h0
            hidden = output[0]  # [B, n, D]
            h0 = hidden[:, 0]
            output["last_hidden_state"] = hidden.flatten(0, 1)[chosen].unsqueeze(0)  # [1, M, D]
            return output

        hook = self.encoder.base_model.register_forward_hook(keep_chosen)
        projection = self.projection
        projection.forward = nn.Identity().forward  # type: ignore[method-assign]
        try:
            states = self.encoder(input_ids=tokens, attention_mask=attention).logits.squeeze(0)
        finally:
            hook.remove()
            del projection.forward
        assert h0 is not None
        return states, h0

    @property
    def projection(self) -> nn.Linear:
        """Of the head's states on the vocabulary: weights [V, D] and, in most models, a bias [V]."""
        projection = self.encoder.get_output_embeddings()  # type: ignore[no-untyped-call]
        assert isinstance(projection, nn.Linear)
        return projection

    def decode(self, tokens: Tensor, h0: Tensor) -> Tensor:
        """The decoder's last states [B, n, D] over the words as written [B, n]; position i predicts word i + 1."""
        assert self.decoder is not None
        return self.decoder(F.embedding(tokens, self.embedding), h0)  # type: ignore[no-any-return]


def embedding_of(model: PreTrainedModel) -> Tensor:
    """The token embeddings of a model, [V, D]."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight
