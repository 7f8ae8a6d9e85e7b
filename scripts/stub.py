"""Write seedcli/__init__.pyi, from which type checkers and editors know the options of every verb:

    python scripts/stub.py

To be repeated when an option changes; tests/test_api.py tells when it was not.
"""

import inspect
import textwrap
from pathlib import Path

import seedcli
from seedcli.api import keywords, results
from seedcli.configs import VERBS

STUB = Path(seedcli.__file__).with_suffix(".pyi")


def stub() -> str:
    """What `import seedcli` offers: the verbs with their options written out, the rest as seedcli.api has it."""
    rest = sorted(set(seedcli.__all__) - VERBS.keys())
    lines = [
        '"""Made by scripts/stub.py from the options in seedcli/configs."""',
        "",
        "from collections.abc import Mapping, Sequence",
        "from typing import Any, Literal",
        "",
        *(f"from seedcli.api import {name} as {name}" for name in rest),
        "",
        "__version__: str",
        "",
    ]
    return "\n".join(lines) + "\n" + "\n".join(map(declaration, VERBS))


def declaration(verb: str) -> str:
    """A verb's signature and help."""
    signature = keywords.signature(verb, results.RESULTS[verb].__name__)
    parameters = "".join(f"    {p.name}: {p.annotation}{default(p)},\n" for p in signature.parameters.values())
    text = inspect.getdoc(getattr(seedcli, verb)) or ""
    return f'def {verb}(\n    *,\n{parameters}) -> {signature.return_annotation}:\n    """{wrapped(text)}\n    """\n'


def default(parameter: inspect.Parameter) -> str:
    given = parameter.default
    return "" if given is inspect.Parameter.empty else f" = {given!r}".replace("'", '"')


def wrapped(text: str) -> str:
    """Help as it stands in a function, its long lines broken."""
    room = textwrap.TextWrapper(112, break_on_hyphens=False, subsequent_indent="  ")
    lines = [part for line in text.splitlines() for part in (room.wrap(line) or [""])]
    return textwrap.indent("\n".join(lines), "    ").lstrip()


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
