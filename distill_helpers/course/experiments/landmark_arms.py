"""One student of a landmark system on the help desk: its shape, what its stages read, and its training.

`landmarks` compares the systems, `landmark_ablations` leaves parts of them out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from distill_helpers.course.experiments.fair_arms import Trained
from distill_helpers.course.logs import RESULTS
from distill_helpers.course.tasks import WORK, Task, get_task, run_folder
from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.landmarks.data_driven_recipe import kept_messages
from distill_helpers.landmarks.stages import Training, alternating_student
from distill_helpers.llm.synthetic_data import SyntheticMessage, write_messages
from distill_helpers.models.architectures import transformer_layers
from distill_helpers.models.language_model_loading import load_language_model
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.creation import narrow_student
from distill_helpers.students.pruning import prune
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = [
    "GRID",
    "MESSAGES",
    "NARROW",
    "N_TRANSFER",
    "PRUNED",
    "WIDE",
    "WITH_WINDOWS",
    "WITH_WRITTEN",
    "Arm",
    "help_desk",
    "n_texts",
    "parameters_in_layers",
    "student_of",
    "synthetic_messages",
    "train_arm",
]

#: Windows beside the 2,517 training messages.
N_TRANSFER = 2500
#: Messages that the language model writes for each queue.
N_WRITTEN = 512
BATCH_SIZE = 32
#: What validation chooses from.
GRID = {"learning_rate": (5e-4, 1.2e-3)}

#: What a stage reads: the training messages alone, or with them the windows or what the language model wrote.
MESSAGES, WITH_WINDOWS, WITH_WRITTEN = "messages", "messages and windows", "messages and written messages"
#: The shapes of the students. Their layers have about a third of the parameters of the teacher's layers, or an eighth.
WIDE, NARROW, PRUNED = "2 × 384", "3 × 192", "3 × 384, half the neurons"


@cache
def help_desk() -> Task:
    """The task, with its data and its teacher."""
    return get_task("help-desk")


class Arm(NamedTuple):
    """An arm of a comparison of recipes.

    Args:
        shape: of its student.
        train: makes the student and trains it, from teacher, data and settings.
        stages: for each stage what it reads, and how often.
    """

    shape: str
    train: Callable[[TextClassifier, TextSplits, Training], DistilledStudent]
    stages: tuple[tuple[str, int], ...] = ((WITH_WINDOWS, 4),)


def student_of(shape: str, seed: int = 0) -> TextClassifier:
    """Make a student of a shape: with layers copied or cut out of the teacher, or, if it is narrower, random layers."""
    teacher = help_desk().teacher_model
    if shape == WIDE:
        return alternating_student(teacher, 2)
    if shape == NARROW:
        return narrow_student(teacher, n_layers=3, hidden_size=192, seed=seed)
    return prune(teacher, help_desk().data.train.texts[:64], n_layers=3, feed_forward_size=768)


@cache
def synthetic_messages() -> list[SyntheticMessage]:
    """Let the language model write about the five queues, or read what it wrote."""
    file, train = RESULTS / "written-messages.jsonl", help_desk().data.train
    return write_messages(load_language_model(), train, N_WRITTEN, file=file, progress=False)


@cache
def n_texts(reads: str) -> int:
    """Count the texts of one pass over what a stage reads."""
    task = help_desk()
    n = len(task.data.train)
    if reads == MESSAGES:
        return n
    if reads == WITH_WINDOWS:
        return n + N_TRANSFER
    reading = Training(max_length=task.max_length, cache_dir=WORK / "targets", progress=False)
    return n + len(kept_messages(task.teacher_model, task.data, synthetic_messages(), reading))


def train_arm(name: str, arm: Arm, learning_rate: float, seed: int) -> Trained:
    """Train one student, in some minutes.

    Args:
        name: of its folder in the work folder, from which an interrupted training continues.
        arm: its recipe.
        learning_rate: at its peak, in every stage.
        seed: of student and training.
    """
    task = help_desk()
    (_, first), (_, last) = arm.stages[0], arm.stages[-1]
    folder = run_folder(name, f"{learning_rate:g}", seed)
    training = Training(
        epochs=last,
        feature_epochs=first,
        learning_rate=learning_rate,
        batch_size=BATCH_SIZE,
        n_transfer=N_TRANSFER,
        max_length=task.max_length,
        seed=seed,
        group_by_length=True,
        output_dir=folder,
        cache_dir=WORK / "targets",
        progress=False,
    )
    result = arm.train(task.teacher_model, task.data, training)
    shutil.rmtree(folder)

    def measure_test() -> dict[str, float]:
        test = task.data.test
        teacher_logits = task.teacher_logits(test.texts, progress=False)
        figures = evaluate(result.classifier, test, teacher_logits=teacher_logits, max_length=task.max_length)
        return figures | {"layer_parameters": parameters_in_layers(result.classifier)}

    stages = [(n_texts(reads), passes) for reads, passes in arm.stages]
    return Trained(
        validation=result.history["eval_accuracy"].tolist(),
        measure_test=measure_test,
        budget={
            "texts": max(n for n, _ in stages),
            "texts read": sum(n * passes for n, passes in stages),
            "steps": sum(-(-n // BATCH_SIZE) * passes for n, passes in stages),
        },
    )


def parameters_in_layers(classifier: TextClassifier) -> int:
    return sum(p.numel() for p in transformer_layers(classifier.model).parameters())
