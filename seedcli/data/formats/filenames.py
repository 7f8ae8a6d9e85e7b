"""The files of a folder by their names, compressed or not."""

import re
from collections.abc import Mapping
from pathlib import Path

from seedcli.data.lines import COMPRESSED, unpacked


def first_file(folder: Path, *names: str) -> Path | None:
    """The first of these files that a folder has."""
    paths = (folder / f"{name}{ending}" for name in names for ending in ("", *COMPRESSED))
    return next((path for path in paths if path.is_file()), None)


def files_by_split(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    r"""The files that bear such names: patterns, each with the split that a match stands for, such as r"\1"."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):  # a file comes before its compressed copy
        for match, split in ((re.fullmatch(pattern, unpacked(path).name), split) for pattern, split in names.items()):
            if match:
                found.setdefault(match.expand(split), path)
    return found
