"""Which exercises a reader has solved: one local file, a number on each line, which git ignores.

`check` adds to it, and notebook 00 shows it. Whoever wants it elsewhere names another file in the environment variable
`DISTILL_HELPERS_RECORD`, as the tests do.
"""

from __future__ import annotations

import os
from pathlib import Path

from distill_helpers.course.folders import NOTEBOOKS, SOLUTIONS

__all__ = ["forget", "note_solved", "numbers_of_exercises", "record_file", "solved"]


def record_file() -> Path:
    """Where the record lies."""
    return Path(os.environ.get("DISTILL_HELPERS_RECORD", NOTEBOOKS / "my-record.txt"))


def numbers_of_exercises() -> list[str]:
    """Return the numbers of all exercises, such as "01.2", in order."""
    return sorted(path.stem.replace("_", ".") for path in SOLUTIONS.glob("*.py"))


def solved() -> list[str]:
    """Return the numbers of the exercises that were solved, in the order in which they first were.

    Raises:
        ValueError: a line that is no exercise's number.
    """
    file = record_file()
    lines = file.read_text(encoding="utf-8").split() if file.exists() else []
    if unknown := sorted(set(lines) - set(numbers_of_exercises())):
        raise ValueError(f"{file} has lines that are no exercise: {', '.join(unknown)}; take them out")
    return list(dict.fromkeys(lines))


def note_solved(number: str) -> None:
    """Add an exercise to the record, unless it is there.

    Raises:
        ValueError: see `solved`; the file stays as it is.
    """
    if number not in solved():
        with record_file().open("a", encoding="utf-8") as file:
            file.write(f"{number}\n")


def forget() -> Path | None:
    """Begin a new record.

    Returns:
        Where the old one lies now; None if there was none.
    """
    file = record_file()
    return file.replace(file.with_suffix(".old.txt")) if file.exists() else None
