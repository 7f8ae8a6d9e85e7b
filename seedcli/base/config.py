"""Options, written once as dataclasses: read from recipes and flags, checked at this border, shown as YAML.

A field is `Annotated[type, Doc("help"), *marks]`; a field that is itself a dataclass is a group of options. The marks:
RARE has no flag of its own, INCIDENTAL doesn't change the result, INPUT is known by its content (WORD + a value
is one that names no input, and so counts as it is), ARGUMENT is positional, SHORT + a letter is another name of the
flag, and COMMAND is for the command line alone.
"""

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from annotated_doc import Doc

from seedcli.base.errors import ConfigError

Config = TypeVar("Config")

RARE = "rare"
INCIDENTAL = "incidental"
INPUT = "input"
ARGUMENT = "argument"
WORD = "word:"
SHORT = "short:"
COMMAND = "command"


class Option(NamedTuple):
    """One leaf of a config: `key` is its dotted path, `hint` its type without marks, `group` the dataclass it is in."""

    key: str
    hint: Any
    doc: str
    default: Any
    marks: frozenset[str]
    group: type

    @property
    def flag(self) -> str:
        return "--" + self.key.rsplit(".", 1)[-1].replace("_", "-")

    @property
    def short(self) -> list[str]:
        """Other names of the flag: -i."""
        return [f"-{mark.removeprefix(SHORT)}" for mark in self.marks if mark.startswith(SHORT)]

    @property
    def words(self) -> list[str]:
        """Values of an INPUT that name none."""
        return [mark.removeprefix(WORD) for mark in self.marks if mark.startswith(WORD)]

    @property
    def typed(self) -> str:
        """As it is given to a command: --lr, or --set optimize.beta2; MODEL where its place tells what it is."""
        return self.key.upper() if ARGUMENT in self.marks else f"--set {self.key}" if RARE in self.marks else self.flag


def options(config: type, prefix: str = "") -> Iterator[Option]:
    """Every option of a config class, groups opened, in the order written."""
    hints = typing.get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        hint, own = hints[field.name], frozenset[str]()
        doc = ""
        if typing.get_origin(hint) is typing.Annotated:
            extras = typing.get_args(hint)[1:]
            own = frozenset(extra for extra in extras if isinstance(extra, str))
            doc = next((extra.documentation for extra in extras if isinstance(extra, Doc)), "")
            kept = [extra for extra in extras if not isinstance(extra, str | Doc)]
            hint = typing.Annotated[(typing.get_args(hint)[0], *kept)] if kept else typing.get_args(hint)[0]
        if dataclasses.is_dataclass(hint):
            yield from options(typing.cast(type, hint), f"{prefix}{field.name}.")
            continue
        yield Option(prefix + field.name, hint, doc, _default(field), own, config)


def resolve(config: type[Config], recipe: Mapping[str, Any], flags: Mapping[str, Any], where: str) -> Config:
    """The config that defaults, then a recipe (nested), then flags (dotted keys) give.

    Raises ConfigError for a key that is unknown or missing and for a value of the wrong type; `where` names the recipe.
    """
    known = {option.key: option for option in options(config)}
    groups = {key.rsplit(".", 1)[0] for key in known if "." in key}
    values: dict[str, Any] = {}
    for key, value in _leaves(recipe, groups, where):
        option = known_option(key, known, where)
        if value is not None or option.default is not dataclasses.MISSING:  # --show leaves what is missing empty
            values[key] = cast(value, option.hint, f"{where}: {key}")
    for key, value in flags.items():
        option = known_option(key, known, "--set")
        values[key] = cast(value, option.hint, option.typed)
    for option in known.values():
        if option.default is dataclasses.MISSING and option.key not in values:
            raise ConfigError(f"{option.typed} is missing (in a recipe: {option.key}): {option.doc}")
    return _build(config, values, "")


def known_option(key: str, known: Mapping[str, Option], where: str) -> Option:
    """The option called `key`; an unknown key is answered with the nearest known ones."""
    if key in known:
        return known[key]
    leaves = {known_key.rsplit(".", 1)[-1]: known_key for known_key in known}
    groups = {known_key.rpartition(".")[0] for known_key in known} - {""}
    if key in groups:
        own = [option.rpartition(".")[2] for option in known if option.startswith(f"{key}.")]
        raise ConfigError(f"{where}: {key} is a group of options: {key}.{own[0]}, and {', '.join(own[1:])}")
    meant = {group: group for group in sorted(groups)} | leaves | {option: option for option in known}
    near = [meant[word] for word in difflib.get_close_matches(key, meant, n=1)] or [
        leaves[leaf] for leaf in difflib.get_close_matches(key.rsplit(".", 1)[-1], leaves, n=1)
    ]
    parent = key.rpartition(".")[0]
    hint = f": did you mean {near[0].removeprefix(parent + '.') if parent else near[0]}?" if near else ""
    raise ConfigError(f"{where}: no option {key}{hint or '; --show lists them all'}")


