"""The drawings at the head of the notebooks: drawn from what they show, on every page, and nothing leaves its card."""

import re
from functools import cache
from xml.etree import ElementTree

import nbformat
import pytest

from distill_helpers.course.drawings import t_squared
from distill_helpers.course.drawings.__main__ import drawing
from distill_helpers.course.drawings.canvas import WIDTH, Canvas, tint
from distill_helpers.course.folders import DRAWINGS, NOTEBOOKS, notebook_names

ALT = "Two boxes, and an arrow from the first one to the second."


drawn = cache(drawing)


def words_and_numbers(svg: str) -> tuple[list[str], list[float]]:
    numbers = re.findall(r"(?<![\w#])-?\d+(?:\.\d+)?", svg)
    return re.split(r"(?<![\w#])-?\d+(?:\.\d+)?", svg), [float(number) for number in numbers]


@pytest.mark.parametrize("name", notebook_names())
def test_a_saved_drawing_is_what_its_module_draws(name: str) -> None:
    saved, now = ((DRAWINGS / f"{name}.svg").read_text(encoding="utf-8"), drawn(name).svg())
    (words, numbers), (words_drawn, numbers_drawn) = words_and_numbers(saved), words_and_numbers(now)
    assert words == words_drawn
    # A teacher's probabilities differ a little from one processor to another.
    assert numbers_drawn == pytest.approx(numbers, abs=1.01)


def test_no_drawing_is_left_over() -> None:
    assert {path.stem for path in DRAWINGS.iterdir()} == set(notebook_names())


@pytest.mark.parametrize("name", notebook_names())
def test_the_page_shows_its_drawing_with_its_alternative_text(name: str) -> None:
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    text = " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())
    assert f"## The question ![{drawn(name).alt}](drawings/{name}.svg)" in text


@pytest.mark.parametrize("name", notebook_names())
def test_a_drawing_is_whole_and_readable(name: str) -> None:
    svg = (DRAWINGS / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox", "").split()[2] == str(WIDTH)
    texts = [element for element in root.iter() if element.tag.endswith("}text")]
    assert min(int(text.get("font-size", 0)) for text in texts) >= 12
    places = [(text.get("x"), text.get("y"), text.get("text-anchor")) for text in texts]
    assert len(set(places)) == len(places), "two texts in one place"
    assert len(svg) < 30_000


def test_the_arrows_of_the_gradient_are_the_gradient() -> None:
    logits = t_squared.teacher_logits()
    for temperature in (1.0, 4.0):
        p = (logits / temperature).softmax(-1)
        expected = float((1 / len(logits) - p).norm()) / temperature
        assert t_squared.gradient_length(temperature) == pytest.approx(expected, rel=1e-4)
        assert t_squared.gradient_length(2 * temperature) < t_squared.gradient_length(temperature)


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: Canvas("", ALT, 100), "title"),
        (lambda: Canvas("Two boxes", "boxes", 100), "40 characters"),
        (lambda: Canvas("Two boxes", ALT + " [sic]", 100), "without brackets"),
        (lambda: Canvas("Two boxes " * 10, ALT, 100), "leave the card"),
        (lambda: Canvas("Two boxes", ALT, 100).text(700, 50, "far to the right of it"), "leave the card"),
        (lambda: Canvas("Two boxes", ALT, 100).text(10, 50, "left", anchor="end"), "leave the card"),
        (lambda: Canvas("Two boxes", ALT, 100).text(20, 80, "one\ntwo\nthree"), "'two' would leave the card"),
        (lambda: Canvas("Two boxes", ALT, 100).box(20, 40, 60, 40, "a long label"), "the box has 60"),
        (
            lambda: Canvas("Two boxes", ALT, 100).box(20, 40, 80, 40, "short", below="a long line below"),
            "the box has 80",
        ),
        (lambda: Canvas("Two boxes", ALT, 100).bars(20, 40, ["a", "b"], [0.5], colour="#000000"), "shorter"),
    ],
)
def test_what_would_not_be_seen_is_refused(draw, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        draw()


def test_words_are_escaped_and_an_arrow_ends_where_it_points() -> None:
    svg = Canvas("a < b & c", ALT, 120).arrow(20, 60, 220, 60, "so").svg()
    assert "a &lt; b &amp; c" in svg
    (points,) = re.findall(r'points="([^"]+)"', svg)
    assert points.split()[0] == "220.0,60.0"
    ElementTree.fromstring(svg)


def test_a_tint_is_between_white_and_the_colour() -> None:
    assert (tint("#0072B2", 0.0), tint("#0072B2", 1.0)) == ("#FFFFFF", "#0072B2")
