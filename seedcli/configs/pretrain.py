"""Options of seed pretrain."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge, Gt, Le, Lt

from seedcli.base.config import INCIDENTAL, INPUT, RARE
from seedcli.configs.groups import Machine, Saving


@dataclass(frozen=True)
class Model:
    """Model"""

    size: Annotated[
        Literal["tiny", "mini", "small", "base"] | None,
        Doc("A new BERT: tiny 2 layers x 128, mini 4 x 256, small 4 x 512, base 12 x 768; left out: base."),
    ] = None
    init: Annotated[
        str | None, Doc("Go on from this model instead: a folder, or a name of the Hugging Face hub."), INPUT
    ] = None
    decoder: Annotated[
        Literal["weak", "none"], Doc("The decoder that reads the text through h0; none: masked words alone (BERT).")
    ] = "weak"
    decoder_layers: Annotated[int, Ge(1), Doc("Layers of the decoder.")] = 3
    window: Annotated[
        Annotated[int, Ge(1)] | Literal["none"], Doc("Tokens back that the decoder attends to; none: all of them.")
    ] = 2
    dropout: Annotated[float, Ge(0), Lt(1), Doc("Dropout of a new model and of the decoder."), RARE] = 0.1
    std: Annotated[
        float, Gt(0), Doc("Of a new model's weights; 0.02 suits base, 0.02 x (768 / width)^0.5 what is smaller."), RARE
    ] = 0.02
    keep_decoder: Annotated[
        bool, Doc("Leave the decoder too, in the model's folder: for seed model inspect, and to go on with by --init.")
    ] = False


@dataclass(frozen=True)
class Words:
    """Text"""

    tokenizer: Annotated[
        str | None,
        Doc("train: a new WordPiece one from the text; else that of a model folder or hub name, or a vocab.txt."),
        INPUT,
    ] = None
    vocabulary: Annotated[int | None, Ge(100), Doc("Entries of a trained tokenizer; left out: 32,768.")] = None
    lowercase: Annotated[bool, Doc("Whether a trained tokenizer lower-cases and strips accents."), RARE] = True
    field: Annotated[str, Doc("The field of JSONL records that holds the text.")] = "text"
    length: Annotated[int, Ge(8), Doc("Tokens of a block: [CLS], whole lines or sentences, [SEP] after each.")] = 512
    pack: Annotated[bool, Doc("Fill blocks across documents; off: a block ends where its document does.")] = True
    mask: Annotated[float, Gt(0), Le(1), Doc("Share of the tokens that are masked words."), RARE] = 0.15


@dataclass(frozen=True)
class Watch:
    """Watching"""

    held_out: Annotated[
        str | None,
        Doc("Text that is not trained on, named as --text is: to watch the losses there, and a retrieval probe."),
        INPUT,
    ] = None
    held_out_share: Annotated[
        float,
        Ge(0),
        Lt(1),
        Doc("Or a share of the text's blocks to set aside for it, evenly spread; at most 512 are looked at."),
    ] = 0.0
    watch_every: Annotated[int, Ge(1), Doc("Steps between looks at the held-out text."), INCIDENTAL] = 1_000


@dataclass(frozen=True)
class Optimize:
    """Optimisation"""

    steps: Annotated[int, Ge(0), Doc("Steps of the optimiser; 0 leaves a model of random weights.")] = 1_000_000
    batch_size: Annotated[int, Ge(1), Doc("Blocks a step, over all processes.")] = 256
    micro_batch: Annotated[int, Ge(1), Doc("Blocks that a process computes at a time; gradients add up.")] = 32
    lr: Annotated[float, Gt(0), Doc("Peak rate of AdamW; it falls linearly to zero.")] = 1e-4
    warmup: Annotated[
        int | None, Ge(0), Doc("Steps in which the rate rises; left out: a tenth of all, at most the paper's 10,000.")
    ] = None
    clip: Annotated[float, Gt(0), Doc("Largest norm of the gradient.")] = 1.0
    weight_decay: Annotated[float, Ge(0), Doc("Decoupled decay of matrices."), RARE] = 0.01
    beta1: Annotated[float, Ge(0), Lt(1), Doc("AdamW: decay of the first moment."), RARE] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1), Doc("AdamW: decay of the second moment."), RARE] = 0.999
    eps: Annotated[float, Gt(0), Doc("AdamW: added to the denominator."), RARE] = 1e-6
    seed: Annotated[int, Ge(0), Doc("Of weights, order, masks and dropout.")] = 0


@dataclass(frozen=True)
class PretrainConfig:
    """Pre-train an encoder on plain text: masked words, and a weak decoder that sees the text through [CLS] alone.

    The objective is SEED-Encoder's (Lu et al., EMNLP 2021); the defaults are the paper's. Leaves a model folder.
    Under torchrun, several processes train one model.
    """

    out: Annotated[Path, Doc("The folder to leave the model in.")]
    text: Annotated[
        list[str],
        Doc("Text files and folders (.txt, .jsonl, .gz, .zst), or collections, whose passages are read; repeatable."),
        INPUT,
    ]
    model: Model = field(default_factory=Model)
    words: Words = field(default_factory=Words)
    optimize: Optimize = field(default_factory=Optimize)
    watch: Watch = field(default_factory=Watch)
    saving: Saving = field(default_factory=Saving)
    machine: Machine = field(default_factory=Machine)
