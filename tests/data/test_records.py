"""Texts at the border: what no encoder could take, or would take for a separator, is gone."""

import pytest

from seedcli.data.records import SEPARATOR, clean


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain [SEP] text\t", "plain [SEP] text\t"),
        ("Ünï 日本 😀", "Ünï 日本 😀"),
        ("half a \ud83d pair", "half a ? pair"),
        (f"a{SEPARATOR}b", "a b"),
        (f"ü{SEPARATOR}\udc00", "ü ?"),
        ("", ""),
    ],
)
def test_a_clean_text_can_be_encoded_and_holds_no_separator(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
