"""Counts with what is counted, in words."""

import re


def amount(count: int, things: str) -> str:
    """ "1,204 judged queries", "1 judged query": the first word that ends in s is the plural of what is counted."""
    if count == 1:
        things = re.sub(r"ies\b|s\b", lambda end: "y" if end[0] == "ies" else "", things, count=1)
    return f"{count:,} {things}"
