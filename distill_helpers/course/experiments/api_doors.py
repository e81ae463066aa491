"""What a student loses if its teacher's logits come through an API: one teacher of Banking77, behind several doors.

    BANKING77=FOLDER python -m distill_helpers.course.experiments.api_doors

The teacher is that of `banking77_students`, whose logits are there to be read. Behind a door it answers as an API
would: it writes the likeliest of the 77 intents; it lists the log-probabilities of the 5 or 20 likeliest; or it writes
1, 5 or 20 intents at temperature 1. The answers are records of a journal, and `distill_helpers.api` makes soft labels
of them, as it does of any provider's. All arms learn from the training messages alone, and each of them is tuned by
itself.

What a door costs is counted in tokens, for a prompt that lists the intents, each with a code of one token.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable
from functools import cache, partial

import pandas as pd
import torch
from torch import Tensor

from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.labels.label_probabilities import probabilities_from_logprobs, probabilities_from_samples
from distill_helpers.api.teachers.answers import TeacherAnswer, TokenLogprob
from distill_helpers.course.experiments.fair_arms import Trained, compare_arms, fair_table, write_fair_table
from distill_helpers.course.experiments.message_students import train_for_steps
from distill_helpers.course.logs import markdown_table, read_log, run_missing
from distill_helpers.course.tasks import Task, Variant, get_task
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.language_model_loading import load_language_model

__all__ = ["ANSWERS", "ARMS", "LOG", "REFERENCE", "listed", "summary", "train_student", "written"]

LOG = "api-doors"
GRID = {"learning_rate": (7e-4, 2e-3)}
MAX_STEPS = 1500
#: The log-probability of an intent that was never named: its probability is 0.
NEVER = -1e4


def codes(n: int | None = None) -> list[str]:
    """The first n of AA, AB and so on, or all: an intent's answer."""
    return list(map("".join, itertools.islice(itertools.product(string.ascii_uppercase, repeat=2), n)))


def listed(logits: Tensor, generator: torch.Generator, *, k: int) -> Tensor:
    """The soft labels of an API that lists the k likeliest classes; see `probabilities_from_logprobs`.

    Args:
        logits: (texts, classes).
        generator: draws nothing here.
        k: at most the number of classes.

    Returns:
        (texts, classes) log-probabilities.
    """
    names = codes(logits.shape[1])
    likeliest = logits.double().log_softmax(dim=1).topk(k, dim=1)
    records = []
    for row, (log_probs, classes) in enumerate(zip(*map(Tensor.tolist, likeliest), strict=True)):
        answers = [(names[number], log_prob) for number, log_prob in zip(classes, log_probs, strict=True)]
        place = tuple(TokenLogprob(name, log_prob, tuple(name.encode())) for name, log_prob in answers)
        records.append(_record(row, TeacherAnswer(answers[0][0], "stop", "teacher", top_logprobs=(place,))))
    soft = probabilities_from_logprobs(records, names)
    return torch.from_numpy(soft.probabilities).log().float()


def written(logits: Tensor, generator: torch.Generator, *, n: int | None) -> Tensor:
    """The soft labels of an API that writes n answers at temperature 1, or the likeliest; see `listed`.

    Args:
        logits: (texts, classes).
        generator: draws the answers.
        n: the number of answers; None writes one at temperature 0.
    """
    names = codes(logits.shape[1])
    if n is None:
        drawn = logits.argmax(dim=1, keepdim=True)
    else:
        drawn = torch.multinomial(logits.softmax(dim=1), n, replacement=True, generator=generator)
    records = (
        _record(row, TeacherAnswer(names[number], "stop", "teacher"), sample)
        for row, numbers in enumerate(drawn.tolist())
        for sample, number in enumerate(numbers)
    )
    soft = probabilities_from_samples(records, names)
    return torch.from_numpy(soft.probabilities).log().float().clamp(min=NEVER)


def _record(row: int, answer: TeacherAnswer, sample: int = 0) -> JournalRecord:
    text = f"message {row}"  # a text that comes twice was asked about twice, as two messages
    return JournalRecord.of({"messages": [text]}, text, answer, sample)


def everything(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The logits themselves."""
    return logits


REFERENCE = "all logits"
ARMS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    REFERENCE: everything,
    "top 20 log-probabilities": partial(listed, k=20),
    "top 5 log-probabilities": partial(listed, k=5),
    "20 answers": partial(written, n=20),
    "5 answers": partial(written, n=5),
    "1 answer": partial(written, n=1),
    "the likeliest intent": partial(written, n=None),
}
#: How often the teacher is asked about a message. Logits have no price in tokens, since no API sells them.
ANSWERS = dict.fromkeys(ARMS, 1) | {REFERENCE: None, "20 answers": 20, "5 answers": 5}


@cache
def _task() -> Task:
    return get_task("banking77")


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student by `message_students.train_for_steps`, on the soft labels as they are, at T = 1.

    The seed draws the teacher's answers, too; those of 5 are the first of 20.

    Raises:
        KeyError: no arm has this name.
    """
    door = ARMS[arm]
    generator = torch.Generator().manual_seed(seed)
    return train_for_steps(
        _task(),
        f"{LOG} {arm}",
        Variant("soft"),
        learning_rate,
        MAX_STEPS,
        seed,
        config=DistillationConfig(temperature=1.0, alpha=1.0),
        seen=lambda logits: door(logits, generator),
    )


def prompt_tokens(phase: str) -> dict[str, float]:
    """Count the tokens of one question: of the system prompt, and of a training message on average.

    The tokenizer is SmolLM2's. Each intent has a code of two letters that is one token, and that is the answer.
    """
    tokenizer, data = load_language_model().tokenizer, _task().data
    one_token = (code for code in codes() if len(tokenizer(code)["input_ids"]) == 1)
    lines = [f"{code} {name}" for code, name in zip(one_token, data.label_names, strict=False)]
    prompt = "\n".join(["Which intent does the customer's message have? Answer with its code.", *lines])
    lengths = [len(ids) for ids in tokenizer(data.train.texts)["input_ids"]]
    return {
        "system_prompt_tokens": len(tokenizer(prompt)["input_ids"]),
        "text_tokens": sum(lengths) / len(lengths),
    }


def summary() -> pd.DataFrame:
    """Make the table of `fair_table`, with further figures and what a message costs in tokens.

    A token of the answer is charged for each answer; a prompt is read as often as the teacher is asked.
    """
    log = read_log(LOG)
    also = {"NLL": ("nll", 1.0), "ECE %": ("ece", 100.0), "agreement %": ("agreement", 100.0)}
    runs = log[log["phase"] != "prompt"].drop(columns=["system_prompt_tokens", "text_tokens"])
    table = fair_table(runs, "accuracy", REFERENCE, scale=100, also=also).loc[list(ARMS)]
    (prompt,) = log[log["phase"] == "prompt"].to_dict("records")
    asked = pd.Series(ANSWERS, dtype=float)
    table.insert(0, "answers", asked)
    table.insert(1, "tokens", asked * (prompt["system_prompt_tokens"] + prompt["text_tokens"] + 1))
    return table


def main() -> None:
    torch.set_num_threads(1)
    run_missing(LOG, [{"phase": "prompt"}], prompt_tokens)
    compare_arms(LOG, list(ARMS), GRID, train_student)
    table = summary()
    decimals = (".0f", ",.0f", *(".1f",) * 2, "+.1f", ".1f", "", ".2f", *(".1f",) * 2)
    formats = ("", *decimals, *("" for _ in table.columns[len(decimals) :]))
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
