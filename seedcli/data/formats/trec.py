"""TREC's formats: qrels."""

from pathlib import Path

from seedcli.base.errors import DataError
from seedcli.data.lines import read_lines
from seedcli.data.records import Qrels


def read_qrels(path: Path) -> Qrels:
    """Qrels as BEIR writes them (a header, then query, passage, grade) or as TREC does (query, 0, passage, grade)."""
    qrels: Qrels = {}
    for number, line in read_lines(path):
        parts = line.split("\t") if "\t" in line else line.split()
        if number == 1 and parts[0] in {"query-id", "query_id", "qid"}:
            continue
        if len(parts) not in {3, 4}:
            expected = "'query passage grade' or 'query 0 passage grade'"
            raise DataError(f"{path}:{number}: expected {expected}, got {line!r:.80}")
        try:
            grade = int(parts[-1])
        except ValueError:
            raise DataError(f"{path}:{number}: the grade {parts[-1]!r:.40} is not a whole number") from None
        qrels.setdefault(parts[0], {})[parts[-2]] = grade
    if not qrels:
        raise DataError(f"{path}: no judgements in it")
    return qrels
