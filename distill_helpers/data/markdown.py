"""Names and texts as parts of a Markdown page, such as a model card or a table: they never become markup."""

from __future__ import annotations

import html
import re
from typing import Any

__all__ = ["markdown_code", "markdown_text"]

#: The characters that begin or end something in Markdown, GitHub's tables, links and mathematics, and templates.
_MARKUP = re.compile(r"[\\`*_\[\]{}|~$]|:(?=//)|(?<=www)\.")


def markdown_text(value: Any) -> str:
    """A value as plain text on one line of Markdown, inside a table too: HTML and Markdown in it are shown as written.

    Line ends become blanks.
    """
    line = " ".join(str(value).split())
    escaped = _MARKUP.sub(r"\\\g<0>", html.escape(line, quote=False))
    # At the beginning of a line these would make a heading, a list or a rule.
    return re.sub(r"^([#+-]|\d+(?=[.)](?:\s|$)))", _entity, escaped)


def markdown_code(value: Any) -> str:
    """A value as code in a cell of a Markdown table."""
    line = " ".join(str(value).split())
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", line)), default=0))
    blank = " " if line.startswith("`") or line.endswith("`") else ""
    # A table is divided at its bars before code is looked for, so a bar is escaped even there.
    return f"{fence}{blank}{line}{blank}{fence}".replace("|", r"\|")


def _entity(match: re.Match[str]) -> str:
    return "".join(f"&#{ord(char)};" for char in match[0])
