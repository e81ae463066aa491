"""A healed student goes on learning: from the tales, or from what it writes itself.

    python -m distill_helpers.course.experiments.on_policy

Every arm starts from one student: ten layers of SmolLM2 that two passes over Grimm's tales, by forward KL, have taught
to write again (`start`). Every arm then makes the same number of steps with as many sequences. On the tales the teacher
answers at the tale's own tokens. On its own text the student continues the same openings, and the teacher answers at
the tokens that the student wrote. Beside the arms stands the student of the start as it writes at lower temperatures,
which costs no training.

Validation chooses by the reverse KL on the student's own text: how far the student is from the teacher where its own
writing leads. The teacher's perplexity of that text would not do, since a student that repeats one sure phrase has the
lowest. `fair_arms` has the protocol.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from distill_helpers.course.experiments.fair_arms import Trained, fair_table, make_runs, write_fair_table
from distill_helpers.course.experiments.language_model_arms import (
    BATCH_SIZE,
    FORWARD_KL,
    OPENING,
    REVERSE_KL,
    WINDOW,
    KeepBest,
    healed,
    teacher,
    text_of,
    windows,
    write,
)
from distill_helpers.course.logs import markdown_table, read_log, run_missing
from distill_helpers.course.tasks import WORK
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm.completion_batches import CompletionCollator
from distill_helpers.llm.completion_dataset import CompletionDataset
from distill_helpers.llm.evaluation import evaluate_language_model
from distill_helpers.llm.target_kinds import TopKTargets
from distill_helpers.losses.soft_targets import soft_target_divergence
from distill_helpers.models.language_model_loading import load_language_model
from distill_helpers.models.text_models import LanguageModel

__all__ = [
    "ARMS",
    "COOLED",
    "LOG",
    "REFERENCE",
    "START",
    "TEMPERATURES",
    "TopKWithoutBucket",
    "cooled",
    "judged",
    "kl_by_place",
    "start",
    "summary",
    "train_student",
]

LOG = "on-policy"
#: The row of the student with which every arm starts.
START = "start"
#: The same student at lower temperatures. Its rows are called "start, at temperature 0.8" and so on.
COOLED, TEMPERATURES = "cooled start", (0.9, 0.8, 0.7, 0.6)
_AT = {temperature: f"{START}, at temperature {temperature:g}" for temperature in TEMPERATURES}
START_STEPS, START_RATE, STEPS, EVERY = 300, 1e-3, 60, 30
LEARNING_RATES = (1e-4, 3e-4, 1e-3)
#: The number of openings after which a student writes while it is trained.
N_WATCHED = 24
#: What is compared: the teacher's perplexity of what the student writes.
FIGURE = "written_perplexity"


@dataclass(frozen=True, repr=False)
class TopKWithoutBucket(TopKTargets):
    """The reverse KL cut off after the teacher's k likeliest tokens: the sum over them of q (log q − log p).

    This is what is left when the bucket of `TopKTargets` is dropped. It is no divergence, and its minimum is not at the
    teacher: the derivative of q (log q − log p) with respect to q is 0 at q = p / e. So the student gives its teacher's
    tokens 37% of their probability, and nothing says where the other 63% go.
    """

    def divergence(self, student_logits: Tensor, **settings: Any) -> Tensor:
        return self.divergence_and_gradient(student_logits, **settings)[0]

    def divergence_and_gradient(
        self, student_logits: Tensor, *, compiled: bool = False, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        ids = self.token_ids.long()
        q = student_logits.float().softmax(dim=-1)
        kept = q.gather(1, ids)
        ratio = kept.log() - self.log_probs.float()
        # The derivative of q_i with respect to logit j is q_i (1[i = j] − q_j).
        slope = kept * (ratio + 1)
        gradient = q.mul_(-slope.sum(dim=1, keepdim=True)).scatter_add_(1, ids, slope)
        return (kept * ratio).sum(dim=1), gradient


#: What the arms learn from.
ARMS = {
    "reverse KL, tales": REVERSE_KL,
    "reverse KL, own text": REVERSE_KL._replace(on_policy=1.0),
    "sampled tokens, own text": REVERSE_KL._replace(on_policy=1.0, kind="written"),
    "forward KL, tales": FORWARD_KL,
}
REFERENCE, *_ = ARMS


@cache
def start() -> LanguageModel:
    """Heal the student with which every arm starts, or read it from the work folder."""
    folder = WORK / f"{LOG}-start"
    if not (folder / "config.json").exists():
        student = healed(FORWARD_KL, seed=0, steps=START_STEPS, learning_rate=START_RATE).student
        student.model.save_pretrained(folder)
        student.tokenizer.save_pretrained(folder)
    return load_language_model(folder)


def cooled(student: LanguageModel, temperature: float) -> LanguageModel:
    """Make the model whose logits are the student's divided by a temperature: it writes as the student does there.

    Args:
        student: a Llama, whose last norm scales what the output head reads.
        temperature: above 0; below 1 the model is surer than the student.
    """
    model = copy.deepcopy(student.model)
    with torch.no_grad():
        model.model.norm.weight /= temperature
    return student._replace(model=model)


@torch.inference_mode()
def kl_by_place(student: LanguageModel, data: CompletionDataset) -> list[float]:
    """The reverse KL from the teacher at the first, second, … token after the openings, in nats: means over sequences.

    Args:
        student: in evaluation mode.
        data: sequences that begin with an opening of 16 tokens.
    """
    sums, counts = torch.zeros(2, WINDOW - OPENING)
    for first in range(0, len(data), BATCH_SIZE):
        rows = [data.sequence(row) for row in range(first, min(first + BATCH_SIZE, len(data)))]
        batch: dict[str, Any] = CompletionCollator(data.tokenizer)(rows)
        counted = (batch.pop("labels")[:, OPENING:] != IGNORE_INDEX).float()
        of_student, of_teacher = (model.model(**batch).logits[:, OPENING - 1 : -1] for model in (student, teacher()))
        kl = soft_target_divergence(of_student, of_teacher, divergence="reverse_kl")
        n = kl.shape[1]
        sums[:n] += (kl * counted).sum(dim=0)
        counts[:n] += counted.sum(dim=0)
    return [round(float(value), 3) for value in sums / counts]


def _distance(student: LanguageModel) -> float:
    """The reverse KL on what the student writes after validation openings, in nats."""
    own_text = write(student, N_WATCHED, part="validation")
    return evaluate_language_model(student, own_text, teacher())["reverse_kl"]


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student: its validation figure is minus the reverse KL on its own text, every 30 steps.

    Raises:
        KeyError: no arm has this name.
    """
    method, watched = ARMS[arm], KeepBest(EVERY, _distance)
    student = healed(method, seed, begin=start(), steps=STEPS, learning_rate=learning_rate, callbacks=[watched]).student
    watched.take_best(student)
    n_tokens = STEPS * BATCH_SIZE * (WINDOW - OPENING)
    return Trained(
        validation=watched.curve,
        measure_test=lambda: _test_figures(student),  # type: ignore[arg-type,return-value]
        budget={
            "steps": STEPS,
            "tokens learnt": n_tokens,
            "tokens written": round(n_tokens * method.on_policy),
        },
        every=EVERY,
    )


