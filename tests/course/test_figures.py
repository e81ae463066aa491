import itertools

import pandas as pd
import pytest

from distill_helpers.course.figures import (
    COLOURS,
    dot_figure,
    figure,
    figure_html,
    html_table,
    probability_bars,
    with_alt_text,
)


def grey(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_neighbouring_colours_are_told_apart_in_greyscale() -> None:
    for first, second in itertools.pairwise(COLOURS):
        assert abs(grey(first) - grey(second)) > 15


def test_the_alternative_text_travels_with_the_picture() -> None:
    fig, axes = figure("Doubling doubles")
    axes.plot([1, 2])
    axes.set_xlabel("x (s)")
    axes.set_ylabel("y (m)")
    data, metadata = with_alt_text(fig, "A line that rises from one to two.")._repr_mimebundle_()
    assert data["image/png"]
    assert metadata["image/png"]["alt"] == "A line that rises from one to two."


def test_a_widget_shows_the_same_picture_with_its_text() -> None:
    fig, axes = figure("Doubling doubles")
    axes.plot([1, 2])
    axes.set_xlabel("x (s)")
    axes.set_ylabel("y (m)")
    markup = figure_html(fig, "A line that rises, isn't it, from one to two.")
    assert markup.startswith("<img src='data:image/png;base64,iVBOR")
    assert "alt='A line that rises, isn&#x27;t it, from one to two.'" in markup
    with pytest.raises(ValueError, match="'short'"):
        figure_html(fig, "short")


def test_figures_need_a_title_labels_and_an_alternative_text() -> None:
    with pytest.raises(ValueError, match="title"):
        figure(" ")
    fig, axes = figure("A title")
    with pytest.raises(ValueError, match="label both axes"):
        with_alt_text(fig, "A figure without labels on its axes.")
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    with pytest.raises(ValueError, match="'short'"):
        with_alt_text(fig, "short")


def test_dot_figure_draws_each_seed_the_mean_and_the_references() -> None:
    table = pd.DataFrame({"model": ["a", "a", "b"], "seed": [0, 1, 0], "accuracy": [70.0, 72.0, 80.0]})
    (axes,) = dot_figure(table, "accuracy", title="b wins", label="accuracy (%)", references={"teacher": 81.0}).axes
    drawn = [line.get_xdata() for line in axes.lines]
    assert sorted(float(x) for x in drawn[0]) == [70.0, 72.0]
    assert float(drawn[1][0]) == 71.0
    assert float(drawn[-1][0]) == 81.0
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_bars_show_every_class_and_escape_what_is_typed() -> None:
    markup = probability_bars(["<b>", "c"], [[0.25, 0.75], [1.0, 0.0]], ["t", "s"], highlight="c")
    assert "&lt;b&gt;" in markup
    assert "25%" in markup
    assert "75%" in markup
    assert "c ✓" in markup
    with pytest.raises(ValueError, match="one column per owner, got 1 columns and 2 owners"):
        probability_bars(["a"], [[1.0]], ["t", "s"])
    with pytest.raises(ValueError, match="one probability per class, got 1 of t for 2 classes"):
        probability_bars(["a", "b"], [[1.0]], ["t"])


def test_a_table_escapes_its_texts_and_prints_one_row_bold() -> None:
    rows = [("<script>", 1, "a & b"), ("the teacher's", 2, "")]
    markup = html_table(("<i>", "n", "text"), rows, caption="<u>", highlight="the teacher's")
    assert markup == (
        "<table><caption style='text-align:left'>&lt;u&gt;</caption><thead><tr><th scope='col'>&lt;i&gt;</th>"
        "<th scope='col'>n</th><th scope='col'>text</th></tr></thead><tbody>"
        "<tr><th scope='row' style='text-align:left'>&lt;script&gt;</th><td>1</td><td>a &amp; b</td></tr>"
        "<tr><th scope='row' style='text-align:left'><b>the teacher's</b></th><td><b>2</b></td><td><b></b></td></tr>"
        "</tbody></table>"
    )
    assert "<thead>" not in html_table((), rows)
    assert "<caption" not in html_table((), rows)
