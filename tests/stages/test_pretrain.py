"""What pre-training begins from, what it refuses, and what it leaves."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError, DataError, SeedError
from seedcli.base.manifest import identify
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.configs.pretrain import PretrainConfig
from seedcli.data.batches import PretrainingBatches
from seedcli.data.masking import Masking
from seedcli.data.sources import open_collection
from seedcli.data.tokenizer import open_tokenizer
from seedcli.models.kept import open_decoder, shape_of
from seedcli.stages.pretrain import shape
from seedcli.stages.pretraining_text import blocks_of, held_out_blocks, texts_of
from seedcli.stages.stage import Stage
from seedcli.stages.stage import perform as staged
from seedcli.training.checkpoint import CHECKPOINTS

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FEW = {"words.length": 32, "optimize.batch_size": 4, "optimize.micro_batch": 4, "optimize.warmup": 1}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(first: Path, second: Path) -> bool:
    return (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def of_words(beir: Path, specials: dict[str, str]) -> PreTrainedTokenizerFast:
    """A tokenizer of the collection's whole words, framed by cls and sep, or without a frame."""
    texts = " ".join(passage.text.lower() for passage in open_collection(beir).passages())
    entries = [*specials.values(), *sorted(set(texts.replace(".", " ").replace(",", " ").split()))]
    backend = Tokenizer(models.WordLevel({word: row for row, word in enumerate(entries)}, specials["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if "cls_token" in specials:
        first, last = specials["cls_token"], specials["sep_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", special_tokens=[(first, entries.index(first)), (last, entries.index(last))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **specials)


BERT = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
ROBERTA = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


@pytest.fixture
def bert(beir, tmp_path) -> Path:
    """A BERT not made by seed."""
    tokenizer = of_words(beir, BERT)
    torch.manual_seed(1)
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **SHAPE)).save_pretrained(
        tmp_path / "bert"
    )
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def pretrain(perform: Any, out: Path, beir: Path, steps: int = 0, **options: Any) -> dict[str, Any]:
    manifest = perform("pretrain", out=out, text=[str(beir)], **{**FEW, "optimize.steps": steps, **options})
    return manifest.metrics


def test_a_trained_tokenizer_and_model_open_as_any_other(chain):
    model, loading = AutoModel.from_pretrained(chain.encoder, output_loading_info=True)
    assert {name for name in loading["missing_keys"] if "pooler" not in name} == set()
    assert (model.config.hidden_size, model.config.num_hidden_layers, model.config.vocab_size) == (128, 2, 300)
    assert model.config.max_position_embeddings == 32
    assert [record["step"] for record in log(chain.encoder)] == [4, 8, 12]
    losses = [record["loss"] for record in log(chain.encoder)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < 2 * 6  # two losses over 300 words, each ln 300 = 5.7 at first
    assert not (chain.encoder / CHECKPOINTS).exists()


def test_without_steps_the_weights_are_those_that_training_begins_from(chain, tmp_path, perform):
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder}
    pretrain(perform, tmp_path / "weak", chain.beir, **given)
    pretrain(perform, tmp_path / "none", chain.beir, **given, **{"model.decoder": "none"})
    assert equal(tmp_path / "weak", tmp_path / "none")
    pretrain(perform, tmp_path / "seed", chain.beir, **given, **{"optimize.seed": 1})
    assert not equal(tmp_path / "weak", tmp_path / "seed")
    pretrain(perform, tmp_path / "slow", chain.beir, steps=1, **given, **{"optimize.lr": 1e-9})
    before, after = weights(tmp_path / "weak"), weights(tmp_path / "slow")
    assert all(torch.allclose(before[name], after[name], atol=1e-8) for name in before)


def test_training_goes_on_from_a_model_of_seed(chain, tmp_path, perform):
    pretrain(perform, tmp_path / "none", chain.beir, **{"model.init": chain.encoder})
    assert equal(tmp_path / "none", chain.encoder)
    pretrain(perform, tmp_path / "two", chain.beir, steps=2, **{"model.init": chain.encoder})
    (record,) = log(tmp_path / "two")
    assert record["mlm"] < log(chain.encoder)[0]["mlm"]  # the masked-word head came with it


def test_masked_words_alone_have_no_decoder_loss(chain, tmp_path, perform):
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder, "model.decoder": "none"}
    metrics = pretrain(perform, tmp_path / "out", chain.beir, steps=2, **given)
    assert metrics["decoder"] == 0
    assert metrics["loss"] == metrics["mlm"] > 4


def test_a_decoder_without_a_window_reads_all_that_went_before(chain, tmp_path, perform):
    """One whose window is as long as the text trains alike."""
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder, "model.dropout": 0.0}
    whole = pretrain(perform, tmp_path / "none", chain.beir, steps=2, **given, **{"model.window": "none"})
    long = pretrain(perform, tmp_path / "32", chain.beir, steps=2, **given, **{"model.window": 32})
    weak = pretrain(perform, tmp_path / "2", chain.beir, steps=2, **given, **{"model.window": 2})
    assert whole["decoder"] == pytest.approx(long["decoder"], abs=1e-5)
    assert whole["decoder"] != pytest.approx(weak["decoder"], abs=1e-5)


