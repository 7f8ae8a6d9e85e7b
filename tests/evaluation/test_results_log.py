"""The log of results: whole lines, each once, and what is told of them side by side."""

import dataclasses
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from seedcli.base.errors import ConfigError, DataError
from seedcli.evaluation.results_log import Line, apart, append, boards, heading, markdown, plain, read_log, rows


def line(name: str, mean: float | None = 0.5, report: str = "r1", **changed: Any) -> Line:
    own = Line(
        "2030-01-02T03:04:05+00:00", name, "scifact", "test", "q1", 300, {"mrr@10": mean, "recall@100": 0.9},
        {"mrr@10": (0.4, 0.6)}, f"run-{name}", report, {"search.depth": 10, "index.kind": "bm25"}, "seed evaluate",
    )  # fmt: skip
    return dataclasses.replace(own, **changed)


def test_lines_come_back_and_stand_once(tmp_path):
    path = tmp_path / "logs" / "results.jsonl"
    lines = [line("a"), line("b é\u2028\ud7ff", None)]
    assert append(path, lines) == 2
    assert append(path, lines) == 0
    assert append(path, [line("a", report="r2"), lines[0]]) == 1
    assert read_log(path) == [*lines, line("a", report="r2")]
    assert [json.loads(text)["name"] for text in path.read_text().split("\n")[:-1]] == ["a", lines[1].name, "a"]


def test_a_line_whose_end_is_missing_is_ended_first(tmp_path):
    path = tmp_path / "results.jsonl"
    append(path, [line("a")])
    path.write_text(path.read_text().rstrip("\n"))
    append(path, [line("b")])
    assert [each.name for each in read_log(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"date": ', "not JSON"),
        ("[1]", "an object"),
        ('{"date": "x"}', "name: Field required"),
    ],
)
def test_a_broken_line_is_named_and_the_file_left_as_it_is(tmp_path, text, told):
    path = tmp_path / "results.jsonl"
    append(path, [line("a")])
    path.write_text(path.read_text() + "\n" + text + "\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=rf"results\.jsonl:3: not a line of seed evaluate --log \(.*{told}.*\)"):
        append(path, [line("b")])
    assert path.read_bytes() == before


def test_a_log_that_cannot_be_is_told(tmp_path):
    with pytest.raises(DataError, match="absent: no such file"):
        read_log(tmp_path / "absent")
    with pytest.raises(DataError, match="is a directory; nothing was added"):
        append(tmp_path, [line("a")])
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        append(tmp_path / "bytes", [line("a")])


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    append(path, [line("a")])
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="no space left on device; nothing was added"):
        append(path, [line("b")])
    assert path.read_bytes() == before


def several(path: Path, number: int) -> None:
    for row in range(5):
        append(path, [line(f"{number}-{row}", report=f"r{number}"), line(f"same {row}")])


def test_processes_that_write_at_once_lose_nothing_and_repeat_nothing(tmp_path):
    path = tmp_path / "results.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=several, args=(path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    names = [each.name for each in read_log(path)]
    assert len(names) == len(set(names)) == 4 * 5 + 5


def test_a_board_holds_the_lines_on_the_same_judgements_best_first():
    found = boards(
        [line("low", 0.1), line("none", None), line("high", 0.7), line("elsewhere", judgements="q2", split="dev")],
        ["mrr@10"],
    )
    assert [[each.name for each in board.lines] for board in found] == [["high", "low", "none"], ["elsewhere"]]
    assert rows(found[0]) == [
        ["1", "high", "2030-01-02", "0.7000", "0.9000"],
        ["2", "low", "2030-01-02", "0.1000", "0.9000"],
        ["3", "none", "2030-01-02", "–", "0.9000"],
    ]
    assert heading(found[0]) == "scifact, split test: 300 judged queries, best mrr@10 first"
    assert boards([line("a")], ["recall@100"])[0].measures == ["recall@100", "mrr@10"]
    assert boards([line("a")], ["absent@3"])[0].measures == ["mrr@10", "recall@100"]
    assert boards([], ["mrr@10"]) == []


def test_lines_are_told_apart_by_their_options():
    same = line("same", 0.4)
    tuned = line("tuned", 0.3, config={"search.depth": 10, "index.kind": "bm25", "index.words.k1": 1.2})
    dense = line("dense", 0.2, config={"search.depth": None, "index.kind": "flat", "finetune.loss": "kl", "x.y": 1})
    (board,) = boards([line("first"), same, tuned, dense], ["mrr@10"])
    assert apart(board, None) == [
        "2 is not as 1: another run, of the same options and inputs",
        "3 is not as 1: index.words.k1 none → 1.2",
        "4 is not as 1: search.depth 10 → none; index.kind bm25 → flat; has finetune; has x",
    ]
    assert apart(board, "4,1")[0].endswith("index.kind flat → bm25; no finetune; no x")
    many = line("many", 0.1, config={f"search.{number}": number for number in range(9)})
    (board,) = boards([line("first"), many], ["mrr@10"])
    assert apart(board, None)[0].endswith("; and 5 more")
    assert "more" not in apart(board, "1, 2")[0]
    for wrong in ("1", "1,3", "0,1", "1,1,2", "a,b", ","):
        with pytest.raises(ConfigError, match="expected the numbers of two lines, of 1 to 2, such as 1,2"):
            apart(board, wrong)


def test_markdown_and_json_hold_the_same():
    found = boards([line("a|b", 0.1), line("high", 0.7)], ["mrr@10"])
    assert markdown(found, None).splitlines() == [
        "## scifact, split test: 300 judged queries, best mrr@10 first",
        "",
        "|  | run | date | mrr@10 | recall@100 |",
        "| --: | :-- | :-- | --: | --: |",
        "| 1 | high | 2030-01-02 | 0.7000 | 0.9000 |",
        r"| 2 | a\|b | 2030-01-02 | 0.1000 | 0.9000 |",
        "",
        "- 2 is not as 1: another run, of the same options and inputs",
    ]
    assert plain(found, None)[0]["lines"][1]["name"] == "a|b"
    assert "## \\<b> \\*x\\*, split test: 1 judged query, best mrr@10 first" in markdown(
        boards([line("a", qrels="<b> *x*", queries=1)], ["mrr@10"]), None
    )
    changed = line("b", 0.1, config={"search.depth": "[a](javascript:1)"})
    assert r"search.depth 10 → \[a\](javascript:1)" in markdown(boards([line("a"), changed], ["mrr@10"]), None)
    json.dumps(plain(found, None))
