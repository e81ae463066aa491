"""Loading token classifiers. `loading` says what holds for models of every kind: nothing is downloaded unasked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForTokenClassification

from distill_helpers.models.adapters import is_adapter
from distill_helpers.models.loading import classifies_tokens, load_classifier, located
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.models.word_pieces import mark_words_by_a_space

__all__ = ["load_token_classifier"]


def load_token_classifier(
    source: str | Path,
    *,
    label_names: Sequence[str] | None = None,
    allow_download: bool = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    add_prefix_space: bool | None = None,
) -> TextClassifier:
    """A classifier of tokens from a folder, a LoRA adapter with its base, or the Hub.

    Args:
        source, allow_download, device, seed: as in `load_text_classifier`.
        label_names: give the model a new, untrained head with these classes, whatever the source is: an encoder, or a
            classifier of texts or of tokens. None keeps the head of a token classifier. For an adapter without a
            manifest: the names of the classes that its head has.
        add_prefix_space: True for tokenizers that mark a word by the space before it (RoBERTa, GPT-2), which need it
            for words that are given one by one. None leaves the tokenizer as it was saved.

    Returns:
        The model (fp32, evaluation mode) and its own tokenizer.

    Raises:
        FileNotFoundError, ImportError, OSError, ValueError: as `load_text_classifier`.
        ValueError: a source that does not classify tokens, without `label_names`.

    Example:
        >>> teacher = dh.load_token_classifier(dh.base_encoder_path(), label_names=("lower", "Upper"), device="cpu")
        >>> teacher.model.save_pretrained("tagger")
        >>> _ = teacher.tokenizer.save_pretrained("tagger")
        >>> dh.load_token_classifier("tagger", device="cpu").predict([["Once", "upon", "a", "time"]]).shape
        (4, 5)
    """
    source = located(source, allow_download)
    if (label_names is None or is_adapter(source)) and not classifies_tokens(source, allow_download):
        raise ValueError(
            f"{source} does not say that it classifies tokens, so that its head, if it has one, means something else;"
            " pass label_names to give the encoder a new head, or load it with `load_text_classifier`"
        )
    options = {} if add_prefix_space is None else {"add_prefix_space": add_prefix_space}
    kind, task = AutoModelForTokenClassification, "token_classification"
    classifier = load_classifier(kind, source, label_names, allow_download, device, seed, task, **options)
    if add_prefix_space:
        mark_words_by_a_space(classifier.tokenizer)  # not every class of tokenizer heeds the option
    return classifier