def test_a_copy_of_the_text_is_not_held_out(chain, tmp_path, perform):
    shutil.copytree(chain.beir, tmp_path / "copy")
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder, "watch.held_out": tmp_path / "copy"}
    with pytest.raises(ConfigError, match="its content is in --text too, and trained on"):
        pretrain(perform, tmp_path / "out", chain.beir, steps=1, **given)


def test_the_decoder_begins_as_wide_as_the_encoder(chain, tmp_path, perform):
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder, "model.keep_decoder": True, "model.std": 0.05}
    pretrain(perform, tmp_path / "out", chain.beir, steps=0, **given)
    for layer in open_decoder(tmp_path / "out", 128).layers:
        assert layer.up.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert weights(tmp_path / "out")["bert.embeddings.word_embeddings.weight"].std() == pytest.approx(0.05, rel=0.1)


def test_training_goes_on_from_a_model_not_made_by_seed(bert, beir, tmp_path, perform):
    metrics = pretrain(perform, tmp_path / "out", beir, steps=3, **{"model.init": bert, "optimize.lr": 1e-3})
    assert metrics["decoder"] > 0
    before, after = weights(bert), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    assert not torch.equal(
        before["bert.embeddings.word_embeddings.weight"], after["bert.embeddings.word_embeddings.weight"]
    )


def test_a_roberta_keeps_its_positions_and_its_tokens(beir, tmp_path, perform):
    tokenizer = of_words(beir, ROBERTA)
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=34, pad_token_id=1, **SHAPE)
    RobertaForMaskedLM(config).save_pretrained(tmp_path / "roberta")
    tokenizer.save_pretrained(tmp_path / "roberta")
    given = {"model.init": tmp_path / "roberta"}
    with pytest.raises(ConfigError, match="--length 33: this model reads at most 32"):
        pretrain(perform, tmp_path / "out", beir, steps=2, **given, **{"words.length": 33})
    pretrain(perform, tmp_path / "out", beir, steps=2, **given)
    assert weights(tmp_path / "out").keys() == weights(tmp_path / "roberta").keys()
    assert json.loads((tmp_path / "out" / "model.json").read_text())["passage_length"] == 32
    perform("encode", out=tmp_path / "vectors", model=tmp_path / "out", corpus=beir)


def test_a_model_without_a_masked_word_head_gets_a_new_one(bert, beir, tmp_path, perform):
    model = BertModel.from_pretrained(bert, add_pooling_layer=False)
    for path in bert.glob("*.safetensors"):
        path.unlink()
    model.save_pretrained(bert)
    pretrain(perform, tmp_path / "out", beir, steps=1, **{"model.init": bert})
    assert any(name.startswith("cls.predictions.transform") for name in weights(tmp_path / "out"))


def test_a_model_without_a_mask_token_is_refused(bert, beir, tmp_path, perform):
    of_words(beir, {name: token for name, token in BERT.items() if name != "mask_token"}).save_pretrained(bert)
    with pytest.raises(DataError, match=r"bert: can't be pre-trained here: its tokenizer has no mask token$"):
        pretrain(perform, tmp_path / "out", beir, steps=1, **{"model.init": bert})


