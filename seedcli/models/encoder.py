"""Text encoders: a Hugging Face backbone pooled to one vector a text, in folders that other libraries open too."""

import dataclasses
import re
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, BertConfig, PreTrainedConfig, PreTrainedModel

from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.files import read_json, write_json
from seedcli.data.batches import Sequences
from seedcli.data.records import Passage, Query
from seedcli.data.segments import Segmentation
from seedcli.data.templates import check_template
from seedcli.data.tokenizer import Tokenizer, open_tokenizer
from seedcli.models.decoder import STD
from seedcli.models.heads import PARTS, read_head, read_modules, width, write_head

Pooling = Literal["cls", "mean", "last"]
Similarity = Literal["dot", "cosine"]
Size = Literal["tiny", "mini", "small", "base"]
SIZES: dict[Size, tuple[int, int]] = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "base": (12, 768)}
SETTINGS = "model.json"


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """What an encoder is used with; stored as model.json, so that later stages can't disagree."""

    pooling: Pooling = "cls"
    similarity: Similarity = "dot"  # cosine: vectors are scaled to length 1
    query_length: int = 64  # tokens, special ones included
    passage_length: int = 256
    query_template: str = "{text}"
    passage_template: str = "{title} {text}"
    dimensions: tuple[Annotated[int, Ge(1)], ...] = ()  # widths that vectors may be cut to (Kusupati et al. 2022)
    segments: Annotated[int, Ge(1)] = 1  # of a passage at most, passage_length tokens each: the best one scores it
    segment_overlap: Annotated[int, Ge(0)] = 0  # tokens that neighbouring segments share
    token_vectors: Annotated[int, Ge(1)] = 1  # of a segment at most: those of its first tokens (Luan et al. 2021)

    @property
    def several(self) -> bool:
        """Whether a passage may have more than one vector."""
        return self.segments > 1 or self.token_vectors > 1


class Encoder(nn.Module):
    """A backbone with its settings, and the head that some models have."""

    def __init__(self, backbone: PreTrainedModel, settings: EncoderSettings, head: nn.Sequential | None = None):
        super().__init__()
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # type: ignore[assignment]  # unused here, and random in most checkpoints
        self.backbone = backbone
        self.settings = settings
        self.head = head
        self.options = {"use_cache": False} if "use_cache" in signature(backbone.forward).parameters else {}

    @property
    def size(self) -> int:
        """D, the width of a vector."""
        return int(self.backbone.config.hidden_size) if self.head is None else width(self.head)

    def forward(self, texts: Sequences) -> Tensor:
        """Token ids [B, n] -> vectors [B, D]."""
        return self.finished(pool(self.states(texts), texts.attention, self.settings.pooling))

    def passages(self, texts: Sequences) -> Tensor:
        """Token ids [B, n] -> vectors [B, m, D] of the first m tokens, padding's too: as many as the settings say."""
        if self.settings.token_vectors == 1:
            return self(texts).unsqueeze(1)  # type: ignore[no-any-return]
        return self.finished(self.states(texts)[:, : self.settings.token_vectors])

    def states(self, texts: Sequences) -> Tensor:
        """Token ids [B, n] -> states of the last layer [B, n, D]."""
        return self.backbone(input_ids=texts.tokens, attention_mask=texts.attention, **self.options)[0]  # type: ignore[no-any-return]

    def finished(self, pooled: Tensor) -> Tensor:
        """Vectors [..., D] through the head, of length 1 under cosine, in float32 whatever the backbone computes in."""
        pooled = pooled.float()
        if self.head is not None:
            pooled = self.head(pooled).float()
        return F.normalize(pooled, dim=-1) if self.settings.similarity == "cosine" else pooled


