"""The padding token that a model looks for, and the one that its tokenizer pads with: they must be the same."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from distill_helpers.models.prediction_tasks import without_wrappers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["check_pad_token", "pad_token_fault"]


def check_pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError if a model looks for another padding token than the tokenizer pads with.

    Decoders find the last token of a text by `config.pad_token_id`, and RoBERTa's relatives count their positions by
    the padding token that they were built with. Models that read the attention mask alone pass.
    """
    if (fault := pad_token_fault(model, tokenizer)) is not None:
        raise ValueError("; ".join(fault))


def pad_token_fault(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str] | None:
    """Reason and remedy, where a model looks for another padding token than the tokenizer pads with; otherwise None."""
    looked_for = {"its configuration": _text_config(model).pad_token_id} if _finds_the_end_by_padding(model) else {}
    for name, module in model.named_modules():
        # The padding row of an nn.Embedding does not matter: the attention mask hides it.
        if isinstance(getattr(module, "padding_idx", None), int) and type(module).__name__.endswith("Embeddings"):
            looked_for[f"its module {name!r}"] = module.padding_idx
    for where, pad in looked_for.items():
        if pad != tokenizer.pad_token_id:
            return (
                f"the tokenizer pads with token {tokenizer.pad_token_id}, but by {where} this {type(model).__name__}"
                f" looks for {pad}, so its outputs would depend on the other texts of a batch",
                "set `model.config.pad_token_id = tokenizer.pad_token_id` (for positions: before the model is built),"
                " or give the tokenizer the model's padding token",
            )
    return None


def _finds_the_end_by_padding(model: PreTrainedModel) -> bool:
    """Whether a classifier's forward pass reads `pad_token_id`, as all decoders' do."""
    ancestors = type(without_wrappers(model)).__mro__
    classes = [kind for kind in ancestors if kind.__name__.endswith("ForSequenceClassification")]
    forwards = [inspect.unwrap(vars(kind)["forward"]) for kind in classes if "forward" in vars(kind)]
    return bool(forwards) and "pad_token_id" in forwards[0].__code__.co_names


def _text_config(model: PreTrainedModel) -> Any:
    return model.config.get_text_config()
