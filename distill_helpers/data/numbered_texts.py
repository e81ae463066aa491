"""Messages that know their rows in a file: what a file shares with another one, and what it says twice."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from distill_helpers.data.labelled_texts import LabelledTexts, rows_by_text, text_key

__all__ = ["NumberedTexts"]


@dataclass(frozen=True)
class NumberedTexts:
    """A set of messages, with the number that each of them has in its table.

    Args:
        data: the messages.
        rows: the number of each message's row.
        where: names the table in errors and warnings.
    """

    data: LabelledTexts
    rows: list[int]
    where: str

    def without(self, others: Sequence[NumberedTexts], *, keep_classes: bool = False) -> NumberedTexts:
        """The messages whose texts are in none of the others. A warning names the rows that are left out.

        Args:
            others: sets whose texts must not come again.
            keep_classes: no class may lose all of its messages.

        Raises:
            ValueError: no message would be left or, with `keep_classes`, none of some class.
        """
        taken = {text_key(text): other.where for other in others for text in other.data.texts}
        kept = [i for i, text in enumerate(self.data.texts) if text_key(text) not in taken]
        if len(kept) == len(self.rows):
            return self
        left_out = sorted(set(range(len(self.rows))) - set(kept))
        elsewhere = " and ".join(dict.fromkeys(taken[text_key(self.data.texts[i])] for i in left_out))
        what = f"{len(left_out)} of {len(self.rows)} messages are also in {elsewhere}"
        rows = _listed([self.rows[i] for i in left_out])
        gone = set(self.data.labels) - {self.data.labels[i] for i in kept} if keep_classes else set()
        if not kept or gone:
            lost = f"of the class {self.data.label_names[min(gone)]!r}" if kept else "at all"
            raise ValueError(
                f"{self.where}: {what} ({rows}), which leaves no message {lost}; bring messages that the other set does"
                " not have"
            )
        warnings.warn(
            f"{self.where}: {what} and are left out here, so that the sets share no text: {rows}", stacklevel=4
        )
        return NumberedTexts(self.data.subset(kept), [self.rows[i] for i in kept], self.where)

    def warn_of_two_labels(self) -> None:
        """Warn of texts that come with different labels."""
        labels = self.data.labels
        mixed = [rows for rows in rows_by_text(self.data.texts).values() if len({labels[i] for i in rows}) > 1]
        if mixed:
            shown = "; ".join(
                ", ".join(f"row {self.rows[i]} {self.data.label_names[labels[i]]!r}" for i in rows[:4])
                for rows in mixed[:5]
            )
            warnings.warn(
                f"{self.where}: {len(mixed)} texts have different labels in different rows, and one of them is wrong:"
                f" {shown}{'; …' if len(mixed) > 5 else ''}",
                stacklevel=4,
            )

    def check_splittable(self) -> None:
        """Raise ValueError for a class with a single text, of which no part of a split can do without."""
        texts: dict[int, set[str]] = {}
        for text, label in zip(self.data.texts, self.data.labels, strict=True):
            texts.setdefault(label, set()).add(text_key(text))
        for row, label in zip(self.rows, self.data.labels, strict=True):
            if len(texts[label]) < 2:
                raise ValueError(
                    f"{self.where}, row {row}: the label {self.data.label_names[label]!r} has a single text, and both"
                    " training and validation need one; add a message, drop the row, or bring a validation set"
                )


def _listed(rows: Sequence[int]) -> str:
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:10]))}{', …' if len(rows) > 10 else ''}"
