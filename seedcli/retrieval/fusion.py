"""Fusion: one ranking of several, by reciprocal ranks."""

from collections.abc import Iterator, Sequence

import numpy as np

from seedcli.retrieval.runs import Ranking, Run, order


def reciprocal_rank(runs: Sequence[Run], depth: int, k: int = 60) -> Iterator[Ranking]:
    """For each query of any run the `depth` documents with the highest sum, over the runs, of 1 / (k + rank).

    Ranks begin at 1; a run adds nothing for a document it lacks (Cormack, Clarke & Büttcher 2009, RRFscore).
    """
    for query in dict.fromkeys(query for run in runs for query in run.queries):
        rankings = [run.ranking(query)[0] for run in runs]
        gains = np.concatenate([1 / (k + np.arange(1, len(ranking) + 1)) for ranking in rankings])
        documents, owners = np.unique(np.concatenate(rankings), return_inverse=True)
        scores = np.bincount(owners, gains, len(documents)).astype(np.float32)
        best = order(documents, scores)[:depth]
        yield Ranking(query, [document.decode() for document in documents[best].tolist()], scores[best])
