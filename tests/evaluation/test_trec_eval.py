"""Measures are those of trec_eval -c, by pytrec_eval, on runs made up with all that real ones have."""

import re
from pathlib import Path

import numpy as np
import pytest

from seedcli.data.formats.trec import read_qrels
from seedcli.data.records import Qrels
from seedcli.evaluation.metrics import measure, parsed
from seedcli.retrieval.run_files import read_run

pytrec_eval = pytest.importorskip("pytrec_eval", reason="needs pytrec-eval-terrier")

THEIRS = {  # our measure -> theirs
    "mrr": "recip_rank", "mrr@10": "recip_rank", "recall@5": "recall.5", "recall@100": "recall.100",
    "recall": "set_recall", "ndcg@3": "ndcg_cut.3", "ndcg@10": "ndcg_cut.10", "ndcg": "ndcg", "map@7": "map_cut.7",
    "map": "map", "precision@5": "P.5", "precision@50": "P.50", "precision": "set_P", "hit_rate@1": "success.1",
    "hit_rate@20": "success.20", "r-precision": "Rprec",
    "mrr-l2": "recip_rank", "recall@20-l2": "recall.20", "recall-l3": "set_recall", "map-l2": "map",
    "precision@5-l2": "P.5", "hit_rate@3-l3": "success.3", "r-precision-l2": "Rprec",
}  # fmt: skip


def made_up(folder: Path, seed: int) -> tuple[Path, Path]:
    """Runs with ties, queries that lack or are unjudged, and short ones; qrels with grades from -2 to 4."""
    rng = np.random.default_rng(seed)
    pool = [f"{'D' if rng.random() < 0.5 else 'doc-'}{number}" for number in range(60)]
    queries = [f"q{number}" for number in range(30)]
    run, qrels = [], []
    for query in queries:
        if rng.random() < 0.9:
            low = -2 if rng.random() < 0.8 else -2 - int(rng.integers(2))
            for document in rng.choice(pool, int(rng.integers(1, 40)), replace=False):
                grade = int(rng.integers(low, 5 if rng.random() < 0.9 else 1))
                qrels.append(f"{query} 0 {document} {max(-2, grade)}")
        if rng.random() < 0.9:
            kinds = int(rng.integers(1, 30))  # of scores: with one, all tie
            scores = rng.normal(size=kinds).astype(np.float32)
            for document in rng.choice(pool, int(rng.integers(1, 60)), replace=False):
                score = rng.choice(scores) if rng.random() < 0.9 else np.float32(rng.normal() / 3)
                score = float(score) + (rng.random() < 0.2) * 1e-12  # the same as a float32, which decides
                run.append(f"{query} Q0 {document} {rng.integers(99)} {score:.17g} t")
    qrels += ["hopeless 0 D1 0", "hopeless 0 D2 -1", "lacking 0 D1 1"]
    run += ["hopeless Q0 D1 1 1 t", "hopeless Q0 D2 2 1 t", "unjudged Q0 D1 1 1 t"]
    rng.shuffle(run)
    paths = folder / f"{seed}.run", folder / f"{seed}.qrels"
    for path, lines in zip(paths, (run, qrels), strict=True):
        path.write_text("\n".join(lines) + "\n")
    return paths


def theirs(run: Path, qrels: Qrels, name: str) -> list[float]:
    """trec_eval -c: a judged query that the run lacks counts as 0. A reciprocal rank is cut by cutting the run.

    Negative grades, with which pytrec_eval writes outside its memory, are given to it as 0: it takes both as not
    relevant and without a gain.
    """
    found: dict[str, dict[str, float]] = {}
    for line in run.read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        found.setdefault(query, {})[document] = float(np.float32(score))
    _, cutoff, level = parsed(name) or (0, 0, 0)
    if name == "mrr@10":
        best = {query: sorted(hits, key=lambda hit: (hits[hit], hit), reverse=True) for query, hits in found.items()}
        found = {query: {hit: found[query][hit] for hit in hits[:cutoff]} for query, hits in best.items()}
    judged = {query: {name: max(0, grade) for name, grade in grades.items()} for query, grades in qrels.items()}
    values = pytrec_eval.RelevanceEvaluator(judged, {THEIRS[name]}, relevance_level=level).evaluate(found)
    return [next(iter(values[query].values())) if query in values else 0.0 for query in qrels]


@pytest.mark.parametrize("seed", range(12))
def test_measures_are_trec_evals(tmp_path: Path, seed: int) -> None:
    run, judged = made_up(tmp_path, seed)
    qrels = read_qrels(judged)
    ours = measure({"run": read_run(run)}, qrels, list(THEIRS))
    assert ours.queries == list(qrels)
    for name, values in zip(THEIRS, ours.values[0], strict=True):
        expected = theirs(run, qrels, name)
        np.testing.assert_allclose(values, expected, atol=5e-7, err_msg=name)
        assert f"{values.mean():.4f}" == f"{np.mean(expected):.4f}", name


def test_a_repeated_document_counts_once_at_its_best_place(tmp_path: Path) -> None:
    """trec_eval refuses such a run: what it says of the run without the worse lines is what counts."""
    rng = np.random.default_rng(0)
    run, judged = made_up(tmp_path, 0)
    lines = run.read_text().splitlines()
    worse = []
    for line in lines:
        query, _, document, _, score, tag = line.split()
        if rng.random() < 0.3:
            worse.append(f"{query} Q0 {document} 1 {float(score) - rng.integers(3)} {tag}")
    doubled = tmp_path / "doubled"
    doubled.write_text("\n".join(rng.permutation(lines + worse)) + "\n")
    qrels = read_qrels(judged)
    values = [measure({"run": read_run(path)}, qrels, list(THEIRS)).values for path in (run, doubled)]
    np.testing.assert_array_equal(*values)
    assert len(re.findall("\n", doubled.read_text())) > len(lines)
