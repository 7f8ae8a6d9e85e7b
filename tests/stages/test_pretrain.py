"""What pre-training begins from, what it refuses, and what it leaves."""

import json
from pathlib import Path
from typing import Any

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
from seedcli.data.sources import open_collection
from seedcli.data.tokenizer import open_tokenizer
from seedcli.stages.pretrain import shape
from seedcli.stages.stage import Stage

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
    assert not (chain.encoder / "checkpoint.safetensors").exists()


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
    with pytest.raises(SeedError, match=r"the loss became (nan|inf) by step \d+; lower --lr or raise --warmup"):
        pretrain(perform, tmp_path / "out", chain.beir, steps=9, **{"model.init": chain.encoder, "optimize.lr": 1e30})


def test_what_is_to_come_counts_the_entries_of_the_tokenizer_at_hand(chain, tmp_path):
    """Tiny is 2 layers of 128; an encoder's layer has 12 of the hidden width squared weights, and so a decoder's."""
    flags = {"text": [str(chain.beir)], "model.size": "tiny", "words.length": 32, "out": str(tmp_path)}
    stage = Stage(tmp_path, {"tokenizer": identify(chain.encoder)}, Runtime(), Silent())
    for given, entries in ((str(chain.encoder), open_tokenizer(chain.encoder, True).size), ("train", 32768)):
        config = resolve(PretrainConfig, {}, {**flags, "words.tokenizer": given}, "a test")
        assert shape(config, stage) == (5, 128, entries, (entries + 32) * 128 + 5 * 12 * 128**2)
