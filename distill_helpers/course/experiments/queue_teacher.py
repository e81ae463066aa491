"""A weak teacher behind an API: what SmolLM2 says about the help desk's messages, asked through the collector.

    python -m distill_helpers.course.experiments.queue_teacher

The collector asks a local server for one word about each message. The prompt shows three real messages of each queue as
examples, and the likeliest tokens of the answer give the probabilities of the queues. Every answer is in a journal in
the work folder, so that a killed run continues where it stopped. At the end the log has a line for each message,
without its text: the message's row, the queue that was written, and the probability of each queue. On one core the
training messages take about 25 minutes, and each of the other parts 4.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill_helpers.api.collecting.collector import APIDistillationDataCollector
from distill_helpers.api.journal.journal import read_journal
from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.labels.answer_parsing import label_named_in
from distill_helpers.api.labels.label_probabilities import probabilities_from_logprobs
from distill_helpers.api.teachers.llama_server import LocalServer, local_server
from distill_helpers.api.teachers.providers import OpenAITeacher
from distill_helpers.course.logs import RESULTS
from distill_helpers.course.tasks import WORK
from distill_helpers.data.labelled_texts import LabelledTexts, TextSplits

__all__ = ["ANSWERS", "LOG", "PARTS", "QueueAnswers", "examples_of", "messages_of", "queue_teacher", "read_answers"]

LOG = "queue-teacher"
#: The word that stands for each queue in an answer, in the order of the labels. The queues' own names begin alike.
ANSWERS = ("Graphics", "Windows", "PC", "Mac", "Unix")
SYSTEM_PROMPT = "Which queue does the message belong to: Graphics, Windows, PC, Mac or Unix? Answer with one word."
EXAMPLES_PER_QUEUE = 3
PARTS = ("train", "validation", "test")
#: The number of messages of each part about which the teacher is asked; None means all of them.
_ASKED: dict[str, int | None] = {"train": None, "validation": None, "test": 400}


@dataclass(frozen=True)
class QueueAnswers:
    """The teacher's answers about the messages of a part.

    Attributes:
        texts: the messages.
        labels: the true queues, (messages,), indices.
        written: the queue that the answer names, (messages,), indices; -1 if the answer names none.
        probabilities: (messages, queues); each row sums to 1.
        off_label_mass: (messages,), the probability that fell on no queue.
    """

    texts: list[str]
    labels: np.ndarray
    written: np.ndarray
    probabilities: np.ndarray
    off_label_mass: np.ndarray

    def __repr__(self) -> str:
        right = (self.probabilities.argmax(axis=1) == self.labels).mean()
        return f"QueueAnswers({len(self.texts):,} messages, likeliest queue right in {right:.0%})"


def examples_of(data: TextSplits) -> list[tuple[str, str]]:
    """Choose the few-shot examples: the first validation messages of each queue, the queues taking turns."""
    by_queue = [
        [text for text, label in zip(data.validation.texts, data.validation.labels, strict=True) if label == queue]
        for queue in range(len(ANSWERS))
    ]
    return [(by_queue[queue][n], ANSWERS[queue]) for n in range(EXAMPLES_PER_QUEUE) for queue in range(len(ANSWERS))]


def messages_of(data: TextSplits, part: str) -> LabelledTexts:
    """Choose the messages of a part about which the teacher is asked. The few-shot examples are not among them.

    Raises:
        ValueError: a part that is not in `PARTS`.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {PARTS}, got {part!r}")
    messages: LabelledTexts = getattr(data, part)
    shown = {text for text, _ in examples_of(data)}
    rows = [row for row, text in enumerate(messages.texts) if text not in shown]
    n = _ASKED[part]
    if n is not None:
        rows = sorted(np.random.default_rng(0).choice(rows, size=n, replace=False).tolist())
    return LabelledTexts([messages.texts[r] for r in rows], [messages.labels[r] for r in rows], messages.label_names)


