"""The kind of problem that a model solves, read off the model and never guessed.

Softmax and KL are right for one class of several, and wrong without a word for anything else: one output always has
probability 1, and a shift of all logits changes every label of a multi-label model, but not the softmax.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PredictionTask", "prediction_task"]


class PredictionTask(StrEnum):
    """What a model's logits mean.

    Attributes:
        SINGLE_LABEL: each input has one of several classes; a softmax over the classes.
        MULTI_LABEL: each label is right or wrong by itself; a sigmoid for each label.
        REGRESSION: each output is a score, without softmax or sigmoid. Rerankers with one output belong here.
        TOKEN_CLASSIFICATION: each token has one of several classes; a softmax over the classes, for each token.

    Example:
        >>> list(dh.PredictionTask)[1], dh.PredictionTask.MULTI_LABEL == "multi_label"
        (<PredictionTask.MULTI_LABEL: 'multi_label'>, True)
    """

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    REGRESSION = "regression"
    TOKEN_CLASSIFICATION = "token_classification"


# The ends of the class names of transformers, on which its `AutoModelFor…` classes are built as well.
_ONE_FOR_EACH_INPUT = ("ForSequenceClassification", "ForImageClassification", "ForAudioClassification")
_ONE_FOR_EACH_TOKEN = ("ForTokenClassification",)
# The values of `config.problem_type` that transformers knows.
_SINGLE, _MULTI, _REGRESSION = "single_label_classification", "multi_label_classification", "regression"


def prediction_task(model: nn.Module) -> PredictionTask:
    """The kind of problem that a model solves, by its class and the entries `problem_type` and `num_labels`.

    A class `…ForTokenClassification` classifies tokens. For `…ForSequenceClassification`, and for its relatives for
    images and audio, `config.problem_type` decides. Where `problem_type` is None, one output is a regression (as
    transformers itself trains it) and several outputs are the classes of a single-label problem. A model with an
    attribute `prediction_task`, such as that of a `SentenceEncoder`, says itself what it solves.

    Args:
        model: a model of transformers, or a subclass of one. An adapter of PEFT around the model, `torch.compile` and
            `DistributedDataParallel` are looked through.

    Raises:
        ValueError: another class of model, a `problem_type` that transformers does not know or that contradicts the
            number of labels or the class, or a configuration whose number of labels is not the model's.

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> dh.prediction_task(student.model)
        <PredictionTask.SINGLE_LABEL: 'single_label'>
    """
    model = without_wrappers(model)
    if isinstance(own := getattr(model, "prediction_task", None), PredictionTask):
        return own
    name = type(model).__name__
    config: Any = getattr(model, "config", None)
    for_tokens = _is_a(model, _ONE_FOR_EACH_TOKEN)
    if config is None or not (for_tokens or _is_a(model, _ONE_FOR_EACH_INPUT)):
        raise ValueError(
            f"{name} is no classifier of transformers, so nothing says what its logits mean; use a model whose class"
            f" ends with {', '.join((*_ONE_FOR_EACH_INPUT, *_ONE_FOR_EACH_TOKEN))}, or a subclass of such a class"
        )
    problem, n_labels = config.problem_type, config.num_labels
    built_with = getattr(model, "num_labels", n_labels)
    if built_with != n_labels:
        raise ValueError(
            f"the configuration of this {name} has {n_labels} labels, but the model was built with {built_with}; load"
            " the model with the labels that it shall have, instead of changing model.config afterwards"
        )
    if for_tokens:
        return _token_task(name, problem, n_labels)
    if problem not in (None, _SINGLE, _MULTI, _REGRESSION):
        raise ValueError(
            f"problem_type is {problem!r}, which transformers does not know; set model.config.problem_type to"
            f" {_SINGLE!r}, {_MULTI!r} or {_REGRESSION!r}"
        )
    if problem == _SINGLE and n_labels == 1:
        raise ValueError(
            f"problem_type is {_SINGLE!r}, but the model has one output, whose softmax is always 1; set"
            f" model.config.problem_type to {_REGRESSION!r} for a score or {_MULTI!r} for yes or no, or use a model"
            " with an output for each of two classes"
        )
    if problem == _MULTI:
        return PredictionTask.MULTI_LABEL
    is_score = problem == _REGRESSION or n_labels == 1
    return PredictionTask.REGRESSION if is_score else PredictionTask.SINGLE_LABEL


def _token_task(name: str, problem: str | None, n_labels: int) -> PredictionTask:
    if problem not in (None, _SINGLE):
        raise ValueError(
            f"problem_type is {problem!r}, but transformers trains {name} with one class for each token; set"
            " model.config.problem_type to None, or use a model for whole texts"
        )
    if n_labels == 1:
        raise ValueError(
            f"{name} has one output for each token, whose softmax is always 1; use a model with an output for each of"
            " two or more classes"
        )
    return PredictionTask.TOKEN_CLASSIFICATION


def _is_a(model: nn.Module, endings: tuple[str, ...]) -> bool:
    return any(ancestor.__name__.endswith(endings) for ancestor in type(model).__mro__)


def without_wrappers(model: Any) -> Any:
    """The model of transformers inside an adapter of PEFT, `torch.compile` or `DistributedDataParallel`."""
    while True:
        if hasattr(model, "get_base_model"):
            return model.get_base_model()
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if inner is None:
            return model
        model = inner
