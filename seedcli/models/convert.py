"""Released SEED checkpoints, pre-trained and fine-tuned: their RoBERTa, head and tokenizer.

The encoder's weights have fairseq's names behind a prefix that differs by release: `encoder.sentence_encoder.` in the
pre-trained ones, `module.encoder.` in the fine-tuned ones, `seed_encoder.encoder.sentence_encoder.` in the port to
Hugging Face. It counts positions from the padding id + 1 and normalises after each block, as RoBERTa does, so that the
conversion is exact. The decoder is dropped.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from tokenizers import normalizers, processors
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM, RobertaModel

from seedcli.base.errors import DataError
from seedcli.base.files import read_json
from seedcli.data.tokenizer import Tokenizer, wordpiece
from seedcli.models.heads import dense_head

SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]")  # ids 0 to 3
MASK = "<mask>"  # the last id
CHECKPOINTS = ("pytorch_model.bin", "model.safetensors")
VOCABULARIES = ("vocab.txt", "dict.txt")
STATES = ("model", "model_dict", "state_dict")  # under which a file may hold its weights

EMBEDDING = "embed_tokens.weight"
OUTSIDE = ("decoder.", "lm_head.", "embeddingHead.", "norm.")  # of the encoder, where its prefix is empty
NORM = ("layernorm_embedding", "emb_layer_norm")  # as later versions of fairseq call it, and as SEED's does
WORDS = {  # fairseq's module -> RoBERTa's
    "embed_tokens": "embeddings.word_embeddings",
    "embed_positions": "embeddings.position_embeddings",
    "emb_layer_norm": "embeddings.LayerNorm",
}
LAYER = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
}


class Checkpoint(NamedTuple):
    """The tensors in a file by name, and the options of their training as far as they are told."""

    path: Path
    tensors: Mapping[str, Tensor]
    options: Mapping[str, Any]


class Converted(NamedTuple):
    """`head` is that of the fine-tuned ones; `masked_words` tells whether the model has its masked-word head."""

    model: PreTrainedModel
    head: nn.Sequential | None
    masked_words: bool


def find_checkpoint(source: Path) -> Path:
    """The file of weights that `source` is, or the one it holds."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder; give a released checkpoint, or the folder it is in")
    known = [source / name for name in CHECKPOINTS if (source / name).is_file()]
    found = known[:1] or sorted(source.glob("*.pt"))
    if len(found) != 1:
        holds = ", ".join(path.name for path in found) or f"no {', '.join(CHECKPOINTS)} or *.pt"
        raise DataError(f"{source}: {holds} in it; give the file of weights itself")
    return found[0]


def find_vocabulary(checkpoint: Path) -> Path:
    """The vocabulary beside a checkpoint."""
    found = [path for name in VOCABULARIES if (path := checkpoint.with_name(name)).is_file()]
    if not found:
        raise DataError(f"{checkpoint}: no {' or '.join(VOCABULARIES)} beside it; name its vocabulary: --vocabulary")
    return found[0]


