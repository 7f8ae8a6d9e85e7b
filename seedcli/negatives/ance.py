"""ANCE (Xiong et al. 2021): the negatives that the model in training ranks highest, searched for again and again.

Letters: E training examples, S of them in a set, K candidates of all of these together, N passages.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from seedcli.base.errors import DataError, telling_refusals
from seedcli.base.files import written_whole
from seedcli.data.batches import permuted
from seedcli.data.ragged import Ragged
from seedcli.negatives.examples import Scores, TrainingSet, is_right, part_of, right_keys
from seedcli.negatives.filters import best_positives, drop, owners_of


class NegativeSet(NamedTuple):
    """What the weights of a step rank first for some training examples, without what is right for them."""

    number: int  # in the order that sets were made, from 0
    step: int
    examples: NDArray[np.int64]  # [S] ascending, among the E
    negatives: Ragged  # [S] rows of passages, the best first
    scores: Scores  # [S]
    told: Mapping[str, float]  # what is worth knowing of it
    dropped: Mapping[str, int] = {}  # candidates, by what dropped them

    def of(self, data: TrainingSet) -> TrainingSet:
        """The set's examples of a training set, with its negatives."""
        kept = np.zeros(len(data.trained), dtype=bool)
        kept[self.examples] = True
        return part_of(data, kept)._replace(negatives=self.negatives, scores=self.scores)


class Found(NamedTuple):
    """What a search found for examples [S]."""

    examples: NDArray[np.int64]
    rows: Ragged  # [S] of passages, the best first
    scores: Ragged  # [S]
    positives: Ragged  # [S] the scores of their positives


def joined(parts: Sequence[Found]) -> Found:
    """What several processes found, in the order of the examples."""
    examples = np.concatenate([part.examples for part in parts])
    order = np.argsort(examples).tolist()
    rest = ([row for ragged in column for row in ragged] for column in list(zip(*parts, strict=True))[1:])
    types = (np.int64, np.float32, np.float32)
    columns = (Ragged.of((rows[place] for place in order), dtype) for rows, dtype in zip(rest, types, strict=True))
    return Found(examples[order], *columns)


def covered(total: int, parts: int, number: int, seed: int) -> NDArray[np.int64]:
    """The examples of a set [S], ascending: as many sets as there are parts cover all E of them, each once."""
    parts = min(parts, total)
    places = np.arange(total * (number % parts) // parts, total * (number % parts + 1) // parts, dtype=np.int64)
    return np.sort(permuted(places, total, seed, 0)) if parts > 1 else places


def negative_set(
    number: int, step: int, data: TrainingSet, found: Found, places: slice, before: NegativeSet | None,
    sift: Callable[[TrainingSet], tuple[TrainingSet, dict[str, int]]],
) -> NegativeSet:  # fmt: skip
    """A set of what was found; `sift` has the filters that were asked for.

    It tells the share of candidates that were `before`, and of those that score above the best positive.
    """
    rows, scores = (Ragged.of((row[places] for row in part), part.values.dtype) for part in (found.rows, found.scores))
    set_ = NegativeSet(number, step, found.examples, rows, Scores(found.positives, scores), {})
    part = set_.of(data)
    part, dropped = drop(part, {"right": is_right(part, right_keys(part), owners_of(part), part.negatives.values)})
    part, more = sift(part)
    negatives, kept = part.negatives, part.scores or set_.scores
    with np.errstate(invalid="ignore"):
        above = np.asarray(kept.negatives.values) > best_positives(kept.positives)[owners_of(part)]
    told = {"above_positive": float(above.mean())} if len(above) else {}
    set_ = set_._replace(negatives=negatives, scores=kept)
    if before is not None and (common := overlap(set_, before)) is not None:
        told["overlap"] = common
    return set_._replace(told=told, dropped=dropped | more)


def overlap(new: NegativeSet, old: NegativeSet) -> float | None:
    """The share of a set's candidates that an older one has for the same example; None where they share no example."""
    shared = np.intersect1d(new.examples, old.examples)
    if not len(shared):
        return None
    pairs = []
    for each in (new, old):
        owners = np.repeat(each.examples, np.diff(each.negatives.offsets))
        inside = np.isin(owners, shared)
        pairs.append((owners[inside] << 40) | np.asarray(each.negatives.values)[inside])
    return float(np.isin(*pairs).mean()) if len(pairs[0]) else None


def as_released(data: TrainingSet) -> TrainingSet:
    """What the code that ANCE was published with knows of a training set: of a query the positive that is judged last,
    and nothing of equal texts. Other positives may become negatives there.

    What stays different: the release draws a query's negatives once a set and trains on its triples in a row; here
    each epoch draws, and triples are mixed.
    """
    passages = data.passages._replace(numbers=np.arange(len(data.passages.tokens)))
    queries = data.queries._replace(numbers=np.arange(len(data.queries.tokens)))
    last = np.asarray(data.positives.values)[data.positives.offsets[1:] - 1]
    positives = Ragged(last, np.arange(len(last) + 1))
    order = np.argsort(data.trained, kind="stable")
    right = data.right._replace(firsts=np.asarray(data.trained)[order], seconds=last[order])
    return data._replace(queries=queries, passages=passages, positives=positives, right=right, scores=None)


def set_path(folder: Path, number: int) -> Path:
    return folder / f"set-{number:06}.safetensors"


def numbers_of(folder: Path) -> list[int]:
    """The sets that are whole, ascending."""
    return sorted(int(path.stem.removeprefix("set-")) for path in folder.glob("set-*.safetensors"))


def write_set(folder: Path, made: NegativeSet) -> None:
    """Publish a set: it is there whole or not at all."""
    tensors = {
        "examples": made.examples,
        "offsets": made.negatives.offsets,
        "rows": made.negatives.values,
        "scores": made.scores.negatives.values,
        "positive_offsets": made.scores.positives.offsets,
        "positive_scores": made.scores.positives.values,
    }
    path = set_path(folder, made.number)
    known = {"step": made.step, "told": dict(made.told), "dropped": dict(made.dropped)}
    with telling_refusals(path), written_whole(path) as aside:
        save_file(
            {name: np.ascontiguousarray(values) for name, values in tensors.items()}, aside, {"set": json.dumps(known)}
        )


def read_set(folder: Path, number: int) -> NegativeSet:
    """A set that was published. Raises FileNotFoundError when it was pruned meanwhile, DataError when it is broken."""
    path = set_path(folder, number)
    try:
        with safe_open(path, framework="np") as file:
            known = json.loads(file.metadata()["set"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        negatives = Ragged(tensors["rows"], tensors["offsets"])
        positives = Ragged(tensors["positive_scores"], tensors["positive_offsets"])
        scores = Scores(positives, Ragged(tensors["scores"], tensors["offsets"]))
        step, told, dropped = (known[name] for name in ("step", "told", "dropped"))
        return NegativeSet(number, int(step), tensors["examples"], negatives, scores, told, dropped)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        if not path.exists():
            raise FileNotFoundError(path) from None
        raise DataError(f"{path}: not a set of negatives ({error}); remove it") from None


def step_of(folder: Path, number: int) -> int:
    """The step of a set that is there."""
    with safe_open(set_path(folder, number), framework="np") as file:
        return int(json.loads(file.metadata()["set"])["step"])


def prune(folder: Path, first: int) -> None:
    """Remove the sets before a number."""
    for number in (number for number in numbers_of(folder) if number < first):
        set_path(folder, number).unlink(missing_ok=True)