def test_a_model_whose_texts_begin_with_no_cls_is_refused(bert, beir, tmp_path, perform):
    bare = {name: token for name, token in BERT.items() if name in {"pad_token", "unk_token", "mask_token"}}
    of_words(beir, bare).save_pretrained(bert)
    with pytest.raises(DataError, match=r"can't be pre-trained here: its texts begin without a \[CLS\] token$"):
        pretrain(perform, tmp_path / "out", beir, steps=1, **{"model.init": bert})


def test_a_model_with_fewer_embeddings_than_words_is_refused(bert, beir, tmp_path, perform):
    BertForMaskedLM(BertConfig(vocab_size=50, max_position_embeddings=40, **SHAPE)).save_pretrained(bert)
    with pytest.raises(DataError, match=r"its tokenizer has more entries than embeddings$"):
        pretrain(perform, tmp_path / "out", beir, steps=1, **{"model.init": bert})


def test_embeddings_of_another_width_than_the_states_are_refused(beir, tmp_path, perform):
    tokenizer = of_words(beir, BERT)
    config = AlbertConfig(vocab_size=len(tokenizer), embedding_size=16, max_position_embeddings=40, **SHAPE)
    AlbertForMaskedLM(config).save_pretrained(tmp_path / "albert")
    tokenizer.save_pretrained(tmp_path / "albert")
    with pytest.raises(DataError, match=r"its embeddings are 16 wide, its hidden states 32$"):
        pretrain(perform, tmp_path / "out", beir, steps=1, **{"model.init": tmp_path / "albert"})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoil", ["pickle", "torn", "lacking"])
def test_weights_that_are_no_safetensors_are_not_opened(bert, beir, tmp_path, perform, spoil):
    path = bert / "model.safetensors"
    if spoil == "pickle":
        torch.save(weights(bert), bert / "pytorch_model.bin")
        path.unlink()
    elif spoil == "torn":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        config = json.loads((bert / "config.json").read_text())
        (bert / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    message = {"pickle": "no .*safetensors in it", "torn": "can't be opened", "lacking": "its weights lack .* more"}
    with pytest.raises(DataError, match=message[spoil]):
        pretrain(perform, tmp_path / "out", beir, steps=1, **{"model.init": bert})


def test_half_precision_is_refused_on_a_cpu(chain, tmp_path, perform):
    given = {"model.init": chain.encoder, "machine.device": "cpu", "machine.precision": "fp16"}
    with pytest.raises(ConfigError, match="--precision fp16 is for GPUs; use fp32 or bf16 on a CPU"):
        pretrain(perform, tmp_path / "out", chain.beir, steps=1, **given)


def test_bfloat16_trains_on_a_cpu(chain, tmp_path, perform):
    given = {"model.init": chain.encoder, "machine.device": "cpu", "machine.precision": "bf16"}
    metrics = pretrain(perform, tmp_path / "out", chain.beir, steps=1, **given)
    assert metrics["loss"] == pytest.approx(log(chain.encoder)[-1]["loss"], rel=0.1)
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.float32}


def test_a_loss_that_is_no_number_ends_the_training(chain, tmp_path, perform):
    with pytest.raises(
        SeedError, match=r"at step \d+ the loss .* became (nan|inf)(.|\n)* lower --lr or raise --warmup"
    ):
        pretrain(perform, tmp_path / "out", chain.beir, steps=9, **{"model.init": chain.encoder, "optimize.lr": 1e30})


def test_what_is_to_come_counts_the_entries_of_the_tokenizer_at_hand(chain, tmp_path):
    """Tiny is 2 layers of 128; an encoder's layer has 12 of the hidden width squared weights, and so a decoder's."""
    flags = {"text": [str(chain.beir)], "model.size": "tiny", "words.length": 32, "out": str(tmp_path)}
    stage = Stage(tmp_path, {"tokenizer": identify(chain.encoder)}, Runtime(), Silent())
    for given, entries in ((str(chain.encoder), open_tokenizer(chain.encoder, True).size), ("train", 32768)):
        config = resolve(PretrainConfig, {}, {**flags, "words.tokenizer": given}, "a test")
        assert shape(config, stage) == (5, 128, entries, (entries + 32) * 128 + 5 * 12 * 128**2)


