"""Targets from several teachers: their mean, weighted or not, or each label's own teacher."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.models.batching import check_finite
from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.targets.image_logits import precompute_teacher_image_logits
from distill_helpers.targets.logits import precompute_teacher_logits

__all__ = ["combine_teacher_logits", "precompute_combined_logits", "weights_by_label"]

# What can be averaged of each task's outputs. The first is the default.
_MEANS: dict[str, tuple[str, ...]] = {
    PredictionTask.SINGLE_LABEL: ("probabilities", "logits"),
    PredictionTask.MULTI_LABEL: ("probabilities", "logits"),
    PredictionTask.REGRESSION: ("scores",),
}


def combine_teacher_logits(
    teacher_logits: Sequence[Tensor],
    *,
    task: str = "single_label",
    mean_of: Literal["probabilities", "logits", "scores"] | None = None,
    weights: Sequence[float] | Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """One teacher's logits out of several teachers', for `DistillationDataset`.

    The mean of the probabilities is the mixture of the teachers, and the target with the smallest mean KL divergence
    from them: Σₖ wₖ KL(pₖ‖q) is least at q = Σₖ wₖ pₖ. The mean of the logits is the normalised geometric mean of the
    probabilities, in which one teacher that is sure of a "no" outvotes the others (You et al. 2017, "Learning from
    Multiple Teacher Networks", and Hinton et al. 2015, section 2, take either). In a multi-label task, both hold for
    each label by itself, with σ in the place of the softmax. The scores of a regression have one mean.

    A tensor does not say what its numbers mean. `precompute_combined_logits` reads the task off the teachers.

    Args:
        teacher_logits: one tensor (texts, classes) for each teacher, of the same texts and classes in the same order.
        task: "single_label", "multi_label" or "regression", as in `PredictionTask`.
        mean_of: what is averaged: "probabilities" (the default) or "logits" of classes and labels, "scores" (the
            default and the only choice) of a regression.
        weights: (teachers,), or (texts, teachers) from `weights_by_label`; each row is divided by its sum. Default:
            all equal.
        temperature: the T of the student's loss. The mean of softened probabilities is not the softened mean, so it is
            taken at this T: the softmax (or σ) of the result, divided by T, is the mixture at T. It does not matter for
            `mean_of="logits"`, and scores have none.

    Returns:
        fp32, (texts, classes). Single-label logits are shifted by a constant per row, as such logits may be.

    Raises:
        ValueError: fewer than two teachers, shapes that differ, logits that are not finite (with teacher and row), a
            negative weight or a row of zeros, a temperature that is not positive, a single column of a single-label
            task, or a mean or a temperature that the task does not have.

    Example:
        >>> sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> dh.combine_teacher_logits([sure, unsure]).softmax(-1)  # halfway between 0.98 and 0.5
        tensor([[0.7410, 0.2590]])
        >>> dh.combine_teacher_logits([sure, unsure], mean_of="logits").softmax(-1)
        tensor([[0.8808, 0.1192]])
        >>> dh.combine_teacher_logits([sure, unsure], task="multi_label").sigmoid()  # each label by itself
        tensor([[0.7410, 0.5000]])
    """
    means = _means_of(task)
    if len(teacher_logits) < 2:
        raise ValueError(f"there must be two teachers or more, got the logits of {len(teacher_logits)}")
    shape = teacher_logits[0].shape
    for number, logits in enumerate(teacher_logits):
        if logits.dim() != 2 or logits.shape != shape:
            raise ValueError(
                f"teacher {number} has logits {tuple(logits.shape)}, teacher 0 {tuple(shape)}; all must be (texts,"
                " classes), of the same texts and classes"
            )
        check_finite(logits, f"these are teacher {number}'s; let it label this text again")
    if task == PredictionTask.SINGLE_LABEL and shape[1] == 1:
        raise ValueError(
            "the teachers have a single column, whose softmax is always 1; pass task='regression' if it is a score, or"
            " task='multi_label' if it is yes or no"
        )
    if mean_of is not None and mean_of not in means:
        raise ValueError(f"mean_of must be {' or '.join(map(repr, means))} for task={str(task)!r}, got {mean_of!r}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive, got {temperature!r}")
    if task == PredictionTask.REGRESSION and temperature != 1:
        raise ValueError(f"scores have no temperature, got {temperature!r}; leave it out")
    stacked = torch.stack([logits.double().cpu() for logits in teacher_logits], dim=1)  # (texts, teachers, classes)
    shares = _shares(weights, stacked.shape[0], stacked.shape[1])[..., None]
    if (mean_of or means[0]) != "probabilities":
        if task == PredictionTask.SINGLE_LABEL:
            # Without its level, which is arbitrary, no teacher counts for more than its weight.
            stacked = stacked - stacked.mean(dim=-1, keepdim=True)
        return (shares * stacked).sum(dim=1).float()
    softened = stacked / temperature
    if task == PredictionTask.MULTI_LABEL:
        yes, no = ((logsigmoid(sign * softened) + shares.log()).logsumexp(dim=1) for sign in (1, -1))
        return (temperature * (yes - no)).float()
    return (temperature * (softened.log_softmax(dim=-1) + shares.log()).logsumexp(dim=1)).float()


def precompute_combined_logits(
    teachers: Sequence[TextClassifier] | Sequence[ImageClassifier],
    inputs: Sequence[Any],
    *,
    mean_of: Literal["probabilities", "logits", "scores"] | None = None,
    weights: Sequence[float] | Tensor | None = None,
    temperature: float = 1.0,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    max_length: int | None = None,
    dtype: torch.dtype = torch.float32,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Tensor:
    """The logits of several teachers for each text or image, computed once and combined by the teachers' own task.

    Each teacher's logits are cached by themselves, in a folder of `cache_dir` that belongs to this teacher. Other
    weights, another mean, or one more teacher do not compute them anew.

    Args:
        teachers: two or more, either all `TextClassifier` or all `ImageClassifier`, of one task and with the same
            classes in the same order. Each may have its own tokenizer or processor.
        inputs: texts, pairs of texts or images, as the teachers read them.
        mean_of, weights, temperature: see `combine_teacher_logits`.
        batch_size, device, dtype, cache_dir, progress: see `precompute_teacher_logits`.
        max_length: longer texts are cut to so many of each teacher's tokens; texts only.

    Returns:
        fp32, (inputs, classes), on the CPU.

    Raises:
        ValueError: teachers of different tasks or with other classes (with the teacher's number), a task without a mean
            (token classification), `max_length` for images; and as `combine_teacher_logits` and
            `precompute_teacher_logits`.
        TypeError: a teacher that is neither of the two, or teachers of both kinds.

    Example:
        >>> teachers = [dh.load_course_model(f"help-desk-{name}", device="cpu") for name in ("teacher", "student")]
        >>> texts = ["my mac shows a grey screen"]
        >>> logits = dh.precompute_combined_logits(teachers, texts, weights=[2, 1], device="cpu", progress=False)
        >>> logits.shape, teachers[0].label_names[logits.argmax()]
        (torch.Size([1, 5]), 'comp.sys.mac.hardware')
    """
    task, names = _shared_task(teachers), teachers[0].label_names
    each: Any
    for number, each in enumerate(teachers):
        if each.label_names != names:
            raise ValueError(
                f"teacher {number} has the classes {each.label_names}, teacher 0 {names}; the columns of their logits"
                " can't be averaged unless all have the same classes in the same order"
            )
    # What is wrong with the choice is said before any teacher works.
    combine = partial(combine_teacher_logits, task=task, mean_of=mean_of, weights=weights, temperature=temperature)
    combine([torch.zeros(len(inputs), len(names))] * len(teachers))
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "device": device,
        "dtype": dtype,
        "cache_dir": cache_dir,
        "progress": progress,
    }
    labeller: Any = precompute_teacher_logits
    if isinstance(teachers[0], ImageClassifier):
        if max_length is not None:
            raise ValueError("images have no max_length; leave it out")
        labeller = precompute_teacher_image_logits
    else:
        options |= {"max_length": max_length, "task": str(task)}
    return combine([labeller(teacher, inputs, **options) for teacher in teachers])


def weights_by_label(labels: Sequence[int], specialists: Mapping[int, int | Sequence[int]], n_teachers: int) -> Tensor:
    """Weights that send each text to the teachers that know its label.

    Args:
        labels: the texts' hard labels; `IGNORE_INDEX` for a text without one.
        specialists: label → the number of its teacher, or several numbers. All teachers share the texts without a label
            and those whose label is not named.
        n_teachers: the number of teachers.

    Returns:
        fp64, (texts, teachers); each row sums to 1.

    Raises:
        ValueError: a teacher that does not exist, a label without any teacher, or a label that is no integer (with its
            row).

    Example:
        >>> dh.weights_by_label([0, 1, -100], {0: 0, 1: [1]}, n_teachers=2)
        tensor([[1.0000, 0.0000],
                [0.0000, 1.0000],
                [0.5000, 0.5000]], dtype=torch.float64)
    """
    classes = [_whole(label, f"row {row}: the label") for row, label in enumerate(labels)]
    weights = torch.ones(len(labels), n_teachers, dtype=torch.float64)
    for label, chosen in specialists.items():
        numbers = [chosen] if isinstance(chosen, int) else list(chosen)
        if not numbers or not all(0 <= number < n_teachers for number in numbers):
            raise ValueError(f"label {label} has the teachers {numbers}; give it some of 0 to {n_teachers - 1}")
        if _whole(label, "the key of specialists") == IGNORE_INDEX:
            raise ValueError(f"{IGNORE_INDEX} marks a text without a label, which all teachers share")
        rows = torch.tensor([own == label for own in classes], dtype=torch.bool)
        weights[rows] = 0.0
        for number in numbers:
            weights[rows, number] = 1.0
    return weights / weights.sum(dim=1, keepdim=True)


def _whole(label: Any, what: str) -> int:
    """A label as an int. A name or a float would match no key, and its text would go to all teachers in silence."""
    try:
        if isinstance(label, bool):
            raise TypeError
        return operator.index(label)
    except TypeError:
        raise ValueError(f"{what} {label!r} is no class index; pass integers, `label_names.index(label)`") from None


def _means_of(task: str) -> tuple[str, ...]:
    """What can be averaged of this task's outputs, the default first."""
    if task not in _MEANS:
        remedy = ""
        if task == PredictionTask.TOKEN_CLASSIFICATION:
            remedy = "; concatenate the words of all texts to (words, classes), combine them as 'single_label'"
        raise ValueError(f"task must be one of {list(map(str, _MEANS))}, got {str(task)!r}{remedy}")
    return _MEANS[task]


def _shared_task(teachers: Sequence[TextClassifier | ImageClassifier]) -> PredictionTask:
    """The task of all teachers."""
    if len(teachers) < 2:
        raise ValueError(f"there must be two teachers or more, got {len(teachers)}")
    for number, teacher in enumerate(teachers):
        if not isinstance(teacher, TextClassifier | ImageClassifier) or type(teacher) is not type(teachers[0]):
            raise TypeError(
                f"teacher {number} is a {type(teacher).__name__}, teacher 0 a {type(teachers[0]).__name__}; all must be"
                " TextClassifier, or all ImageClassifier"
            )
    tasks = [prediction_task(teacher.model) for teacher in teachers]
    for number, task in enumerate(tasks):
        if task != tasks[0]:
            raise ValueError(
                f"the task of teacher {number} is {task}, that of teacher 0 {tasks[0]}; probabilities of one task and"
                " of another have no mean"
            )
    _means_of(tasks[0])
    return tasks[0]


def _shares(weights: Sequence[float] | Tensor | None, n_texts: int, n_teachers: int) -> Tensor:
    """(texts or 1, teachers), rows that sum to 1."""
    given = torch.ones(1, n_teachers) if weights is None else torch.as_tensor(weights)
    shares = given.double().cpu().reshape(-1, given.shape[-1])
    if shares.shape not in ((1, n_teachers), (n_texts, n_teachers)):
        raise ValueError(
            f"weights must be ({n_teachers},) or ({n_texts}, {n_teachers}), a number for each teacher, got"
            f" {tuple(given.shape)}"
        )
    bad = (~((shares >= 0) & shares.isfinite()).all(dim=1) | (shares.sum(dim=1) == 0)).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"row {int(bad[0])} of the weights is {shares[bad[0]].tolist()}; weights are 0 or more, and one is above 0"
        )
    return shares / shares.sum(dim=1, keepdim=True)
