"""What nbval compares of a widget's first state: its words and its structure, without measured figures.

Another machine rounds differently, and a student that is trained there makes an error more or less. Cells print what
must be the same, and assert ranges for the rest; a widget shows figures of every kind. So pictures, numbers and the
cells of tables are left out. The controls and their values are compared whole, as the output's plain text.
"""

import re

from distill_helpers.course.widgets import FIRST_STATE

__all__ = ["WIDGET_HTML", "words_alone"]

WIDGET_HTML = rf"(?s)\A<div class='{FIRST_STATE} .*"
"""All of an output that is a widget's first state."""

_LEFT_OUT = {
    r" src='data:image/png;base64,[^']*'": "",
    r"(?s)(<td[^>]*>).*?</td>": r"\1</td>",
    r"[-+−]?\d[\d.,]*(e[-+]?\d+)?": "#",
}


def words_alone(found: re.Match[str]) -> str:
    """The HTML without pictures, numbers and the contents of tables' cells, for a match of `WIDGET_HTML`."""
    text = found[0]
    for pattern, replacement in _LEFT_OUT.items():
        text = re.sub(pattern, replacement, text)
    return text
