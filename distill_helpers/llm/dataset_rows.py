"""The rows of Hugging Face data sets: which columns hold the text, and what is wrong with a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MESSAGES", "PAIRS", "TEXT", "check_row", "check_split", "columns_of", "texts_of"]

MESSAGES, PAIRS, TEXT = ("messages",), ("prompt", "completion"), ("text",)


def check_split(dataset: Any) -> None:
    """Raise TypeError if a data set has several splits, each under its name."""
    if isinstance(dataset, Mapping):
        raise TypeError(f"pass one split of the data set, such as dataset[{next(iter(dataset), 'train')!r}]")


def check_row(number: int, row: Any, *columns: str) -> None:
    """Raise ValueError, with its number, if a row is no mapping or lacks one of the columns."""
    if not isinstance(row, Mapping):
        raise ValueError(f"row {number} must be a mapping of columns, got {type(row).__name__}")
    if missing := [column for column in columns if column not in row]:
        raise ValueError(f"row {number} has no column {missing[0]!r}, only {sorted(row)}; leave it out, or repair it")


def columns_of(first: Any) -> tuple[str, ...]:
    """The columns from which sequences are made: `MESSAGES`, `PAIRS` or `TEXT`.

    Args:
        first: the first row of a data set; None if there is none.

    Raises:
        ValueError: there is no row, it is no mapping, or none of the three is there, or more than one.
    """
    if first is None:
        raise ValueError("the data set has no row; check its split and its filters")
    check_row(0, first)
    found = [columns for columns in (MESSAGES, PAIRS, TEXT) if set(columns) <= set(first)]
    if not found:
        raise ValueError(
            f"the data set has the columns {sorted(first)}, but it needs 'messages', or 'prompt' and"
            " 'completion', or 'text'; rename its columns with dataset.rename_column"
        )
    if len(found) > 1:
        raise ValueError(
            f"the data set has {found[0]} and {found[1]}, either of which could be meant; keep one of them with"
            f" dataset.select_columns({list(found[0])})"
        )
    return found[0]


def texts_of(rows: Sequence[Any], column: str) -> list[str]:
    """The texts of a column.

    Args:
        rows: mappings.
        column: has a text in every row.

    Raises:
        ValueError: a row is no mapping, lacks the column, or has no text there (with its row).
    """
    texts = []
    for number, row in enumerate(rows):
        check_row(number, row, column)
        text = row[column]
        if isinstance(text, Sequence) and not isinstance(text, str | bytes):
            raise ValueError(
                f"row {number} has a list in the column {column!r}; a conversation belongs in a column 'messages', from"
                " its first message to the last"
            )
        if not isinstance(text, str) or not text.strip():
            got = "an empty text" if isinstance(text, str) else f"{text!r}, a {type(text).__name__},"
            raise ValueError(f"row {number} has {got} in the column {column!r}; leave such rows out, or repair them")
        texts.append(text)
    return texts