class Told(Silent):
    """What a stage says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def told(out: Path, text: Path, steps: int, **options: Any) -> list[str]:
    """The same as `pretrain`, and what it says."""
    given = {"out": out, "text": [str(text)], "optimize.steps": steps, "machine.threads": 1, **FEW, **options}
    progress = Told()
    flags = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    staged("pretrain", resolve(PretrainConfig, {}, flags, "a test"), progress)
    return progress.lines


@pytest.fixture
def lines(texts, tmp_path) -> list[Path]:
    """Two files, each line two passages long: paragraphs that can be halved."""
    pairs = [f"{first} {second}" for first, second in zip(texts[::2], texts[1::2], strict=True)]
    paths = [tmp_path / "train.txt", tmp_path / "dev.txt"]
    for path, part in zip(paths, (pairs[:18], pairs[18:]), strict=True):
        path.write_text("".join(f"{line}\n" for line in part))
    return paths


WATCHED = {
    "held_out_mlm", "held_out_decoder", "held_out_perplexity", "held_out_decoder_other", "h0_worth", "probe_mrr"
}  # fmt: skip


def test_a_held_out_text_is_watched_and_changes_nothing(chain, lines, tmp_path):
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder, "words.length": 80, "words.pack": False}
    watch = {"watch.held_out": lines[1], "watch.watch_every": 2}
    told(tmp_path / "plain", lines[0], 5, **given)
    said = told(tmp_path / "watched", lines[0], 5, **given, **watch)
    assert equal(tmp_path / "plain", tmp_path / "watched")
    looks = {record["step"]: record for record in log(tmp_path / "watched") if "held_out_mlm" in record}
    assert list(looks) == [0, 2, 4, 5]
    assert all(look.keys() >= WATCHED for look in looks.values())
    assert not any(record.keys() & WATCHED for record in log(tmp_path / "plain"))
    assert looks[0]["held_out_mlm"] == pytest.approx(np.log(300), rel=0.1)  # of random weights over 300 words
    (fourth,) = [line for line in said if line.startswith("step 4: ")]
    assert f"held-out mlm {looks[4]['held_out_mlm']:.2f}, decoder {looks[4]['held_out_decoder']:.2f} (another" in fourth
    about = "12 blocks that are not trained on; 12 paragraphs whose halves are to find each other"
    assert f"watched every 2 steps: {about}" in said


def test_a_share_of_the_blocks_is_set_aside_whatever_the_seed_and_never_drawn(chain, tmp_path):
    def parts(seed: int) -> list[Any]:
        flags = {"text": [str(chain.beir)], "words.tokenizer": str(chain.encoder), "words.length": 32}
        flags |= {"watch.held_out_share": 0.2, "optimize.seed": seed, "out": str(tmp_path)}
        config = resolve(PretrainConfig, {}, flags, "a test")
        inputs = {"text.0": identify(chain.beir), "tokenizer": identify(chain.encoder)}
        stage, tokenizer = Stage(tmp_path, inputs, Runtime(), Silent()), open_tokenizer(chain.encoder, True)
        made = blocks_of(config, stage, tokenizer, texts_of(stage))
        return [made, *held_out_blocks(config, stage, tokenizer, made, most=7)]

    made, trained, watched = parts(0)
    assert len(watched) == 7
    assert len(trained) == len(made) - round(0.2 * len(made))
    masking = Masking(mask=4, special=np.arange(5), vocabulary=300, share=1e-9)
    batches = PretrainingBatches(trained, masking, 0, 10, 10, seed=0)
    texts = [{tuple(block.tolist()) for block in part} for part in (made, watched)]
    steps = 2 * len(made) // 10
    rows = [batch.original for step in range(steps) for batch in batches(step, 0, 1)]
    drawn = {tuple(row[real].tolist()) for part in rows for row, real in zip(*part, strict=True)}
    assert texts[1] < texts[0]
    assert drawn < texts[0]
    assert not drawn & texts[1]
    _, _, again = parts(1)
    assert [block.tolist() for block in again] == [block.tolist() for block in watched]


def test_a_share_is_watched_while_the_rest_is_trained_on(chain, lines, tmp_path):
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder, "words.length": 80, "words.pack": False}
    said = told(tmp_path / "out", lines[0], 2, **given, **{"watch.held_out_share": 0.5, "model.decoder": "none"})
    assert any(line.startswith("watched every 1,000 steps: 9 blocks that are not trained on; 9 para") for line in said)
    assert [record.keys() & WATCHED for record in log(tmp_path / "out")] == [{"held_out_mlm", "probe_mrr"}] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"watch.held_out": "dev.txt", "watch.held_out_share": 0.1}, "^give either --held-out or --held-out-share$"),
        ({"watch.held_out_share": 0.001}, "--held-out-share 0.001: of .* blocks that leaves none to watch$"),
        ({"watch.held_out_share": 0.999}, "--held-out-share 0.999: of .* blocks that leaves none to train on$"),
        ({"watch.held_out": "train.txt"}, "train.txt is in --text too, so it would be trained on$"),
        ({"watch.held_out": "."}, "train.txt is in --text too, so it would be trained on$"),
        ({"model.keep_decoder": True, "model.decoder": "none"}, "^--keep-decoder: with --decoder none there is none"),
        ({"words.vocabulary": 500}, "^--vocabulary 500 is for --tokenizer train$"),
    ],
)
def test_what_can_not_be_done_is_told(chain, lines, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder}
    with pytest.raises(ConfigError, match=message):
        told(tmp_path / "out", lines[0], 1, **given, **options)
    assert not (tmp_path / "out").exists()


def test_a_size_is_for_a_new_model(chain, tmp_path, perform):
    with pytest.raises(ConfigError, match=r"^--size tiny is for a new model; that of --init has its own$"):
        pretrain(perform, tmp_path / "out", chain.beir, **{"model.init": chain.encoder, "model.size": "tiny"})


def test_a_file_of_the_collection_that_is_trained_on_is_not_held_out(chain, tmp_path, perform):
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder, "watch.held_out": chain.beir / "corpus.jsonl"}
    with pytest.raises(ConfigError, match=r"corpus.jsonl is in --text too"):
        pretrain(perform, tmp_path / "out", chain.beir, **given)


def test_a_kept_decoder_goes_on_with_its_encoder(chain, tmp_path):
    kept, keeps = tmp_path / "kept", {"model.keep_decoder": True}
    given = {"model.size": "tiny", "words.tokenizer": chain.encoder, "model.window": 3}
    told(kept, chain.beir, 2, **given, **keeps)
    manifest = json.loads((kept / "manifest.json").read_text())
    assert {"decoder/config.json", "decoder/model.safetensors"} <= manifest["outputs"].keys()
    told(tmp_path / "plain", chain.beir, 2, **given)
    assert not (tmp_path / "plain" / "decoder").exists()
    assert equal(kept, tmp_path / "plain")

    onward = {"model.init": kept, **keeps}
    said = told(tmp_path / "same", chain.beir, 0, **onward, **{"model.window": 3, "model.dropout": 0.0})
    assert f"{kept} brings its decoder, which goes on too" in said
    assert equal(kept / "decoder", tmp_path / "same" / "decoder")
    assert shape_of(open_decoder(tmp_path / "same", 128)).dropout == 0
    told(tmp_path / "shorter", chain.beir, 0, **onward, **{"model.window": 3, "words.length": 16})
    assert equal(kept / "decoder", tmp_path / "shorter" / "decoder")

    said = told(tmp_path / "other", chain.beir, 0, **onward)
    assert f"{kept} brings a decoder of 3 layers, window 3 and 32 positions: another one begins anew" in said
    assert shape_of(open_decoder(tmp_path / "other", 128)).window == 2
    assert not equal(kept / "decoder", tmp_path / "other" / "decoder")
