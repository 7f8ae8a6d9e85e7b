"""The steps that led to a run, and what two of them differ in."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Step(NamedTuple):
    """A stage that was run, or something that was given: `verb` is None then."""

    role: str  # to the step that reads it
    name: str  # of the folder or file
    verb: str | None
    identity: str
    options: dict[str, Any]  # those that the result follows from, by dotted key
    chosen: dict[str, Any]  # those of them that aren't as by default
    note: str  # why no more is known
    inputs: list["Step"]


def walk(step: Step) -> Iterator[Step]:
    """A step and all before it, each once."""
    seen, left = set[str](), [step]
    while left:
        one = left.pop(0)
        if one.identity not in seen:
            seen.add(one.identity)
            yield one
            left += one.inputs


def flattened(step: Step) -> dict[str, Any]:
    """All options of all steps as one mapping: finetune.optimize.steps; a second finetune before it is finetune-2.

    What was given stands under its role, with its name and the beginning of its identity: encode.corpus.
    """
    flat, counts = dict[str, Any](), Counter[str]()
    for one in walk(step):
        if one.verb is None:
            continue
        counts[one.verb] += 1
        prefix = one.verb if counts[one.verb] == 1 else f"{one.verb}-{counts[one.verb]}"
        flat |= {f"{prefix}.{key}": value for key, value in one.options.items()}
        roles = Counter(given.role for given in one.inputs if given.verb is None)
        numbers = Counter[str]()
        for given in one.inputs:
            if given.verb is None:
                numbers[given.role] += 1
                role = given.role if roles[given.role] == 1 else f"{given.role}-{numbers[given.role]}"
                flat[f"{prefix}.{role}"] = f"{given.name} ({given.identity[:8]})"
    return flat


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with both; None where a key lacks."""
    keys = [*one, *(key for key in other if key not in one)]
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}
