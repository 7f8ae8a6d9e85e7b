"""Models inspected: the numbers are those of a slower way, and of the same texts for all models."""

import io
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from transformers import AutoModel, BertConfig, BertForMaskedLM
from typer.testing import CliRunner

import seedcli as seed
from seedcli import console
from seedcli.base.errors import DataError
from seedcli.base.manifest import Manifest
from seedcli.base.progress import Silent
from seedcli.base.runtime import Runtime
from seedcli.cli import app
from seedcli.configs.inspect import InspectConfig
from seedcli.evaluation import looks
from seedcli.evaluation.inspection import read_inspection
from seedcli.evaluation.looks import CHARACTERS, Choice, choose, halves, subject
from seedcli.models.decoder import WeakDecoder
from seedcli.models.encoder import EncoderSettings, save_model
from seedcli.models.kept import keep_decoder, keeps_decoder, open_decoder
from seedcli.stages import inspect as stage
from seedcli.stages.inspect import beginning
from seedcli.stages.names import named
from seedcli.stages.stage import Stage, identified

HIDDEN = 32
NAMES = ("weak", "short", "mean")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, texts) -> Path:
    """100 texts of 10 to 109 words."""
    words = " ".join(texts).split()
    documents = [" ".join(words[7 * row : 7 * row + 10 + row]) for row in range(100)]
    path = tmp_path_factory.mktemp("corpus") / "texts.txt"
    path.write_text("\n\n".join(documents))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory, wordpiece) -> Path:
    """A folder of three models: `weak` keeps its decoder, `short` reads 32 tokens, `mean` pools by the mean."""
    root = tmp_path_factory.mktemp("models")
    for number, (name, positions, pooling) in enumerate(
        [("weak", 64, "cls"), ("short", 32, "cls"), ("mean", 64, "mean")]
    ):
        torch.manual_seed(number)
        config = BertConfig(
            vocab_size=wordpiece.size, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=positions, initializer_range=0.2,
        )  # fmt: skip
        settings = EncoderSettings(pooling=pooling, similarity="cosine", query_length=16, passage_length=20)
        save_model(root / name, BertForMaskedLM(config), wordpiece, settings)
    keep_decoder(root / "weak", WeakDecoder(HIDDEN, 2, 64, layers=2, window=2, positions=48, dropout=0.1))
    return root


@pytest.fixture(scope="module")
def inspected(models, corpus, perform) -> Callable[..., Manifest]:
    """Inspects models by their names."""

    def made(out: Path, *names: str, **options: Any) -> Manifest:
        given = [name if "=" in name else str(models / name) for name in names]
        return perform("inspect", out=out, model=given, texts=[str(corpus)], pairs=30, **options)

    return made


@pytest.fixture(scope="module")
def report(inspected, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inspected") / "report"
    inspected(folder, *NAMES)
    return folder


@pytest.fixture(scope="module")
def choice(models, corpus) -> Choice:
    """The texts that the report is of."""
    subjects = [subject(name, models / name) for name in NAMES]
    return choose(corpus.read_text().split("\n\n"), subjects, 30, 0, "here", Silent())


def slowly(folder: Path, tokens: list[int]) -> torch.Tensor:
    """The last hidden states of one text, [n, D]."""
    with torch.inference_mode():
        return backbone(folder)(torch.tensor([tokens]))[0][0]


@cache
def backbone(folder: Path) -> Any:
    return AutoModel.from_pretrained(folder).eval()


def test_the_numbers_are_those_of_one_text_at_a_time(report, models, choice, wordpiece):
    for name, pooling in [("weak", "cls"), ("mean", "mean")]:
        look = read_inspection(report).models[name]
        assert (look.pooling, look.width, look.longest) == (pooling, HIDDEN, 64)

        def vector(text: str, length: int, folder: Path = models / name, pooling: str = pooling) -> Any:
            states = slowly(folder, wordpiece.encode([text], length)[0].tolist())
            return (states[0] if pooling == "cls" else states.mean(0)).double().numpy()

        vectors = [vector(text, 32) for text in choice.pairs[32]]
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        place = look.cosine.at.index(32)
        assert look.cosine.mean[place] == pytest.approx(np.mean(cosines), abs=2e-6)
        assert look.cosine.of[place] == len(cosines) == 30
        error = 1.96 * np.std(cosines, ddof=1) / 30**0.5
        assert look.cosine.high[place] - look.cosine.mean[place] == pytest.approx(error, rel=1e-3)
        first, second = (np.array([vector(half[side], 64) for half in choice.halves]) for side in (0, 1))
        assert look.norm == pytest.approx(np.linalg.norm(first, axis=1).mean(), abs=1e-4)
        points, partners = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, second))
        assert look.alignment == pytest.approx(np.square(points - partners).sum(1).mean(), abs=1e-5)
        strengths = np.linalg.svd(points - points.mean(0), compute_uv=False)
        assert look.spectrum == pytest.approx(strengths / strengths.sum(), abs=2e-6)


