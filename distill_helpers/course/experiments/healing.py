"""SmolLM2 cut to a third of its layers and healed by hard labels or by the teacher's distributions, each tuned.

    python -m distill_helpers.course.experiments.healing

The student keeps the ten layers that change their input most. Cut like this, it writes text without any sense. Every
arm trains it for one pass over the windows of Grimm's tales, in the same order for the same seed. `fair_arms` has the
protocol. Validation chooses by the perplexity of tales, whatever an arm learns from.

The finished students are judged on tales that they have not read: how surprising the student finds them, how far its
distributions are from the teacher's, and how surprising the *teacher* finds the text that the student writes after
their openings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from distill_helpers.course.experiments.fair_arms import Trained, fair_table, make_runs, write_fair_table
from distill_helpers.course.experiments.language_model_arms import (
    BATCH_SIZE,
    FORWARD_KL,
    HARD_LABELS,
    OPENING,
    REVERSE_KL,
    WINDOW,
    KeepBest,
    healed,
    pruned_student,
    surprise,
    teacher,
    text_of,
    windows,
    write,
)
from distill_helpers.course.logs import markdown_table, read_log, run_missing
from distill_helpers.llm.evaluation import evaluate_language_model
from distill_helpers.models.text_models import LanguageModel

__all__ = [
    "ARMS",
    "LEARNING_RATES",
    "LOG",
    "PRUNED",
    "REFERENCE",
    "STEPS",
    "TEACHER",
    "judge",
    "summary",
    "train_student",
]

LOG = "healing"
#: Besides the arms the log has the teacher itself, and the student as it was cut.
TEACHER, PRUNED = "teacher", "pruned, not healed"
#: One pass over the 1,199 windows, and after how many steps validation looks.
STEPS, EVERY = 150, 50
LEARNING_RATES = (2.5e-4, 5e-4, 1e-3, 2e-3)

#: What the arms learn from.
ARMS = {"hard labels": HARD_LABELS, "forward KL": FORWARD_KL, "reverse KL": REVERSE_KL}
REFERENCE = "forward KL"


def judge(model: LanguageModel) -> dict[str, Any]:
    """Measure a model by `evaluate_language_model` on test tales, and by what it writes.

    Returns:
        The figures of `evaluate_language_model`; `written_perplexity`, the teacher's perplexity of the text that the
        model writes; and `writes`, the first of these texts.
    """
    figures, own_text = evaluate_language_model(model, windows("test"), teacher()), write(model)
    return figures | {
        "written_perplexity": evaluate_language_model(teacher(), own_text)["perplexity"],
        "writes": text_of(own_text, 0),
    }


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student: its validation figure is minus the log perplexity of the validation tales, every 50 steps.

    Raises:
        KeyError: no arm has this name.
    """
    watched = KeepBest(EVERY, surprise)
    student, early_loss = healed(ARMS[arm], seed, steps=STEPS, learning_rate=learning_rate, callbacks=[watched])

    def measure_test() -> dict[str, Any]:
        watched.take_best(student)
        return judge(student) | {"early_loss": early_loss}

    return Trained(
        validation=watched.curve,
        measure_test=measure_test,
        budget={
            "steps": STEPS,
            "tokens learnt": STEPS * BATCH_SIZE * (WINDOW - OPENING),
        },
        every=EVERY,
    )


def _without_training(phase: str) -> dict[str, Any]:
    return judge(teacher() if phase == TEACHER else pruned_student())


def summary() -> pd.DataFrame:
    """Make the table: the teacher, the cut student and each arm, with means over the seeds and spreads.

    e^KL compares perplexities on text whose next tokens are drawn from the teacher's distribution. There the student's
    perplexity is e^(H + KL), which is e^KL times the teacher's own, e^H. `difference` is that of the perplexity on
    tales from `REFERENCE`, and the columns that follow it are those of `fair_table`.
    """
    log = read_log(LOG)
    fair = fair_table(log, "perplexity", REFERENCE, better="lower").drop(columns=["mean", "sd"])
    lines = {}
    for name in (TEACHER, PRUNED, *ARMS):
        runs = log[(log["phase"] == name) | (log["phase"] == "result") & (log["arm"] == name)]
        lines[name] = {
            "perplexity": runs["perplexity"].mean(),
            "± sd": runs["perplexity"].std(ddof=1),
            "KL to the teacher": runs["forward_kl"].mean(),
            "± sd of it": runs["forward_kl"].std(ddof=1),
            "e^KL: times the teacher's perplexity": np.exp(runs["forward_kl"]).mean(),
            "reverse KL": runs["reverse_kl"].mean(),
            "same next token %": 100 * runs["agreement"].mean(),
            "teacher's perplexity of what it writes": runs["written_perplexity"].mean(),
            "± sd of that": runs["written_perplexity"].std(ddof=1),
        }
    return pd.DataFrame.from_dict(lines, orient="index").join(fair)


def main() -> None:
    if make_runs(LOG, ARMS, {"learning_rate": LEARNING_RATES}, train_student):
        run_missing(LOG, [{"phase": phase} for phase in (TEACHER, PRUNED)], _without_training)
        table = summary()
        formats = ("", ".1f", ".1f", ".2f", ".2f", ",.1f", ".2f", ".1f", ",.1f", ".1f", "+.1f", ".1f")
        write_fair_table(LOG, markdown_table(table, (*formats, *("" for _ in table.columns[11:]))))


if __name__ == "__main__":
    main()
