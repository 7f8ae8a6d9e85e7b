"""Templates: how the fields of a passage or query are joined before tokenising; stored with the model."""

import re

from seedcli.base.errors import ConfigError
from seedcli.data.records import SEPARATOR, Passage, Query

FIELD = re.compile(r"\{(\w+)(?::\.(\d+))?\}")  # {text}, or {text:.100} for its first 100 characters

TEMPLATES = {  # as published
    "beir": "{title} {text}",
    "msmarco-document": "{url} [SEP] {title} [SEP] {text:.10000}",
    "nq": "{title} [SEP] {text}",
    "mind": "{title}",
}


def template_of(name: str) -> str:
    """The template of that name; what is no name is a template itself."""
    return TEMPLATES.get(name, name)


def render(template: str, record: Passage | Query) -> str:
    """The text of a record: "{title} {text}" of a passage without a title is its text alone.

    [SEP] becomes SEPARATOR, which a tokenizer reads as its own; around an empty field, too.
    """
    return SEPARATOR.join(_filled(part, record) for part in template.split("[SEP]"))


def _filled(part: str, record: Passage | Query) -> str:
    return FIELD.sub(lambda found: getattr(record, found[1])[: int(found[2]) if found[2] else None], part).strip()


def check_template(template: str, record: type[Passage] | type[Query], flag: str) -> None:
    """Raises ConfigError when a template names a field that records lack, or none."""
    known = [field for field in record._fields if field not in {"id", "answers"}]
    fields = [found[1] for found in FIELD.finditer(template)]
    if unknown := next((field for field in fields if field not in known), None):
        problem = f"no field {{{unknown}}}"
    elif "{" in FIELD.sub("", template):
        problem = "a brace that opens no field"
    elif not fields:
        problem = "names no field"
    else:
        return
    raise ConfigError(f"{flag} {template!r}: {problem}; there is {', '.join(f'{{{field}}}' for field in known)}")
