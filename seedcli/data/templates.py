"""Templates: how the fields of a passage or query are joined before tokenising; stored with the model."""

import re

from seedcli.base.errors import ConfigError
from seedcli.data.records import Passage, Query

FIELD = re.compile(r"\{(\w*)\}")


def render(template: str, record: Passage | Query) -> str:
    """The text of a record: "{title} {text}" of a passage without a title is its text alone."""
    return FIELD.sub(lambda found: str(getattr(record, found[1])), template).strip()


def check_template(template: str, record: type[Passage] | type[Query], flag: str) -> None:
    """Raises ConfigError when a template names a field that records lack, or none."""
    fields = FIELD.findall(template)
    unknown = [field for field in fields if field not in record._fields or field == "id"]
    if unknown or not fields:
        known = ", ".join(f"{{{field}}}" for field in record._fields if field != "id")
        problem = f"no field {{{unknown[0]}}}" if unknown else "names no field"
        raise ConfigError(f"{flag} {template!r}: {problem}; there is {known}")