def test_the_decoders_states_are_held_against_h0_wherever_a_word_follows(report, models, choice, wordpiece):
    decoder = open_decoder(models / "weak", HIDDEN).eval()
    table = backbone(models / "weak").get_input_embeddings().weight
    found: dict[int, list[float]] = {}
    for text in choice.decoded:
        tokens = wordpiece.encode([text], 48)[0].tolist()  # as many as the decoder has positions
        h0 = slowly(models / "weak", tokens)[0]
        with torch.inference_mode():
            states = decoder(table[tokens].unsqueeze(0), h0.unsqueeze(0))[0]
        for position, state in enumerate(states[:-2]):  # the last two have no word after them but [SEP], or nothing
            found.setdefault(position, []).append(float(torch.cosine_similarity(state, h0, dim=0)))
    series = read_inspection(report).models["weak"].decoder
    assert series is not None
    assert series.at == [position for position, values in found.items() if len(values) >= 30]
    assert series.of == [len(found[position]) for position in series.at]
    assert series.mean == pytest.approx([np.mean(found[position]) for position in series.at], abs=2e-6)
    assert read_inspection(report).models["mean"].decoder is None


def test_a_length_without_a_number_says_why(report):
    looks = read_inspection(report).models
    assert looks["weak"].cosine.at == [16, 32, 64]
    assert looks["short"].cosine.at == [16, 32]
    assert looks["short"].left_out[64] == "at most 32 are read"
    assert looks["weak"].left_out[128] == "at most 64 are read"
    written = (report / "inspect.md").read_text()
    assert "No cosine at 64 tokens: at most 32 are read (short)." in written
    assert "| cosine, 64 tokens |" in written
    assert "128 tokens |" not in written


def test_a_length_that_too_few_texts_have_is_left_out(models, corpus, tmp_path, perform):
    cut = tmp_path / "cut.txt"
    cut.write_text("\n\n".join(" ".join(text.split()[:12]) for text in corpus.read_text().split("\n\n")))
    perform("inspect", out=tmp_path / "out", model=[str(models / "mean")], texts=[str(cut)], pairs=30)
    look = read_inspection(tmp_path / "out").models["mean"]
    assert look.left_out[64] == "fewer than 60 of the texts are that long"
    assert 64 not in look.cosine.at


def test_all_models_look_at_the_same_texts(inspected, report, tmp_path):
    """Alone or among others, a model of the same tokenizer has the same numbers."""
    inspected(tmp_path / "alone", "mean")
    assert read_inspection(tmp_path / "alone").models["mean"] == read_inspection(report).models["mean"]


def test_the_same_seed_gives_the_same_files_and_another_seed_others(inspected, report, tmp_path, listing):
    again = inspected(tmp_path / "again", *NAMES)
    same, files = listing(report), listing(tmp_path / "again")
    assert files.keys() == same.keys() == {
        "manifest.json", ".lock", "inspect.json", "inspect.md",
        *(f"{plot}.{kind}" for plot in ("cosine", "decoder", "spectrum") for kind in ("png", "svg")),
    }  # fmt: skip
    assert {name for name in same if files[name] != same[name]} <= {"manifest.json"}
    assert again.outputs.keys() == same.keys() - {"manifest.json", ".lock"}
    inspected(tmp_path / "other", "weak", "short", "mean", seed=1)
    assert listing(tmp_path / "other")["inspect.json"] != same["inspect.json"]


