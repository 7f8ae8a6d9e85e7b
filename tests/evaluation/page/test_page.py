"""report.html as a file: it needs nothing else, lets no text become markup, and has its table without a script."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from seedcli.evaluation.page.page import embedded, packaged, write_page


class Outline(HTMLParser):
    """The elements with their attributes, and the texts of each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "br", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_nothing_is_asked_for_from_outside(pages):
    outline = Outline(pages().html)
    assert outline.open == []
    assert [tag for tag, _ in outline.elements if tag in {"img", "link", "iframe", "object", "base", "image"}] == []
    addresses = [
        value for _, attributes in outline.elements for key, value in attributes.items() if key in {"src", "href"}
    ]
    assert addresses == ["#queries"]
    assert all(not key.startswith("on") and key != "style" for _, attributes in outline.elements for key in attributes)
    assert "url(" not in packaged("page.css")
    assert "@import" not in packaged("page.css")


def test_the_policy_names_the_one_script_and_the_one_style(pages):
    outline = Outline(pages().html)
    (policy,) = [meta["content"] for meta in outline.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    parts = dict(part.split(" ", 1) for part in str(policy).split("; "))
    assert parts["default-src"] == parts["base-uri"] == parts["form-action"] == "'none'"
    for kind, text in [("style-src", outline.texts["style"]), ("script-src", outline.texts["script"][1:])]:
        digest = hashlib.sha256("".join(text).encode()).digest()
        assert parts[kind] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert set(parts) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}


def test_texts_stay_texts(pages):
    made = pages()
    outline = Outline(made.html)
    assert len(outline.of("script")) == 2
    held = json.loads(outline.texts["script"][0])
    assert held["texts"][1] == made.held["texts"][1]
    assert held["texts"][0] == "otter 0 & ? 'x'"  # half a surrogate pair can't be written
    assert [held["ids"], held["systems"]] == [made.values.queries, made.values.names]
    assert not re.search("[<>&\u2028\u2029]", outline.texts["script"][0])
    assert outline.texts["title"] == ["Retrieval report"]


def test_any_value_comes_back_from_what_is_embedded():
    value: Any = {"<!--</script>": ["\u2028\u2029", "\\u003c", '"', "é", None, 1.5]}
    assert json.loads(embedded(value)) == value


def test_the_table_and_the_lineage_need_no_script(pages):
    made = pages()
    outline = Outline(made.html)
    assert [text for text in outline.texts["th"] if "bm25" in text] == ["bm25 <b>&\"' "]
    assert any("</script><script>" in text for text in outline.texts["th"])
    assert outline.texts["strong"] == ["0.7500"]  # the best in mrr@10; in recall@3 both runs have the same
    assert outline.texts["sup"] == ["†"]  # of one of the two measures
    assert "[0.100, 0.900]" in outline.texts["small"]
    assert "p 0.0100" in outline.texts["small"]
    assert any("</script><script>" in text for text in outline.texts["b"])
    assert "all 2 options" in outline.texts["summary"]
    assert outline.of("noscript")
    hidden = {attributes["id"] for _, attributes in outline.elements if "hidden" in attributes}
    assert hidden == {"choice", "charts", "queries"}


def test_what_can_be_used_is_labelled(pages):
    outline = Outline(pages().html)
    assert outline.of("html")[0]["lang"] == "en"
    assert sum(attributes.get("scope") == "col" for attributes in outline.of("th")) == 3
    ids = {attributes["id"] for _, attributes in outline.elements if "id" in attributes}
    for section in outline.of("section"):
        assert section["aria-labelledby"] in ids
    assert pages().html.count("<label>") == len(outline.of("select")) + len(outline.of("input"))


def test_the_same_report_gives_the_same_page_of_few_bytes(pages, tmp_path: Path):
    made = pages(queries=2_000)
    for name in ("one", "two"):
        write_page(tmp_path / name, made.summary, made.held, [])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert len(made.html.encode()) < 1_500_000  # though ids and texts are long here


def contrast(one: str, other: str) -> float:
    """Of two colours, by WCAG 2."""

    def light(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_words_stand_out_from_their_ground_in_light_and_dark():
    roots = re.findall(r":root \{(.*?)\}", packaged("page.css"), re.DOTALL)[:2]
    assert len(roots) == 2
    for root in roots:
        colours = dict(re.findall(r"--([\w-]+): (#\w+)", root))
        for name in ("ink", "soft", "gain", "loss", "right"):
            assert all(contrast(colours[name], colours[ground]) >= 4.5 for ground in ("paper", "panel")), name
        assert all(contrast(colours[f"c{row}"], colours["paper"]) >= 3 for row in range(7))
        assert contrast(colours["right"], colours["right-paper"]) >= 4.5
