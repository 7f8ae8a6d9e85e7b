import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seedcli.base.config import options, plain, resolve
from seedcli.base.errors import DataError, FolderError
from seedcli.base.manifest import (
    Input,
    Manifest,
    finished,
    identify,
    located,
    open_folder,
    plan_of,
    read_manifest,
    result_options,
)
from seedcli.configs import VERBS
from seedcli.configs.encode import EncodeConfig
from seedcli.configs.finetune import FinetuneConfig
from seedcli.configs.index import IndexConfig

INPUTS = {"model": Input("m", "one"), "collection": Input("c", "two")}


def encode(**flags: Any) -> EncodeConfig:
    return resolve(EncodeConfig, {"out": "o", "model": "m", "corpus": "c"}, flags, "r.yaml")


def index(**flags: Any) -> IndexConfig:
    return resolve(IndexConfig, {"out": "o"}, flags, "r.yaml")


def made(folder: Path, text: str = "what it holds", overwrite: bool = False, **flags: Any) -> Manifest:
    """A finished folder of seed index with one output, or the one that is there."""
    with open_folder(folder, "index", index(**flags), {}, overwrite) as opened:
        if opened.manifest.status != "finished":
            (folder / "output").write_text(text)
            opened.finish([folder / "output"], {"passages": 3})
        return opened.manifest


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises((FolderError, DataError)) as error:
        made(folder, **options)
    return str(error.value)


def opened(folder: Path, verb: str, config: Any, inputs: dict[str, Input], overwrite: bool = False) -> None:
    with open_folder(folder, verb, config, inputs, overwrite):
        pass


def begun(folder: Path, name: str) -> None:
    """An unfinished folder of seed index, with a file in it."""
    with open_folder(folder, "index", index(), {}, False):
        (folder / name).write_text("begun")


def edited(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "flags",
    [{"batch_tokens": 9}, {"shard_size": 9}, {"split": "test"}, {"machine.precision": "bf16"}],
    ids=lambda flags: next(iter(flags)),
)
def test_the_plan_changes_with_what_affects_the_result(flags):
    assert plan_of("encode", encode(**flags), INPUTS) != plan_of("encode", encode(), INPUTS)


@pytest.mark.parametrize(
    "flags",
    [{"out": "elsewhere"}, {"model": "moved"}, {"machine.device": "cpu"}, {"machine.threads": 3}],
    ids=lambda flags: next(iter(flags)),
)
def test_the_plan_stays_with_paths_and_machines(flags):
    assert plan_of("encode", encode(**flags), INPUTS) == plan_of("encode", encode(), INPUTS)


def test_the_plan_knows_inputs_by_content_not_by_path():
    plan = plan_of("encode", encode(), INPUTS)
    assert plan_of("encode", encode(), {**INPUTS, "model": Input("moved", "one")}) == plan
    assert plan_of("encode", encode(), {**INPUTS, "model": Input("m", "changed")}) != plan
    assert plan_of("encode", encode(), {"model": INPUTS["model"], "queries": INPUTS["collection"]}) != plan
    assert plan_of("index", encode(), INPUTS) != plan


def test_these_options_alone_leave_a_result_as_it_is():
    aside = {"out", "machine.device", "machine.threads", "machine.runtime", "heap", "memory", "problems", "patience"}
    aside |= {"optimize.chunk", "negatives.role", "interactive"}
    aside |= {"showing.log", "showing.leaderboard", "showing.between"}
    aside |= {f"saving.{key}" for key in ("log_every", "save_every", "keep_last", "tensorboard")}
    contents = {
        "pretrain": {"text", "model.init", "words.tokenizer", "watch.held_out", "watch.watch_every"},
        "finetune": {"model", "data", "negatives.negatives", "watch.dev_data"},  # looks choose the model that is left
        "encode": {"model", "corpus", "queries"},
        "index": {"vectors", "corpus", "queries", "words.expansions", "expander.expander", "tuning.tune"},
        "search": {"index", "queries", "candidates", "predictions", "tuning.tune"},
        "evaluate": {"runs", "qrels", "corpus"},
        "inspect": {"model", "texts"},
        "convert": {"source", "vocabulary"},
    }
    needed = {"text": ["t"], "index": ["i"], "runs": ["r"]}
    needed |= dict.fromkeys(("out", "model", "data", "qrels", "texts", "source"), "x")
    for verb, config in VERBS.items():
        keys = {option.key for option in options(config)}
        given = {key: value for key, value in needed.items() if key in keys}
        counted = result_options(resolve(config, {}, given, "r.yaml")).keys()
        assert keys - counted == (aside & keys) | contents[verb]


