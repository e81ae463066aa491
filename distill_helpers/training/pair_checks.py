"""What can be wrong with a teacher and a student before either has read a text: the cheap part of `preflight`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from distill_helpers.models.architectures import embedding_weight
from distill_helpers.models.batching import OTHER_TOKENIZER
from distill_helpers.models.prediction_tasks import prediction_task
from distill_helpers.models.text_models import LanguageModel, TextClassifier

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PAIR_CHECKS", "Finding", "Pair", "check_pair", "half_precision", "shared_weights"]

#: Rendered by both chat templates to compare them.
_CONVERSATION = [
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "assistant", "content": "It arrives on Monday."},
    {"role": "user", "content": "Thank you."},
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Args:
        check: the name of the check that found it.
        severity: "error" if the training would learn the wrong thing or stop; "warning" if that may be meant.
        reason: what was found, with the names and numbers.
        remedy: what to do.
    """

    check: str
    severity: Literal["error", "warning"]
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.check}: {self.reason}; {self.remedy}"


Pair = TextClassifier | LanguageModel
PairCheck = Callable[[Pair, Pair], Iterator[Finding]]


def check_pair(teacher: Pair, student: Pair) -> list[Finding]:
    """Run every check that needs no forward pass. Takes milliseconds; the trainers call it with a live teacher.

    Raises:
        TypeError: a classifier together with a language model, or anything else than these two.
    """
    for model in (teacher, student):
        if not isinstance(model, TextClassifier | LanguageModel):
            raise TypeError(f"teacher and student must be TextClassifier or LanguageModel, got {type(model).__name__}")
    if type(teacher) is not type(student):
        raise TypeError(f"the teacher is a {type(teacher).__name__}, the student a {type(student).__name__}")
    return [finding for check in PAIR_CHECKS.values() for finding in check(teacher, student)]


