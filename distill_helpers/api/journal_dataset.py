"""From a journal to a student: soft or hard labels for a classifier, pairs of texts for a language model.

The only module of `distill_helpers.api` that needs torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from distill_helpers.api.journal.journal import JournalRecord, read_journal
from distill_helpers.api.labels.label_answers import Answers
from distill_helpers.api.labels.label_probabilities import (
    LabelProbabilities,
    probabilities_from_logprobs,
    probabilities_from_samples,
)
from distill_helpers.api.review.answer_quality import FilteredRecords, filter_records
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.training.dataset import DistillationDataset

__all__ = ["JournalDataset", "dataset_from_journal", "text_examples"]

#: What the functions take: a journal's file, its records, or what a filter has kept of them.
Records = str | Path | FilteredRecords | Iterable[JournalRecord]


class JournalDataset(DistillationDataset):
    """A `DistillationDataset` that says what it was made of.

    Attributes:
        texts: the inputs, in the order of the rows.
        n_verified: rows whose hard label is a verified one.
        set_aside: how many records are not learned from, by reason: those of `filter_records`, and "nothing on a label"
            where the probabilities of an input are no more than a guess.
        n_lost: inputs that are not in the set, since all of their records were set aside.
    """

    texts: list[str]
    n_verified: int
    set_aside: dict[str, int]
    n_lost: int


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
    """A training set for `train_student_with_distillation`, one row for each input with an answer that may be used.

    With soft targets the teacher's logits are log max(p, floor): at temperature 1 the student sees the teacher's
    probabilities. Only verified labels are hard labels, so that `DistillationConfig(alpha=0.9)` anchors the student to
    them, and rows without one learn from the teacher alone; without any use alpha = 1. The task term is a mean over
    *all* rows: with a tenth of them verified it weighs a tenth of what alpha says.

    With hard targets each row has its verified label, else the teacher's likeliest; there are no logits, so use
    alpha = 0.

    A validation set is made in the same way, with the labels of all of its inputs as `verified`.

    Args:
        records: a journal's file, its records, or what `filter_records` returned. The first two are filtered with its
            defaults.
        label_names: the classes, in the order of the student's outputs.
        tokenizer: the student's own.
        targets: "soft" or "hard".
        answers: what stands for each label in an answer; default the names.
        probabilities: of these inputs, such as calibrated ones. Default: from log-probabilities if all of the answers
            that are kept have them, from samples if none has.
        verified: the right label's index by input, from `ReviewSheet.verified_labels`. Those of other inputs are
            passed over.
        floor: the least probability, in (0, 1). A label that no sample named is rare, not impossible: 1e-4 keeps its
            logit within 9.2 of a certain one.
        max_length: in tokens; default the tokenizer's own.

    Raises:
        FileNotFoundError: no such journal.
        ValueError: no input is left, with the reasons; answers of which only some have log-probabilities; an input
            without probabilities, or those of other classes; verified labels of which none fits; other targets, a
            floor out of range.
    """
    if targets not in ("soft", "hard"):
        raise ValueError(f'targets must be "soft" or "hard", got {targets!r}')
    if not 0 < floor < 1:
        raise ValueError(f"floor must lie between 0 and 1, got {floor}")
    filtered = _filtered(records, label_names, answers)
    if not filtered.kept:
        raise ValueError(
            f"no input is left to learn from; the records were set aside as {filtered.counts}. Where a single token is"
            " the whole answer, or none names a label, pass what filter_records returns with other settings"
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
        raise ValueError(f"{missing} of {len(records_of)} inputs have no probabilities; compute them of these records")
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
        labels = [own if label == IGNORE_INDEX else label for label, own in zip(labels, likeliest, strict=True)]
        dataset = JournalDataset(texts, labels, None, tokenizer, max_length)
    dataset.texts = texts
    dataset.n_verified = len(checked)
    dataset.set_aside = set_aside
    dataset.n_lost = len(filtered.lost_inputs) + len(records_of) - len(texts)
    return dataset


def text_examples(records: Records) -> list[tuple[str, str]]:
    """(input, answer) of every answer that may be used: prompt and completion for a student that is a language model.

    All samples of an input are pairs of their own. White space around an answer is trimmed.

    Args:
        records: a journal's file, its records, or what `filter_records` returned. The first two are filtered with its
            defaults for free texts.

    Raises:
        FileNotFoundError: no such journal.
        ValueError: no answer is left, with the reasons.
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
            f"{kinds[True]} answers have log-probabilities and {kinds[False]} have none; pass the records of one kind,"
            " or probabilities"
        )
    read = probabilities_from_logprobs if kinds[True] else probabilities_from_samples
    return read(records, label_names, answers=answers)


def _checked_labels(verified: Mapping[str, int], texts: Sequence[str], n_labels: int) -> dict[str, int]:
    known = set(texts)
    used = {text: label for text, label in verified.items() if text in known}
    if verified and not used:
        raise ValueError(f"none of the {len(verified)} verified labels is of an input that is left")
    for label in used.values():
        if not 0 <= label < n_labels:
            raise ValueError(f"verified label {label} is not one of the {n_labels} classes; pass indices")
    return used