def test_a_word_in_place_of_an_input_counts_as_an_option():
    given = {"out": "o", "model": "m", "data": "d"}
    plans = [
        plan_of("finetune", resolve(FinetuneConfig, {}, {**given, "negatives.negatives": source}, "r.yaml"), {})
        for source in ("bm25", "a/run", "ance")
    ]
    assert plans[0] == plans[1] != plans[2]


def test_the_identity_follows_from_plan_and_outputs(tmp_path):
    same = made(tmp_path / "a").identity
    assert made(tmp_path / "b").identity == same
    assert made(tmp_path / "c", text="other").identity != same
    assert made(tmp_path / "d", **{"words.k1": 1.2}).identity != same
    assert made(tmp_path / "e", heap="3g").identity == same


def test_files_that_differ_each_time_are_checked_but_are_no_part_of_the_identity(tmp_path):
    identities = []
    for name in ("a", "b"):
        with open_folder(tmp_path / name, "index", index(), {}, False) as opened:
            (tmp_path / name / "made").write_text(name)
            identities.append(opened.finish([], {}, variable=[tmp_path / name / "made"]).identity)
    assert identities[0] == identities[1]
    (tmp_path / "a" / "made").write_text("b")
    with pytest.raises(FolderError, match="not as seed index wrote it"):
        finished(tmp_path / "a")


def test_a_finished_folder_is_found_done_and_stays_as_it_is(tmp_path, listing):
    first = made(tmp_path / "out")
    before = listing(tmp_path)
    assert made(tmp_path / "out", text="never written", heap="3g") == first
    assert listing(tmp_path) == before


def test_a_manifest_reads_back_as_it_was_written(tmp_path):
    assert read_manifest(tmp_path) is None
    manifest = made(tmp_path / "out", **{"words.k1": 1.5})
    assert read_manifest(tmp_path / "out") == manifest
    assert (manifest.verb, manifest.status, manifest.metrics) == ("index", "finished", {"passages": 3})
    assert manifest.config == plain(index(**{"words.k1": 1.5}))


def test_an_unfinished_folder_goes_on_and_keeps_what_is_there(tmp_path):
    begun(tmp_path / "out", "half")
    with pytest.raises(FolderError, match=r"out: unfinished; repeat the seed index command that began it"):
        finished(tmp_path / "out")
    with open_folder(tmp_path / "out", "index", index(), {}, False) as opened:
        assert opened.manifest.status == "running"
        assert (tmp_path / "out" / "half").read_text() == "begun"


def test_finished_refuses_what_is_no_folder_of_the_verb(tmp_path):
    with pytest.raises(DataError, match=r"no manifest\.json; expected a folder that seed encode left"):
        finished(tmp_path, "encode")
    made(tmp_path / "out")
    with pytest.raises(FolderError, match="a folder of seed index, where one of seed encode was expected"):
        finished(tmp_path / "out", "encode")


