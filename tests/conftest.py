"""What many tests stand on: a cache of their own, a collection of sixty passages, and the chain made over it once."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seedcli.base.config import options, resolve
from seedcli.base.manifest import Manifest
from seedcli.base.progress import Silent
from seedcli.configs import VERBS

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads on shared cores wait for each other
os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub, which reads it once

Perform = Callable[..., Manifest]

ANIMALS = {  # each with its food, its home, its young and its voice
    "heron": ("frogs and eels", "reed beds", "four grey chicks", "a harsh croak"),
    "otter": ("trout and crayfish", "quiet rivers", "two blind cubs", "a shrill whistle"),
    "beaver": ("bark and willow twigs", "dammed streams", "three furry kits", "a loud tail slap"),
    "falcon": ("pigeons and starlings", "steep cliffs", "three downy eyases", "a rasping cackle"),
    "badger": ("earthworms and acorns", "woodland setts", "five silver cubs", "a deep purr"),
    "salmon": ("shrimps and herring", "cold oceans", "thousands of fry", "no sound at all"),
    "hedgehog": ("beetles and slugs", "garden hedges", "six spiny hoglets", "a snuffling grunt"),
    "bison": ("prairie grass", "open plains", "one orange calf", "a rolling bellow"),
    "lynx": ("snowshoe hares", "northern forests", "two spotted kittens", "a rare yowl"),
    "walrus": ("clams and mussels", "drifting ice", "one heavy calf", "a bell under water"),
    "gecko": ("moths and crickets", "warm walls", "two hard eggs", "a chirping click"),
    "condor": ("dead deer", "high canyons", "one slow nestling", "a hiss without voice"),
}
ASPECTS = {
    "diet": ("what does the {0} eat", "The {0} lives on {1}. It hunts at dusk, and in winter it eats less."),
    "home": ("where does the {0} live", "Look for the {0} in {2}. It keeps to one place as long as there is food."),
    "young": ("how many young has the {0}", "In spring the {0} raises {3}. Both grow fast and leave before autumn."),
    "voice": ("how does the {0} sound", "The call of the {0} is {4}. It is heard most often early in the morning."),
    "story": ("which tale tells of the {0}", "An old tale says that the {0} once lost {1}, and found {2} instead."),
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: starts commands of its own, and takes from five seconds to a minute")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of all tests, which never is the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEED_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder: 60 passages, a query each, 40 of them judged in train and 20 in test."""
    folder = tmp_path_factory.mktemp("chain") / "animals"
    (folder / "qrels").mkdir(parents=True)
    rows = [
        (f"{animal}-{aspect}", animal, passage.format(animal, *words), query.format(animal))
        for animal, words in ANIMALS.items()
        for aspect, (query, passage) in ASPECTS.items()
    ]
    passages = [{"_id": id_, "title": title.title(), "text": text} for id_, title, text, _ in rows]
    queries = [{"_id": f"q:{id_}", "text": query} for id_, _, _, query in rows]
    for name, records in [("corpus", passages), ("queries", queries)]:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for split, judged in [("train", [0, 1]), ("test", [2])]:
        lines = [f"q:{id_}\t{id_}\t1\n" for row, (id_, *_) in enumerate(rows) if row % 3 in judged]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


@pytest.fixture(scope="session")
def texts(beir: Path) -> list[str]:
    """The text of each passage of the collection."""
    return [json.loads(line)["text"] for line in (beir / "corpus.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def wordpiece(texts: list[str]) -> Any:
    """A seedcli Tokenizer of at most 300 WordPiece entries, trained on the texts."""
    from seedcli.data.wordpiece import train_tokenizer

    return train_tokenizer(texts, 300, lowercase=True, length=64)


@pytest.fixture(scope="session")
def perform() -> Perform:
    """A stage as the command would run it, in this process: perform("index", out=..., vectors=..., **{"a.b": ...})."""

    def performed(verb: str, overwrite: bool = False, **flags: Any) -> Manifest:
        from seedcli.stages import stage

        given = {key: str(value) if isinstance(value, Path) else value for key, value in flags.items()}
        if "machine.threads" in {option.key for option in options(VERBS[verb])}:
            given = {"machine.threads": 1} | given  # two threads on cores that others use wait for each other
        return stage.perform(verb, resolve(VERBS[verb], {}, given, "a test"), Silent(), overwrite)

    return performed


class Chain(NamedTuple):
    """The folders of a chain over the collection, beside each other."""

    beir: Path
    encoder: Path
    words: Path  # the index of BM25
    retriever: Path
    vectors: Path
    flat: Path
    found: Path
    found_words: Path
    report: Path


TINY = {
    "model.size": "tiny",
    "words.tokenizer": "train",
    "words.vocabulary": 300,
    "words.length": 32,
    "optimize.batch_size": 8,
    "optimize.micro_batch": 8,
    "optimize.lr": 1e-3,
    "optimize.warmup": 2,
}


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Options of a pretraining that takes a second."""
    return dict(TINY)


@pytest.fixture(scope="session")
def chain(beir: Path, perform: Perform) -> Chain:
    """Every stage once."""
    root = beir.parent
    made = Chain(beir, *(root / name for name in Chain._fields[1:]))
    perform("pretrain", out=made.encoder, text=[str(beir)], **TINY, **{"optimize.steps": 12, "saving.log_every": 4})
    perform("index", out=made.words, kind="bm25", corpus=beir, heap="256m")
    steps = {"optimize.steps": 12, "optimize.batch_size": 8, "optimize.lr": 1e-3, "optimize.warmup": 2}
    tower = {"tower.similarity": "cosine", "loss.temperature": 0.05}
    perform("finetune", out=made.retriever, model=made.encoder, data=beir, **steps, **tower)
    perform("encode", out=made.vectors, model=made.retriever, corpus=beir, shard_size=16)
    perform("index", out=made.flat, vectors=made.vectors)
    perform("search", out=made.found, index=[str(made.flat)], queries=beir, split="test", depth=20)
    perform("search", out=made.found_words, index=[str(made.words)], queries=beir, split="test", depth=20)
    runs = [f"bm25={made.found_words}", f"dense={made.found}"]
    perform("evaluate", out=made.report, runs=runs, qrels=beir, baseline="bm25", examples=2)
    return made


@pytest.fixture(scope="session")
def listing() -> Callable[[Path], dict[str, str]]:
    """What a folder holds: the checksum of every file by its path."""

    def listed(folder: Path) -> dict[str, str]:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return listed
