"""seed model convert: a released checkpoint -> a model folder, or a model folder -> an ONNX graph."""

from pathlib import Path

from torch import nn

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.progress import Progress
from seedcli.configs.convert import ConvertConfig
from seedcli.models.convert import convert, find_checkpoint, find_vocabulary, read_checkpoint, release_tokenizer
from seedcli.models.encoder import (
    default_settings,
    model_files,
    model_folder,
    open_encoder,
    save_model,
    save_settings,
)
from seedcli.models.onnx import check_packages, largest_difference, write_graph
from seedcli.stages.estimates import LIBRARIES, announce, weights
from seedcli.stages.stage import Outcome, Stage, hush_libraries

EXPORTED = 5  # times a model's own bytes: the exporter's copies, and the session of the check


def inputs(config: ConvertConfig, progress: Progress) -> dict[str, Path]:  # noqa: ARG001
    """The model; or a checkpoint, its vocabulary and the port's config.json, by name."""
    if config.to == "onnx":
        if config.vocabulary or config.heads:
            raise ConfigError("--vocabulary and --heads are for released checkpoints, and --to onnx takes none")
        check_packages("--to onnx")
        return {"model": model_folder(config.source)}
    checkpoint = find_checkpoint(Path(config.source))
    if config.vocabulary and not config.vocabulary.is_file():
        raise DataError(f"--vocabulary {config.vocabulary}: no such file; name the vocab.txt or dict.txt itself")
    found = {"checkpoint": checkpoint, "vocabulary": config.vocabulary or find_vocabulary(checkpoint)}
    described = checkpoint.with_name("config.json")
    return found | ({"config": described} if described.is_file() else {})


def run(config: ConvertConfig, stage: Stage) -> Outcome:
    hush_libraries()
    return to_graph(stage) if config.to == "onnx" else from_release(config, stage)


def from_release(config: ConvertConfig, stage: Stage) -> Outcome:
    paths = {name: Path(given.path) for name, given in stage.inputs.items()}
    converted = convert(read_checkpoint(paths["checkpoint"], paths.get("config")), config.heads)
    architecture = converted.model.config
    tokenizer = release_tokenizer(paths["vocabulary"], architecture.vocab_size)
    settings = default_settings(architecture)
    expect(stage, converted.model, paths["checkpoint"].stat().st_size + bytes_of(converted.model))
    if not converted.masked_words:
        stage.progress.say("it has no masked-word head: further pre-training begins one anew")
    files = save_model(stage.folder, converted.model, tokenizer, settings, converted.head)
    brings = ["a masked-word head"] * converted.masked_words + ["an embedding head"] * (converted.head is not None)
    metrics = {
        "layers": architecture.num_hidden_layers,
        "width": architecture.hidden_size,
        "heads": architecture.num_attention_heads,
        "vocabulary": architecture.vocab_size,
        "brings": " and ".join(brings) or "no head",
    }
    return Outcome(files, metrics)


def to_graph(stage: Stage) -> Outcome:
    folder = Path(stage.inputs["model"].path)
    encoder, tokenizer = open_encoder(folder)
    if encoder.settings.token_vectors > 1:
        told = f"vectors of its first {encoder.settings.token_vectors} tokens (token_vectors)"
        raise DataError(f"{folder}: gives a passage the {told}, and an ONNX graph gives one; seed encode reads it")
    if encoder.settings.segments > 1:
        stage.progress.say("the graph reads one segment of a passage at a time: who calls it cuts passages")
    encoder.eval()
    expect(stage, encoder, EXPORTED * bytes_of(encoder))
    graph = write_graph(stage.folder, encoder)
    difference = largest_difference(stage.folder, encoder, tokenizer)
    save_settings(stage.folder, tokenizer, encoder.settings)
    return Outcome([*graph, *model_files(stage.folder)], {"width": encoder.size, "largest_difference": difference})


def expect(stage: Stage, model: nn.Module, holds: int) -> None:
    """Tell what is to come."""
    announce(stage, f"a model of {weights(model):,} weights", LIBRARIES + holds, {stage.folder: bytes_of(model)})


def bytes_of(model: nn.Module) -> int:
    """In fp32."""
    return 4 * weights(model)