@pytest.mark.parametrize("change", [lambda path: path.write_text("other"), Path.unlink], ids=["changed", "missing"])
def test_a_folder_whose_output_is_not_as_written_is_refused(tmp_path, change):
    made(tmp_path / "out")
    change(tmp_path / "out" / "output")
    with pytest.raises(FolderError, match=r"out/output: missing or not as seed index wrote it"):
        finished(tmp_path / "out")
    assert "out/output: missing or not as seed index wrote it" in refusal(tmp_path / "out")


def test_another_plan_in_the_folder_is_refused_with_what_differs(tmp_path, listing):
    made(tmp_path / "out")
    before = listing(tmp_path)
    told = refusal(tmp_path / "out", **{"words.k1": 1.2})
    assert "holds a finished seed index of another plan (words.k1 was 0.9, now 1.2)" in told
    with pytest.raises(FolderError, match="holds a seed index; name another folder"):
        opened(tmp_path / "out", "encode", encode(), INPUTS)
    assert listing(tmp_path) == before


def test_changed_inputs_are_told_where_no_option_differs(tmp_path):
    opened(tmp_path / "out", "encode", encode(), INPUTS)
    with pytest.raises(FolderError, match=r"an unfinished seed encode of another plan \(its inputs have changed\)"):
        opened(tmp_path / "out", "encode", encode(), {**INPUTS, "model": Input("m", "new")})


def test_a_folder_not_made_by_seed_is_left_alone_even_with_overwrite(tmp_path, listing):
    (tmp_path / "thesis.txt").write_text("two years of work")
    before = listing(tmp_path)
    for overwrite in (False, True):
        assert "not empty and not made by seed" in refusal(tmp_path, overwrite=overwrite)
    assert "a file; --out names a folder" in refusal(tmp_path / "thesis.txt")
    assert "thesis.txt" in refusal(tmp_path / "thesis.txt" / "out")
    assert listing(tmp_path) == before


def test_a_command_killed_before_its_first_manifest_can_be_repeated(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".manifest.json.123.part").write_text('{"verb": "ind')
    made(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "manifest.json", "output"]


def test_what_a_killed_command_was_writing_is_cleared_when_it_goes_on(tmp_path):
    begun(tmp_path, ".checkpoint.safetensors.123.part")
    made(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "manifest.json", "output"]


def test_overwrite_loses_what_the_folder_held(tmp_path):
    made(tmp_path / "out", text="old")
    (tmp_path / "out" / "more").mkdir()
    (tmp_path / "out" / "more" / "file").touch()
    made(tmp_path / "out", text="new", overwrite=True, **{"words.k1": 1.2})
    assert (tmp_path / "out" / "output").read_text() == "new"
    assert not (tmp_path / "out" / "more").exists()


def test_overwrite_never_loses_what_the_stage_reads(tmp_path):
    made(tmp_path / "model" / "inner")
    for source in (tmp_path / "out", tmp_path / "out" / "inner"):
        shutil.copytree(tmp_path / "model" / "inner", source)
        inputs = {"model": identify(source), "collection": Input(str(tmp_path), "two")}
        with pytest.raises(FolderError, match="--overwrite would lose it"):
            opened(tmp_path / "out", "index", index(), inputs, overwrite=True)
        finished(source)


