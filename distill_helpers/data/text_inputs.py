"""What a classifier reads: a text, or a pair of texts such as premise and hypothesis, or query and passage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from distill_helpers.data.labelled_texts import fault_of

__all__ = ["TextInput", "check_inputs", "text_parts"]

#: A text, or a pair: a tuple of two texts.
TextInput = str | tuple[str, str]


def check_inputs(inputs: Sequence[TextInput]) -> None:
    """Raise ValueError, with its row (0-based), for an input that is neither a text nor a pair of texts.

    Raises:
        ValueError: a text that is empty, no string or not valid Unicode, alone or in a pair; a list or a tuple of
            another length in the place of a pair; no input at all, or a single string, a mapping or a table in place
            of a list.
    """
    if isinstance(inputs, Mapping) or getattr(inputs, "ndim", 1) != 1:
        raise ValueError(
            f"pass a list of texts or of pairs, got one {type(inputs).__name__}, which does not go from row to row as a"
            " list does; two columns become pairs by `list(zip(first, second))`"
        )
    if isinstance(inputs, str) or len(inputs) == 0:
        raise ValueError("pass a non-empty list of texts, or of pairs of texts")
    for row, given in enumerate(inputs):
        for place, text in _places(row, given):
            if (fault := fault_of(text)) is not None:
                raise ValueError(f"row {row}: {place}{fault}; drop the row or fix it")


def text_parts(inputs: Iterable[TextInput]) -> list[str]:
    """All texts, one after the other; a pair gives both of its texts."""
    return [text for given in inputs for text in (given if isinstance(given, tuple) else (given,))]


def _places(row: int, given: Any) -> Iterator[tuple[str, Any]]:
    """The texts of one input, each with the words that name its place in a message."""
    if isinstance(given, tuple) and len(given) == 2:
        yield "in the first text of the pair, ", given[0]
        yield "in the second text of the pair, ", given[1]
    elif isinstance(given, list | tuple):
        raise ValueError(
            f"row {row}: a {type(given).__name__} of {len(given)} is neither a text nor a pair; a pair is a tuple of"
            " two texts, `(premise, hypothesis)`, and the words of a text are for models that classify tokens"
        )
    else:
        yield "", given
