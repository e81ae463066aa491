"""What the figures show, read off their lines, bars and titles."""

import io
import sys

import pandas as pd
import pytest

from distill_helpers.evaluation.plots import plot_compare, plot_history

HISTORY = pd.DataFrame(
    {
        "epoch": [1.0, 2.0, 3.0],
        "loss": [1.5, 0.75, 0.5],
        "soft_target_loss": [1.0, 0.5, 0.25],
        "eval_loss": [1.25, None, 1.0],
        "eval_accuracy": [0.5, 0.6, 0.7],
        "learning_rate": [0.1, 0.05, 0.0],
    }
)


def lines(axes):
    return {line.get_label(): [tuple(point) for point in line.get_xydata().tolist()] for line in axes.get_lines()}


def saved(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


@pytest.mark.slow
def test_a_history_is_drawn_with_its_losses_apart_from_the_validation():
    figure = plot_history(HISTORY)
    losses, validation = figure.axes
    assert lines(losses) == {
        "loss": [(1, 1.5), (2, 0.75), (3, 0.5)],
        "soft_target_loss": [(1, 1.0), (2, 0.5), (3, 0.25)],
        "eval_loss": [(1, 1.25), (3, 1.0)],  # what was not measured is left out, not drawn as 0
    }
    assert lines(validation) == {"eval_accuracy": [(1, 0.5), (2, 0.6), (3, 0.7)]}
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [
        ("epoch", "loss"),
        ("epoch", "validation"),
    ]
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["loss", "soft_target_loss", "eval_loss"]
    assert figure.get_suptitle() == "loss from 1.5 to 0.5 in 3 epochs"
    assert plot_history(HISTORY, title="mine").get_suptitle() == "mine"
    assert saved(figure).startswith(b"\x89PNG")


def test_a_history_without_validation_has_one_panel():
    figure = plot_history([{"epoch": 1, "loss": 2.0}])
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss"]
    assert figure.get_suptitle() == "loss from 2 to 2 in 1 epoch"


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "one row or more with the column epoch"),
        ([{"loss": 1.0}], "one row or more with the column epoch"),
        ([{"epoch": 1, "accuracy": 0.5}], r"neither a loss nor a column eval_….*accuracy"),
        ([{"epoch": 1, "loss": None}], "neither a loss"),
    ],
)
def test_a_history_with_nothing_to_draw_is_refused(history, message):
    with pytest.raises(ValueError, match=message):
        plot_history(history)


def test_histories_are_compared_over_the_epochs():
    other = HISTORY.assign(eval_accuracy=[0.4, 0.8, None])
    figure = plot_compare({"_a": HISTORY, "b": other})
    (axes,) = figure.axes
    assert lines(axes) == {"a": [(1, 0.5), (2, 0.6), (3, 0.7)], "b": [(1, 0.4), (2, 0.8)]}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "eval_accuracy")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert figure.get_suptitle() == "eval_accuracy from 0.7 (_a) to 0.8 (b)"
    (axes,) = plot_compare({"a": HISTORY, "b": other}, "loss").axes
    assert lines(axes)["b"] == [(1, 1.5), (2, 0.75), (3, 0.5)]


ROWS = {
    "student": [{"accuracy": 0.7, "nll": 1.0}, {"accuracy": 0.9, "nll": 2.0}],
    "teacher": [{"accuracy": 0.95, "nll": 0.5}],
}


@pytest.mark.parametrize(
    ("value", "heights", "deviation", "title"),
    [
        (None, [0.8, 0.95], 0.02**0.5, "accuracy from 0.8 (student) to 0.95 (teacher)"),
        ("nll", [1.5, 0.5], 0.5**0.5, "nll from 0.5 (teacher) to 1.5 (student)"),
    ],
)
def test_rows_are_bars_of_the_mean_with_the_deviation_over_seeds(value, heights, deviation, title):
    figure = plot_compare(ROWS, value)
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(heights)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["student", "teacher"]
    low, high = axes.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((heights[0] - deviation, heights[0] + deviation))
    assert axes.get_ylabel() == value or value is None
    assert figure.get_suptitle() == title


@pytest.mark.parametrize("name", ["$\\frac{$", "<script>alert(1)</script>", "5 $ and 6 $"])
@pytest.mark.slow
def test_hostile_names_are_shown_as_they_are(name):
    rows = plot_compare({name: [{"accuracy": 0.5}], "b": [{"accuracy": 0.25}]})
    assert rows.get_suptitle() == f"accuracy from 0.25 (b) to 0.5 ({name})"
    for figure in (rows, plot_compare({name: HISTORY}), plot_history(HISTORY, title=name)):
        assert saved(figure).startswith(b"\x89PNG")


def test_without_the_default_the_first_common_column_is_drawn():
    figure = plot_compare({"a": [{"name": "x", "mse": 1.0, "mae": 1.0}], "b": [{"mae": 2.0}]})
    assert figure.get_suptitle() == "mae from 1 (a) to 2 (b)"


@pytest.mark.parametrize(
    ("results", "value", "message"),
    [
        ({}, None, "no model to draw"),
        ({"a": []}, None, "no rows for 'a'"),
        ({"a": HISTORY, "b": [{"accuracy": 0.5}]}, None, "'a' has a column epoch and 'b' has none"),
        ({"a": [{"x": 1.0}], "b": [{"y": 1.0}]}, None, "no column of numbers in common"),
        (ROWS, "ece", r"'student' has no numbers 'ece'; it has \['accuracy', 'nll'\]"),
        ({"a": [{"accuracy": 0.5}], "b": [{"nll": 1.0}]}, "accuracy", "'b' has no numbers 'accuracy'"),
    ],
)
def test_models_that_cannot_be_compared_are_refused_by_name(results, value, message):
    with pytest.raises(ValueError, match=message):
        plot_compare(results, value)


def test_a_missing_matplotlib_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"distill-helpers\[plot\]"):
        plot_history(HISTORY)
