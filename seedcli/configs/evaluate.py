"""Options of seed evaluate."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_doc import Doc
from annotated_types import Ge

from seedcli.base.config import INCIDENTAL, INPUT, RARE
from seedcli.configs.groups import Problems


@dataclass(frozen=True)
class Showing:
    """Page, curves, log"""

    page: Annotated[
        bool, Doc("Leave report.html: charts, queries with their texts, lineage; opens without a network.")
    ] = True
    cases: Annotated[
        int,
        Ge(0),
        Doc("Of two runs, the queries that gain most and that lose most whose hits stand in the page with texts."),
        RARE,
    ] = 10
    curve: Annotated[
        str | None,
        Doc(
            "Plot each measure over an option that the runs were made with, such as finetune.fraction or model.window; "
            "or, where runs are named like bert@30000, over these numbers, which the word given here labels."
        ),
    ] = None
    curve_by: Annotated[
        str | None, Doc("A line for each value of this option; left out: for each name before the @.")
    ] = None
    curve_scale: Annotated[
        Literal["auto", "linear", "log"], Doc("The x axis; auto: log where numbers span a factor of 30."), RARE
    ] = "auto"
    log: Annotated[
        Path | None, Doc("Append a line for each run to this file (JSONL), once for each report."), INCIDENTAL
    ] = None
    leaderboard: Annotated[
        Path | None,
        Doc(
            "Show all lines of such a file on the same judgements, best first in the first of --measures, with what "
            "they differ in. Without --runs it shows those of all judgements; --out then names a Markdown file."
        ),
        INCIDENTAL,
    ] = None
    between: Annotated[
        str | None,
        Doc(
            "--leaderboard: tell all that two lines differ in, by their numbers, such as 1,4. Left out: of each line, "
            "some of what it differs in from the first."
        ),
        INCIDENTAL,
    ] = None


@dataclass(frozen=True)
class EvaluateConfig:
    """Compare runs with relevance judgements: a table, with tests against a baseline or of all pairs.

    Judged queries that a run lacks count as zero (trec_eval -c). Leaves report.md, .tex, .csv and .json, and
    per_query.tsv.
    """

    out: Annotated[Path, Doc("The folder to leave the report in.")]
    runs: Annotated[
        list[str],
        Doc(
            "A run, as NAME=PATH or PATH: a TREC file, or a folder of seed search; repeatable. "
            "One NAME for several runs makes them one system's seeds."
        ),
        INPUT,
    ]
    qrels: Annotated[
        str,
        Doc("Judgements: a collection, or a file of them (TREC, BEIR). For answers@k: questions with their answers."),
        INPUT,
    ]
    split: Annotated[str, Doc("Which qrels of a collection.")] = "test"
    measures: Annotated[
        list[str],
        Doc("mrr, recall, ndcg, map, precision, hit_rate or judged, with or without @k, or r-precision; with -l2 "
            "relevant from grade 2 on (recall@100-l2); answers@k: whether one of the first k passages holds an answer "
            "(open-domain QA); auc, mind-mrr, mind-ndcg@k: as MIND has them; repeatable."),
    ] = field(default_factory=lambda: ["mrr@10", "recall@100", "ndcg@10"])  # fmt: skip
    answers: Annotated[
        Literal["tokens", "regex"],
        Doc("answers@k: answers are whole tokens in a row, as DPR has them, or regular expressions (CuratedTREC)."),
    ] = "tokens"
    corpus: Annotated[
        str | None, Doc("answers@k: the passages, where the collection of --qrels holds none."), INPUT
    ] = None
    baseline: Annotated[str | None, Doc("The name of the run that the others are tested against.")] = None
    all_pairs: Annotated[bool, Doc("Test all runs against each other rather than against a baseline.")] = False
    test: Annotated[
        Literal["permutation", "t"],
        Doc("Of the mean difference, paired: sign-flip permutations, or Student's t. Several seeds: always t."),
    ] = "permutation"
    correction: Annotated[
        Literal["holm", "bonferroni", "bh", "none"],
        Doc("For all tests of the table together. holm keeps the chance of any false mark below 5 %, whatever hangs "
            "together; bh keeps the expected share of false ones among the marks below 5 %."),
    ] = "holm"  # fmt: skip
    drop_self: Annotated[bool, Doc("Drop hits whose id is their query's (ArguAna).")] = False
    problems: Problems = "report"
    permutations: Annotated[int, Ge(100), Doc("Random sign flips of the test, and samples of the intervals."), RARE] = (
        10_000
    )
    seed: Annotated[int, Ge(0), Doc("Of the tests, the intervals and the examples."), RARE] = 0
    examples: Annotated[int, Ge(0), Doc("Queries to show with the first three hits of the last run.")] = 0
    showing: Showing = field(default_factory=Showing)
