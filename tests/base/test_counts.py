"""Counts in words: one thing is told as one."""

import pytest

from seedcli.base.counts import amount


@pytest.mark.parametrize(
    ("count", "things", "told"),
    [
        (1_204, "judged queries", "1,204 judged queries"),
        (1, "judged queries", "1 judged query"),
        (0, "queries", "0 queries"),
        (1, "ids of queries that stand twice or more", "1 id of queries that stand twice or more"),
        (1, "passages of the qrels that the corpus lacks", "1 passage of the qrels that the corpus lacks"),
    ],
)
def test_one_thing_is_told_as_one(count, things, told):
    assert amount(count, things) == told