def _vocabularies(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if not isinstance(student, LanguageModel) or teacher.tokenizer is student.tokenizer:
        return
    own, others = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if own != others:
        differ = sum(others.get(token) != index for token, index in own.items())
        yield Finding(
            "vocabularies",
            "error",
            f"{differ:,} of the student's {len(own):,} tokens have another number in the teacher's vocabulary of"
            f" {len(others):,}",
            OTHER_TOKENIZER,
        )


def _padded_rows(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if not isinstance(student, LanguageModel):
        return
    rows = {name: _n_outputs(pair.model) for name, pair in (("teacher", teacher), ("student", student))}
    n_tokens = len(student.tokenizer)
    if rows["teacher"] != rows["student"] and min(rows.values()) >= n_tokens:
        padded = ", ".join(f"the {name}'s has {n:,} rows, {n - n_tokens:,} of them padding" for name, n in rows.items())
        yield Finding(
            "padded rows",
            "warning",
            f"the heads have different sizes for {n_tokens:,} tokens: {padded}",
            f"pass vocab_size={n_tokens}, so that only rows of tokens are compared",
        )


def _embedding_rows(teacher: Pair, student: Pair) -> Iterator[Finding]:
    for name, pair in (("teacher", teacher), ("student", student)):
        rows = len(embedding_weight(pair.model))
        highest = max(pair.tokenizer.get_vocab().values())
        if highest >= rows:
            yield Finding(
                "embedding rows",
                "error",
                f"the {name}'s tokenizer has token {highest:,}, and its embedding only {rows:,} rows",
                "call `model.resize_token_embeddings(len(tokenizer))`, or load the model's own tokenizer",
            )


def _label_order(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if not isinstance(teacher, TextClassifier) or not isinstance(student, TextClassifier):
        return
    others, own = teacher.label_names, student.label_names
    if others == own:
        return
    if sorted(others) == sorted(own):
        first = next(i for i, (a, b) in enumerate(zip(others, own, strict=True)) if a != b)
        reason = f"class {first} is {others[first]!r} for the teacher and {own[first]!r} for the student"
    else:
        missing = sorted(set(others) - set(own)) or sorted(set(own) - set(others))
        reason = f"the teacher has {len(others)} classes, the student {len(own)}; only one of them has {missing[:3]}"
    yield Finding("label order", "error", reason, "give the student the teacher's `label_names` in the teacher's order")


def _problem_types(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if isinstance(student, LanguageModel):
        return
    tasks = []
    for name, pair in (("teacher", teacher), ("student", student)):
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


def _chat_templates(teacher: Pair, student: Pair) -> Iterator[Finding]:
    if not isinstance(student, LanguageModel):
        return
    templates = [teacher.tokenizer.chat_template, student.tokenizer.chat_template]
    if not all(templates):
        if any(templates):
            name = "teacher" if templates[0] else "student"
            yield Finding(
                "chat templates",
                "warning",
                f"only the {name} has a chat template",
                "render every prompt with that one template, for both models",
            )
        return
    rendered = [_render(pair.tokenizer) for pair in (teacher, student)]
    if rendered[0] != rendered[1]:
        at = next((i for i, (a, b) in enumerate(zip(*rendered, strict=False)) if a != b), min(map(len, rendered)))
        here = [text[max(0, at - 10) : at + 20] for text in rendered]
        yield Finding(
            "chat templates",
            "error",
            f"the two templates render one conversation differently from character {at}: the teacher's"
            f" {here[0]!r}, the student's {here[1]!r}",
            "render the prompts once, with the teacher's template, or set `student.tokenizer.chat_template` to it",
        )


def _end_tokens(teacher: Pair, student: Pair) -> Iterator[Finding]:
    ends = [pair.tokenizer.eos_token for pair in (teacher, student)]
    if isinstance(student, LanguageModel) and ends[0] != ends[1]:
        yield Finding(
            "end of text",
            "error",
            f"the teacher ends its texts with {ends[0]!r}, the student's tokenizer with {ends[1]!r}",
            "set `student.tokenizer.eos_token` to the teacher's, or the student learns never to stop",
        )


def _pad_tokens(teacher: Pair, student: Pair) -> Iterator[Finding]:
    for name, pair in (("teacher", teacher), ("student", student)):
        own, in_config = pair.tokenizer.pad_token_id, _text_config(pair.model).pad_token_id
        if own is None:
            yield Finding(
                "padding token",
                "error",
                f"the {name}'s tokenizer has no padding token",
                "set `tokenizer.pad_token = tokenizer.eos_token`",
            )
        elif in_config is not None and own != in_config:
            yield Finding(
                "padding token",
                "error" if isinstance(pair, TextClassifier) else "warning",
                f"the {name}'s tokenizer pads with {own}, and its configuration says {in_config}",
                "set `model.config.pad_token_id = tokenizer.pad_token_id`; decoders look for the last token by it",
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
        yield Finding(
            "shared weights",
            "error",
            f"{len(shared)} weights of the student are the teacher's own, {shared[0][0]} among them:"
            " training the student changes its teacher",
            "copy them: `copy.deepcopy(student.model)`, or make the student with `create_student`",
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
    "vocabularies": _vocabularies,
    "padded rows": _padded_rows,
    "embedding rows": _embedding_rows,
    "label order": _label_order,
    "problem type": _problem_types,
    "chat templates": _chat_templates,
    "end of text": _end_tokens,
    "padding token": _pad_tokens,
    "dropout": _dropout,
    "adapters": _adapters,
    "dtypes": _dtypes,
    "shared weights": _shared_modules,
    "trainable weights": _frozen_student,
}


def half_precision(student: nn.Module) -> list[str]:
    """The types of trainable weights in which small steps are lost, sorted.

    At a learning rate of 1e-5, ten steps of AdamW leave 84% of bf16 weights unchanged: the steps are below rounding.
    """
    return sorted({str(p.dtype) for p in student.parameters() if p.requires_grad and p.dtype.itemsize < 4})


def shared_weights(student: nn.Module, teacher: nn.Module) -> list[tuple[str, str]]:
    """The student's trainable weights that are the teacher's own: the name in the student and that in the teacher."""
    in_teacher = {_memory(parameter): name for name, parameter in teacher.named_parameters()}
    return [
        (name, in_teacher[_memory(parameter)])
        for name, parameter in student.named_parameters()
        if parameter.requires_grad and parameter.numel() and _memory(parameter) in in_teacher
    ]


def _memory(parameter: nn.Parameter) -> tuple[Any, int]:
    # Two parameters may be views of one tensor. A tensor without memory (meta, quantised, offloaded) is only itself.
    address = parameter.data_ptr()
    return (parameter.device, address) if address else (None, id(parameter))


def _n_outputs(model: Any) -> int:
    head = model.get_output_embeddings()
    return head.weight.shape[0] if head is not None else _text_config(model).vocab_size


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()


def _render(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.apply_chat_template(_CONVERSATION, tokenize=False, add_generation_prompt=True))
