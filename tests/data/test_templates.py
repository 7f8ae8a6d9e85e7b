"""Templates: fields joined as they say, with separators that no field can bring along."""

import pytest

from seedcli.base.errors import ConfigError
from seedcli.data.records import SEPARATOR, Passage, Query
from seedcli.data.templates import TEMPLATES, check_template, render, template_of

PASSAGE = Passage("7", "A title", "The text.", "http://a.b/c")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{title} {text}", "A title The text."),
        ("told: {text} ({title})", "told: The text. (A title)"),
        ("{title} [SEP] {text}", "A title|The text."),
        ("{title}[SEP]{text}", "A title|The text."),
        ("{url} [SEP] {title} [SEP] {text:.3}", "http://a.b/c|A title|The"),
        ("{text:.100}", "The text."),
        ("[SEP] {title}", "|A title"),
    ],
)
def test_fields_are_joined_as_the_template_says(template: str, text: str) -> None:
    assert render(template, PASSAGE) == text.replace("|", SEPARATOR)


def test_a_passage_without_a_title_is_its_text_alone() -> None:
    assert render(TEMPLATES["beir"], Passage("1", "", "only text")) == "only text"


def test_an_empty_field_keeps_its_separator() -> None:
    text = render(TEMPLATES["msmarco-document"], Passage("1", "", "body"))
    assert text == f"{SEPARATOR}{SEPARATOR}body"


def test_a_field_may_hold_what_looks_like_a_template() -> None:
    assert render("{title} [SEP] {text}", Passage("1", "{url} [SEP]", "{text}")) == f"{{url}} [SEP]{SEPARATOR}{{text}}"


def test_separators_inside_a_history_stay() -> None:
    assert render("user: {text}", Query("1", f"b{SEPARATOR}a")) == f"user: b{SEPARATOR}a"


def test_documents_are_cut_to_ten_thousand_characters_of_the_body() -> None:
    long = Passage("1", "t" * 20_000, "b" * 20_000, "u")
    assert render(TEMPLATES["msmarco-document"], long) == f"u{SEPARATOR}{'t' * 20_000}{SEPARATOR}{'b' * 10_000}"


def test_a_name_stands_for_a_template_and_a_template_for_itself() -> None:
    assert template_of("nq") == "{title} [SEP] {text}"
    assert template_of("{text} of {url}") == "{text} of {url}"
    for name in TEMPLATES:
        check_template(template_of(name), Passage, name)


@pytest.mark.parametrize(
    ("template", "record", "problem"),
    [
        ("{body}", Passage, "no field {body}; there is {title}, {text}, {url}"),
        ("{id} {text}", Passage, "no field {id}; there is {title}, {text}, {url}"),
        ("{title}", Query, "no field {title}; there is {text}"),
        ("{answers}", Query, "no field {answers}; there is {text}"),
        ("text", Query, "names no field; there is {text}"),
        ("", Query, "names no field; there is {text}"),
        ("{text:10}", Query, "a brace that opens no field; there is {text}"),
        ("{text!r} {text}", Query, "a brace that opens no field; there is {text}"),
        ("{} {text}", Query, "a brace that opens no field; there is {text}"),
    ],
)
def test_a_template_of_other_fields_or_of_none_is_refused(template: str, record: type, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_template(template, record, "query_template")
    assert str(error.value) == f"query_template {template!r}: {problem}"
