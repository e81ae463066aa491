"""Progress over long steps, as a widget: it leaves no text behind in a saved notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

import ipywidgets
from IPython.display import display
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["ProgressWidget"]


class ProgressWidget:
    """A bar with a name, shown at its first step.

    Args:
        description: what is being done.
    """

    def __init__(self, description: str) -> None:
        self._bar = ipywidgets.IntProgress(
            description=description, layout={"width": "34em"}, style={"description_width": "16em"}
        )

    def over(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, one step of the bar for each."""
        items = items if isinstance(items, Sized) else list(items)
        self._start(len(items))
        for item in items:
            yield item
            self._bar.value += 1

    def callback(self) -> TrainerCallback:
        """A callback that moves the bar with a Trainer's steps."""
        return _StepCallback(self)

    def _start(self, total: int) -> None:
        self._bar.max, self._bar.value = max(total, 1), 0
        display(self._bar)


class _StepCallback(TrainerCallback):
    def __init__(self, widget: ProgressWidget) -> None:
        self._widget = widget

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._widget._start(state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._widget._bar.value = state.global_step
