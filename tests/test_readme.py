"""What README and the recipes tell people to type is what the command takes."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from seedcli.base.verbs import GROUPS
from seedcli.cli import app
from seedcli.configs import VERBS

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def blocks(text: str) -> list[str]:
    """The fenced code blocks of a Markdown text."""
    return re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Every `seed ...` in the code blocks, alone on its lines (joined over backslashes) or after &&."""
    lines = [line for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("seed ")]


README = commands((ROOT / "README.md").read_text(encoding="utf-8"))


def test_readme_shows_the_chain():
    """Nothing below is skipped for want of commands."""
    shown = [command[command[0] in GROUPS.values()] for command in README]
    assert len(shown) >= 7
    assert {*VERBS, "run"} <= set(shown)


@pytest.mark.parametrize("command", README, ids=" ".join)
def test_a_command_of_the_readme_resolves(command, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    ending = ["--dry-run", "--out", str(tmp_path / "out")] if command[0] == "run" else ["--show"]
    answer = CliRunner().invoke(app, [*command, *ending])
    assert answer.exit_code == 0, answer.output
    if command[0] != "run" and "--leaderboard" not in command:  # a leaderboard goes to the screen
        assert "null" not in [line.partition(": ")[2] for line in answer.stdout.splitlines() if line.startswith("out:")]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_resolves(recipe, tmp_path, monkeypatch):
    for name in re.findall(r"\$\{([A-Z_]+)\}", recipe.read_text(encoding="utf-8")):
        monkeypatch.setenv(name, str(tmp_path / name))
    answer = CliRunner().invoke(app, ["run", str(recipe), "--out", str(tmp_path / "out"), "--show"])
    assert answer.exit_code == 0, answer.output
    stages = yaml.safe_load(answer.stdout)["stages"]
    assert stages
    assert all(Path(stage["out"]) == tmp_path / "out" / name for name, stage in stages.items())


def test_there_are_recipes():
    assert "quickstart" in {path.stem for path in RECIPES}
