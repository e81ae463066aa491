"""What can be wrong with a teacher and a student before either has read a text: the cheap part of `preflight`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

from torch import nn

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.batching import evaluation_mode
from distill_helpers.models.prediction_tasks import prediction_task
from distill_helpers.models.text_models import LanguageModel, TextClassifier
from distill_helpers.training.findings import Finding, Pair, raise_for_errors, warn_of_the_rest
from distill_helpers.training.token_checks import (
    chat_templates,
    embedding_rows,
    end_tokens,
    pad_tokens,
    padded_rows,
    vocabularies,
)
from distill_helpers.training.trainable_weights import half_precision, shared_weights

__all__ = ["PAIR_CHECKS", "check_live_pair", "check_pair"]

PairCheck = Callable[[Pair, Pair], Iterator[Finding]]
# What only matters where the student learns from the teacher's outputs, and not from its features alone.
_OF_OUTPUTS = ("padded rows", "label order", "problem type", "chat templates", "end of text")


def check_pair(teacher: Pair, student: Pair, config: DistillationConfig | None = None) -> list[Finding]:
    """Run every check that needs no forward pass. Takes milliseconds.

    Args:
        teacher, student: two classifiers or two language models. What concerns tokens is left out where a tokenizer is
            None, as that of a model of images is.
        config: the objective. Without soft targets, nothing is said of what only the outputs have to agree on.

    Raises:
        TypeError: a classifier together with a language model, or anything but these two.
    """
    for model in (teacher, student):
        if not isinstance(model, TextClassifier | LanguageModel):
            raise TypeError(f"teacher and student must be TextClassifier or LanguageModel, got {type(model).__name__}")
    if type(teacher) is not type(student):
        raise TypeError(f"the teacher is a {type(teacher).__name__}, the student a {type(student).__name__}")
    checks = dict(PAIR_CHECKS)
    if config is not None and not config.uses_teacher_logits:
        checks = {name: check for name, check in checks.items() if name not in _OF_OUTPUTS}
        checks["label order"] = _only_permuted  # the evaluation compares the two models' answers all the same
    return [finding for check in checks.values() for finding in check(teacher, student)]


def check_live_pair(
    teacher: Any,
    model: nn.Module,
    tokenizer: Any,
    config: DistillationConfig,
    *,
    ignored: Collection[str] = (),
    warn: bool = True,
) -> None:
    """What the trainers refuse, or warn of, where a teacher runs beside its student and reads the same tokens.

    The teacher is judged as the trainers run it, without dropout.

    Args:
        teacher: a model with its tokenizer or processor. None is fine: there is nothing to check.
        model: the student.
        tokenizer: the tokenizer of the student's batches. What concerns tokens is left out if it is None, or no
            tokenizer.
        config: the objective.
        ignored: names of checks whose findings the caller has seen to.
        warn: warn of what is no error.

    Raises:
        ValueError: every error, with its remedy.
    """
    if teacher is None:
        return
    kind = LanguageModel if isinstance(teacher, LanguageModel) else TextClassifier
    pair = kind(teacher.model, _if_tokenizer(teacher[1])), kind(model, _if_tokenizer(tokenizer))  # type: ignore[arg-type]
    with evaluation_mode(teacher.model):
        findings = check_pair(*pair, config)
    if kind is TextClassifier and _have_tokenizers(*pair):
        # Classifiers may have vocabularies of their own, but not where one batch goes through both.
        findings += vocabularies(*pair, remedy=_ONE_TOKENIZER)
    findings = [finding for finding in findings if finding.check not in ignored]
    raise_for_errors(findings)
    if warn:
        warn_of_the_rest(findings)


_ONE_TOKENIZER = (
    "use the teacher's tokenizer for both (no trimmed vocabulary), or cached teacher_logits without feature terms"
)


def _if_tokenizer(processor: Any) -> Any:
    return processor if hasattr(processor, "get_vocab") else None


def _have_tokenizers(*pairs: Pair) -> bool:
    return all(pair.tokenizer is not None for pair in pairs)


def _of_language_models(check: Callable[[Pair, Pair], Iterator[Finding]]) -> PairCheck:
    """A check of the tokens of two language models."""

    def checked(teacher: Pair, student: Pair) -> Iterator[Finding]:
        if isinstance(student, LanguageModel) and _have_tokenizers(teacher, student):
            yield from check(teacher, student)

    return checked


def _of_each(check: Callable[[str, Pair], Iterator[Finding]]) -> PairCheck:
    """A check of the tokens of one model, of both."""

    def checked(teacher: Pair, student: Pair) -> Iterator[Finding]:
        for name, pair in (("teacher", teacher), ("student", student)):
            if pair.tokenizer is not None and hasattr(pair.model, "config"):
                yield from check(name, pair)

    return checked


def _class_names(teacher: Pair, student: Pair) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The names of the classes of both models, where both have classes with names that differ."""
    if isinstance(student, LanguageModel):
        return None
    if not all(hasattr(getattr(pair.model, "config", None), "id2label") for pair in (teacher, student)):
        return None
    others, own = teacher.label_names, student.label_names  # type: ignore[union-attr]
    if _plain(others) == _plain(own) or len(others) == len(own) == 1:
        return None
    return others, own


