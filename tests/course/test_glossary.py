"""The glossary: where a notebook uses one of its words for the first time, the word leads there."""

import re

import jupytext
import pytest

from distill_helpers.course.folders import NOTEBOOKS, SOURCES

GLOSSARY = (NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"(?ms)^### (.+?)\n\n(.+?)\n(?=\n###|\Z)", GLOSSARY))
LINK = re.compile(r"\[([^\]]+)\]\(glossary\.md#([^)]+)\)")
#: What is no running text: code, formulas, pictures, other links, headings and marks.
NO_TEXT = re.compile(
    r"```.*?```|\$\$.*?\$\$|`[^`]*`|\$[^$\n]+\$|!?\[[^\]]*\]\((?!glossary)[^)]*\)|<[^>]+>|(?m:^#+ [^\n]*$)", re.DOTALL
)


def running_text() -> str:
    """Everything that the notebooks say below their heads, in the order of the course."""
    cells = [
        cell.source
        for source in sorted(SOURCES.glob("*.py"))
        for cell in jupytext.read(source, fmt="py:percent").cells[1:]
        if cell.cell_type == "markdown"
    ]
    return " ".join(NO_TEXT.sub(" ", "\n\n".join(cells)).split())


TEXT = running_text()


def test_the_words_are_in_order_and_each_says_where_it_is_explained() -> None:
    assert list(ENTRIES) == re.findall(r"(?m)^### (.+)$", GLOSSARY)
    assert list(ENTRIES) == sorted(ENTRIES, key=str.lower)
    for word, entry in ENTRIES.items():
        ((number, page),) = re.findall(r"See\s\[(\d\d)\]\((\w+)\.ipynb\)\.$", entry)
        assert page.startswith(number), word
        assert (NOTEBOOKS / f"{page}.ipynb").exists(), word


def test_every_word_is_linked_and_every_link_leads_to_a_word() -> None:
    targets = {word.lower().replace(" ", "-") for word in ENTRIES}
    linked = [target for _, target in LINK.findall(TEXT)]
    assert sorted(linked) == sorted(targets)


@pytest.mark.parametrize("target", [target for _, target in LINK.findall(TEXT)])
def test_the_first_use_is_the_linked_one(target: str) -> None:
    (link,) = (link for link in LINK.finditer(TEXT) if link[2] == target)
    before = LINK.sub(lambda other: other[1], TEXT[: link.start()])
    for written in {link[1], link[1][0].lower() + link[1][1:]}:
        assert not re.search(rf"(?<![\w-]){re.escape(written)}(?![\w-])", before), written
