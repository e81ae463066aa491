"""The progress bar: one step for each item, and nothing left when it ends, however it ends."""

from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from distill_helpers.course import progress
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.widgets import WIDGET_VIEW


class Page:
    """What a notebook's output shows; stands in for IPython's `display` and its handle."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []

    def display(self, data: dict[str, Any], *, raw: bool, display_id: bool) -> "Page":
        assert raw
        assert display_id
        self.shown.append(data)
        return self

    def update(self, data: dict[str, Any], *, raw: bool) -> None:
        assert raw
        self.shown.append(data)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()
    monkeypatch.setattr(progress, "display", page.display)
    return page


def test_a_bar_is_shown_without_text_and_emptied_after_its_last_item(page: Page) -> None:
    bar = ProgressWidget("three items")
    seen = []
    for item in bar.over(iter("abc")):
        seen.append((item, bar._bar.value, bar._bar.max))
        assert [list(data) for data in page.shown] == [[WIDGET_VIEW]]
    assert seen == [("a", 0, 3), ("b", 1, 3), ("c", 2, 3)]
    assert page.shown[1:] == [{}]
    assert bar._bar.comm is None, "the bar is not closed"


def test_a_bar_ends_with_a_loop_that_breaks_off_and_can_be_used_again(page: Page) -> None:
    bar = ProgressWidget("three items")
    for _ in bar.over("abc"):
        break
    assert page.shown[1:] == [{}]
    with pytest.raises(ZeroDivisionError):
        [1 / number for number in bar.over([0])]
    assert len(page.shown) == 4
    assert page.shown[3] == {}


def test_a_callback_follows_the_trainers_steps(page: Page, tmp_path) -> None:
    bar = ProgressWidget("a training")
    arguments, state = TrainingArguments(str(tmp_path)), TrainerState(max_steps=5)
    callback = bar.callback()
    callback.on_train_begin(arguments, state, TrainerControl())
    assert [list(data) for data in page.shown] == [[WIDGET_VIEW]]
    state.global_step = 3
    callback.on_step_end(arguments, state, TrainerControl())
    assert (bar._bar.value, bar._bar.max) == (3, 5)
    callback.on_train_end(arguments, state, TrainerControl())
    assert page.shown[1:] == [{}]


def test_a_bar_sends_a_hundred_messages_for_any_number_of_steps_and_ends_full(page: Page) -> None:
    """Every message beyond what the queue of a kernel's output holds is lost to a slow reader; nbval waits for it."""
    bar, values = ProgressWidget("many items"), []
    for number in bar.over(range(30_007)):
        if number == 0:
            bar._bar.observe(lambda change: values.append(change["new"]), "value")
    assert 90 <= len(values) <= 101
    assert values[-1] == 30_007
