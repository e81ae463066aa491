"""Exercises that check themselves: *not attempted*, *wrong* with a useful word, or *right* with the reason.

The checks of a notebook are in the module of its name, without the number. A check calls the reader's function on
inputs of its own. It returns why the answer is right, or raises `Wrong` with what is wrong. The solutions are in
`notebooks/solutions`; the tests run them, and plausible wrong answers, through every check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_helpers.course.folders import notebook_names
from distill_helpers.course.record import note_solved

__all__ = ["Attempt", "Verdict", "Wrong", "check", "compare", "exercises", "judge", "needs_gradient", "seeded_randn"]


class Wrong(Exception):  # noqa: N818 - a verdict, not a failure of the program
    """What is wrong with an answer, in words that help to fix it."""


class _NotAttempted(Exception):  # noqa: N818
    pass


@dataclass(frozen=True)
class Verdict:
    """`status` is "not attempted", "wrong" or "right"; `message` says more."""

    status: str
    message: str


class Attempt:
    """The reader's function. An exception that it raises, and a missing answer, become verdicts."""

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
    """Collect the checks of all notebooks by the numbers of their exercises, such as "01.2"."""
    return {number: function for name in notebook_names() for number, function in _checks_of(name[:2]).items()}


def _checks_of(notebook: str) -> dict[str, Callable[[Attempt], str]]:
    """Import the checks of a notebook, such as "01". A notebook without exercises has none."""
    modules = [name[3:] for name in notebook_names() if name[:2] == notebook]
    if not modules or not (Path(__file__).parent / f"{modules[0]}.py").exists():
        return {}
    checks: Mapping[str, Callable[[Attempt], str]] = import_module(f"{__name__}.{modules[0]}").CHECKS
    return {f"{notebook}.{exercise}": function for exercise, function in checks.items()}


def judge(number: str, function: Callable[..., Any]) -> Verdict:
    """Judge an answer to an exercise.

    Args:
        number: of the exercise, such as "01.2".
        function: the reader's.

    Raises:
        ValueError: no exercise has this number.
        TypeError: the answer is not a function.
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
    """Judge an answer to an exercise and print the verdict. An exception in the answer becomes a verdict, too.

    A right answer is noted in the reader's record (`course.record`).

    Args:
        number: of the exercise, such as "01.2".
        function: the reader's, not called.

    Raises:
        ValueError, TypeError: see `judge` and `note_solved`.
    """
    verdict = judge(number, function)
    sign = {"right": "✓", "wrong": "✗", "not attempted": "○"}[verdict.status]
    print(f"{sign} {number} {verdict.status}: {verdict.message}")
    if verdict.status == "right":
        note_solved(number)


def compare(got: Any, expected: Tensor | float, mistakes: Mapping[str, Tensor | float] | None = None) -> None:
    """Raise `Wrong` unless `got` equals `expected` to 1e-4 of its size; name the mistake if its value is known.

    Args:
        got: a number or tensor.
        expected: the right value.
        mistakes: known mistakes: what to say, and the value that the mistake leads to. One that leads to the right
            value here is left out.
    """
    if not isinstance(got, Tensor | int | float) or isinstance(got, bool):
        raise Wrong(f"a number or a tensor is needed, got {type(got).__name__}")
    actual, right = torch.as_tensor(got).double(), torch.as_tensor(expected).double()
    for words, value in (mistakes or {}).items():
        wrong = torch.as_tensor(value).double()
        if _close(actual, wrong) and not _close(wrong, right):
            raise Wrong(words)
    if actual.shape != right.shape:
        raise Wrong(f"the shape is {tuple(actual.shape)}, expected {tuple(right.shape)}")
    if not _close(actual, right):
        raise Wrong(f"got {_short(actual)}, expected {_short(right)}{_where(actual, right)}")


def needs_gradient(loss: Any, student: Tensor) -> None:
    """Raise `Wrong` unless a loss, whose value is right, has a gradient with respect to the student's tensor.

    Args:
        loss: what the reader's function returned; of more than one number, the sum is differentiated.
        student: the leaf tensor that the function was given, without a gradient so far.
    """
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.sum().backward()  # type: ignore[no-untyped-call]
    if student.grad is None or not bool(student.grad.abs().sum() > 0):
        raise Wrong(
            "the value is right, but no gradient reaches the student: return a tensor, without item() or detach() on"
            " the way"
        )


def seeded_randn(*shape: int, seed: int) -> Tensor:
    """Draw a tensor of standard normal numbers that depends on the seed alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(_near(a, b).all())


def _near(a: Tensor, b: Tensor) -> Tensor:
    return torch.isclose(a, b, rtol=1e-4, atol=1e-7)


def _where(actual: Tensor, right: Tensor) -> str:
    """Name the first wrong entry, if the values that are printed look the same."""
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