def test_batches_change_nothing_but_the_last_digits(inspected, report, tmp_path):
    inspected(tmp_path / "small", "weak", batch_tokens=100)
    small, large = read_inspection(tmp_path / "small").models["weak"], read_inspection(report).models["weak"]
    assert small.cosine.mean == pytest.approx(large.cosine.mean, abs=5e-6)
    assert small.decoder is not None
    assert large.decoder is not None
    assert small.decoder.mean == pytest.approx(large.decoder.mean, abs=5e-6)


def test_one_pooling_can_serve_all(inspected, report, tmp_path):
    inspected(tmp_path / "mean", "weak", "mean", pooling="mean")
    looks, own = read_inspection(tmp_path / "mean").models, read_inspection(report).models
    assert looks["weak"].pooling == "mean"
    assert looks["weak"].cosine.mean != own["weak"].cosine.mean
    assert looks["weak"].decoder == own["weak"].decoder  # h0 is [CLS] however texts are pooled
    assert looks["mean"] == own["mean"]


def test_a_command_that_was_killed_goes_on_with_the_next_model(inspected, report, tmp_path, monkeypatch):
    looked: list[str] = []

    def killed(model: Any, *rest: Any) -> Any:
        looked.append(model.name)
        if looked == ["weak", "short"]:
            raise KeyboardInterrupt
        return looks.look_at(model, *rest)

    monkeypatch.setattr(stage, "look_at", killed)
    with pytest.raises(KeyboardInterrupt):
        inspected(tmp_path / "out", *NAMES)
    inspected(tmp_path / "out", *NAMES)
    assert looked == ["weak", "short", "short", "mean"]
    assert (tmp_path / "out" / "inspect.json").read_bytes() == (report / "inspect.json").read_bytes()
    assert not (tmp_path / "out" / "looks").exists()


def test_a_path_may_hold_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=1e-4/model").mkdir(parents=True)
    given = ["lr=1e-4/model", "other=lr=1e-4/model"]
    expected = {"model": "lr=1e-4/model", "other": "lr=1e-4/model"}
    assert named(given, lambda source: Path(source).name, "MODEL", "models") == expected


