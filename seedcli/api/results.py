"""What the verbs leave, as objects: a folder that answers, and that stands for its path wherever one is expected."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from seedcli.base.config import resolve
from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import Manifest, finished
from seedcli.base.progress import Silent
from seedcli.configs.groups import Machine
from seedcli.configs.search import SearchConfig
from seedcli.data.records import Passage, Query, clean
from seedcli.retrieval.fusion import Method
from seedcli.retrieval.hits import Hit
from seedcli.retrieval.runs import Ranking

if TYPE_CHECKING:
    from seedcli.retrieval import runs
    from seedcli.retrieval.encoding import TextEncoder
    from seedcli.retrieval.vectors import Shard
    from seedcli.stages.asking import Asking

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Result(os.PathLike[str]):
    """A folder that a verb left."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    @cached_property
    def manifest(self) -> Manifest:
        """How it was made. Raises DataError or FolderError unless it is a finished folder, as seed left it."""
        return finished(self.path)


@dataclass(frozen=True)
class Model(Result):
    """An encoder; it is loaded when it first encodes, and stays in memory as long as this object."""

    machine: Machine = field(default_factory=Machine)

    def encode(self, texts: str | Sequence[str], role: Literal["query", "passage"]) -> NDArray[np.float32]:
        """Texts to vectors, N -> [N, D], each written and cut as the model's settings say for its role.

        Raises DataError when the folder holds no model, or one that gives a passage several vectors (`encode_passages`
        has those), and ConfigError for another role.
        """
        if role not in {"query", "passage"}:
            raise ConfigError(f"role: got {role!r}; it should be 'query' or 'passage'")
        given = [texts] if isinstance(texts, str) else texts
        records = [Query("", clean(text)) if role == "query" else Passage("", "", clean(text)) for text in given]
        encoder = self._queries if role == "query" else self._passages
        if role == "passage" and encoder.encoder.settings.several:
            raise DataError(f"{self.path}: gives a passage several vectors; model.encode_passages(texts) has them")
        return encoder.encode([item.text for item in encoder.items(records)], role)

    def encode_passages(self, texts: str | Sequence[str]) -> list[NDArray[np.float32]]:
        """All vectors of each passage, N -> N times [m, D]; m is 1 without tower.segments and token_vectors.

        A passage scores as the best of its vectors: `(vectors @ query).max()`. Raises DataError when the folder holds
        no model.
        """
        given = [texts] if isinstance(texts, str) else texts
        items = self._passages.items(Passage("", "", clean(text)) for text in given)
        vectors, counts = self._passages.vectors([item.text for item in items], "passage")
        ends = zip(np.cumsum(counts).tolist(), counts.tolist(), strict=True)
        return [vectors[end - count : end] for end, count in ends]

    @cached_property
    def _queries(self) -> "TextEncoder":
        return self._opened("query")

    @cached_property
    def _passages(self) -> "TextEncoder":
        from seedcli.models.towers import untied

        return self._opened("passage") if untied(self.path) else self._queries

    def _opened(self, role: Literal["query", "passage"]) -> "TextEncoder":
        from seedcli.models.towers import open_tower
        from seedcli.retrieval.encoding import TextEncoder
        from seedcli.stages.stage import joined

        with joined("encode", self) as here:
            return TextEncoder(*open_tower(self.path, role), here)


@dataclass(frozen=True)
class Vectors(Result):
    """Vectors of passages or of queries, on disk."""

    def ids(self) -> list[str]:
        """The N ids, in the order of the rows; one with several vectors stands there as often."""
        from seedcli.retrieval.vectors import read_ids

        return list(read_ids(self._shards))

    def array(self) -> NDArray[np.float32]:
        """All vectors [N, D]; of a single shard, mapped from the disk."""
        parts = [shard.vectors for shard in self._shards]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @cached_property
    def _shards(self) -> "list[Shard]":
        from seedcli.retrieval.vectors import open_shards

        return open_shards(self.path)


class Searchable(ABC):
    """What answers questions. All that an answer needs is loaded once and kept, until `close`."""

    @overload
    def search(self, questions: str, depth: int = 10) -> list[Hit]: ...  # type: ignore[overload-overlap]
    @overload
    def search(self, questions: Sequence[str], depth: int = 10) -> list[list[Hit]]: ...
    def search(self, questions: str | Sequence[str], depth: int = 10) -> list[Hit] | list[list[Hit]]:
        """The first hits of a question, best first; of a list of questions, a list of hits for each.

        A list is quicker than its questions one by one: the corpus is read once for all. Raises ConfigError for an
        empty question.
        """
        if depth < 1:
            raise ConfigError(f"depth is {depth}; it should be at least 1")
        if isinstance(questions, str):
            return self._asking.hits([questions], depth)[0]
        return self._asking.hits(questions, depth)

    def close(self) -> None:
        """Let go of all that is loaded, and end the Java process of bm25; a later question begins anew."""
        if asking := vars(self).pop("_asking", None):
            asking.close()

    @cached_property
    def _asking(self) -> "Asking":
        from seedcli.stages.asking import Asking
        from seedcli.stages.stage import joined

        config = self._config()
        with joined("search", config) as here:
            return Asking(config, here, Silent())

    @abstractmethod
    def _config(self) -> SearchConfig:
        """What to search, as for the command."""


