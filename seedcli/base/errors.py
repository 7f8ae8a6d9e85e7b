"""Mistakes that a user can mend: each says what, where, and what to do, and ends the command with exit code 2."""


class SeedError(Exception):
    """The root of the tree. The command line prints its message without a traceback."""


class ConfigError(SeedError):
    """An option, a recipe key or a combination of them is wrong."""


class DataError(SeedError):
    """A file or a folder given by the user is missing, broken, or not what it should be."""


class FolderError(SeedError):
    """A stage's folder is unfinished, changed, in use, or made by something else."""