def test_a_text_is_read_no_further_than_it_is_used():
    lines = iter(["word " * 20] * 1_000)
    assert len(beginning(lines)) == CHARACTERS
    assert len([*lines]) == 1_000 - -(-CHARACTERS // 101)


def test_both_halves_of_a_text_hold_words():
    assert halves(f"see {'x' * 40} ") == ("see " + "x" * 18, "x" * 22)


def test_a_folder_that_is_only_called_decoder_is_no_decoder(tmp_path):
    (tmp_path / "decoder").mkdir()
    assert not keeps_decoder(tmp_path)


def test_a_model_that_diverged_is_named(inspected, models, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(models / "mean", tmp_path / "nan")
    weights = load_file(tmp_path / "nan" / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.bias"][0] = float("nan")
    save_file(weights, tmp_path / "nan" / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"/nan: its vectors hold NaN or infinity"):
        inspected(tmp_path / "out", f"broken={tmp_path / 'nan'}")


def test_texts_are_drawn_evenly_and_only_their_beginning_is_kept(models, tmp_path):
    long = "x" * 5_000
    (tmp_path / "texts.txt").write_text("\n\n".join(f"{number}\n{long}" for number in range(12)))
    counts = np.zeros(12)
    for number in range(300):
        config = InspectConfig(
            tmp_path / "out", [str(models / "mean")], [str(tmp_path / "texts.txt")], sample=3, seed=number
        )
        inputs = identified({"texts.0": tmp_path / "texts.txt"})
        kept, read = stage.drawn(config, Stage(tmp_path, inputs, Runtime(), Silent()))
        assert (len(kept), read) == (3, 12)
        assert {len(text) for text in kept} == {looks.CHARACTERS}
        counts[[int(text.split()[0]) for text in kept]] += 1
    assert counts.sum() == 900
    assert np.abs(counts - 75).max() < 4 * (300 * 0.25 * 0.75) ** 0.5  # each is kept with probability 3 / 12


def test_a_text_is_parted_at_a_blank_near_its_middle():
    assert halves("one two three four") == ("one two three", "four")
    assert halves("一二三四") == ("一二", "三四")
    first, second = halves("word " * 1_000)
    assert abs(len(first) - len(second)) <= 5
    assert len(first) + len(second) <= looks.HALVED


def test_a_recipe_inspects_what_its_stages_made(models, corpus, tmp_path):
    stages = {"look": {"verb": "inspect", "model": ["a=" + str(models / "mean")], "texts": str(corpus), "pairs": 30}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"stages": stages}))
    command = ["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), "--json"]
    for ran in (True, False):
        (made,) = json.loads(CliRunner().invoke(app, command).stdout)
        assert (made["verb"], made["ran"], made["status"]) == ("inspect", ran, "finished")
    assert read_inspection(tmp_path / "out" / "look").models.keys() == {"a"}


def test_the_command_prints_the_table_or_for_scripts_the_manifest(report, models, corpus):
    command = ["model", "inspect", *(str(models / name) for name in NAMES)]
    command += ["--texts", str(corpus), "--pairs", "30", "--threads", "1", "--out", str(report)]
    answer = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert answer.exit_code == 0, answer.output
    assert "inspect done before" in answer.stderr
    assert answer.stderr.splitlines()[-1] == f"read: {report / 'inspect.md'}"
    heading = next(line for line in answer.stdout.splitlines() if "weak" in line)
    assert heading.split() == ["weak", "short", "mean"]
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (told["verb"], told["folder"], told["ran"]) == ("inspect", str(report), False)
    assert told["metrics"]["models"].keys() == {"weak", "short", "mean"}


def test_models_that_do_not_fit_beside_each_other_stand_below(report, monkeypatch):
    def printed(width: int) -> list[str]:
        screen = Console(file=io.StringIO(), width=width, highlight=False)
        monkeypatch.setattr(console, "out", screen)
        console.inspection(report)
        return screen.file.getvalue().splitlines()  # type: ignore[attr-defined]

    assert sum("cosine, 16 tokens" in line for line in printed(120)) == 1
    narrow = printed(60)
    assert sum("cosine, 16 tokens" in line for line in narrow) == 2
    assert sum("cosine, 64 tokens" in line for line in narrow) == 2
    assert sum("decoder to h0, position 4 " in line for line in narrow) == 1  # not where no model has one


def test_python_gets_what_the_command_leaves(report, models, corpus, tmp_path, capsys):
    given = {name: models / name for name in NAMES}
    made = seed.inspect(model=given, texts=corpus, pairs=30, threads=1, out=tmp_path / "out")
    assert made.models == json.loads((report / "inspect.json").read_text())["models"]
    print(made)
    assert capsys.readouterr().out == (report / "inspect.md").read_text() + "\n"


def test_of_several_vectors_the_first_is_looked_at(models, choice, tmp_path):
    class Heard(Silent):
        lines: list[str] = []  # noqa: RUF012

        def say(self, line: str) -> None:
            self.lines.append(line)

    folder = Path(shutil.copytree(models / "weak", tmp_path / "several"))
    stored = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(stored | {"segments": 4, "token_vectors": 3}))
    found = [
        looks.look_at(subject("model", path), choice, None, 1_000, Runtime(), Heard())
        for path in (models / "weak", folder)
    ]
    assert found[0] == found[1]
    told = "model: gives a passage several vectors; of each text, read whole, the first is looked at"
    assert Heard.lines == [told]
