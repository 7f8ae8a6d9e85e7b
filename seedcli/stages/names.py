"""NAME=SOURCE: how an option names the several things that it takes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from seedcli.base.errors import ConfigError


def named(given: Sequence[str], named_after: Callable[[str], str], option: str, things: str) -> dict[str, str]:
    """Sources by their names, in order; a bare source is `named_after` itself.

    Raises ConfigError when a name stands twice, when one of both lacks, or when nothing is given.
    """
    sources: dict[str, str] = {}
    for item in given:
        name, equals, rest = item.partition("=")
        if not equals or Path(item).exists():  # a path may hold a =
            name, rest = named_after(item), item
        source = rest
        if not (name and source):
            raise ConfigError(f"{option}: got {item!r}; expected NAME=SOURCE, or a source alone")
        if name in sources:
            raise ConfigError(f"{option}: two {things} are called {name}; name them, as in first={source}")
        sources[name] = source
    if not sources:
        raise ConfigError(f"{option} is empty: name at least one of the {things}")
    return sources
