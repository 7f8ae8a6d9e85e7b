"""What an approximate index is made of: a factory string of faiss and its numbers, each with the reason for it.

They follow from how many vectors there are, their width, and the memory that the index may take.
Letters: N vectors, D their width, L lists, S bytes of a code, M links of a vector.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

from seedcli.base.errors import ConfigError
from seedcli.base.machine import size as in_words

Knob = Literal["probes", "ef_search"]
Choice = TypeVar("Choice")

KINDS = ("hnsw", "ivf", "ivfpq", "pq", "sq", "opq")
LISTS, CODES, LINKS = {"nlist", "probes"}, {"code_size"}, {"m", "ef_construction", "ef_search"}
TAKES = {  # what can be asked of a kind beside what all take
    "hnsw": LINKS | {"memory"},
    "ivf": LISTS | {"memory", "train"},
    "ivfpq": LISTS | CODES | {"memory", "train"},
    "opq": LISTS | CODES | {"memory", "train"},
    "pq": CODES | {"memory", "train"},
    "sq": {"memory", "train"},
}
OWN = {"probes", "ef_search", "ef_construction", "train"}  # of a factory string

EACH = 40  # vectors to train a list on: faiss advises 39
CENTRES = 256  # of a byte of a code: as many vectors train it at least
TRAINED = 64 * CENTRES  # vectors to train codes on
MANY = 100_000  # vectors, of which each has 32 links in place of 16
EF_CONSTRUCTION, EF_SEARCH = 64, 128
ID = 8  # bytes of a vector's number in a list
NODE = 16  # bytes of a vector in a graph beside its links at the bottom


class Asked(NamedTuple):
    """What someone asks for; None: what follows from the rest."""

    memory: int | None = None  # bytes
    nlist: int | None = None
    m: int | None = None
    ef_construction: int | None = None
    code_size: int | None = None
    probes: int | None = None
    ef_search: int | None = None
    train: int | None = None


class Design(NamedTuple):
    """An index to be built. `setting` is where its knob stands by default; without a knob there is nothing to turn."""

    factory: str
    train: int = 0  # vectors that it is trained on
    ef_construction: int | None = None
    knob: Knob | None = None
    setting: int | None = None
    bytes: int | None = None  # in memory, estimated
    reasons: tuple[str, ...] = ()


def design(kind: str, vectors: int, width: int, asked: Asked) -> Design:
    """How an index of one of KINDS is built. Raises ConfigError for what can't be asked of it."""
    check_asked(kind, TAKES[kind], asked)
    if kind == "hnsw":
        return graph(vectors, width, asked)
    if kind == "sq":
        return scalars(vectors, width, asked)
    if kind == "pq":
        return codes(vectors, width, asked)
    return lists(kind, vectors, width, asked)


def check_asked(kind: str, takes: set[str], asked: Asked) -> None:
    """Raises ConfigError for what a kind of index doesn't have."""
    for name, value in asked._asdict().items():
        if value is not None and name not in takes:
            raise ConfigError(f"{written(name)}: {kind} has none; it takes {', '.join(map(written, sorted(takes)))}")


def written(name: str) -> str:
    """An option as it is given to the command."""
    plain = name in {"memory", "probes", "ef_search"}
    return f"--{name.replace('_', '-')}" if plain else f"--set faiss.{name}"


def graph(vectors: int, width: int, asked: Asked) -> Design:
    """hnsw: links between near vectors (Malkov & Yashunin 2018); in float16 or in bytes where floats don't fit."""
    links = asked.m or (32 if vectors >= MANY else 16)
    each = 8 * links + 4 * links / (links - 1) + NODE
    stored = [("", 4, "whole"), ("_SQfp16", 2, "in float16"), ("_SQ8", 1, "in a byte a number")]
    choices = [((suffix, how), math.ceil(vectors * (width * wide + each))) for suffix, wide, how in stored]
    (suffix, how), bytes_ = fitting(choices, asked.memory)
    built, setting = asked.ef_construction or EF_CONSTRUCTION, asked.ef_search or EF_SEARCH
    reasons = (
        because(f"M {links}", asked.m, f"{'from' if links == 32 else 'below'} {MANY:,} vectors"),
        because(f"efConstruction {built}", asked.ef_construction, "more finds more, and takes longer"),
        because(f"ef_search {setting}", asked.ef_search, "where nothing is told; --target-recall finds one"),
        f"vectors {how}: {room(bytes_, asked.memory)}",
    )
    train = min(vectors, TRAINED) if suffix == "_SQ8" else 0
    return Design(f"HNSW{links}{suffix}", train, built, "ef_search", setting, bytes_, reasons)


