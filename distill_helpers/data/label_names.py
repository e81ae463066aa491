"""The names of classes as files write them: cleaned, put in order, and refused where two names may mean one class."""

from __future__ import annotations

import math
import numbers
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

__all__ = ["check_label_names", "clean_label", "in_order", "names_alike", "read_labels"]

#: What pandas and NumPy write for a missing value when they are asked for strings.
_MISSING = frozenset({"nan", "NaN", "<NA>", "NaT"})

_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")


def clean_label(value: Any) -> str | None:
    """A label as a name: without the blanks around it, in Unicode's composed form (NFC). None if there is no label.

    Raises:
        TypeError: a value that is no single label, such as a list.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str | numbers.Real):
        raise TypeError(f"the label is {value!r} ({type(value).__name__}); a single name or number is needed")
    return unicodedata.normalize("NFC", str(value)).strip() or None


def read_labels(values: Iterable[Any], where: str, first_row: int, declared: Sequence[str] | None) -> list[str]:
    """The names in a column of labels, cleaned (`clean_label`); "" where there is no label.

    A warning says so if one name was written in several ways.

    Args:
        values: names, numbers or truth values.
        where: names the table in errors and warnings.
        first_row: the number of the column's first row.
        declared: the names that the user has listed, if any; then "nan" may be one of them.

    Raises:
        ValueError: no single label, or one that says that a value was missing, with its row.
    """
    names: list[str] = []
    forms: dict[str, dict[Any, int]] = {}
    for row, value in enumerate(values, start=first_row):
        try:
            name = clean_label(value)
        except TypeError as error:
            raise ValueError(f"{where}, row {row}: {error}") from error
        if name is None:
            names.append("")  # `labelled` refuses the row
            continue
        if name in _MISSING and name not in (declared or ()):
            raise ValueError(
                f"{where}, row {row}: the label {name!r} looks like a missing value; drop the row, or list the class in"
                " `label_names`"
            )
        forms.setdefault(name, {}).setdefault(value, row)
        names.append(name)
    merged = {name: written for name, written in forms.items() if len(written) > 1}
    if merged:
        shown = "; ".join(
            f"{name!r} as " + " and ".join(f"{form!r} (row {row})" for form, row in list(written.items())[:3])
            for name, written in list(merged.items())[:5]
        )
        warnings.warn(f"{where}: some labels are written in several ways, which count as one: {shown}", stacklevel=2)
    return names


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The distinct names: as numbers if all of them are numbers ("2" before "10"), otherwise as words."""
    distinct = set(names)
    if all(_NUMBER.fullmatch(name) for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (Decimal(name), name)))
    return tuple(sorted(distinct))


def check_label_names(names: Sequence[str], where: str) -> None:
    """Refuse names of which two mean the same number or are equal, and warn of names that differ in capitals alone.

    Args:
        names: the classes.
        where: says in errors and warnings where the names come from.

    Raises:
        ValueError: no name, an empty one, one that comes twice, or two such as "1" and "1.0".
    """
    if isinstance(names, str) or len(names) == 0:
        raise ValueError(f"{where}: pass a list of names, one for each class, got {names!r}")
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or clean_label(name) != name:
            raise ValueError(f"{where}: {name!r} is not a name; a name is a string without blanks around it, in NFC")
        number = _whole_number(name)
        if number in seen:
            other = seen[number]
            raise ValueError(
                f"{where}: the class {name!r} is listed twice"
                if other == name
                else f"{where}: {other!r} and {name!r} are the same number; write them alike"
            )
        seen[number] = name
    folded: dict[str, str] = {}
    for name in names:
        if (key := _folded(name)) in folded:
            warnings.warn(
                f"{where}: {folded[key]!r} and {name!r} are two classes, although they differ only in capitals or in"
                " characters that cannot be seen",
                stacklevel=2,
            )
        folded[key] = name


def names_alike(label: str, names: Iterable[str]) -> str | None:
    """The first of the names that probably means the same class as an unknown label; None if there is none."""
    wanted = {_whole_number(label), _folded(label)}
    return next((name for name in names if wanted & {_whole_number(name), _folded(name)}), None)


def _whole_number(name: str) -> str:
    """The name, without the ".0" that a whole number has in a column of floats."""
    match = re.fullmatch(r"([-+]?[0-9]+)\.0*", name)
    return match[1] if match else name


def _folded(name: str) -> str:
    seen = (char for char in unicodedata.normalize("NFKC", name) if unicodedata.category(char) != "Cf")
    return " ".join("".join(seen).casefold().split())
