"""What is installed, what seed's own metadata asks for, and the pip commands that bring the two together."""

import importlib.metadata
import shutil
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def requirements() -> list["Requirement"]:
    """All that the installed seed declares, its extras' too."""
    from packaging.requirements import Requirement

    return [Requirement(line) for line in importlib.metadata.requires("seedcli") or []]


def written(need: "Requirement") -> str:
    """A requirement as people write it: numpy>=2,<3."""
    return need.name + ",".join(sorted(map(str, need.specifier), reverse=True))


def wanted(name: str) -> str:
    """What to tell pip of a package, for the shell."""
    try:
        needs = requirements()
    except ImportError:  # neither seed nor packaging need be installed for a message
        needs = []
    return quote(next((written(need) for need in needs if need.name == name), name))


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def install(*names: str) -> str:
    return f"{pip()} install {' '.join(map(wanted, names))}"


def reinstall(*names: str) -> str:
    return f"{pip()} install --force-reinstall {' '.join(map(wanted, names))}"


def pip() -> str:
    """The pip of this Python, as short as the shell understands it."""
    short, this = shutil.which("python"), Path(sys.executable)
    same = short is not None and Path(short).parent == this.parent and Path(short).samefile(this)
    return f"{'python' if same else quote(str(this))} -m pip"
