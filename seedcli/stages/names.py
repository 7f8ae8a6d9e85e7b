"""NAME=SOURCE: how an option names the several things that it takes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from seedcli.base.errors import ConfigError


def named(given: Sequence[str], named_after: Callable[[str], str], option: str, things: str) -> dict[str, str]:
    """Sources by their names, in order; a bare source is `named_after` itself.

    Raises ConfigError when a name stands twice, when one of both lacks, or when nothing is given.
    """
    sources = several_named(given, named_after, option, things)
    for name, own in sources.items():
        if len(own) > 1:
            raise two(option, things, name, own[-1])
    return {name: source for name, (source,) in sources.items()}


def several_named(
    given: Sequence[str], named_after: Callable[[str], str], option: str, things: str
) -> dict[str, list[str]]:
    """As `named`, but where NAME is written more than once, with different sources, it has them all."""
    sources: dict[str, list[str]] = {}
    bare = set()
    for item in given:
        name, equals, source = item.partition("=")
        if not equals or Path(item).exists():  # a path may hold a =
            name, source = named_after(item), item
            bare.add(name)
        if not (name and source):
            raise ConfigError(f"{option}: got {item!r}; expected NAME=SOURCE, or a source alone")
        if name in sources and name in bare:
            raise two(option, things, name, source)
        if source in sources.get(name, []):
            raise ConfigError(f"{option}: {name}={source} is given twice")
        sources.setdefault(name, []).append(source)
    if not sources:
        raise ConfigError(f"{option} is empty: name at least one of the {things}")
    return sources


def two(option: str, things: str, name: str, source: str) -> ConfigError:
    return ConfigError(f"{option}: two {things} are called {name}; name them, as in first={source}")
