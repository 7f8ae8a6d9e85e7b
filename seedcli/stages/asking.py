"""A question to one index or several -> its first hits, with their texts."""

from collections.abc import Sequence
from contextlib import closing

from seedcli.base.errors import ConfigError
from seedcli.base.files import Closing
from seedcli.base.progress import Progress
from seedcli.base.runtime import Runtime
from seedcli.configs.search import SearchConfig
from seedcli.data.records import Passage, Query, clean
from seedcli.data.sources import open_collection
from seedcli.retrieval.hits import Hit
from seedcli.stages.indexes import Questions, Searcher
from seedcli.stages.stage import joined

ANSWERS = 10


class Asking(Closing):
    """Indexes opened once for any number of questions."""

    def __init__(self, config: SearchConfig, runtime: Runtime, progress: Progress):
        self.searcher = Searcher(config, runtime, progress)

    def hits(self, texts: Sequence[str], depth: int) -> list[list[Hit]]:
        """The first `depth` passages for each text. The corpus is read once for all."""
        if not all(text.strip() for text in texts):
            raise ConfigError("the QUESTION is empty")
        questions = Questions([Query(str(row), clean(text)) for row, text in enumerate(texts)])
        rankings = list(self.searcher.search(questions, depth))
        wanted = {id_ for ranking in rankings for id_ in ranking.documents}
        passages: dict[str, Passage] = {}
        for corpus in dict.fromkeys(index.corpus() for index in self.searcher.indexes):
            passages |= open_collection(corpus).passages_of(wanted)
        return [
            [Hit(passages[id_], float(score)) for id_, score in zip(ranking.documents, ranking.scores, strict=True)]
            for ranking in rankings
        ]

    def close(self) -> None:
        self.searcher.close()


def answer(config: SearchConfig, progress: Progress) -> list[Hit]:
    """The first hits of the config's question, with their texts."""
    if any(given is not None for given in (config.out, config.queries, config.split, config.candidates)):
        told = "it goes without --queries, --split, --candidates and --out"
        raise ConfigError(f"a QUESTION is answered on the screen: {told}")
    with joined("search", config) as runtime, closing(Asking(config, runtime, progress)) as asking:
        (hits,) = asking.hits([str(config.question)], config.depth or ANSWERS)
        return hits
