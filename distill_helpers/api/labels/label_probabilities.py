"""Soft labels from an API: log-probabilities of tokens, or several answers, become probabilities of labels.

Providers give the likeliest tokens at each position of an answer, not probabilities of labels. A token counts for a
label if it is the label's answer, or unmistakably begins this answer, byte by byte. If the answers of several labels
begin alike, the tokens that the teacher wrote are followed to the next position, and their probabilities are
multiplied. If there are no log-probabilities, k answers to the same input are counted instead.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.labels.answer_parsing import Answers, LabelReader, label_reader
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
        inputs: the texts, each once, in the order in which the records first name them.
        probabilities: (inputs, labels) in fp64; rows sum to 1. A row is uniform if no probability fell on any label.
        off_label_mass: (inputs,), the probability, or the share of the samples, that was not seen on a label: other
            words, beginnings that several labels share, and tokens that the provider did not list. Look at it before
            you train, since the probabilities are renormalised and do not show it.
        ambiguous_mass: (inputs,), the part of the off-label mass that began like the answers of several labels.
        n_unread: number of inputs that are left out because all of their requests failed or were refused.
    """

    inputs: tuple[str, ...]
    probabilities: np.ndarray
    off_label_mass: np.ndarray
    ambiguous_mass: np.ndarray
    n_unread: int = 0

    def __repr__(self) -> str:
        n_inputs, n_labels = self.probabilities.shape
        return (
            f"LabelProbabilities({n_inputs} inputs × {n_labels} labels, mean off-label mass"
            f" {self.off_label_mass.mean():.3f}, {self.n_unread} unread)"
        )

    @property
    def labels(self) -> dict[str, int]:
        """The likeliest label of each input; of two that are equally likely, the first.

        Inputs without any probability on a label are left out.
        """
        likeliest = self.probabilities.argmax(axis=1).tolist()
        masses = self.off_label_mass.tolist()
        return {text: label for text, label, off in zip(self.inputs, likeliest, masses, strict=True) if off < 1}

    def calibrated(self, prior: Sequence[float] | np.ndarray | None = None) -> LabelProbabilities:
        """The same inputs and masses, with the teacher's label bias removed from the probabilities.

        Args:
            prior: (labels,), the classes' shares; see `matched_to_prior`. None assumes that the classes are about
                equally frequent; see `batch_calibrated`.
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

    At each position, every listed token is appended to what was written before it. The token's probability, times the
    probability of what was written, goes to the label that this beginning decides on (`LabelReader.read`), or to no
    label. If the token that was written leaves the label open, the next position is read. If another token leaves it
    open, its probability is `ambiguous_mass`. The written token counts for its label only if the whole text agrees.

    A label that no listed token stands for is not impossible. Its token is at most as likely as the least likely listed
    token, and all unlisted tokens together have what the listed ones leave. So with m such labels, the bound of each is
    min(least listed, rest / m), plus its share of an ambiguous beginning. Each gets `unseen_share` of its bound; the
    default of one half is the guess with the smallest largest error. `off_label_mass` does not count this guess as
    seen.

    Args:
        records: the answers; several samples of an input are averaged. Failures and refusals are left out. A truncated
            answer is read, since its first tokens are whole.
        label_names: the classes, in the order of the columns.
        answers: the strings that stand for each label in an answer; default the names. No answer may begin another
            label's.
        unseen_share: the part of the bound that an unseen label gets, in [0, 1].

    Raises:
        ValueError: answers that can't be told apart, an answer without log-probabilities (with the record's row), one
            sample of an input twice, no answer to read, or an `unseen_share` out of range.

    Example:
        >>> import math
        >>> from distill_helpers.api import JournalRecord, TeacherAnswer, probabilities_from_logprobs
        >>> from distill_helpers.api.teachers import TokenLogprob
        >>> listed = {"A": 0.6, "B": 0.3, "The": 0.1}
        >>> tokens = tuple(TokenLogprob(token, math.log(p), tuple(token.encode())) for token, p in listed.items())
        >>> answer = TeacherAnswer("A", "stop", "m", top_logprobs=(tokens,))
        >>> record = JournalRecord.of({"messages": ["no sound"]}, "no sound", answer)
        >>> soft = probabilities_from_logprobs([record], ("PC", "Mac"), answers="AB")
        >>> soft.probabilities.round(3), soft.off_label_mass.round(3)
        (array([[0.667, 0.333]]), array([0.1]))
    """
    if not 0 <= unseen_share <= 1:
        raise ValueError(f"unseen_share must lie in [0, 1], got {unseen_share}")
    reader = label_reader(label_names, answers)
    reader.check_told_apart()
    records = list(records)
    for row, answer in enumerate(map(_readable, records)):
        if answer is not None and not answer.top_logprobs:
            raise ValueError(
                f"record {row} has no log-probabilities; ask with top_logprobs=20 if the model gives them, or ask"
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

    k′ is the number of answers that name a label, see `label_named_in`. `off_label_mass` is the share of the other
    answers. The standard error of a share p is √(p(1 − p)/k): five samples give coarse soft labels, and one sample
    gives a hard label.

    Args:
        records: the answers. Failures and refusals are left out.
        label_names: the classes, in the order of the columns.
        answers: the strings that stand for each label in an answer; default the names.
        smoothing: added to each count. 0 leaves labels that were never named at probability 0; 1 is Laplace's rule.

    Raises:
        ValueError: one sample of an input twice, no answer to read, or a negative smoothing.

    Example:
        >>> from distill_helpers.api import JournalRecord, TeacherAnswer, probabilities_from_samples
        >>> records = [
        ...     JournalRecord.of({"messages": ["no sound"]}, "no sound", TeacherAnswer(said, "stop", "m"), sample)
        ...     for sample, said in enumerate(["PC", "It is a PC.", "Mac", "PC", "I don't know."])
        ... ]
        >>> soft = probabilities_from_samples(records, ("PC", "Mac"))
        >>> soft.probabilities, soft.off_label_mass.round(3)
        (array([[0.75, 0.25]]), array([0.2]))
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
    """Group the records by input, in the order of the records.

    Raises:
        ValueError: one sample of an input twice. Then the records come from two prompts or models, whose answers must
            not be mixed, or a record was passed twice.
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
                " more than one prompt or of more than one model; pass only the records of one of them"
            )
        grouped.setdefault(record.input_text, []).append(record)
    return grouped


def _readable(record: JournalRecord) -> TeacherAnswer | None:
    answer = record.answer
    return answer if answer is not None and answer.finish_reason in (COMPLETE, TRUNCATED) else None


def _read_inputs(records: list[JournalRecord]) -> tuple[tuple[str, ...], list[list[TeacherAnswer]], int]:
    """The inputs, the readable answers to each, and the number of inputs without any."""
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
    """The probability seen on each label (labels,), a guess for the unseen labels (labels,), and the ambiguous mass."""
    text_says = reader.read(answer.text.encode(errors="replace"), remember=False)
    seen, ambiguous = np.zeros(reader.n_labels), 0.0
    # Where unseen labels may hide: the labels, the most probability for one of them, the most for all of them together.
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
    else:  # the answer ended and left the label open
        ambiguous += reach
        hidden.append((reader.read(written).labels, reach, reach))
    unseen = np.zeros(reader.n_labels)
    for labels, for_one, for_all in hidden:
        unseen_labels = [label for label in labels if seen[label] == 0]
        if unseen_labels:
            unseen[unseen_labels] += unseen_share * min(for_one, for_all / len(unseen_labels))
    return seen, unseen, ambiguous


def _written_tokens(answer: TeacherAnswer) -> list[int | None]:
    """For each position, the index of the listed token that was written; None from where no listed token fits.

    "com" and "comp" may both fit the text. The positions after them show which of the two was written. Servers may trim
    the text.
    """
    text = answer.text.lstrip().encode(errors="replace")
    steps: list[list[tuple[int, int, int]]] = []  # for each position: a token's start and end in the text, its index
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
