"""Mistakes that a user can mend: each says what, where, and what to do, and ends the command with exit code 2."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REFUSED = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG}


class SeedError(Exception):
    """The root of the tree. The command line prints its message without a traceback."""


class ConfigError(SeedError):
    """An option, a recipe key or a combination of them is wrong."""


class DataError(SeedError):
    """A file or a folder given by the user is missing, broken, or not what it should be."""


class FolderError(SeedError):
    """A stage's folder is unfinished, changed, in use, or made by something else."""


class Interrupted(KeyboardInterrupt):
    """Work was asked to stop by a signal, Ctrl-C or SIGTERM, and has saved where it is: its message says so.

    No mistake, so no SeedError: who catches those goes on with the next thing, and this must end all.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


def refusal(error: Exception) -> str | None:
    """What the system says when a disk is full or may not be written; None for any other error.

    Libraries in Rust (safetensors) tell the system's number in their message alone.
    """
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = (isinstance(error, OSError) and error.errno) or (int(found[1]) if found else 0)
    return os.strerror(number) if number in REFUSED else None


@contextmanager
def telling_refusals(path: Path, kept: str = "nothing finished is lost") -> Iterator[None]:
    """Where the disk takes no more, raises a DataError that tells what is kept."""
    try:
        yield
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise DataError(f"{path}: {reason}; {kept}, repeat the command to go on") from None
