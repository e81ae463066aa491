"""Progress over long steps, as a widget that leaves nothing behind: neither on the page nor in a saved notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

import ipywidgets
from IPython.display import DisplayHandle, display
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from distill_helpers.course.widgets import WIDGET_VIEW

__all__ = ["ProgressWidget"]

#: How often a bar moves from its first step to its last. Each move is a message to the page, and a page or a test that
#: reads slower than the steps come loses messages: the queue of a kernel's output holds 1,000.
MOVES = 100


class ProgressWidget:
    """A bar with a name. It appears at its first step and disappears after its last one.

    Args:
        description: says what is being done.
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._bar = self._new_bar(1)
        self._shown: DisplayHandle | None = None

    def over(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items, with one step of the bar for each."""
        items = items if isinstance(items, Sized) else list(items)
        self._start(len(items))
        try:
            for done, item in enumerate(items, 1):
                yield item
                self._move(done)
        finally:
            self._end()

    def callback(self) -> TrainerCallback:
        """Return a callback that moves the bar with a Trainer's steps."""
        return _StepCallback(self)

    def _new_bar(self, total: int) -> ipywidgets.IntProgress:
        return ipywidgets.IntProgress(
            max=max(total, 1),
            description=self._description,
            layout={"width": "34em"},
            style={"description_width": "16em"},
        )

    def _start(self, total: int) -> None:
        self._bar = self._new_bar(total)
        # The view alone: a text beside it would stay where no widget runs, and be compared with the next execution's.
        view = {WIDGET_VIEW: self._bar._repr_mimebundle_()[WIDGET_VIEW]}
        self._shown = display(view, raw=True, display_id=True)

    def _move(self, done: int) -> None:
        if (done - self._bar.value) * MOVES >= self._bar.max or done == self._bar.max:
            self._bar.value = done

    def _end(self) -> None:
        if self._shown is not None:
            # Empties the output on the page, and so in the notebook that JupyterLab saves.
            self._shown.update({}, raw=True)
            self._shown = None
        self._bar.close()


class _StepCallback(TrainerCallback):
    def __init__(self, widget: ProgressWidget) -> None:
        self._widget = widget

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._widget._start(state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._widget._move(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._widget._end()