def test_a_folder_inside_a_raw_input_would_change_that_input(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.jsonl").write_text("{}")
    inputs = {"corpus": identify(tmp_path / "corpus")}
    with pytest.raises(FolderError, match=r"corpus/out: lies in .*corpus, which this command reads"):
        opened(tmp_path / "corpus" / "out", "index", index(), inputs)
    assert not (tmp_path / "corpus" / "out").exists()
    made(tmp_path / "stage")
    opened(
        tmp_path / "stage" / "out", "index", index(), {"vectors": identify(tmp_path / "stage")}
    )  # a stage's folder is known by its outputs, so another may lie in it


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '{"verb": "index"}', '{"inputs": [], "outputs": {}}', '{"inputs": {"a": 1}}', "\xff"],
)
def test_a_broken_manifest_is_named_not_trusted(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    for read in (read_manifest, finished, identify):
        with pytest.raises(DataError, match=r"manifest\.json.*: not "):
            read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("status", "done"), ("config", None), ("metrics", 3), ("identity", 7), ("started", "now"), ("plan", None)],
)
def test_a_manifest_with_a_field_of_the_wrong_kind_is_refused(tmp_path, key, value):
    made(tmp_path)
    edited(tmp_path, lambda manifest: manifest.update({key: value}))
    with pytest.raises(DataError, match="not a manifest of this tool"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret"])
def test_an_output_outside_the_folder_is_refused(tmp_path, name):
    made(tmp_path / "out")
    edited(tmp_path / "out", lambda manifest: manifest["outputs"].update({name: "0" * 64}))
    with pytest.raises(DataError, match="lies outside the folder"):
        finished(tmp_path / "out")


def test_inputs_are_found_again_when_folders_move_together(tmp_path):
    made(tmp_path / "here" / "source")
    inputs = {"vectors": identify(tmp_path / "here" / "source")}
    with open_folder(tmp_path / "here" / "deep" / "out", "index", index(), inputs, False) as opened:
        opened.finish([], {})
    shutil.move(tmp_path / "here", tmp_path / "there")
    folder = tmp_path / "there" / "deep" / "out"
    assert located(folder, finished(folder), "vectors") == tmp_path / "there" / "source"


def test_an_input_that_is_gone_or_changed_is_refused(tmp_path):
    made(tmp_path / "source")
    with open_folder(tmp_path / "out", "index", index(), {"vectors": identify(tmp_path / "source")}, False) as opened:
        manifest = opened.finish([], {})
    made(tmp_path / "source", text="new", overwrite=True)
    with pytest.raises(FolderError, match="source, which has changed since"):
        located(tmp_path / "out", manifest, "vectors")
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(FolderError, match="source, which is no longer there"):
        located(tmp_path / "out", manifest, "vectors")


def test_the_identity_of_raw_files_is_that_of_their_bytes_and_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("text")
    whole = identify(tmp_path / "a").identity
    (tmp_path / "a" / ".hidden").write_text("not counted")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert identify(tmp_path / "b").identity == whole
    assert identify(tmp_path / "a" / "x").identity == identify(tmp_path / "b" / "x").identity != whole
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "y")
    assert identify(tmp_path / "b").identity != whole
    with pytest.raises(DataError, match="absent: no such file or folder"):
        identify(tmp_path / "absent")


WORKER = """
import sys, pathlib
from seedcli.base.config import resolve
from seedcli.base.manifest import open_folder
from seedcli.configs.index import IndexConfig
with open_folder(pathlib.Path(sys.argv[1]), "index", resolve(IndexConfig, {"out": "o"}, {}, ""), {}, False):
    pathlib.Path(sys.argv[1], "half").write_text("begun")
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_work_in_one_folder(tmp_path, listing):
    folder = tmp_path / "out"
    worker = [sys.executable, "-c", WORKER, str(folder)]
    with subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        before = listing(folder)
        for overwrite in (False, True):
            assert "another seed command is at work in it" in refusal(folder, overwrite=overwrite)
        assert listing(folder) == before
        process.kill()  # and the lock goes with the process
    assert made(folder).status == "finished"


def test_time_is_not_part_of_the_identity(tmp_path):
    first = made(tmp_path / "a")
    time.sleep(0.01)
    os.utime(tmp_path / "a" / "output")
    second = made(tmp_path / "b")
    assert first.started != second.started
    assert first.identity == second.identity
    assert finished(tmp_path / "a") == first


def test_a_file_is_known_by_its_bytes_and_by_the_name_that_tells_how_it_is_read(tmp_path):
    for name in ("a.txt", "b/a.txt", "a.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\tone\n")
    text, moved, table = (identify(tmp_path / name).identity for name in ("a.txt", "b/a.txt", "a.tsv"))
    assert text == moved != table
