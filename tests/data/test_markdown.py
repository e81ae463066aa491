"""Names in Markdown: a Markdown renderer shows them as they were written, and finds no markup in them."""

from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings, strategies as st
from markdown_it import MarkdownIt

from distill_helpers.data.markdown import markdown_code, markdown_text

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><b>bold',
    "&amp; &lt;b&gt;",
    "a | b",
    "`code` ``",
    "two\n\n# lines",
    "{{7*7}} {% x %}",
    "*em* _em_ **b** ~~s~~",
    "[a](http://b) ![c](d)",
    "http://a.example www.a.example",
    "# heading",
    "- item",
    "1. item",
    "back\\slash\\",
    "$x$",
]


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def rendered(markdown):
    return Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def one_line(name):
    return " ".join(name.split())


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip))
@example("a\\")
@example("`")
@example("|")
def test_any_name_is_shown_as_written_in_a_paragraph_and_in_a_table(name):
    page = rendered(f"x {markdown_text(name)}.")
    assert page.elements == [("p", {})]
    assert page.text.strip() == f"x {one_line(name)}."
    for form in (markdown_text, markdown_code):
        table = rendered(f"| a | b |\n|---|---|\n| {form(name)} | end |\n")
        plain = rendered(f"| a | b |\n|---|---|\n| {form('name')} | end |\n")
        assert table.elements == plain.elements
        assert one_line(table.text) == one_line(f"a b {name} end")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_make_no_element_anywhere_on_a_line(name):
    page = rendered(f"{markdown_text(name)}\n\nend {markdown_text(name)}")
    assert page.elements == [("p", {}), ("p", {})]
    assert one_line(page.text) == one_line(f"{name} end {name}")
    cells = rendered(f"| {markdown_text(name)} | {markdown_code(name)} |\n|---|---|\n")
    assert [tag for tag, _ in cells.elements] == ["table", "thead", "tr", "th", "th", "code"]
    assert one_line(cells.text) == one_line(f"{name} {name}")


def test_harmless_names_stay_as_they_are():
    for name in ("comp.sys.mac.hardware", "T = 2, 5%", "card arrival", "1.5", "naïve – 日本語"):
        assert markdown_text(name) == name
    assert markdown_text(3) == "3"
    assert markdown_code("a") == "`a`"