def _test_figures(student: LanguageModel) -> dict[str, Any]:
    """What the judges say; the first two read the tales, the others what the student writes after their openings."""
    own_text = write(student)
    figures = evaluate_language_model(student, own_text, teacher())
    return {
        **evaluate_language_model(student, windows("test"), teacher()),
        "tales_kl_by_place": kl_by_place(student, windows("test")),
        "written_kl": figures["reverse_kl"],
        "written_perplexity": figures["teacher_perplexity"],
        "own_perplexity": figures["perplexity"],
        "written_kl_by_place": kl_by_place(student, own_text),
        "writes": text_of(own_text, 2),
    }


def _start_run(phase: str, temperature: float = 1.0) -> dict[str, Any]:
    return _test_figures(cooled(start(), temperature))


def judged() -> pd.DataFrame:
    """Read what the log says of each student: a row for each run that was judged, under the name of its row or arm.

    Returns:
        The log's columns, and `surprise`, `doubt` and `distance`, in nats a token: the teacher's surprise at what the
        student writes is the student's own surprise at it plus what estimates the reverse KL there.
    """
    log = read_log(LOG)
    rows = log[log["phase"] != "choice"].copy()
    rows["arm"] = rows["arm"].fillna(rows["temperature"].map(_AT)).fillna(START)
    rows["surprise"] = np.log(rows["written_perplexity"])
    rows["doubt"] = np.log(rows["own_perplexity"])
    rows["distance"] = rows["surprise"] - rows["doubt"]
    return rows.reset_index(drop=True)


def summary() -> pd.DataFrame:
    """Make the table: the teacher's perplexity of what each student writes, and the paired difference from `REFERENCE`.

    The columns that follow have the other judges: the reverse KL on the student's own text, the student's own
    perplexity of that text, and on the tales its perplexity, the forward KL and the rate at which speculative sampling
    accepts the student's draft of a token (%).
    """
    log = read_log(LOG)
    table = fair_table(log, FIGURE, REFERENCE, better="lower").loc[list(ARMS)]
    judges = {
        "KL on it": "written_kl",
        "own perplexity of it": "own_perplexity",
        "tales' perplexity": "perplexity",
        "forward KL on tales": "forward_kl",
    }
    means = judged().groupby("arm").mean(numeric_only=True)
    others = pd.DataFrame({title: means[column] for title, column in judges.items()})
    others["drafts accepted %"] = 100 * (1 - means["total_variation"])
    table = pd.concat([pd.DataFrame({"mean": means.loc[[START, *_AT.values()], FIGURE]}), table])
    return table.join(others)


def main() -> None:
    if make_runs(LOG, ARMS, {"learning_rate": LEARNING_RATES}, train_student):
        cooled_runs = [{"phase": COOLED, "temperature": temperature} for temperature in TEMPERATURES]
        run_missing(LOG, [{"phase": START}, *cooled_runs], _start_run)
        table = summary()
        judges = (".2f", ".1f", ".1f", ".2f", ".1f")
        formats = ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:-5]), *judges)
        write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
