"""Datasets of the Hugging Face hub: `hf:NAME` or `hf:NAME@REVISION`, fetched once, as a folder of links to its files.

Data alone is fetched, never code. The folder is named by commits, so that it always holds the same.
"""

import re
from contextlib import suppress
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from seedcli.base.errors import DataError
from seedcli.base.files import cache_folder, made_whole, visible_files
from seedcli.base.manifest import digest
from seedcli.base.progress import Progress
from seedcli.data.formats.fields import RECIPE

KINDS = ("jsonl", "tsv", "csv", "parquet")
PATTERNS = [f"*.{kind}{packed}" for kind in KINDS for packed in ("", ".gz", ".zst")] + [RECIPE]
CONVERSION = "refs/convert/parquet"  # the hub's own copy of a dataset in Parquet, as CONFIG/SPLIT/0000.parquet
NAME = re.compile(r"([\w-][\w.-]*(?:/[\w-][\w.-]*)?)(?:@(.+))?")


class _NoDatasetError(DataError):
    """The hub knows no dataset of this name."""


class Snapshot(NamedTuple):
    """The data files of a repository at one commit, by their paths in it."""

    commit: str
    files: dict[str, Path]

    def holds(self, *names: str) -> bool:
        """Whether a file or a folder of one of these names lies at the top."""
        return any(re.split(r"[/.]", path)[0] in names for path in self.files)


def dataset_folder(name: str, progress: Progress) -> Path:
    """The folder of a dataset. Raises DataError when the hub doesn't know it, or can't be reached."""
    folder = _linked(name)
    progress.say(f"hf:{name}: {folder.name}")
    return folder


@cache
def _linked(name: str) -> Path:
    """What a name meant when it was first asked for stays so: a dataset may change on the hub meanwhile."""
    parts = NAME.fullmatch(name)
    if parts is None:
        raise DataError(f"hf:{name}: not a dataset's name; expected hf:NAME or hf:NAME@REVISION, as hf:BeIR/scifact")
    repository, revision = parts.groups()
    data = _data(repository, revision)
    files, commits = dict(data.files), data.commit[:12]
    if data.holds("corpus") and not data.holds("qrels", "data", "default"):  # BeIR/scifact has them in another one
        with suppress(_NoDatasetError):
            qrels = _snapshot(f"{repository}-qrels", None)
            files |= {f"qrels/{path}": file for path, file in qrels.files.items()}
            commits += f"+{qrels.commit[:12]}"
    linked = digest(sorted((path, str(file)) for path, file in files.items()))[:8]  # fewer, when a download broke off
    folder = cache_folder() / f"hf-{quote(repository, safe='')}@{commits}-{linked}"
    if not folder.is_dir():
        with made_whole(folder) as aside:
            for path, file in files.items():
                (aside / path).parent.mkdir(parents=True, exist_ok=True)
                (aside / path).symlink_to(file)
    return folder


def _data(repository: str, revision: str | None) -> Snapshot:
    """A dataset's own files, or the hub's Parquet copy of files of other kinds."""
    own = _snapshot(repository, revision)
    if own.files:
        return own
    copy = Snapshot("", {})
    if revision is None:
        with suppress(DataError):
            copy = _snapshot(repository, CONVERSION)
    if not copy.files:
        raise DataError(f"hf:{repository}: holds no data files; expected {', '.join(KINDS)}")
    if any(part.startswith("partial-") for path in copy.files for part in path.split("/")):
        raise DataError(f"hf:{repository}: the hub's Parquet copy of it is cut short; fetch it and give its folder")
    return copy


def _snapshot(repository: str, revision: str | None) -> Snapshot:
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=PATTERNS))
    except errors.GatedRepoError:
        problem = "needs its owner's permission: ask for it on its page, and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        raise _NoDatasetError(f"hf:{repository}: no such dataset on the hub, or a private one: set HF_TOKEN") from None
    except errors.RevisionNotFoundError:
        problem = f"has no revision {revision}"
    except Exception as error:  # whatever the network and the disk raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        problem = f"the hub did not give it ({reason:.200})"
    else:
        below = {path.relative_to(folder).as_posix(): path.resolve() for path in visible_files(folder)}
        data = {path: file for path, file in below.items() if any(fnmatch(path, like) for like in PATTERNS)}
        return Snapshot(folder.name, data)
    raise DataError(f"hf:{repository}: {problem}")