def scalars(vectors: int, width: int, asked: Asked) -> Design:
    """sq: every number in a byte, or as memory has it."""
    stored = [("SQfp16", 2 * width, "16 bits"), ("SQ8", width, "8 bits"), ("SQ4", (width + 1) // 2, "4 bits")]
    choices = [((name, bits), vectors * each) for name, each, bits in stored]
    (name, bits), bytes_ = fitting(choices if asked.memory else choices[1:2], asked.memory)
    train, why = trained(vectors, TRAINED, asked)
    return Design(name, train, bytes=bytes_, reasons=(f"{bits} a number: {room(bytes_, asked.memory)}", why))


def codes(vectors: int, width: int, asked: Asked) -> Design:
    """pq: a code of each vector, and every code is compared (Jégou, Douze & Schmid 2011)."""
    train, why = trained(vectors, TRAINED, asked)
    if train < CENTRES:
        return Design("Flat", bytes=4 * vectors * width, reasons=(too_few(train),))
    code, bytes_, reason = code_of(vectors, width, 4 * CENTRES * width, asked)
    return Design(f"PQ{code}", train, bytes=bytes_, reasons=(reason, why))


def lists(kind: str, vectors: int, width: int, asked: Asked) -> Design:
    """ivf, and with codes ivfpq and opq (Ge et al. 2013): lists of near vectors, of which a search reads some."""
    most = min(vectors, asked.train or vectors)
    power = 1 << round(math.log2(4 * math.sqrt(vectors)))
    count = asked.nlist or max(1, min(power, most // EACH))
    if count > most:
        raise ConfigError(f"--set faiss.nlist={count}: more than the {most:,} vectors to train on")
    fewer = f"{EACH} vectors to train each on" if count < power else "the power of two nearest to 4 √N"
    train, why = trained(vectors, max(EACH * count, TRAINED if kind != "ivf" else 0), asked)
    probes = min(count, asked.probes or max(1, round(math.sqrt(count))))
    heads = ID * vectors + 4 * count * width
    reasons = [
        because(f"nlist {count:,}", asked.nlist, fewer),
        because(f"probes {probes}", asked.probes, "√nlist; --target-recall finds one"),
        why,
    ]
    if kind == "ivf" or train < CENTRES:
        (_, bytes_) = fitting([("Flat", heads + 4 * vectors * width)], asked.memory)
        reasons.append(f"vectors whole: {room(bytes_, asked.memory)}" if kind == "ivf" else too_few(train))
        return Design(f"IVF{count},Flat", train, None, "probes", probes, bytes_, tuple(reasons))
    heads += 4 * CENTRES * width + (4 * width * width if kind == "opq" else 0)
    code, bytes_, reason = code_of(vectors, width, heads, asked)
    first = f"OPQ{code}," if kind == "opq" else ""
    return Design(f"{first}IVF{count},PQ{code}", train, None, "probes", probes, bytes_, (*reasons, reason))


def code_of(vectors: int, width: int, heads: int, asked: Asked) -> tuple[int, int, str]:
    """Bytes of a code, those of the whole index, and why. `heads`: what it takes beside the codes."""
    parts = [part for part in range(width, 0, -1) if width % part == 0]  # a byte stands for as many numbers each
    if asked.code_size is not None and asked.code_size not in parts:
        known = ", ".join(map(str, reversed(parts)))
        raise ConfigError(f"--set faiss.code_size={asked.code_size}: no part of {width} numbers; take one of {known}")
    small = [part for part in parts if width / 16 <= part <= width / 4]
    usual = small[0] if small else next((part for part in reversed(parts) if part > width / 4), 1)
    wanted = [asked.code_size] if asked.code_size else parts if asked.memory else [usual]
    code, bytes_ = fitting([(part, heads + vectors * part) for part in wanted], asked.memory)
    why = "a sixteenth of the vector's" if 4 * code == width else f"of the {4 * width:,} of a vector"
    return code, bytes_, because(f"code of {code} bytes", asked.code_size, f"{why}; {room(bytes_, asked.memory)}")


def fitting(choices: Sequence[tuple[Choice, int]], memory: int | None) -> tuple[Choice, int]:
    """The first choice, of those with their bytes, that memory has room for. Raises ConfigError when none fits."""
    found = next((choice for choice in choices if memory is None or choice[1] <= memory), None)
    if found is None:
        least = min(bytes_ for _, bytes_ in choices)
        told = f"an index of this kind takes {in_words(least)} at least"
        enough = f"give {math.ceil(least / 2**20)}m"
        raise ConfigError(f"--memory {in_words(memory or 0)}: {told}; {enough}, or take a kind with smaller codes")
    return found


def trained(vectors: int, wanted: int, asked: Asked) -> tuple[int, str]:
    """How many vectors to train on, and why."""
    train = min(vectors, asked.train or wanted)
    reason = (
        "all there are"
        if train == vectors
        else f"{EACH} a list"
        if wanted != TRAINED
        else f"{TRAINED // CENTRES} a centre of a code"
    )
    return train, because(f"trained on {train:,} vectors", asked.train if train == asked.train else None, reason)


def because(what: str, asked: object, reason: str) -> str:
    return f"{what}: {'as asked' if asked is not None else reason}"


def room(bytes_: int, memory: int | None) -> str:
    return f"about {in_words(bytes_)} in all" + (f", within --memory {in_words(memory)}" if memory else "")


def too_few(train: int) -> str:
    return f"vectors whole: {train:,} are too few to train codes on, which takes {CENTRES}"
