"""Options as keywords of a function: its signature and help are made from configs/, its arguments become options.

A keyword is the last part of an option's key; rare options go by their whole keys in `options`.
"""

import inspect
import json
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from seedcli.base.config import COMMAND, INPUT, RARE, Option, known_option, options
from seedcli.base.errors import ConfigError
from seedcli.configs import VERBS

NAMED = {"runs", "model"}  # the list options that take names with their paths
RAISED = """\
A finished folder of the same options and inputs is left as it is; an interrupted one goes on. Raises
ConfigError for wrong options, DataError for wrong inputs, FolderError for a folder of anything else."""
MANNER = {
    "options": "Rarer options by their whole keys, such as {'optimize.beta2': 0.98}.",
    "overwrite": "Lose what the folder holds, if seed made it.",
    "progress": "Where to tell of the work; left out: the screen when stderr is a terminal. Silent() tells nothing.",
}


def signature(verb: str, result: str) -> inspect.Signature:
    """The keywords of a verb, typed as Python code in a world with StrPath."""
    shown = [keyword(leaf(o), annotation(o), default_of(o)) for o in known(verb) if RARE not in o.marks]
    manner = [
        keyword("options", "Mapping[str, Any] | None", None),
        keyword("overwrite", "bool", False),
        keyword("progress", "Progress | None", None),
    ]
    return inspect.Signature(shown + manner, return_annotation=result)


def described(verb: str, summary: str) -> str:
    """A docstring: what the verb does, what it raises, and the help of every keyword."""
    common = {leaf(option): words(option.doc) for option in known(verb) if RARE not in option.marks} | MANNER
    rare = {f"{o.key} ({o.default!r})": words(o.doc) for o in known(verb) if RARE in o.marks}
    ending = ["In `options`, with what they are when left out:", listed(rare)] if rare else []
    return "\n\n".join([summary, RAISED, listed(common), *ending])


def keyed(verb: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords as options by their whole keys. Raises ConfigError for a name that is none, or a rare one's."""
    names = {leaf(option): option for option in known(verb)}
    keys = {}
    for name, value in given.items():
        option = known_option(name, names, f"seed.{verb}")
        if RARE in option.marks:
            raise ConfigError(f"seed.{verb}: {name} is one of the rare options: give options={{{option.key!r}: ...}}")
        keys[option.key] = value
    return keys


def plain_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a recipe would hold them: paths as text, sequences as lists, names with paths as NAME=PATH."""
    return {key: plain_value(value) for key, value in given.items()}


def plain_value(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return [f"{name}={plain_value(path)}" for name, path in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain_value(item) for item in value]
    return value


def known(verb: str) -> Iterator[Option]:
    """The options that a function has."""
    return (option for option in options(VERBS[verb]) if COMMAND not in option.marks)


def leaf(option: Option) -> str:
    """An option's keyword."""
    return option.key.rsplit(".", 1)[-1]


def keyword(name: str, kind: str, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


def default_of(option: Option) -> Any:
    """What an option is when left out. No function does without a folder, though the command does for a question."""
    return inspect.Parameter.empty if option.default is MISSING or leaf(option) == "out" else option.default


def annotation(option: Option) -> str:
    """An option's type as Python code; where it names an input, a path will do."""
    written = hint_code(Path if leaf(option) == "out" else option.hint)
    if INPUT in option.marks:
        written = re.sub(r"\bstr\b", "StrPath", written)
        written = re.sub(r"^Sequence", "StrPath | Sequence", written)
    named = option.key in NAMED and typing.get_origin(option.hint) is list
    return written + " | Mapping[str, StrPath]" * named


def hint_code(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return hint_code(arguments[0])
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(json.dumps, arguments))}]"
    if origin is list:
        return f"Sequence[{hint_code(arguments[0])}]"
    if arguments:
        return " | ".join(hint_code(argument) for argument in arguments)
    return {int: "int", float: "float", str: "str", bool: "bool", Path: "StrPath", type(None): "None"}[hint]


def words(text: str) -> str:
    """An option's help in the words of Python: --batch-size is batch_size."""
    named = re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", "_"), text)
    return re.sub(r"; repeatable|, or [^,]* QUESTION", "", named)


def listed(texts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in texts.items())
