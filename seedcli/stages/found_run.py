"""A finished run in the place of an index: it answers the queries that it was made of."""

from collections.abc import Iterator
from pathlib import Path

from seedcli.base.errors import ConfigError, DataError
from seedcli.base.manifest import finished, read_manifest
from seedcli.base.progress import Progress
from seedcli.retrieval.run_files import holds_run, read_run, run_path
from seedcli.retrieval.runs import Ranking
from seedcli.stages.questions import Questions


class FoundRun:
    """What was found before, by whatever."""

    unit = "hits"

    def __init__(self, path: Path):
        self.path, self.run = path, read_run(run_path(path))

    def search(self, questions: Questions, depth: int, progress: Progress) -> Iterator[Ranking]:
        """The first `depth` hits of each question that the run has. Raises DataError when it has none of them."""
        asked = [query.id for query in questions.queries]
        known = set(self.run.queries)
        lacking = [query for query in asked if query not in known]
        if len(lacking) == len(asked):
            told = f"such as {asked[0]!r:.40}, where the run has {self.run.queries[0]!r:.40}"
            raise DataError(f"{self.path}: a run of none of the {len(asked):,} queries that are asked, {told}")
        if lacking:
            told = f"lacks {len(lacking):,} of the {len(asked):,} queries that are asked, such as {lacking[0]!r:.40}"
            progress.say(f"{self.path}: {told}")
        for query in asked:
            documents, scores = self.run.ranking(query)
            yield Ranking(query, [document.decode() for document in documents[:depth].tolist()], scores[:depth])

    @property
    def size(self) -> int:
        return len(self.run.documents)

    def memory(self) -> int:
        """Bytes that it holds."""
        return self.run.documents.nbytes + self.run.scores.nbytes

    def close(self) -> None:
        """Nothing is open."""


def is_run(source: str) -> bool:
    """Whether --index names a run. Raises FolderError for the folder of a search that isn't finished."""
    path = Path(source)
    if path.is_dir():
        made = read_manifest(path)
        if made is not None and made.verb == "search":
            finished(path, "search")
            return True
        return made is None and holds_run(path)
    return path.is_file() and holds_run(path)


def refuse_runs(sources: list[str]) -> None:
    """Raises ConfigError for a run: it knows no question but its own."""
    if found := next(filter(is_run, sources), None):
        raise ConfigError(f"--index {found}: a run answers the queries that it was made of; ask an index")
