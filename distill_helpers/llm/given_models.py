"""The language model that a caller passes: a `LanguageModel`, or a model of transformers with its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from distill_helpers.models.text_models import LanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["bare_model", "check_own_tokenizer", "language_models"]


def language_models(
    *sources: LanguageModel | PreTrainedModel | nn.Module, tokenizer: PreTrainedTokenizerBase | None
) -> list[LanguageModel]:
    """Each model with its tokenizer.

    Args:
        *sources: a `LanguageModel` each, or a causal language model of transformers, which PEFT may wrap.
        tokenizer: of the bare models among them. Needed if there is one, refused if there is none.

    Raises:
        TypeError: something that is no model, such as a name, or a model that is not a causal language model.
        ValueError: a bare model without a tokenizer, or a tokenizer and no bare model.
    """
    bare = [source for source in sources if not isinstance(source, LanguageModel)]
    for source in bare:
        if not isinstance(source, nn.Module):
            raise TypeError(
                "pass a LanguageModel, or a causal language model of transformers and its tokenizer=, not"
                f" {f'the name {source!r}' if isinstance(source, str) else f'a {type(source).__name__}'};"
                " load_language_model loads one"
            )
        if getattr(source, "get_output_embeddings", lambda: None)() is None:
            raise TypeError(f"a {type(source).__name__} writes no tokens; pass a causal language model")
        if tokenizer is None:
            raise ValueError(
                f"a bare {type(source).__name__} has no tokenizer; pass LanguageModel(model, tokenizer), or the model's"
                " own tokenizer as tokenizer="
            )
    if tokenizer is not None and not bare:
        raise ValueError("a LanguageModel has its own tokenizer already; leave out tokenizer=")
    return [source if isinstance(source, LanguageModel) else LanguageModel(source, tokenizer) for source in sources]  # type: ignore[arg-type]


def check_own_tokenizer(model: LanguageModel, dataset_tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError if a data set was tokenised with another tokenizer than the model's."""
    if dataset_tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise ValueError(
            "the data set was tokenised with another tokenizer than the model's; make it with the model's own"
        )


def bare_model(source: Any) -> Any:
    """The model of a `LanguageModel`; any other model is returned as it is. For functions that need no tokenizer."""
    return source.model if isinstance(source, LanguageModel) else source
