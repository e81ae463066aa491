"""From a journal to a training set: soft or hard labels for a classifier, pairs of texts for a language model.

This is the only module of `distill_helpers.api` that needs torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from distill_helpers.api.journal.journal import read_journal
from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.labels.answer_parsing import Answers
from distill_helpers.api.labels.label_probabilities import (
    LabelProbabilities,
    probabilities_from_logprobs,
    probabilities_from_samples,
)
from distill_helpers.api.review.quality_filters import FilteredRecords, filter_records
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.training.dataset import DistillationDataset

__all__ = ["JournalDataset", "dataset_from_journal", "text_examples"]

#: What the functions of this module read: a journal's file, its records, or the result of `filter_records`.
Records = str | Path | FilteredRecords | Iterable[JournalRecord]


class JournalDataset(DistillationDataset):
    """A `DistillationDataset` that says which records it was made of.

    Attributes:
        texts: the inputs, in the order of the rows.
        n_verified: number of rows whose hard label is a verified label.
        set_aside: how many records the student does not learn from, by reason: the reasons of `filter_records`, and
            "nothing on a label" if an input's probabilities are only a guess.
        n_lost: number of inputs that are not in the set because all of their records were set aside.
    """

    texts: list[str]
    n_verified: int
    set_aside: dict[str, int]
    n_lost: int

    def __repr__(self) -> str:
        return (
            f"JournalDataset({len(self.texts)} rows, {self.n_verified} verified, set aside: {self.set_aside},"
            f" {self.n_lost} inputs lost)"
        )


def dataset_from_journal(
    records: Records,
    label_names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    targets: str = "soft",
    answers: Answers = None,
    probabilities: LabelProbabilities | None = None,
    verified: Mapping[str, int] | None = None,
    floor: float = 1e-4,
    max_length: int | None = None,
) -> JournalDataset:
    """Make a training set for `train_student_with_distillation`: a row for each input that has a usable answer.

    With soft targets, the teacher's logits are log max(p, floor), so at temperature 1 the student sees the teacher's
    probabilities. Only verified labels are hard labels. `DistillationConfig(alpha=0.9)` anchors the student to them,
    and rows without a verified label learn from the teacher alone. If there are no verified labels, use alpha = 1. The
    task term is a mean over *all* rows: if a tenth of the rows is verified, the term has a tenth of the weight that
    alpha gives it.

    With hard targets, each row has its verified label, or else the teacher's likeliest label. There are no logits, so
    use alpha = 0.

    A validation set is made in the same way, with the labels of all of its inputs as `verified`.

    Args:
        records: a journal's file, its records, or the result of `filter_records`. A file or records are filtered with
            the defaults of `filter_records`.
        label_names: the classes, in the order of the student's outputs.
        tokenizer: the student's own.
        targets: "soft" or "hard".
        answers: the strings that stand for each label in an answer; default the names.
        probabilities: the inputs' probabilities, for instance calibrated ones. Default: from log-probabilities if all
            kept answers have them, and from samples if none has.
        verified: the right label's index for each input, from `ReviewSheet.verified_labels`. Labels of other inputs are
            ignored.
        floor: the least probability, in (0, 1). A label that no sample named is rare, not impossible: with 1e-4 its
            logit is at most 9.2 below that of a certain label.
        max_length: in tokens; default the tokenizer's own.

    Raises:
        FileNotFoundError: there is no such journal.
        ValueError: no input is left, with the reasons; only some of the answers have log-probabilities; an input has no
            probabilities, or the probabilities are of other classes; no verified label is of an input that is left, or
            one is not a class; other targets; or a floor out of range.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_helpers.api import JournalRecord, TeacherAnswer, dataset_from_journal
        >>> said = {"no sound": "PC", "the dock is gone": "It is a Mac.", "hello": "Hello!"}
        >>> records = [JournalRecord.of({}, text, TeacherAnswer(answer, "stop", "m")) for text, answer in said.items()]
        >>> tokenizer = AutoTokenizer.from_pretrained(dh.base_encoder_path())
        >>> dataset_from_journal(records, ("PC", "Mac"), tokenizer, verified={"no sound": 0})
        JournalDataset(2 rows, 1 verified, set aside: {'names no label': 1}, 1 inputs lost)
    """
    if targets not in ("soft", "hard"):
        raise ValueError(f'targets must be "soft" or "hard", got {targets!r}')
    if not 0 < floor < 1:
        raise ValueError(f"floor must lie between 0 and 1, got {floor}")
    filtered = _filtered(records, label_names, answers)
    if not filtered.kept:
        raise ValueError(
            f"no input is left to learn from; the records were set aside as {filtered.counts}. If the answers are"
            " single tokens, or name no label, pass what filter_records returns with other settings"
        )
    if probabilities is None:
        probabilities = _probabilities(filtered.kept, label_names, answers)
    if probabilities.probabilities.shape[1] != len(label_names):
        raise ValueError(
            f"{len(label_names)} label names, but probabilities of {probabilities.probabilities.shape[1]} labels"
        )
    records_of = Counter(record.input_text for record in filtered.kept)
    row_of = {text: row for row, text in enumerate(probabilities.inputs)}
    missing = sum(text not in row_of for text in records_of)
    if missing:
        raise ValueError(
            f"{missing} of {len(records_of)} inputs have no probabilities; compute the probabilities of these records"
        )
    texts = [text for text in records_of if probabilities.off_label_mass[row_of[text]] < 1]
    guesses = sum(records_of.values()) - sum(records_of[text] for text in texts)
    set_aside = filtered.counts | ({"nothing on a label": guesses} if guesses else {})
    if not texts:
        raise ValueError(f"no input is left to learn from; the records were set aside as {set_aside}")
    p = probabilities.probabilities[[row_of[text] for text in texts]]
    checked = _checked_labels(verified or {}, texts, len(label_names))
    labels = [checked.get(text, IGNORE_INDEX) for text in texts]
    if targets == "soft":
        logits = torch.from_numpy(np.log(np.maximum(p, floor))).float()
        dataset = JournalDataset(texts, labels, logits, tokenizer, max_length)
    else:
        likeliest = p.argmax(axis=1).tolist()
        labels = [guess if label == IGNORE_INDEX else label for label, guess in zip(labels, likeliest, strict=True)]
        dataset = JournalDataset(texts, labels, None, tokenizer, max_length)
    dataset.texts = texts
    dataset.n_verified = len(checked)
    dataset.set_aside = set_aside
    dataset.n_lost = len(filtered.lost_inputs) + len(records_of) - len(texts)
    return dataset


def text_examples(records: Records) -> list[tuple[str, str]]:
    """The (input, answer) pairs of all usable answers: prompts and completions for a student that is a language model.

    Each sample of an input is a pair of its own. White space around an answer is trimmed.

    Args:
        records: a journal's file, its records, or the result of `filter_records`. A file or records are filtered with
            the defaults of `filter_records` for free texts.

    Raises:
        FileNotFoundError: there is no such journal.
        ValueError: no answer is left, with the reasons.

    Example:
        >>> from distill_helpers.api import JournalRecord, TeacherAnswer, text_examples
        >>> answer = TeacherAnswer(" Check the cable first. ", "stop", "m")
        >>> text_examples([JournalRecord.of({}, "no sound", answer)])
        [('no sound', 'Check the cable first.')]
    """
    filtered = _filtered(records, None, None)
    pairs = [(record.input_text, record.answer.text.strip()) for record in filtered.kept if record.answer is not None]
    if not pairs:
        raise ValueError(f"no answer is left to learn from; the records were set aside as {filtered.counts}")
    return pairs


def _filtered(records: Records, label_names: Sequence[str] | None, answers: Answers) -> FilteredRecords:
    if isinstance(records, FilteredRecords):
        return records
    if isinstance(records, str | Path):
        records = read_journal(records)
    return filter_records(records, label_names, answers=answers)


def _probabilities(
    records: Sequence[JournalRecord], label_names: Sequence[str], answers: Answers
) -> LabelProbabilities:
    kinds = Counter(bool(record.answer.top_logprobs) for record in records if record.answer is not None)
    if len(kinds) == 2:
        raise ValueError(
            f"{kinds[True]} answers have log-probabilities and {kinds[False]} have none; pass records of one kind, or"
            " pass probabilities"
        )
    read = probabilities_from_logprobs if kinds[True] else probabilities_from_samples
    return read(records, label_names, answers=answers)


def _checked_labels(verified: Mapping[str, int], texts: Sequence[str], n_labels: int) -> dict[str, int]:
    known = set(texts)
    used = {text: label for text, label in verified.items() if text in known}
    if verified and not used:
        raise ValueError(f"none of the {len(verified)} verified labels belongs to an input that is left")
    for label in used.values():
        if not 0 <= label < n_labels:
            raise ValueError(f"verified label {label} is not one of the {n_labels} classes; pass the labels' indices")
    return used
