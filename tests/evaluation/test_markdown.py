"""Texts in Markdown: what they show is what they are."""

import pytest

from seedcli.evaluation.markdown import literal, table


@pytest.mark.parametrize(
    "text",
    [
        "bm25", "dense, SEED", "BM25 + dense", "mrr@10", "hit_rate@20", "d_z", "recall@100-l2", "R&D", "p < 0.05",
        "a.b/c (2 runs)", "+0.1 - 0.2", "index.words.k1 none → 1.2", "#1",
    ],
)  # fmt: skip
def test_ordinary_texts_stay_as_they_are(text):
    assert literal(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<script>", r"\<script>"),
        ("a|b", r"a\|b"),
        ("*b* ~c~", r"\*b\* \~c\~"),
        ("_x_ a_b __c", r"\_x\_ a_b \_\_c"),
        ("`code` \\", r"\`code\` \\"),
        ("![a](javascript:1)", r"!\[a\](javascript:1)"),
        ("&lt; &#60;", r"\&lt; \&#60;"),
        ("$x_2$", r"\$x_2\$"),
        ("one\n\n# two\u2028three", "one # two three"),
    ],
)
def test_what_markdown_would_read_is_escaped(text, escaped):
    assert literal(text) == escaped


def test_a_table_has_a_rule_below_its_heading():
    assert table(["run", "mrr"], [":--", "--:"], [["a", "0.5"]]) == ["| run | mrr |", "| :-- | --: |", "| a | 0.5 |"]
