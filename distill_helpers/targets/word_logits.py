"""A token classifier's logits for each word: the teacher reads every text once, and the logits stay on disk.

Logits of words, not of tokens: the student may cut the same words into other pieces.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_helpers.models.batching import check_batch_size, check_positions, resolve_max_length
from distill_helpers.models.text_models import TextClassifier, check_label_names
from distill_helpers.models.word_pieces import EncodedWords, encode_words
from distill_helpers.models.word_predictions import WordLogits, check_is_token_classifier, logits_of_encoded
from distill_helpers.targets.cache import cache_key, compute_in_shards
from distill_helpers.targets.logits import teacher_classifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["precompute_teacher_word_logits"]


def precompute_teacher_word_logits(
    teacher: str | Path | TextClassifier | PreTrainedModel,
    texts: Sequence[Sequence[str]],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    max_length: int | None = None,
    dtype: torch.dtype = torch.float32,
    label_names: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> WordLogits:
    """The teacher's logits for each word, computed once.

    Args:
        teacher: a `TextClassifier` with a token classifier; a folder, or a Hub name in the local cache; or a token
            classifier of transformers together with its `tokenizer`.
        texts: the words of each text, whether or not they have hard labels.
        tokenizer: the *teacher's* own; needed with a bare model only.
        batch_size: the number of texts at a time. It moves a logit in the seventh digit at most, and is no part of the
            cache key.
        device: default the best there is. The teacher is moved there and cast to `dtype`.
        max_length: longer texts are cut to so many of the teacher's tokens; default its tokenizer's own limit. The
            words that are cut off have no logits; a warning says how many there are.
        dtype: the precision in which the teacher computes. fp32 is right on a CPU; bfloat16 is an option on a GPU.
        label_names: the classes in the order of *your* labels, to be checked against the teacher's.
        cache_dir: the folder in which the logits are kept; None keeps nothing.
        progress: show a progress bar.

    Returns:
        fp32 logits on the CPU, in the order of texts and words.

    Raises:
        TypeError, ValueError: as `encode_words`.
        ValueError: a teacher that classifies whole texts, a text of more tokens than the teacher has positions, with
            its row, label names in another order, a tokenizer that is missing or comes twice, or logits that are not
            finite, with row and word.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> model = dh.create_transformer(("lower", "Upper"), len(tokenizer), task="token_classification")
        >>> teacher = dh.TextClassifier(model, tokenizer)
        >>> texts = [["my", "mac", "shows", "stripes"], ["no", "sound"]]
        >>> logits = dh.precompute_teacher_word_logits(teacher, texts, device="cpu", progress=False)
        >>> logits
        WordLogits(2 texts, 6 words, 2 classes)
        >>> dh.TokenClassificationDataset(texts, None, logits, teacher.tokenizer)
        TokenClassificationDataset(2 texts, 6 words, 0 hard labels, teacher logits of 2 classes)
    """
    check_batch_size(batch_size)
    teacher = teacher_classifier(teacher, tokenizer, device)
    check_is_token_classifier(teacher.model)
    check_label_names(teacher.label_names, label_names)
    length = resolve_max_length(teacher.tokenizer, max_length)
    encoded = encode_words(teacher.tokenizer, texts, length)
    check_positions(teacher.model, encoded.token_ids)
    if (told := encoded.told_cut("teacher")) is not None:
        warnings.warn(f"{told}; they have no soft targets: raise max_length, or split the texts", stacklevel=2)
    teacher.model.to(dtype=dtype)  # type: ignore[call-arg]

    def shapes(rows: slice) -> dict[str, tuple[int, ...]]:
        return {"word_logits": (sum(encoded.n_read[rows]), len(teacher.label_names))}

    def compute(rows: slice) -> dict[str, Tensor]:
        part = EncodedWords(encoded.token_ids[rows], encoded.first_pieces[rows], encoded.n_words[rows])
        logits = logits_of_encoded(teacher, part, batch_size=batch_size)
        _check_finite(logits, part.n_read, rows.start)
        return {"word_logits": logits}

    folder = None
    if cache_dir is not None:
        words = [list(words) for words in texts]
        folder = Path(cache_dir) / cache_key(teacher, words, length, dtype, of="words")  # type: ignore[arg-type]
    tensors = compute_in_shards(folder, len(texts), shapes, compute, title="Teacher labels", progress=progress)
    return WordLogits(tensors["word_logits"], encoded.n_read, encoded.n_words)


def _check_finite(logits: Tensor, n_read: Sequence[int], first_row: int) -> None:
    """Raise ValueError, with row and word, for logits that are not finite."""
    for row, of_text in enumerate(logits.split(list(n_read)), start=first_row):
        bad = (~of_text.isfinite()).any(dim=1).nonzero().flatten()
        if len(bad):
            raise ValueError(
                f"row {row}, word {int(bad[0])}: the teacher's logits are not finite; in half precision try"
                " dtype=torch.float32"
            )