def queue_teacher(server: LocalServer, data: TextSplits, **options: Any) -> OpenAITeacher:
    """Make the teacher of this experiment: the local model with prompt and examples, 20 log-probabilities a token."""
    settings: dict[str, Any] = {"temperature": 0.0, "max_tokens": 4, "top_logprobs": 20, "api_key": "local"} | options
    return OpenAITeacher(
        server.model, SYSTEM_PROMPT, examples=examples_of(data), base_url=server.openai_url, **settings
    )


def read_answers(part: str, data: TextSplits) -> QueueAnswers:
    """Read the committed answers about a part's messages.

    Raises:
        FileNotFoundError: the log does not exist.
        ValueError: a part that is not in `PARTS`, or a log that lacks some of the part's messages.
    """
    messages = messages_of(data, part)
    path = RESULTS / f"{LOG}.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in data/results; `make results` makes it")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["part"] == part]
    if [line["row"] for line in lines] != list(range(len(messages))):
        raise ValueError(
            f"{path.name} has {len(lines)} of {len(messages)} {part} messages; `make results` asks about the rest"
        )
    p = np.array([line["p"] for line in lines])
    return QueueAnswers(
        list(messages.texts),
        np.array(messages.labels),
        np.array([line["written"] for line in lines]),
        p / p.sum(axis=1, keepdims=True),
        np.array([line["off"] for line in lines]),
    )


def log_lines(part: str, messages: LabelledTexts, records: list[JournalRecord]) -> list[str]:
    """Make a line of JSON for each message, in the order of the messages.

    A line has the message's row, the queue that the answer names (-1: none), the queues' probabilities and the
    off-label mass.

    Raises:
        ValueError: a message without an answer that can be read.
    """
    read = probabilities_from_logprobs(records, messages.label_names, answers=ANSWERS)
    row_of = {text: row for row, text in enumerate(read.inputs)}
    answer_to = {record.input_text: record.answer.text for record in records if record.answer is not None}
    lines = []
    for row, text in enumerate(messages.texts):
        if text not in row_of:
            raise ValueError(f"no answer to {part} message {row}; run again, which asks again where an answer failed")
        named = label_named_in(answer_to[text], messages.label_names, answers=ANSWERS)
        line = {
            "part": part,
            "row": row,
            "written": -1 if named is None else named,
            # Never 0: a label that was not among the likeliest tokens is rare, not impossible.
            "p": [float(f"{value:.3g}") for value in read.probabilities[row_of[text]]],
            "off": round(float(read.off_label_mass[row_of[text]]), 4),
        }
        lines.append(json.dumps(line))
    return lines


def collect(part: str, data: TextSplits, journal: Path) -> list[str]:
    """Ask about the messages of a part that the journal lacks, and return the lines for the log."""
    messages = messages_of(data, part)
    with local_server(threads=1, parallel=1) as server:
        collector = APIDistillationDataCollector(queue_teacher(server, data, timeout_s=300.0))
        collector.collect(messages.texts, journal, max_concurrent=1, retry_failed=True)
    return log_lines(part, messages, list(read_journal(journal)))


def main() -> None:
    from distill_helpers.data.corpora import load_help_desk

    parser = argparse.ArgumentParser(description="Ask about the messages that the log lacks.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    data = load_help_desk()
    for part in parser.parse_args().parts:
        try:
            read_answers(part, data)
        except (FileNotFoundError, ValueError):
            lines = collect(part, data, WORK / f"{LOG}-{part}.jsonl")
            path = RESULTS / f"{LOG}.jsonl"
            others = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in others if json.loads(line)["part"] != part]
            path.write_text("".join(f"{line}\n" for line in kept + lines), encoding="utf-8")
        answers = read_answers(part, data)
        accuracies = (
            (labels == answers.labels).mean() for labels in (answers.written, answers.probabilities.argmax(1))
        )
        print(part, *(f"{accuracy:.1%}" for accuracy in accuracies))


if __name__ == "__main__":
    main()
