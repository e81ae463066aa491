"""Exercises that check themselves: *not attempted*, *wrong* with a useful word, or *right* with the reason.

A module for each notebook holds that notebook's checks. A check calls the reader's function on inputs of its own; it
returns why the answer is right and raises `Wrong` with what is wrong. Solutions are in `notebooks/solutions`; the tests
run them, and plausible wrong answers, against every check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

__all__ = ["Attempt", "Verdict", "Wrong", "check", "compare", "exercises", "judge"]

#: The notebooks that have exercises: their number, and the module with the checks.
_MODULES = {
    "00": "start_here",
    "01": "dark_knowledge",
    "02": "temperature",
    "03": "t_squared",
    "04": "distillation_loss",
    "05": "response_distillation",
    "06": "feature_distillation",
    "07": "landmark_systems",
    "08": "api_distillation",
    "09": "language_models",
}


class Wrong(Exception):  # noqa: N818 - a verdict, not a failure of the program
    """What is wrong with an answer, in words that help to mend it."""


class _NotAttempted(Exception):  # noqa: N818
    pass


@dataclass(frozen=True)
class Verdict:
    """`status` is "not attempted", "wrong" or "right"; `message` says more."""

    status: str
    message: str


class Attempt:
    """The reader's function. Calling it turns what it raises, and a missing answer, into a verdict."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            result = self._function(*args, **kwargs)
        except Exception as error:
            raise Wrong(f"your function raised {type(error).__name__}: {error}") from error
        if result is None or result is ...:
            raise _NotAttempted
        return result


def exercises() -> dict[str, Callable[[Attempt], str]]:
    """Every check by the number of its exercise, such as "01.2"."""
    return {number: function for notebook in _MODULES for number, function in _checks_of(notebook).items()}


def _checks_of(notebook: str) -> dict[str, Callable[[Attempt], str]]:
    """The checks of a notebook, such as "01"; none where it has no exercises."""
    if notebook not in _MODULES:
        return {}
    checks: Mapping[str, Callable[[Attempt], str]] = import_module(f"{__name__}.{_MODULES[notebook]}").CHECKS
    return {f"{notebook}.{exercise}": function for exercise, function in checks.items()}


def judge(number: str, function: Callable[..., Any]) -> Verdict:
    """What an answer to an exercise is worth.

    Args:
        number: of the exercise, such as "01.2".
        function: the reader's.

    Raises:
        ValueError: no such exercise.
        TypeError: an answer that is not a function.
    """
    known = _checks_of(number.partition(".")[0])
    if number not in known:
        raise ValueError(f"no exercise {number!r}; there are {', '.join(exercises())}")
    if not callable(function):
        raise TypeError(f"pass the function itself, without calling it; got {type(function).__name__}")
    try:
        return Verdict("right", known[number](Attempt(function)))
    except _NotAttempted:
        return Verdict("not attempted", "write the body and let it return something")
    except Wrong as wrong:
        return Verdict("wrong", str(wrong))


def check(number: str, function: Callable[..., Any]) -> None:
    """Print what an answer is worth. Raises nothing that comes from the answer.

    Args:
        number: of the exercise, such as "01.2".
        function: the reader's, not called.

    Raises:
        ValueError, TypeError: see `judge`.
    """
    verdict = judge(number, function)
    sign = {"right": "✓", "wrong": "✗", "not attempted": "○"}[verdict.status]
    print(f"{sign} {number} {verdict.status}: {verdict.message}")


def compare(got: Any, expected: Tensor | float, mistakes: Mapping[str, Tensor | float] | None = None) -> None:
    """Raise `Wrong` unless `got` is `expected`, to 1e-4 of its size; name the mistake where its value is known.

    Args:
        got: a number or tensor.
        expected: what is right.
        mistakes: what to say, and the value that this mistake gives.
    """
    if not isinstance(got, Tensor | int | float) or isinstance(got, bool):
        raise Wrong(f"a number or a tensor is needed, got {type(got).__name__}")
    actual, right = torch.as_tensor(got).double(), torch.as_tensor(expected).double()
    for words, value in (mistakes or {}).items():
        if _close(actual, torch.as_tensor(value).double()):
            raise Wrong(words)
    if actual.shape != right.shape:
        raise Wrong(f"the shape is {tuple(actual.shape)}, expected {tuple(right.shape)}")
    if not _close(actual, right):
        raise Wrong(f"got {_short(actual)}, expected {_short(right)}{_where(actual, right)}")


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(_near(a, b).all())


def _near(a: Tensor, b: Tensor) -> Tensor:
    return torch.isclose(a, b, rtol=1e-4, atol=1e-7)


def _where(actual: Tensor, right: Tensor) -> str:
    """The first entry that is wrong, where what is printed looks the same."""
    if actual.dim() == 0 or _short(actual) != _short(right):
        return ""
    place = tuple(int(i) for i in (~_near(actual, right)).nonzero()[0])
    return f"; at {list(place)}: {actual[place].item():.4g} and {right[place].item():.4g}"


def _short(values: Tensor) -> str:
    if values.dim() == 0:
        return f"{values.item():.4g}"
    first = values.flatten()[:4].tolist()
    dots = ", …" if values.numel() > len(first) else ""
    return f"[{', '.join(f'{value:.4g}' for value in first)}{dots}]"
