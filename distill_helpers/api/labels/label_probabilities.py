"""Soft labels from an API: log-probabilities of tokens, or several answers, become probabilities of labels.

Providers give the likeliest tokens at each position of an answer, not labels. A token counts for the label whose answer
it is or unmistakably begins, byte by byte; where the first tokens of several labels are alike, what the teacher wrote
is followed to the next position, and probabilities are multiplied on the way. Where there are no log-probabilities, k
answers to the same input are counted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from distill_helpers.api.journal.journal import JournalRecord
from distill_helpers.api.labels.label_answers import Answers, LabelReader, label_reader
from distill_helpers.api.labels.label_bias import batch_calibrated, matched_to_prior
from distill_helpers.api.teachers.answers import COMPLETE, TRUNCATED, TeacherAnswer

__all__ = [
    "LabelProbabilities",
    "probabilities_from_logprobs",
    "probabilities_from_samples",
    "samples_of_inputs",
]


@dataclass(frozen=True)
class LabelProbabilities:
    """What a teacher says about each input, as probabilities of the labels.

    Attributes:
        inputs: the texts, each once, in the order in which the records name them first.
        probabilities: (inputs, labels) in fp64, rows sum to 1; uniform where nothing fell on a label.
        off_label_mass: (inputs,), the probability, or the share of the samples, that was not seen on a label: other
            words, what cannot be told apart, and what the provider did not list. Look at it before you train: the
            probabilities are renormalised and do not show it.
        ambiguous_mass: (inputs,), the part of it that began like the answers of several labels.
        n_unread: inputs that are left out, since all of their requests failed or were refused.
    """

    inputs: tuple[str, ...]
    probabilities: np.ndarray
    off_label_mass: np.ndarray
    ambiguous_mass: np.ndarray
    n_unread: int = 0

    @property
    def labels(self) -> dict[str, int]:
        """The likeliest label of each input on whose labels anything fell; of two that are alike the first."""
        likeliest = self.probabilities.argmax(axis=1).tolist()
        masses = self.off_label_mass.tolist()
        return {text: label for text, label, off in zip(self.inputs, likeliest, masses, strict=True) if off < 1}

    def calibrated(self, prior: Sequence[float] | np.ndarray | None = None) -> LabelProbabilities:
        """The same without the teacher's label bias; the masses stay.

        Args:
            prior: (labels,), the classes' shares, see `matched_to_prior`. Without one the classes must be about equally
                frequent, see `batch_calibrated`.
        """
        p = self.probabilities
        return dataclasses.replace(
            self, probabilities=batch_calibrated(p) if prior is None else matched_to_prior(p, prior)
        )


def probabilities_from_logprobs(
    records: Iterable[JournalRecord],
    label_names: Sequence[str],
    *,
    answers: Answers = None,
    unseen_share: float = 0.5,
) -> LabelProbabilities:
    """Label probabilities from the likeliest tokens that the teacher could have written.

    At each position every listed token is put behind what was written before it. Its probability, times that of what
    was written, goes to the label that this beginning decides on (`LabelReader.read`), or to none. If the token that
    was in fact written leaves it open, the next position is read; another token that leaves it open is
    `ambiguous_mass`. The written token goes to the label only if the whole text bears it out.

    A label that none of the listed tokens stands for is not impossible. Its token is at most as likely as the least
    likely listed one, and all unlisted ones together have what the listed ones leave: with m such labels the bound is
    min(least listed, rest / m), plus its share of an ambiguous beginning. It gets `unseen_share` of that; half, the
    default, is the guess with the smallest largest error. `off_label_mass` does not count it as seen.

    Args:
        records: several samples of an input are averaged. Failures and refusals are passed over; a truncated answer
            is read, since its first tokens are whole.
        label_names: the classes, in the order of the columns.
        answers: what stands for each label in an answer; default the names. No answer may begin another label's.
        unseen_share: in [0, 1].

    Raises:
        ValueError: answers that cannot be told apart, an answer without log-probabilities (with the record's row), one
            sample of an input twice, nothing to read, an `unseen_share` out of range.
    """
    if not 0 <= unseen_share <= 1:
        raise ValueError(f"unseen_share must lie in [0, 1], got {unseen_share}")
    reader = label_reader(label_names, answers)
    reader.check_told_apart()
    records = list(records)
    for row, answer in enumerate(map(_readable, records)):
        if answer is not None and not answer.top_logprobs:
            raise ValueError(
                f"record {row} has no log-probabilities; ask with top_logprobs=20 where the model gives them, or ask"
                " several times and use probabilities_from_samples"
            )
    inputs, read, n_unread = _read_inputs(records)
    probabilities, off_label, ambiguous = [], [], []
    for its_answers in read:
        seen, unseen, unclear = zip(*(_label_masses(a, reader, unseen_share) for a in its_answers), strict=True)
        mean_seen = np.mean(seen, axis=0)
        probabilities.append(_normalised(mean_seen + np.mean(unseen, axis=0)))
        off_label.append(max(0.0, 1 - float(mean_seen.sum())))
        ambiguous.append(float(np.mean(unclear)))
    return LabelProbabilities(
        inputs, np.array(probabilities), np.array(off_label), np.array(ambiguous), n_unread=n_unread
    )


def probabilities_from_samples(
    records: Iterable[JournalRecord],
    label_names: Sequence[str],
    *,
    answers: Answers = None,
    smoothing: float = 0.0,
) -> LabelProbabilities:
    """Label probabilities from k answers to each input: (count + smoothing) / (k′ + labels · smoothing).

    k′ are the answers that name a label, see `label_named_in`; `off_label_mass` is the share of the others. The
    standard error of a share p is √(p(1 − p)/k): five samples give coarse soft labels, one sample gives a hard one.

    Args:
        records: failures and refusals are passed over.
        label_names: the classes, in the order of the columns.
        answers: what stands for each label in an answer; default the names.
        smoothing: added to each count; 0 leaves labels that were never named at probability 0, 1 is Laplace's rule.

    Raises:
        ValueError: one sample of an input twice, nothing to read, a negative smoothing.
    """
    if not 0 <= smoothing < math.inf:
        raise ValueError(f"smoothing must be 0 or more, got {smoothing}")
    reader = label_reader(label_names, answers)
    inputs, read, n_unread = _read_inputs(list(records))
    counts = np.zeros((len(inputs), reader.n_labels))
    for row, its_answers in enumerate(read):
        for answer in its_answers:
            label = reader.named(answer.text)
            if label is not None:
                counts[row, label] += 1
    k = np.array([len(its_answers) for its_answers in read])
    probabilities = np.array([_normalised(row + smoothing) for row in counts])
    return LabelProbabilities(inputs, probabilities, 1 - counts.sum(axis=1) / k, np.zeros(len(inputs)), n_unread)


def samples_of_inputs(records: Iterable[JournalRecord]) -> dict[str, list[JournalRecord]]:
    """The records of each input, in the order of the records.

    Raises:
        ValueError: one sample of an input twice. The records are then of two prompts or models, whose answers must not
            be mixed, or a record was passed twice.
    """
    grouped: dict[str, list[JournalRecord]] = {}
    keys: dict[tuple[str, int], str] = {}
    for row, record in enumerate(records):
        key = keys.setdefault((record.input_text, record.sample), record.key)
        if key == record.key and record.sample in (own.sample for own in grouped.get(record.input_text, ())):
            raise ValueError(f"record {row} comes twice; read_journal gives the latest record of each request")
        if key != record.key:
            raise ValueError(
                f"record {row} is the second with sample {record.sample} of its input: the journal holds answers to"
                " more than one prompt or of more than one model; pass the records of one of them"
            )
        grouped.setdefault(record.input_text, []).append(record)
    return grouped


def _readable(record: JournalRecord) -> TeacherAnswer | None:
    answer = record.answer
    return answer if answer is not None and answer.finish_reason in (COMPLETE, TRUNCATED) else None


def _read_inputs(records: list[JournalRecord]) -> tuple[tuple[str, ...], list[list[TeacherAnswer]], int]:
    """Inputs, the readable answers to each, and how many inputs have none."""
    grouped = samples_of_inputs(records)
    read = {
        text: [answer for answer in map(_readable, samples) if answer is not None] for text, samples in grouped.items()
    }
    kept = {text: its_answers for text, its_answers in read.items() if its_answers}
    if not kept:
        raise ValueError(f"none of the {len(records)} records has an answer that can be read")
    return tuple(kept), list(kept.values()), len(read) - len(kept)


def _normalised(masses: np.ndarray) -> np.ndarray:
    total = masses.sum()
    return masses / total if total > 0 else np.full(len(masses), 1 / len(masses))


def _label_masses(
    answer: TeacherAnswer, reader: LabelReader, unseen_share: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Probability seen on each label (labels,), a guess for those on which none was (labels,), the ambiguous mass."""
    text_says = reader.read(answer.text.encode(errors="replace"), remember=False)
    seen, ambiguous = np.zeros(reader.n_labels), 0.0
    # Where a label may be hidden: the labels, at most how much for one, at most how much for all of them.
    hidden: list[tuple[frozenset[int], float, float]] = []
    written, reach = b"", 1.0
    for place, index_written in zip(answer.top_logprobs, _written_tokens(answer), strict=True):
        p = np.exp([token.logprob for token in place])
        if len(p):
            rest = reach * max(0.0, 1 - float(p.sum()))
            hidden.append((reader.read(written).labels, reach * float(p.min()), rest))
        following = None
        for index, token in enumerate(place):
            start, mass = written + bytes(token.bytes), reach * float(p[index])
            reading = reader.read(start)
            if not token.bytes:
                continue  # the end of the answer
            if not reading.decided and index == index_written:
                following = start, mass
            elif not reading.decided:
                ambiguous += mass
                hidden.append((reading.labels, mass, mass))
            elif reading.labels and (index != index_written or text_says == reading):
                seen[list(reading.labels)] += mass
        if following is None:
            break
        written, reach = following
    else:  # the answer ended and left it open
        ambiguous += reach
        hidden.append((reader.read(written).labels, reach, reach))
    unseen = np.zeros(reader.n_labels)
    for labels, for_one, for_all in hidden:
        those = [label for label in labels if seen[label] == 0]
        if those:
            unseen[those] += unseen_share * min(for_one, for_all / len(those))
    return seen, unseen, ambiguous


def _written_tokens(answer: TeacherAnswer) -> list[int | None]:
    """For each position the index of the listed token that the text is made of; None from where no listed one fits.

    "com" and "comp" may both fit; the following positions tell which of them leads on. Servers may trim the text.
    """
    text = answer.text.lstrip().encode(errors="replace")
    steps: list[list[tuple[int, int, int]]] = []  # for each position: where a token begins, where it ends, its index
    starts = {0}
    for place in answer.top_logprobs:
        fitting = []
        for index, token in enumerate(place):
            for start in starts:
                piece = bytes(token.bytes) if start else bytes(token.bytes).lstrip()
                if token.bytes and text.startswith(piece, start):
                    fitting.append((start, start + len(piece), index))
        if not fitting:
            break
        steps.append(fitting)
        starts = {end for _, end, _ in fitting}
    whole = [number for number, fitting in enumerate(steps) if any(end == len(text) for _, end, _ in fitting)]
    ends = {len(text)} if whole else starts
    path: list[int | None] = [None] * len(answer.top_logprobs)
    for number in range(whole[-1] if whole else len(steps) - 1, -1, -1):
        start, _, path[number] = min((step for step in steps[number] if step[1] in ends), key=lambda step: step[2])
        ends = {start}
    return path
