"""How good a language model is, and how near to its teacher: perplexity, divergence, agreement."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor

from distill_helpers.llm.completion_dataset import CompletionCollator, CompletionDataset
from distill_helpers.llm.output_heads import last_hidden_states, logits_of, output_head
from distill_helpers.llm.token_level import completion_hidden_states, completion_labels
from distill_helpers.losses.divergences import soft_target_divergence
from distill_helpers.models.batching import evaluation_mode
from distill_helpers.models.loading import LanguageModel

__all__ = ["evaluate_language_model"]

#: Tokens whose logits are made at a time.
_CHUNK = 128


@torch.inference_mode()
def evaluate_language_model(
    model: LanguageModel, dataset: CompletionDataset, teacher: LanguageModel | None = None, *, batch_size: int = 8
) -> dict[str, float]:
    """What a language model makes of the tokens of a data set that count.

    Args:
        model: used where it is.
        dataset: tokenised with the model's tokenizer; also a model's own completions, whose perplexity under another
            model says how likely that one finds them.
        teacher: of the same tokenizer, for the comparison.
        batch_size: sequences at a time.

    Returns:
        `perplexity`: e to the mean −log q(token). With a teacher: `teacher_perplexity`, the same of the teacher;
        `forward_kl` and `reverse_kl` in nats a token at T = 1; `agreement`, the share of positions at which both find
        the same token likeliest. `tokens` is how many counted.

    Raises:
        ValueError: a teacher with another tokenizer.
    """
    if teacher is not None and teacher.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise ValueError("teacher and model have different tokenizers; compare them by texts, each with its own")
    models = [model.model] if teacher is None else [model.model, teacher.model]
    heads = [output_head(m) for m in models]
    collate = CompletionCollator(dataset.tokenizer)
    sums: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        for each in models:
            stack.enter_context(evaluation_mode(each))
        for start in range(0, len(dataset), batch_size):
            items = [dataset.sequence(row) for row in range(start, min(start + batch_size, len(dataset)))]
            batch = {k: v.to(model.model.device) for k, v in collate(items).items() if isinstance(v, Tensor)}
            labels = batch.pop("labels")
            tokens = completion_labels(labels)
            hidden = [completion_hidden_states(last_hidden_states(m, **batch), labels) for m in models]
            for i in range(0, len(tokens), _CHUNK):
                rows = slice(i, i + _CHUNK)
                logits = [logits_of(head, h[rows]) for head, h in zip(heads, hidden, strict=True)]
                values = _measures(logits[0], logits[1] if teacher else None, tokens[rows])
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + float(value.double().sum())
    n = sums.pop("tokens")
    means = {name: total / n for name, total in sums.items()}
    return {k: math.exp(v) if k.endswith("perplexity") else v for k, v in means.items()} | {"tokens": n}


def _measures(logits: Tensor, teacher_logits: Tensor | None, tokens: Tensor) -> dict[str, Tensor]:
    """A value for each token; of a perplexity its logarithm."""

    def surprise(logits: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits.float(), tokens, reduction="none")

    values = {"perplexity": surprise(logits), "tokens": torch.ones_like(tokens)}
    if teacher_logits is not None:
        values["teacher_perplexity"] = surprise(teacher_logits)
        for name in ("forward_kl", "reverse_kl"):
            values[name] = soft_target_divergence(logits, teacher_logits, divergence=name)
        values["agreement"] = logits.argmax(dim=1) == teacher_logits.argmax(dim=1)
    return values
