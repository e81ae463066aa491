"""How good a language model is, and how close to its teacher: perplexity, divergence and agreement."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.llm.completion_batches import CompletionCollator
from distill_helpers.llm.completion_dataset import CompletionDataset, check_map_style
from distill_helpers.llm.given_models import check_own_tokenizer, language_models
from distill_helpers.llm.output_heads import last_hidden_states, logits_of, output_head
from distill_helpers.llm.token_level import completion_hidden_states, completion_labels
from distill_helpers.losses.soft_targets import soft_target_divergence
from distill_helpers.models.batching import check_batch_size, evaluation_mode, to_device
from distill_helpers.models.text_models import LanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["evaluate_language_model"]

#: The number of tokens whose logits are computed at a time.
_CHUNK = 128


@torch.inference_mode()
def evaluate_language_model(
    model: LanguageModel | PreTrainedModel,
    dataset: CompletionDataset,
    teacher: LanguageModel | PreTrainedModel | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = 8,
) -> dict[str, float]:
    """How well a language model predicts the tokens of a data set that count.

    Args:
        model: a `LanguageModel`, or a bare model with its `tokenizer`. It stays on its device.
        dataset: tokenised with the model's tokenizer. It may hold what another model has written: the perplexity then
            says how likely this model finds that text.
        teacher: to compare the model with; it has the same tokenizer.
        tokenizer: of model and teacher. Needed if one of them is a bare model, refused otherwise.
        batch_size: the number of sequences at a time. It changes the figures by no more than rounding.

    Returns:
        `perplexity`, which is e to the mean −log q(token), and `tokens`, the number of tokens that counted. With a
        teacher also `teacher_perplexity`; `forward_kl` and `reverse_kl`, in nats for each token at T = 1;
        `total_variation`, half the sum of |p − q|; and `agreement`, the share of positions at which both models find
        the same token likeliest. 1 − `total_variation` is the probability that speculative sampling accepts a token
        which the model has drafted for the teacher (Leviathan et al., arXiv 2211.17192, theorem 3.5).

    Raises:
        ValueError: the teacher or the data set has another tokenizer, a bare model comes without one, or the batch size
            is below 1.
        TypeError: the model is not a causal language model, or the data set is not a `CompletionDataset`.

    Example:
        >>> from transformers import AutoModelForCausalLM, GPT2Config
        >>> from distill_helpers.llm import CompletionDataset, evaluate_language_model
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=2)
        >>> untrained = AutoModelForCausalLM.from_config(config)
        >>> data = CompletionDataset.from_texts(["no sound on my mac"], tokenizer)
        >>> figures = evaluate_language_model(untrained, data, tokenizer=tokenizer)
        >>> figures["tokens"], figures["perplexity"] > 1000
        (6.0, True)
    """
    check_batch_size(batch_size)
    check_map_style(dataset)
    model, *teachers = language_models(model, *([] if teacher is None else [teacher]), tokenizer=tokenizer)
    teacher = teachers[0] if teachers else None
    check_own_tokenizer(model, dataset.tokenizer)
    if teacher is not None and teacher.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise ValueError(
            "teacher and model have different tokenizers; evaluate each on the texts with its own tokenizer"
        )
    models = [model.model] if teacher is None else [model.model, teacher.model]
    heads = [output_head(m) for m in models]
    collate = CompletionCollator(dataset.tokenizer)
    sums: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        for each in models:
            stack.enter_context(evaluation_mode(each))
        for start in range(0, len(dataset), batch_size):
            items = [dataset.sequence(row) for row in range(start, min(start + batch_size, len(dataset)))]
            batch = to_device(collate(items), model.model.device)
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
    """A value for each token. A perplexity comes as its logarithm, so that a mean can be taken."""

    def surprise(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), tokens, reduction="none")

    values = {"perplexity": surprise(logits), "tokens": torch.ones_like(tokens)}
    if teacher_logits is not None:
        values["teacher_perplexity"] = surprise(teacher_logits)
        for name in ("forward_kl", "reverse_kl"):
            values[name] = soft_target_divergence(logits, teacher_logits, divergence=name)
        values["total_variation"] = (logits.float().softmax(-1) - teacher_logits.float().softmax(-1)).abs().sum(-1) / 2
        values["agreement"] = logits.argmax(dim=1) == teacher_logits.argmax(dim=1)
    return values
