"""Quizzes without scripts: every choice unfolds its own explanation.

A choice is a `<details>` element. It works with a keyboard and a screen reader, and on a page where no widget runs. The
questions of a notebook are in `notebooks/quizzes/NOTEBOOK.toml`.
"""

from __future__ import annotations

import html
import re
import tomllib
from dataclasses import dataclass

from distill_helpers.course.folders import QUIZZES

__all__ = ["Choice", "Question", "load_quiz", "render_quiz"]


@dataclass(frozen=True)
class Choice:
    """A possible answer. `why` explains why the choice is right, or why it is wrong."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with two choices or more, of which exactly one is right.

    Args:
        name: of the test that computes the answer, `test_quiz_NAME`.
        text: the question.
        source: where the answer is found, with a section, equation or table; "computed" if a test computes the answer.
        choices: two or more.

    Raises:
        ValueError: a question without exactly one right choice, or with an empty text.
    """

    name: str
    text: str
    source: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        if len(self.choices) < 2 or sum(choice.right for choice in self.choices) != 1:
            raise ValueError(f"question {self.name!r} needs two or more choices of which exactly one is right")
        for what, text in (("text", self.text), ("source", self.source), *(("why", c.why) for c in self.choices)):
            if not text.strip():
                raise ValueError(f"question {self.name!r} has an empty {what}")


def load_quiz(notebook: str) -> list[Question]:
    """Read the questions of a notebook, such as "01_dark_knowledge".

    Raises:
        FileNotFoundError: the notebook has no quiz.
        ValueError: a question without exactly one right choice, or with an empty text.
    """
    entries = tomllib.loads((QUIZZES / f"{notebook}.toml").read_text(encoding="utf-8"))["question"]
    return [
        Question(entry["name"], entry["text"], entry["source"], tuple(Choice(**choice) for choice in entry["choices"]))
        for entry in entries
    ]


def render_quiz(notebook: str) -> str:
    """Render the quiz of a notebook as HTML: open a choice to see whether it is right, and why."""
    parts = []
    for number, question in enumerate(load_quiz(notebook), start=1):
        choices = "".join(
            f"<details><summary>{_inline(choice.text)}</summary>"
            f"<p><b>{'✓ Right.' if choice.right else '✗ Not this one.'}</b> {_inline(choice.why)}</p></details>"
            for choice in question.choices
        )
        parts.append(f"<h4>{number}. {_inline(question.text)}</h4>{choices}")
    # JupyterLab would typeset text between two dollar signs as mathematics.
    return f"<section aria-label='quiz' class='mathjax_ignore tex2jax_ignore'>{''.join(parts)}</section>"


def _inline(text: str) -> str:
    """Escape a text, and set what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
