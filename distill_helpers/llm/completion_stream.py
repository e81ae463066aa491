"""Prompts and completions that are read as they are needed, from a data set that is too large to hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset, get_worker_info

from distill_helpers.llm.completion_dataset import CompletionDataset
from distill_helpers.llm.dataset_rows import TEXT, check_row, check_split, columns_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CompletionStream"]

#: The number of rows that are tokenised together.
_CHUNK = 64


class CompletionStream(IterableDataset):
    """Items as `CompletionDataset.from_hf` makes them, one after the other, of which at most 64 are held at a time.

    `LLMDistillationTrainer` takes a stream as its `train_dataset`, together with `max_steps` and a live teacher or
    alpha = 0. The stream begins again when its end is reached. To shuffle, shuffle the rows:
    `dataset.shuffle(buffer_size=10_000)` of an iterable data set. Targets on disk, `evaluate_language_model` and an
    evaluation by several processes need a `CompletionDataset`.

    Args:
        rows: an iterable data set of Hugging Face, or anything else that can be iterated over again and again. The
            columns are those of `CompletionDataset.from_hf`.
        tokenizer: the student's own.
        max_length, end, split_turns: see `CompletionDataset.from_hf`.

    Raises:
        TypeError: an iterator, which would be empty at the second pass, or several splits.
        ValueError: there is no row, or the columns are not those of `from_hf`. While the stream is read: a row from
            which no item can be made, with its number. A worker of a DataLoader that reads its own part of the data set
            counts the rows of this part.

    Example:
        >>> from distill_helpers.llm import CompletionStream
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> rows = [{"text": "no sound"}, {"text": "my mac shows a grey screen"}]
        >>> [len(item["input_ids"]) for item in CompletionStream(rows, tokenizer)]
        [4, 8]
    """

    #: A stream has no targets on disk, which belong to sequences by their numbers.
    teacher_targets = None

    def __init__(
        self,
        rows: Iterable[Any],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        end: bool = True,
        split_turns: bool = False,
    ) -> None:
        check_split(rows)
        if isinstance(rows, Iterator):
            raise TypeError(
                f"a {type(rows).__name__} can be read once, and a training reads its data again and again; pass"
                " datasets.IterableDataset.from_generator(function), or a list"
            )
        self.rows, self.tokenizer, self.max_length = rows, tokenizer, max_length
        self._settings: dict[str, Any] = {"max_length": max_length, "end": end, "split_turns": split_turns}
        self.columns = columns_of(next(iter(rows), None))

    @property
    def has_prompts(self) -> bool:
        """Whether the items have a prompt that a student could continue."""
        return self.columns != TEXT

    def set_epoch(self, epoch: int) -> None:
        """Tell an iterable data set the number of the pass, by which it shuffles. The Trainer calls this."""
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows, first = iter(self.rows), 0
        # An IterableDataset of torch, as those of Hugging Face are, gives each worker a part of its own.
        part = None if isinstance(self.rows, IterableDataset) else get_worker_info()
        while chunk := list(islice(rows, _CHUNK)):
            data = self._items(chunk, first)
            for number in range(len(data)):
                if part is None or (first + number) % part.num_workers == part.id:
                    yield data[number]
            first += len(chunk)

    def _items(self, rows: list[Any], first: int) -> CompletionDataset:
        try:
            return self._data_set(rows)
        except ValueError:
            for number, row in enumerate(rows, first):
                try:
                    self._data_set([row])
                except ValueError as error:  # which counts from 0
                    what = str(error)
                    what = what.removeprefix("row 0") if what.startswith("row 0") else f": {what}"
                    raise ValueError(f"row {number}{what}") from error
            raise

    def _data_set(self, rows: list[Any]) -> CompletionDataset:
        for number, row in enumerate(rows):
            check_row(number, row, *self.columns)
        # Without the columns that only some rows have, which might say something else.
        kept = [{name: row[name] for name in self.columns} for row in rows]
        return CompletionDataset.from_hf(kept, self.tokenizer, **self._settings)

    def __repr__(self) -> str:
        columns = " and ".join(map(repr, self.columns))
        return f"CompletionStream({type(self.rows).__name__} with {columns}, at most {self.max_length} tokens)"