def pool(hidden: Tensor, attention: Tensor, pooling: Pooling) -> Tensor:
    """A vector a text, [B, n, D], [B, n] -> [B, D]; texts are padded on the right, whatever their tokenizer says."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), attention.sum(1) - 1]
    weights = attention.unsqueeze(-1).float()
    return (hidden * weights).sum(1) / weights.sum(1)


def model_folder(name: str) -> Path:
    """The folder of a model: a path as it is, any other name from the Hugging Face hub (or its cache)."""
    path = Path(name)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise DataError(f"{name}: no such model folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # whatever the network raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: no such folder, and the model hub did not give it ({reason:.200})") from None


def open_encoder(folder: Path) -> tuple[Encoder, Tokenizer]:
    """The encoder and the tokenizer in a model folder of ours, of sentence-transformers or of transformers."""
    backbone = from_folder(AutoModel, folder)
    settings = read_settings(folder, backbone.config)
    head = read_head(folder, int(backbone.config.hidden_size))
    return Encoder(backbone, settings, head), open_tokenizer(folder)


def open_masked_lm(folder: Path) -> tuple[PreTrainedModel, bool]:
    """A masked-LM model to go on training, and whether its head came with it."""
    missing: list[str] = []
    model = from_folder(AutoModelForMaskedLM, folder, missing)
    return model, not missing


def new_masked_lm(
    size: Size, vocabulary: int, positions: int, pad: int, dropout: float, std: float = STD
) -> PreTrainedModel:
    """A BERT of random weights, N(0, std)."""
    layers, hidden = SIZES[size]
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        max_position_embeddings=positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=std,
        pad_token_id=pad,
    )
    return AutoModelForMaskedLM.from_config(config)  # type: ignore[no-any-return, no-untyped-call]


def from_folder(kind: Any, folder: Path, missing_head: list[str] | None = None) -> PreTrainedModel:
    """Weights from safetensors only, no code from the folder. Raises DataError when weights are missing or broken.

    With `missing_head`, weights outside the base model may be missing; their names are added to it.
    """
    config = read_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise DataError(f"{folder}: no *.safetensors in it; other weight formats can run code and are not read")
    try:
        model, loading = kind.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype="float32",
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise DataError(f"{folder}: can't be opened as a model ({str(error).splitlines()[0]:.200})") from None
    missing = [name for name in loading["missing_keys"] if "pooler." not in name]
    if missing_head is not None:
        head = [name for name in missing if not name.startswith(f"{model.base_model_prefix}.")]
        missing_head += head
        missing = [name for name in missing if name not in head]
    if missing:
        raise DataError(f"{folder}: its weights lack {missing[0]} and {len(missing) - 1} more")
    return model  # type: ignore[no-any-return]


def read_config(folder: Path) -> PreTrainedConfig:
    """The architecture that a model folder names. Raises DataError when it names none that transformers has."""
    if not (folder / "config.json").is_file():
        if (folder / "query" / "config.json").is_file():
            raise DataError(f"{folder}: holds two towers; name one of them, {folder / 'query'} or {folder / 'passage'}")
        raise DataError(f"{folder}: no model in it (config.json)")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise DataError(f"{folder}: can't be opened as a model ({str(error).splitlines()[0]:.200})") from None


def read_settings(folder: Path, config: PreTrainedConfig) -> EncoderSettings:
    """Settings from model.json, else from sentence-transformers' files, else defaults that the model can read."""
    if (folder / SETTINGS).is_file():
        try:
            settings = resolve(EncoderSettings, {**read_json(folder / SETTINGS)}, {}, SETTINGS)
            check_settings(settings, config)
        except (ConfigError, TypeError) as error:
            raise DataError(f"{folder / SETTINGS}: not a model.json that fits this model ({error})") from None
        return settings
    if not (folder / "modules.json").is_file():
        return default_settings(config)
    try:
        return _sentence_transformers_settings(folder, longest_input(config))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / 'modules.json'}: not a folder of sentence-transformers ({error!r})") from None


def default_settings(config: PreTrainedConfig) -> EncoderSettings:
    """Of a model that comes without any."""
    length = min(longest_input(config), 512)
    return EncoderSettings(query_length=min(64, length), passage_length=length)


def _sentence_transformers_settings(folder: Path, positions: int) -> EncoderSettings:
    """Settings from the files of either generation. Raises DataError for what can't be done the same way here."""
    settings: dict[str, Any] = {}
    length = positions
    for kind, place in read_modules(folder):
        if kind == "Pooling":
            settings["pooling"] = _pooling(place / "config.json")
        elif kind == "Normalize":
            settings["similarity"] = "cosine"
        elif kind == "Transformer":
            own = _optional_json(folder / "sentence_bert_config.json")
            if own.get("do_lower_case"):
                raise DataError(f"{folder}: lower-cases outside its tokenizer, which seed does not")
            length = own.get("max_seq_length") or min(positions, tokenizer_length(folder) or positions)
        elif kind not in PARTS:
            raise DataError(f"{folder / 'modules.json'}: the module {kind} is not one that seed can apply")
    whole = _optional_json(folder / "config_sentence_transformers.json")
    match whole.get("similarity_fn_name"):
        case "cosine":
            settings["similarity"] = "cosine"
        case None | "dot" | "dot_product":
            pass
        case other:
            raise DataError(f"{folder}: compares by {other}; seed compares by dot or cosine")
    prompts = whole.get("prompts") or {}
    return EncoderSettings(
        query_length=length,
        passage_length=length,
        query_template=_literal(prompts.get("query") or "") + "{text}",
        passage_template=_literal(prompts.get("document") or prompts.get("passage") or "") + "{title} {text}",
        **settings,
    )


def _literal(prompt: str) -> str:
    """A prompt as the beginning of a template. Raises DataError when it would read as a field."""
    if "{" in prompt:
        raise DataError(f"the prompt {prompt!r} holds a brace, which a template would take for a field")
    return prompt


