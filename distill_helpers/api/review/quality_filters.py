"""Which of a teacher's answers a student may learn from: agreement of samples, and filters that name their reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.labels.answer_parsing import Answers, LabelReader, label_reader
from distill_helpers.api.labels.label_probabilities import LabelProbabilities, samples_of_inputs
from distill_helpers.api.teachers.answers import COMPLETE, TRUNCATED

__all__ = [
    "REFUSALS",
    "FilteredRecords",
    "SetAside",
    "filter_records",
    "is_refusal",
    "modal_share",
    "pairwise_agreement",
]

_SORRY = (
    r"(?:(?:i['’]?m|i am) (?:very |so |really )?sorry|sorry|my apologies|i apologi[sz]e|unfortunately)"
    r"[,.;:!]?\s+(?:but )?"
)
_CANNOT = r"i(?:['’]m| am)? ?(?:can['’]?t|cannot|can not|won['’]?t|will not|unable to|not able to|not allowed to)"
_DO = r"(?:help|assist|answer|comply|fulfil|provide|do (?:that|this)|discuss|classify|engage|create|write|generate)"
#: How a refusal in words begins, in English. Add the phrases of your teacher and your language. "I'm sorry to hear that
#: …" and "I can't find the driver" do not match, but "Sorry, I can't find the driver" is mistaken for a refusal.
REFUSALS = (
    rf"{_SORRY}{_CANNOT}\b",
    rf"{_CANNOT} {_DO}\b",
    r"as an ai\b",
    r"(?:this|that|your) request (?:violates|goes against)\b",
)


@dataclass(frozen=True)
class SetAside:
    """A record that the student does not learn from, and the reason, one of those in `filter_records`."""

    record: JournalRecord
    reason: str


@dataclass(frozen=True)
class FilteredRecords:
    """What the filters kept and what they set aside. Each record is in one of the two lists.

    Attributes:
        kept: the records to learn from, in the order of the records.
        set_aside: the other records, in the order of the records, each with the first reason that applied.
    """

    kept: list[JournalRecord]
    set_aside: list[SetAside]

    def __repr__(self) -> str:
        return f"FilteredRecords({len(self.kept)} kept, {len(self.set_aside)} set aside: {self.counts})"

    @property
    def counts(self) -> dict[str, int]:
        """The number of records that were set aside for each reason, the most frequent reason first."""
        return dict(Counter(aside.reason for aside in self.set_aside).most_common())

    @property
    def lost_inputs(self) -> list[str]:
        """The inputs of which no record was kept, each once."""
        kept = {record.input_text for record in self.kept}
        return list(dict.fromkeys(a.record.input_text for a in self.set_aside if a.record.input_text not in kept))


def modal_share(answers: Sequence[Hashable | None]) -> float:
    """The share of the most frequent answer among the samples of one input; None agrees with nothing.

    Raises:
        ValueError: there is no answer.

    Example:
        >>> from distill_helpers.api.review import modal_share, pairwise_agreement
        >>> modal_share(["Mac", "Mac", "PC", None]), round(pairwise_agreement(["Mac", "Mac", "PC", None]), 3)
        (0.5, 0.167)
    """
    if not answers:
        raise ValueError("there are no samples; the modal share needs one or more")
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts.values(), default=0) / len(answers)


def pairwise_agreement(answers: Sequence[Hashable | None]) -> float:
    """The share of the pairs of samples that agree; None agrees with nothing, not even with another None.

    With k samples, and shares p of the answers, this estimates without bias the probability Σ p² that two samples
    agree. `modal_share` is biased upwards if there are few samples: of two samples that differ, it is 0.5.

    Raises:
        ValueError: there are fewer than two answers.
    """
    k = len(answers)
    if k < 2:
        raise ValueError(f"pairwise agreement needs two samples or more, got {k}")
    counts = Counter(answer for answer in answers if answer is not None)
    return sum(count * (count - 1) for count in counts.values()) / (k * (k - 1))


def is_refusal(text: str, patterns: Sequence[str] = REFUSALS) -> bool:
    """Whether a text begins like a refusal.

    Args:
        text: the teacher's answer.
        patterns: regular expressions, matched in any case, after quotation marks and the like.

    Example:
        >>> from distill_helpers.api.review import is_refusal
        >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("I'm sorry to hear that.")
        (True, False)
    """
    return any(re.match(rf"\W*{pattern}", text, re.IGNORECASE) for pattern in patterns)


def filter_records(
    records: Iterable[JournalRecord],
    label_names: Sequence[str] | None = None,
    *,
    answers: Answers = None,
    must_name_a_label: bool = True,
    allow_truncated: bool = False,
    refusals: Sequence[str] = REFUSALS,
    min_agreement: float = 0.0,
    probabilities: LabelProbabilities | None = None,
    min_confidence: float = 0.0,
    max_off_label_mass: float = 1.0,
    max_similarity: float | None = None,
) -> FilteredRecords:
    """Keep the records that a student may learn from. A record is set aside for the first reason that applies:

    * "failed": the request got no answer; "refused": the provider reports a refusal or a content filter; "truncated";
      "ended otherwise": a finish reason that is not a complete answer's;
    * "empty"; "refusal in words", see `is_refusal`; "names no label", or more than one, see `label_named_in`;
    * "low agreement": by the `modal_share` of the input's samples; "off-label mass" and "low confidence": by the
      input's probabilities. These three set aside all samples of an input;
    * "near-duplicate": the input is nearly equal to a kept input before it.

    Args:
        records: answers to one prompt, of one model.
        label_names: the classes; None if the answers are free texts.
        answers: the strings that stand for each label in an answer; default the names.
        must_name_a_label: False keeps texts that name no label. Use it if the probabilities come from
            log-probabilities.
        allow_truncated: keep truncated answers. Use it if the teacher is asked for a single token.
        refusals: patterns of refusals in words; an empty list looks for none.
        min_agreement: the least `modal_share`, in [0, 1]. A sample that was set aside for an earlier reason agrees with
            no other; failures are not counted. Free texts agree if they are equal up to case and white space. A single
            sample agrees with itself.
        probabilities: the records' probabilities, for the next two limits.
        min_confidence: the least probability of the likeliest label, in [0, 1]. A weak teacher's confidence is worth
            little before it is calibrated, and this limit keeps the easy inputs.
        max_off_label_mass: the largest off-label mass, in [0, 1].
        max_similarity: from this cosine on, in (0, 1], two inputs count as one; see `data.near_duplicates.deduplicate`.
            None keeps all inputs, since real customers do repeat themselves.

    Raises:
        ValueError: a limit out of range; a limit on probabilities, but no probabilities, or none of a kept input; one
            sample of an input twice.

    Example:
        >>> from distill_helpers.api import JournalRecord, TeacherAnswer, filter_records
        >>> said = {"no sound": "PC", "the dock is gone": "It is a Mac.", "hello": "Hello!"}
        >>> records = [JournalRecord.of({}, text, TeacherAnswer(answer, "stop", "m")) for text, answer in said.items()]
        >>> filter_records(records, ("PC", "Mac"))
        FilteredRecords(2 kept, 1 set aside: {'names no label': 1})
    """
    _check_limits(min_agreement, min_confidence, max_off_label_mass, probabilities)
    reader = None if label_names is None else label_reader(label_names, answers)
    records = list(records)
    samples_of_inputs(records)  # raises if the answers are to two prompts
    rows_of: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        rows_of.setdefault(record.input_text, []).append(row)
    reasons = [_reason_alone(record, allow_truncated, refusals) for record in records]
    says = [_said(record, reader) if reason is None else None for record, reason in zip(records, reasons, strict=True)]
    if must_name_a_label:
        reasons = [
            "names no label" if reason is None and said is None else reason
            for reason, said in zip(reasons, says, strict=True)
        ]
    row_of = {} if probabilities is None else {text: row for row, text in enumerate(probabilities.inputs)}
    for text, rows in rows_of.items():
        if all(reasons[row] for row in rows):
            continue
        reason = None
        if modal_share([says[row] for row in rows if records[row].answer is not None]) < min_agreement:
            reason = "low agreement"
        elif probabilities is not None:
            if text not in row_of:
                raise ValueError(
                    "an input of the records is not among the probabilities; compute the probabilities of these records"
                )
            reason = _reason_in_probabilities(probabilities, row_of[text], min_confidence, max_off_label_mass)
        for row in rows:
            reasons[row] = reasons[row] or reason
    if max_similarity is not None:
        from distill_helpers.data.near_duplicates import deduplicate  # not above: scikit-learn takes long to import

        inputs = [text for text, rows in rows_of.items() if not all(reasons[row] for row in rows)]
        kept = {inputs[i] for i in deduplicate(inputs, max_similarity)} if inputs else set()
        for row, record in enumerate(records):
            if record.input_text not in kept:
                reasons[row] = reasons[row] or "near-duplicate"
    judged = list(zip(records, reasons, strict=True))
    return FilteredRecords(
        [record for record, reason in judged if reason is None],
        [SetAside(record, reason) for record, reason in judged if reason is not None],
    )


def _check_limits(
    min_agreement: float, min_confidence: float, max_off_label_mass: float, probabilities: LabelProbabilities | None
) -> None:
    for name, share in (
        ("min_agreement", min_agreement),
        ("min_confidence", min_confidence),
        ("max_off_label_mass", max_off_label_mass),
    ):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {share}")
    if probabilities is None and (min_confidence > 0 or max_off_label_mass < 1):
        raise ValueError(
            "min_confidence and max_off_label_mass need the probabilities of the records; pass probabilities=…"
        )


def _reason_alone(record: JournalRecord, allow_truncated: bool, refusals: Sequence[str]) -> str | None:
    """Why a record is set aside, whatever the other records say."""
    answer = record.answer
    if answer is None:
        return "failed"
    reason = None
    if answer.finish_reason in ("refusal", "content_filter"):
        reason = "refused"
    elif answer.finish_reason not in (COMPLETE, TRUNCATED):
        reason = "ended otherwise"
    elif answer.finish_reason == TRUNCATED and not allow_truncated:
        reason = "truncated"
    elif not answer.text.strip():
        reason = "empty"
    elif is_refusal(answer.text, refusals):
        reason = "refusal in words"
    return reason


def _said(record: JournalRecord, reader: LabelReader | None) -> Hashable | None:
    assert record.answer is not None
    text = record.answer.text
    return " ".join(text.casefold().split()) if reader is None else reader.named(text)


def _reason_in_probabilities(
    probabilities: LabelProbabilities, row: int, min_confidence: float, max_off_label_mass: float
) -> str | None:
    if probabilities.off_label_mass[row] > max_off_label_mass:
        return "off-label mass"
    return "low confidence" if probabilities.probabilities[row].max() < min_confidence else None