def read_checkpoint(path: Path, config: Path | None = None) -> Checkpoint:
    """The weights in a file of torch or safetensors. Raises DataError for a file that could run code.

    fairseq has its options beside the weights, the port to Hugging Face in a config.json.
    """
    loaded = _loaded(path)
    state = next((loaded[name] for name in STATES if isinstance(loaded.get(name), dict)), loaded)
    tensors = {name.replace(*NORM): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    told = read_json(config) if config else loaded.get("args")
    options = vars(told) if isinstance(told, argparse.Namespace) else told
    return Checkpoint(path, tensors, options if isinstance(options, dict) else {})


def convert(checkpoint: Checkpoint, heads: int | None = None) -> Converted:
    """The encoder as a RoBERTa. `heads` of attention: as given, else as the options tell, else one for 64 values.

    Raises DataError when weights are missing, unknown, or of other shapes than the rest ask for.
    """
    prefix = encoder_prefix(checkpoint)
    own = {name.removeprefix(prefix) for name in checkpoint.tensors if name.startswith(prefix)} - {"version"}
    layers = len({name.split(".")[1] for name in own if name.startswith("layers.")})
    names = encoder_names(layers)
    if unknown := sorted(name for name in own - names.keys() if not name.startswith(OUTSIDE)):
        raise DataError(f"{checkpoint.path}: {prefix}{unknown[0]} has no place in SEED's encoder")
    config = architecture(checkpoint, prefix, layers, heads)
    words = masked_word_names(checkpoint, prefix)
    model: PreTrainedModel = RobertaForMaskedLM(config) if words else RobertaModel(config, add_pooling_layer=False)
    base: Any = model.base_model
    nn.init.zeros_(base.embeddings.token_type_embeddings.weight)  # fairseq has no segments
    _fill(base, {prefix + name: place for name, place in names.items()}, checkpoint)
    _fill(model, words, checkpoint)
    return Converted(model, embedding_head(checkpoint, config.hidden_size), bool(words))


def encoder_prefix(checkpoint: Checkpoint) -> str:
    """What stands before the names of the encoder's weights."""
    ends = [name.removesuffix(EMBEDDING) for name in checkpoint.tensors if name.endswith(EMBEDDING)]
    found = [prefix for prefix in ends if "decoder" not in prefix.split(".")]
    if not found:
        problem = f"no weight called {EMBEDDING} but a decoder's" if ends else f"no weight called {EMBEDDING}"
        raise DataError(f"{checkpoint.path}: not a released SEED checkpoint; it has {problem}")
    if len(found) > 1:
        raise DataError(f"{checkpoint.path}: {len(found)} encoders in it ({', '.join(found)}); seed takes one")
    return found[0]


def encoder_names(layers: int) -> dict[str, str]:
    """RoBERTa's names by fairseq's."""
    modules = WORDS | {
        f"layers.{row}.{module}": f"encoder.layer.{row}.{place}"
        for row in range(layers)
        for module, place in LAYER.items()
    }
    return {
        f"{module}.{kind}": f"{place}.{kind}"
        for module, place in modules.items()
        for kind in (("weight",) if module.startswith("embed_") else ("weight", "bias"))
    }


def architecture(checkpoint: Checkpoint, prefix: str, layers: int, heads: int | None) -> RobertaConfig:
    """Sizes as the tensors have them, the rest as the release has it."""
    entries, hidden = _matrix(checkpoint, prefix + EMBEDDING)
    positions, _ = _matrix(checkpoint, f"{prefix}embed_positions.weight")
    wide, _ = _matrix(checkpoint, f"{prefix}layers.0.fc1.weight")
    heads = heads or int(checkpoint.options.get("encoder_attention_heads") or 0) or max(1, hidden // 64)
    if hidden % heads:
        raise DataError(f"{checkpoint.path}: {heads} attention heads can't share {hidden} values; give --heads")
    if (activation := checkpoint.options.get("activation_fn", "gelu")) != "gelu":
        raise DataError(f"{checkpoint.path}: its activation is {activation}, where SEED's is gelu")
    return RobertaConfig(
        vocab_size=entries,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=wide,
        hidden_act="gelu",
        max_position_embeddings=positions,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        bos_token_id=SPECIAL.index("[CLS]"),
        pad_token_id=SPECIAL.index("[PAD]"),
        eos_token_id=SPECIAL.index("[SEP]"),
    )


def masked_word_names(checkpoint: Checkpoint, prefix: str) -> dict[str, str]:
    """RoBERTa's names for the masked-word head by the checkpoint's; none where its matrix isn't the embedding."""
    root = _root(checkpoint, "lm_head.dense.weight")
    if root is None:
        return {}
    matrix = checkpoint.tensors.get(f"{root}lm_head.weight")
    if matrix is not None and not torch.equal(matrix, checkpoint.tensors[prefix + EMBEDDING]):
        return {}
    parts = [f"{part}.{kind}" for part in ("dense", "layer_norm") for kind in ("weight", "bias")]
    return {f"{root}lm_head.{part}": f"lm_head.{part}" for part in [*parts, "bias"]}


def embedding_head(checkpoint: Checkpoint, hidden: int) -> nn.Sequential | None:
    """What fine-tuned ones have over the [CLS] state: a linear layer, `embeddingHead`, and a layer norm, `norm`."""
    root = _root(checkpoint, "embeddingHead.weight")
    if root is None:
        return None
    out, _ = _matrix(checkpoint, f"{root}embeddingHead.weight")
    linear, norm = nn.Linear(hidden, out), nn.LayerNorm(out)
    for name, module in (("embeddingHead", linear), ("norm", norm)):
        _fill(module, {f"{root}{name}.{kind}": kind for kind in ("weight", "bias")}, checkpoint)
    return dense_head([linear, norm])


def release_tokenizer(path: Path, entries: int) -> Tokenizer:
    """WordPiece as the release uses it: lower-cased, accents and control characters kept.

    Raises DataError when the vocabulary hasn't `entries` ids.
    """
    vocabulary = read_vocabulary(path)
    if len(vocabulary) != entries:
        raise DataError(f"{path}: {len(vocabulary):,} ids with {MASK}, where the checkpoint has {entries:,}")
    backend = wordpiece(vocabulary)
    backend.normalizer = normalizers.BertNormalizer(clean_text=False, strip_accents=False, lowercase=True)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",  # of one type: the model has no other
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token"), SPECIAL, strict=True))
    inputs = ["input_ids", "attention_mask"]
    return Tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=backend, mask_token=MASK, model_input_names=inputs, **names)  # type: ignore[no-untyped-call]
    )