def cast(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint`, strictly: True is no number, 2.5 no count. Text from a flag is read as YAML first."""
    import pydantic

    written = isinstance(value, str) and value.startswith("[") and _is_list(hint)  # [a, b], after --set
    if isinstance(value, str) and (written or not _takes_text(hint, value)):
        value = parse_yaml(value, where)
    if isinstance(value, list) and _is_list(hint):  # a flag that was repeated
        texts = (isinstance(item, str) and not _takes_text(hint, item) for item in value)
        value = [parse_yaml(item, where) if text else item for item, text in zip(value, texts, strict=True)]
    if value is not None and not isinstance(value, list) and _is_list(hint):
        value = [value]
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: {value!r} can't be read as {hint_name(hint)}") from None
    try:
        return pydantic.TypeAdapter(hint).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        problems = dict.fromkeys(problem["msg"].removeprefix("Input ") for problem in error.errors())
        raise ConfigError(f"{where}: got {value!r}; it {' or '.join(problems)}") from None


def parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Yaml)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where}{line}: not YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML ({error})") from None


def read_recipe(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        recipe = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except (IsADirectoryError, UnicodeDecodeError):
        raise ConfigError(f"{path}: not a recipe; expected a YAML file") from None
    if not isinstance(recipe, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of options; this file holds {type(recipe).__name__}")
    return recipe


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """`--set KEY=VALUE`, as often as given."""
    pairs = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as optimize.lr=1e-4")
        pairs[key] = value
    return pairs


def plain(config: Any) -> dict[str, Any]:
    """A config as nested mappings of plain values: what a recipe and a manifest hold."""
    return {
        field.name: plain(value) if dataclasses.is_dataclass(value) else _plain_value(value)
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


def dump_yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=120)


def hint_name(hint: Any) -> str:
    """A type as a user reads it: INTEGER, FLOAT, A|B."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, typing.get_args(hint)))
    arguments = [argument for argument in typing.get_args(hint) if argument is not type(None)]
    if typing.get_origin(hint) in {list, tuple}:
        return hint_name(arguments[0])
    if arguments:
        return "|".join(hint_name(argument) for argument in arguments)
    return {int: "INTEGER", float: "FLOAT", str: "TEXT", Path: "PATH", bool: "BOOLEAN"}[hint]


def _leaves(recipe: Mapping[str, Any], groups: set[str], where: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in recipe.items():
        path = f"{prefix}{key}"
        if path not in groups:
            yield path, value
        elif isinstance(value, dict):
            yield from _leaves(value, groups, where, f"{path}.")
        else:
            raise ConfigError(f"{where}: {path} is a group of options, not {value!r}")


def _build(config: type[Config], values: Mapping[str, Any], prefix: str) -> Config:
    arguments = {}
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        if dataclasses.is_dataclass(hints[field.name]):
            arguments[field.name] = _build(hints[field.name], values, f"{prefix}{field.name}.")
        elif f"{prefix}{field.name}" in values:
            arguments[field.name] = values[f"{prefix}{field.name}"]
    return config(**arguments)


def _is_list(hint: Any) -> bool:
    """A list, or a list that may be left out."""
    return any(typing.get_origin(each) is list for each in (hint, *typing.get_args(hint)))


def _takes_text(hint: Any, text: str) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        return _takes_text(typing.get_args(hint)[0], text)
    if typing.get_origin(hint) is typing.Literal:
        return text in typing.get_args(hint)
    if typing.get_origin(hint) is list:  # of one, whatever a path may hold
        return _takes_text(typing.get_args(hint)[0], text)
    return hint in {str, Path} or any(_takes_text(part, text) for part in typing.get_args(hint))


def _plain_value(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain_value(item) for item in value] if isinstance(value, list | tuple) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


class _Yaml(yaml.SafeLoader):
    """YAML as people expect it: 2e-5 is a number, off, yes and 10:50 are words, no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if key.value != "<<"]
        for key, _ in reversed(node.value):
            if key.value != "<<" and written.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def _plain_scalars(loader: type[yaml.SafeLoader]) -> None:
    """Booleans are true and false alone; a float may lack its point (2e-5); nothing is written to the base 60."""
    replaced = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int")}
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in replaced]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|[-+]?\.(inf|nan)$")
    loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)$"), list("tf"))
    loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    whole = re.compile(r"[-+]?(0|[1-9][\d_]*|0x[\da-fA-F_]+|0b[01_]+|0[0-7_]+)$")
    loader.add_implicit_resolver("tag:yaml.org,2002:int", whole, list("-+0123456789"))


_plain_scalars(_Yaml)
