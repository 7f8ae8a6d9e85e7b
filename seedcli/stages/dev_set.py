"""What seed finetune looks at while it trains: dev queries, and passages to find theirs in."""

import numpy as np

from seedcli.base.errors import DataError
from seedcli.configs.finetune import FinetuneConfig
from seedcli.models.encoder import segmentation
from seedcli.negatives.examples import chosen, positive_ids
from seedcli.retrieval.dev import DevSet, sampled
from seedcli.stages.texts import Source


def dev_set(config: FinetuneConfig, source: Source) -> DevSet:
    """Queries of --dev that have a text and a right passage, drawn by the seed; passages, all right ones among them."""
    options, seed = config.watch, config.optimize.seed
    split = str(options.dev)
    queries, passages = (source.texts(reading) for reading in (source.queries(split), source.passages()))
    qrels = source.collection.qrels(split)
    names = [query for query, grades in qrels.items() if positive_ids(grades)]
    rows = queries.ids.rows(names)
    right = {}
    for name, row in zip(names, rows.tolist(), strict=True):
        found = passages.ids.rows(positive_ids(qrels[name]))
        if row >= 0 and (found >= 0).any():
            right[name] = (row, sorted(set(found[found >= 0].tolist())))
    if not right:
        raise DataError(f"{source.collection.source}: no query of {split!r} has both a text and a right passage")
    asked = chosen(list(right), 1.0, options.dev_queries, seed)
    pairs = [pair for name, pair in right.items() if name in asked]
    positives = sorted({row for _, found in pairs for row in found})
    searched = sampled(len(passages.tokens), positives, options.dev_passages, seed)
    sample = f"{len(searched):,} of {len(passages.tokens):,}" if len(searched) < len(passages.tokens) else "all"
    source.progress.say(
        f"dev: {len(pairs):,} queries of {split!r} in {sample} passages, every {options.watch_every:,} steps"
    )
    return DevSet(
        [queries.tokens[row] for row, _ in pairs],
        passages.tokens,
        searched,
        [np.searchsorted(searched, found).tolist() for _, found in pairs],
        segmentation(source.settings, source.tokenizer),
    )