def read_vocabulary(path: Path) -> dict[str, int]:
    """Ids by token: the lines of a vocab.txt, or the special tokens and those of a dict.txt of fairseq's, whose lines
    are "token count"; the mask comes last."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = [line.rstrip("\r\n") for line in file]
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
    if lines and all(re.fullmatch(r"\S+ \d+", line) for line in lines):
        lines = [*SPECIAL, *(line.rpartition(" ")[0] for line in lines)]
    tokens = list(dict.fromkeys([*lines, MASK]))
    if tuple(tokens[: len(SPECIAL)]) != SPECIAL:
        raise DataError(f"{path}: not SEED's vocabulary, which begins with {', '.join(SPECIAL)}")
    return {token: id_ for id_, token in enumerate(tokens)}


def _loaded(path: Path) -> dict[str, Any]:
    """What a file holds. argparse.Namespace, in which fairseq keeps its options, is let through: it is data."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the readers meet
        if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
            cure = "if you trust it, load it and save its weights alone: torch.save({'model': loaded['model']}, FILE)"
            raise DataError(f"{path}: holds {refused[1]}, which could run code and is not read; {cure}") from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a file of weights that torch can read ({reason:.200})") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: holds a {type(loaded).__name__}, where weights by name were expected")
    return loaded


def _root(checkpoint: Checkpoint, name: str) -> str | None:
    """What stands before `name` in the checkpoint, None where nothing is called so."""
    roots = (found.removesuffix(name) for found in checkpoint.tensors if found.endswith(name))
    return next((root for root in roots if "decoder" not in root.split(".")), None)


def _matrix(checkpoint: Checkpoint, name: str) -> tuple[int, int]:
    """The shape of a weight that must be a matrix."""
    shape = _weight(checkpoint, name).shape
    if len(shape) != 2:
        raise DataError(f"{checkpoint.path}: {name} is of shape {list(shape)}, where a matrix was expected")
    return shape[0], shape[1]


def _weight(checkpoint: Checkpoint, name: str) -> Tensor:
    if name not in checkpoint.tensors:
        raise DataError(f"{checkpoint.path}: no weight called {name}")
    return checkpoint.tensors[name]


@torch.no_grad()
def _fill(module: nn.Module, places: Mapping[str, str], checkpoint: Checkpoint) -> None:
    """Give a module the checkpoint's weights, in its own type: fairseq's may be in fp16."""
    own = dict(module.named_parameters())
    for name, place in places.items():
        weight, expected = _weight(checkpoint, name), own[place]
        if weight.shape != expected.shape:
            shapes = f"{list(weight.shape)}, where the other weights ask for {list(expected.shape)}"
            raise DataError(f"{checkpoint.path}: {name} is of shape {shapes}")
        expected.copy_(weight)
