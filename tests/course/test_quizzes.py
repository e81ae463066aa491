"""Every quiz: four questions or more, one right choice each, explanations for all, and a key with a source or test."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from distill_helpers.course import quiz
from distill_helpers.course.folders import NOTEBOOKS as FOLDER, QUIZZES, SOURCES, notebook_names
from distill_helpers.course.quiz import Choice, Question, load_quiz, render_quiz

NOTEBOOKS = notebook_names()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_quiz_has_four_questions_with_different_names(name: str) -> None:
    questions = load_quiz(name)
    assert len(questions) >= 4
    assert len({question.name for question in questions}) == len(questions)
    for question in questions:
        assert all(len(choice.why) > 20 for choice in question.choices), question.name
    assert len({[c.right for c in question.choices].index(True) for question in questions}) > 1, "always the same place"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_key_is_computed_in_a_test_or_has_a_source(name: str) -> None:
    tests = Path(__file__).parent / f"test_{name[3:]}.py"
    computed = {node.name for node in ast.parse(tests.read_text()).body if isinstance(node, ast.FunctionDef)}
    for question in load_quiz(name):
        if question.source == "computed":
            assert f"test_quiz_{question.name}" in computed, f"{tests.name} needs test_quiz_{question.name}"
        else:
            assert re.search(r"\d", question.source), f"a source with section, equation or table: {question.source!r}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_choice_unfolds_its_explanation(name: str) -> None:
    page = render_quiz(name)
    choices = [choice for question in load_quiz(name) for choice in question.choices]
    assert page.count("<details><summary>") == page.count("</details>") == len(choices)
    assert page.count("✓ Right.") == len(load_quiz(name))
    assert "<script" not in page


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_shows_its_quiz(name: str) -> None:
    assert f'HTML(render_quiz("{name}"))' in (SOURCES / f"{name}.py").read_text()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_saved_notebook_has_the_quiz_of_today(name: str) -> None:
    shown = f'HTML(render_quiz("{name}"))'
    cells = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    ((output,),) = (cell.outputs for cell in cells if cell.cell_type == "code" and cell.source.endswith(shown))
    assert output["data"]["text/html"] == render_quiz(name), f"python -m distill_helpers.course.notebooks --text {name}"


def test_no_quiz_without_a_notebook() -> None:
    assert sorted(path.stem for path in QUIZZES.iterdir()) == NOTEBOOKS


def test_a_question_without_exactly_one_right_choice_is_refused() -> None:
    right, wrong = Choice("a", "since", True), Choice("b", "no")
    Question("q", "?", "computed", (right, wrong))
    for choices in ((right,), (wrong, wrong), (right, right)):
        with pytest.raises(ValueError, match="'q' needs two or more choices of which exactly one"):
            Question("q", "?", "computed", choices)
    with pytest.raises(ValueError, match="empty why"):
        Question("q", "?", "computed", (right, Choice("b", " ")))


def test_what_is_written_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.toml").write_text(
        '[[question]]\nname = "q"\ntext = "a < b and `c`?"\nsource = "computed"\n'
        'choices = [{text = "<i>", why = "w", right = true}, {text = "y", why = "w"}]\n'
    )
    monkeypatch.setattr(quiz, "QUIZZES", tmp_path)
    page = render_quiz("x")
    assert "a &lt; b and <code>c</code>?" in page
    assert "<i>" not in page