def _optional_json(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def longest_input(config: PreTrainedConfig) -> int:
    """How many tokens a model can read; RoBERTa's kin lose those positions that stand for padding."""
    positions = int(getattr(config, "max_position_embeddings", 512))
    offset = config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"}
    return positions - (int(config.pad_token_id or 0) + 1) * offset


def tokenizer_length(folder: Path) -> int | None:
    """The length that a tokenizer's own file names, if it names a real one."""
    if not (folder / "tokenizer_config.json").is_file():
        return None
    length = read_json(folder / "tokenizer_config.json").get("model_max_length")
    return int(length) if isinstance(length, int | float) and length < 1e6 else None


def check_settings(settings: EncoderSettings, config: PreTrainedConfig) -> None:
    """Raises ConfigError when a model can't read such lengths, or a template names what records lack."""
    check_template(settings.query_template, Query, "query_template")
    check_template(settings.passage_template, Passage, "passage_template")
    longest = longest_input(config)
    for name in ("query_length", "passage_length"):
        if not 4 <= getattr(settings, name) <= longest:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} {getattr(settings, name)}: this model reads 4 to {longest} tokens")
    several, length = settings.token_vectors, settings.passage_length
    if several > 1 and settings.pooling != "cls":
        raise ConfigError(f"token_vectors {several}: need --pooling cls, not {settings.pooling}")
    if several > length:
        raise ConfigError(f"token_vectors {several}: more than the tokens of a passage, --passage-length {length}")
    if settings.segment_overlap and settings.segments == 1:
        raise ConfigError(f"segment_overlap {settings.segment_overlap}: needs segments of 2 or more; else give 0")


def segmentation(settings: EncoderSettings, tokenizer: Tokenizer) -> Segmentation:
    """How these settings read a passage. Raises ConfigError when its segments would share all they have room for."""
    before, after = len(tokenizer.prefix), len(tokenizer.suffix)
    room = settings.passage_length - before - after
    if settings.segments > 1 and settings.segment_overlap >= room:
        raise ConfigError(
            f"segment_overlap {settings.segment_overlap}: --passage-length {settings.passage_length} leaves room for "
            f"{room} tokens beside the special ones; give at most {room - 1}, or longer passages"
        )
    return Segmentation(
        settings.segments, settings.passage_length, settings.segment_overlap, before, after, settings.token_vectors
    )


def save_model(
    folder: Path, model: PreTrainedModel, tokenizer: Tokenizer, settings: EncoderSettings,
    head: nn.Sequential | None = None,
) -> list[Path]:  # fmt: skip
    """Leave a model folder; the files written. sentence-transformers gets its long-standing names and keys."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    save_settings(folder, tokenizer, settings)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *write_head(folder, head)]
    if settings.similarity == "cosine":
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
        (folder / modules[-1][0]).mkdir(exist_ok=True)
    write_json(
        folder / "modules.json",
        [
            {"idx": row, "name": str(row), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for row, (path, kind) in enumerate(modules)
        ],
    )
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": settings.passage_length, "do_lower_case": False}
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": model.config.hidden_size,
            "pooling_mode_cls_token": settings.pooling == "cls",
            "pooling_mode_mean_tokens": settings.pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "pooling_mode_lasttoken": settings.pooling == "last",
        },
    )
    prompts = {
        "query": settings.query_template.removesuffix("{text}"),
        "document": settings.passage_template.removesuffix("{title} {text}"),
    }
    plain = {name: prompt for name, prompt in prompts.items() if prompt and "{" not in prompt}
    whole = {"prompts": plain, "default_prompt_name": None, "similarity_fn_name": settings.similarity}
    write_json(folder / "config_sentence_transformers.json", whole)
    return model_files(folder)


def save_settings(folder: Path, tokenizer: Tokenizer, settings: EncoderSettings) -> None:
    """Leave what makes ids of texts: the tokenizer and model.json."""
    tokenizer.pretrained.model_max_length = settings.passage_length
    tokenizer.save(folder)
    write_json(folder / SETTINGS, dataclasses.asdict(settings))


def model_files(folder: Path) -> list[Path]:
    """What belongs to the model among a stage's files."""
    weights = ("*.safetensors", "config.json", "generation_config.json")
    words = ("tokenizer*", "vocab*", "merges.txt", "special*", "*.model")
    rest = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", SETTINGS)
    found = {path for name in (*weights, *words, *rest) for path in folder.glob(name)}
    return sorted(found | {path for path in folder.glob("[0-9]_*/*") if path.is_file()})


def _pooling(path: Path) -> Pooling:
    """The pooling in either generation of sentence-transformers' files."""
    config = read_json(path)
    if "pooling_mode" in config:
        modes = {str(config["pooling_mode"])}
    else:
        modes = {
            key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on
        }
    if modes in ({"cls"}, {"cls_token"}):
        return "cls"
    if modes in ({"mean"}, {"mean_tokens"}):
        return "mean"
    if modes == {"lasttoken"}:
        return "last"
    raise DataError(f"{path}: pools by {', '.join(sorted(modes)) or 'nothing'}; seed pools by cls, mean or last")