@dataclass(frozen=True)
class Index(Searchable, Result):
    """An index: flat over vectors, or bm25 over words."""

    machine: Machine = field(default_factory=Machine)

    def _config(self) -> SearchConfig:
        return SearchConfig(index=[str(self.path)], machine=self.machine)


@dataclass(frozen=True, eq=False)
class Fusion(Searchable):
    """Several indexes that answer as one."""

    config: SearchConfig

    def _config(self) -> SearchConfig:
        return self.config


@dataclass(frozen=True)
class Run(Result):
    """Rankings, one a query: iterate over them, or ask for one by its query's id."""

    def __iter__(self) -> Iterator[Ranking]:
        return self._run.rankings()

    def ranking(self, query: str) -> Ranking:
        """What was found for a query, best first: documents and scores, none when the run lacks it."""
        documents, scores = self._run.ranking(query)
        return Ranking(query, [document.decode() for document in documents.tolist()], scores)

    @cached_property
    def _run(self) -> "runs.Run":
        from seedcli.retrieval.run_files import read_run, run_path

        return read_run(run_path(self.path))


@dataclass(frozen=True)
class Report(Result):
    """Runs compared; as text, a table in Markdown."""

    def __str__(self) -> str:
        return (self.path / "report.md").read_text(encoding="utf-8")

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Run -> measure -> mean over the judged queries."""
        return {name: run["means"] for name, run in self._summary["runs"].items()}

    @property
    def p_values(self) -> dict[str, dict[str, float]]:
        """Run -> measure -> p-value of its difference from the baseline, which itself has none; of that test alone."""
        return {name: run["p_values"] for name, run in self._summary["runs"].items() if "p_values" in run}

    @property
    def corrected(self) -> dict[str, dict[str, float]]:
        """The same, corrected for all tests of the table: what † goes by."""
        return {name: run["corrected"] for name, run in self._summary["runs"].items() if "corrected" in run}

    @property
    def tests(self) -> list[dict[str, Any]]:
        """Each tested difference of two systems in a measure, with its interval, p-values, effect size and counts."""
        return list(self._summary["tests"])

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "report.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Inspection(Result):
    """The vectors of models compared; as text, a table in Markdown. Plots lie beside it."""

    def __str__(self) -> str:
        return (self.path / "inspect.md").read_text(encoding="utf-8")

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Model -> all that was measured, as inspect.json has it."""
        return dict(json.loads((self.path / "inspect.json").read_text(encoding="utf-8"))["models"])


RESULTS: dict[str, type[Result]] = {
    "pretrain": Model,
    "finetune": Model,
    "encode": Vectors,
    "index": Index,
    "search": Run,
    "evaluate": Report,
    "inspect": Inspection,
    "convert": Model,
}


def open_model(name: StrPath, device: str = "auto") -> Model:
    """A model's folder, of seed or of another library, or a name of the Hugging Face hub. Raises DataError."""
    from seedcli.models.encoder import model_folder

    return Model(model_folder(os.fspath(name)), machine_of(device))


def open_vectors(folder: StrPath) -> Vectors:
    """A finished folder of seed encode. Raises DataError or FolderError for any other."""
    return Vectors(checked(folder, "encode"))


def open_index(folder: StrPath, device: str = "auto") -> Index:
    """A finished folder of seed index. Raises DataError or FolderError for any other."""
    return Index(checked(folder, "index"), machine_of(device))


def open_run(folder: StrPath) -> Run:
    """A finished folder of seed search. Raises DataError or FolderError for any other."""
    return Run(checked(folder, "search"))


def open_report(folder: StrPath) -> Report:
    """A finished folder of seed evaluate. Raises DataError or FolderError for any other."""
    return Report(checked(folder, "evaluate"))


def fuse(
    *indexes: StrPath, method: Method = "rrf", weights: Sequence[float] = (), k: int = 60, depth: int = 1_000,
    device: str = "auto",
) -> Fusion:  # fmt: skip
    """Indexes as one: `depth` hits of each are ranked by weighted sums of what `method` makes of ranks or scores.

    By rrf that is 1 / (k + rank), by min-max, z-score and sum the scores, made comparable within each query.
    Raises DataError or FolderError for what isn't an index.
    """
    if not indexes:
        raise ConfigError("seed.fuse: no index given")
    folders = [str(checked(folder, "index")) for folder in indexes]
    given = {"index": folders, "fusion": method, "fusion_k": k, "fusion_depth": depth, "machine.device": device}
    return Fusion(resolve(SearchConfig, {}, given | {"weight": list(weights)}, "seed.fuse"))


def machine_of(device: str) -> Machine:
    return resolve(Machine, {"device": device}, {}, "seed")


def checked(folder: StrPath, verb: str) -> Path:
    finished(Path(folder), verb)
    return Path(folder)
