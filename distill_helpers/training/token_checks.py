"""What can be wrong with the tokens that a teacher and a student read: vocabularies, padding, templates, ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distill_helpers.models.batching import OTHER_TOKENIZER
from distill_helpers.models.pad_tokens import pad_token_fault
from distill_helpers.models.text_models import LanguageModel
from distill_helpers.training.findings import Finding, Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ADD_PAD_TOKEN",
    "chat_templates",
    "embedding_rows",
    "end_tokens",
    "pad_tokens",
    "padded_rows",
    "vocabularies",
]

#: What to do without a padding token.
ADD_PAD_TOKEN = "set `tokenizer.pad_token = tokenizer.eos_token`"
#: Rendered by both chat templates to compare them.
_CONVERSATION = [
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "assistant", "content": "It arrives on Monday."},
    {"role": "user", "content": "Thank you."},
]


def vocabularies(teacher: Pair, student: Pair, remedy: str = OTHER_TOKENIZER) -> Iterator[Finding]:
    """Tokens that have another number in the teacher's vocabulary, for two models that read the same tokens."""
    if teacher.tokenizer is student.tokenizer:
        return
    own, others = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if own != others:
        differ = sum(others.get(token) != index for token, index in own.items())
        yield Finding(
            "vocabularies",
            "error",
            "teacher and student have different vocabularies, and the teacher reads the student's tokens:"
            f" {differ:,} of the student's {len(own):,} tokens have another number among the teacher's {len(others):,}",
            remedy,
        )


def padded_rows(teacher: Pair, student: Pair) -> Iterator[Finding]:
    """Heads of different sizes for the same tokens."""
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


def embedding_rows(name: str, pair: Pair) -> Iterator[Finding]:
    """A token for which the embedding has no row."""
    rows = getattr(pair.model.get_input_embeddings(), "num_embeddings", None)
    highest = max(pair.tokenizer.get_vocab().values())
    if rows is not None and highest >= rows:
        yield Finding(
            "embedding rows",
            "error",
            f"the {name}'s tokenizer has token {highest:,}, and its embedding only {rows:,} rows",
            "call `model.resize_token_embeddings(len(tokenizer))`, or load the model's own tokenizer",
        )


def pad_tokens(name: str, pair: Pair) -> Iterator[Finding]:
    """A classifier's padding token that is missing, that the model does not look for, or that its configuration denies.

    Language models read the attention mask alone.
    """
    if isinstance(pair, LanguageModel):
        return
    own, in_config = pair.tokenizer.pad_token_id, pair.model.config.get_text_config().pad_token_id
    if own is None:
        yield Finding("padding token", "error", f"the {name}'s tokenizer has no padding token", ADD_PAD_TOKEN)
    elif (fault := pad_token_fault(pair.model, pair.tokenizer)) is not None:
        yield Finding("padding token", "error", f"the {name}: {fault[0]}", fault[1])
    elif in_config is not None and in_config != own:
        yield Finding(
            "padding token",
            "warning",
            f"the {name}'s tokenizer pads with {own}, and its configuration says {in_config}; the model does not look"
            f" for it, but a copy that is loaded from disk would never train the embedding of token {in_config}",
            "set `model.config.pad_token_id = tokenizer.pad_token_id`",
        )


def chat_templates(teacher: Pair, student: Pair) -> Iterator[Finding]:
    """One conversation that the two templates render differently."""
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


def end_tokens(teacher: Pair, student: Pair) -> Iterator[Finding]:
    """Two different ends of a text."""
    ends = [pair.tokenizer.eos_token for pair in (teacher, student)]
    if ends[0] != ends[1]:
        yield Finding(
            "end of text",
            "error",
            f"the teacher ends its texts with {ends[0]!r}, the student's tokenizer with {ends[1]!r}",
            "set `student.tokenizer.eos_token` to the teacher's, or the student learns never to stop",
        )


def _n_outputs(model: Any) -> int:
    head = model.get_output_embeddings()
    return head.weight.shape[0] if head is not None else model.config.get_text_config().vocab_size


def _render(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.apply_chat_template(_CONVERSATION, tokenize=False, add_generation_prompt=True))
