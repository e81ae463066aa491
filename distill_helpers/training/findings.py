"""What the checks of a teacher and a student find: each finding with its reason and its remedy."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from distill_helpers.models.text_models import LanguageModel, TextClassifier

__all__ = ["Finding", "Pair", "raise_for_errors", "warn_of_the_rest"]

#: A model with its tokenizer, as the checks take them.
Pair = TextClassifier | LanguageModel


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Args:
        check: the name of the check that found it.
        severity: "error" if the training would learn the wrong thing or stop; "warning" if that may be meant.
        reason: what was found, with the names and numbers.
        remedy: what to do.
    """

    check: str
    severity: Literal["error", "warning"]
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.check}: {self.reason}; {self.remedy}"


def raise_for_errors(findings: Iterable[Finding]) -> None:
    """Raise ValueError with every error and its remedy, one on each line, if there is an error."""
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise ValueError("\n".join(errors))


def warn_of_the_rest(findings: Iterable[Finding]) -> None:
    """One warning that names every finding which is no error, if there is one."""
    rest = [str(finding).removeprefix("warning: ") for finding in findings if finding.severity == "warning"]
    if rest:
        warnings.warn("\n".join(rest), stacklevel=4)  # at the line that makes the trainer