def _label_order(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if (names := _class_names(teacher, student)) is not None:
        yield from (_other_order if _same_classes(*names) else _other_classes)(*names)


def _only_permuted(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if (names := _class_names(teacher, student)) is not None and _same_classes(*names):
        yield from _other_order(*names)


def _other_order(others: tuple[str, ...], own: tuple[str, ...]) -> Iterator[Finding]:
    first = next(i for i, (a, b) in enumerate(zip(_plain(others), _plain(own), strict=True)) if a != b)
    yield Finding(
        "label order",
        "error",
        f"the teacher has the student's classes in another order: class {first} is {others[first]!r} for the"
        f" teacher and {own[first]!r} for the student",
        _SAME_NAMES,
    )


def _other_classes(others: tuple[str, ...], own: tuple[str, ...]) -> Iterator[Finding]:
    nameless = [_is_nameless(names) for names in (others, own)]
    if len(others) == len(own) and any(nameless):
        which = "teacher" if nameless[0] else "student"
        yield Finding(
            "label order",
            "warning",
            f"the {which}'s classes are called LABEL_0 and so on, so nothing says that both models have their classes"
            " in the same order",
            _SAME_NAMES,
        )
        return
    missing = sorted(set(others) - set(own)) or sorted(set(own) - set(others))
    yield Finding(
        "label order",
        "error",
        f"the teacher has {len(others)} classes, the student {len(own)}; only one of them has {missing[:3]}",
        _SAME_NAMES,
    )


_SAME_NAMES = "give the student the teacher's `label_names` in the teacher's order"


def _plain(names: Collection[str]) -> list[str]:
    """The names without what does not tell classes apart, unless that would make two of them one."""
    plain = [re.sub(r"[\W_]+", " ", name).strip().casefold() for name in names]
    return plain if len(set(plain)) == len(names) else list(names)


def _same_classes(others: tuple[str, ...], own: tuple[str, ...]) -> bool:
    return sorted(_plain(others)) == sorted(_plain(own))


def _is_nameless(names: Collection[str]) -> bool:
    """Whether these are the names that transformers gives to classes without names."""
    return list(names) == [f"LABEL_{index}" for index in range(len(names))]


def _problem_types(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if isinstance(student, LanguageModel):
        return
    tasks = []
    for name, pair in (("teacher", teacher), ("student", student)):
        if not hasattr(pair.model, "config"):
            return
        try:
            tasks.append(prediction_task(pair.model))
        except ValueError as error:
            yield Finding("problem type", "error", f"the {name}: {error}", "load a model whose task is known")
    if len(set(tasks)) == 2:
        yield Finding(
            "problem type",
            "error",
            f"the teacher's task is {tasks[0]}, the student's {tasks[1]}: their logits mean different things",
            "set the student's `config.problem_type` to the teacher's, and use the same class of model",
        )


def _dropout(teacher: Pair, student: Pair) -> Iterator[Finding]:
    rates = [module.p for module in teacher.model.modules() if isinstance(module, nn.Dropout) and module.training]
    if any(rates):
        yield Finding(
            "dropout",
            "error",
            f"the teacher is in training mode, and {sum(map(bool, rates))} of its layers drop up to {max(rates):.0%} of"
            " their inputs: each pass gives other targets",
            "call `teacher.model.eval()`",
        )


def _adapters(teacher: Pair, student: Pair) -> Iterator[Finding]:
    # A model with an adapter has PEFT imported; without one, PEFT need not be installed.
    tuners = sys.modules.get("peft.tuners.tuners_utils")
    for name, pair in (("teacher", teacher), ("student", student)):
        layers = [m for m in pair.model.modules() if tuners and isinstance(m, tuners.BaseTunerLayer)]
        off = [layer for layer in layers if layer.disable_adapters or not layer.active_adapters]
        if off:
            yield Finding(
                "adapters",
                "error",
                f"{len(off)} of the {name}'s {len(layers)} adapted layers have their adapter off",
                "call `model.enable_adapter_layers()`, or `set_adapter(name)`",
            )


def _dtypes(teacher: Pair, student: Pair) -> Iterator[Finding]:
    half = half_precision(student.model)
    if half:
        yield Finding(
            "dtypes",
            "error",
            f"the student's trainable weights are {', '.join(half)}, in which small steps are lost",
            "train in fp32, `student.model.float()`, with `bf16=True` in the TrainingArguments for speed",
        )


def _shared_modules(teacher: Pair, student: Pair) -> Iterator[Finding]:
    shared = shared_weights(student.model, teacher.model)
    if shared:
        (name, teachers_name), n_more = shared[0], len(shared) - 1
        yield Finding(
            "shared weights",
            "error",
            f"the student's {name} and the teacher's {teachers_name} are the same tensor in memory"
            + (f", and so are {n_more} more" if n_more else "")
            + ": training the student would change its teacher",
            "copy them (`copy.deepcopy(student.model)`), freeze them, or make the student with `create_student`",
        )


def _frozen_student(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if not any(parameter.requires_grad for parameter in student.model.parameters()):
        yield Finding(
            "trainable weights",
            "error",
            "no weight of the student is trainable",
            "call `student.model.requires_grad_(True)`, or load the adapter with `is_trainable=True`",
        )


#: The checks by name, in the order in which they run.
PAIR_CHECKS: dict[str, PairCheck] = {
    "vocabularies": _of_language_models(vocabularies),
    "padded rows": _of_language_models(padded_rows),
    "embedding rows": _of_each(embedding_rows),
    "label order": _label_order,
    "problem type": _problem_types,
    "chat templates": _of_language_models(chat_templates),
    "end of text": _of_language_models(end_tokens),
    "padding token": _of_each(pad_tokens),
    "dropout": _dropout,
    "adapters": _adapters,
    "dtypes": _dtypes,
    "shared weights": _shared_modules,
    "trainable weights": _frozen_student,
}
