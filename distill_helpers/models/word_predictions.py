"""What a token classifier says of each word: logits, and classes with their probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from distill_helpers.models.batching import (
    check_batch_size,
    check_positions,
    evaluation_mode,
    model_batch,
    rows_by_length,
)
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.word_pieces import EncodedWords, encode_words

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["WordLogits", "check_is_token_classifier", "predict_word_logits", "predict_words"]

# The first columns of a table of predictions, before those of the classes.
_COLUMNS = ("text", "word", "label")


class WordLogits(NamedTuple):
    """The logits of the words of many texts, one text after the other.

    Attributes:
        logits: (words of all texts, classes), without the words that were cut off.
        n_read: the number of words of each text that the model read: the first ones.
        n_words: the number of words of each text, those that were cut off included.

    Example:
        >>> rows = [torch.zeros(3, 2), torch.zeros(1, 2)]
        >>> dh.WordLogits.from_texts(rows)
        WordLogits(2 texts, 4 words, 2 classes)
        >>> [len(row) for row in dh.WordLogits.from_texts(rows).by_text()]
        [3, 1]
    """

    logits: Tensor
    n_read: list[int]
    n_words: list[int]

    @classmethod
    def from_texts(cls, logits: Sequence[Tensor]) -> WordLogits:
        """From the logits of each text, (words, classes), of every word.

        Raises:
            ValueError: no text, a text without words, or another shape than (words, classes), with the row.
        """
        if len(logits) == 0:
            raise ValueError("pass the logits of one text or more")
        for row, of_text in enumerate(logits):
            if not isinstance(of_text, Tensor) or of_text.dim() != 2 or of_text.shape[1] != logits[0].shape[-1]:
                shape = tuple(getattr(of_text, "shape", ()))
                raise ValueError(
                    f"row {row}: logits of a text's words are a tensor (words, classes), as many classes as in row 0;"
                    f" got a {type(of_text).__name__} of shape {shape}"
                )
        n_words = [len(of_text) for of_text in logits]
        return cls(torch.cat(list(logits)), n_words, list(n_words))

    def by_text(self) -> list[Tensor]:
        """The logits of each text, (words that were read, classes)."""
        return list(self.logits.split(self.n_read))

    def __repr__(self) -> str:
        n_cut = sum(self.n_words) - sum(self.n_read)
        cut = f", {n_cut:,} cut off" if n_cut else ""
        return (
            f"WordLogits({len(self.n_words):,} texts, {sum(self.n_read):,} words, {self.logits.shape[-1]} classes{cut})"
        )


def predict_word_logits(
    classifier: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    texts: Sequence[Sequence[str]],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: bool = False,
) -> WordLogits:
    """A token classifier's logits for each word: those of the word's first piece. The model is used where it is.

    Args:
        classifier: a `TextClassifier` whose model is a `…ForTokenClassification`. The model keeps the mode (training or
            evaluation) in which it came.
        texts: the words of each text, none of them empty.
        batch_size: the number of texts at a time. Texts of similar length share a batch.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit. The words that are cut
            off have no logits; a warning says how many there are.
        progress: show a progress bar.

    Returns:
        fp32 logits on the CPU, in the order of texts and words.

    Raises:
        TypeError, ValueError: as `encode_words`.
        ValueError: a model that classifies whole texts, a text of more tokens than the model has positions, with its
            row, or a batch size below 1.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> model = dh.create_transformer(("lower", "Upper"), len(tokenizer), task="token_classification")
        >>> tagger = dh.TextClassifier(model, tokenizer)
        >>> dh.predict_word_logits(tagger, [["my", "mac", "shows", "stripes"], ["no", "sound"]])
        WordLogits(2 texts, 6 words, 2 classes)
    """
    check_batch_size(batch_size)
    check_is_token_classifier(classifier[0])
    encoded = encode_words(classifier[1], texts, max_length)
    if (told := encoded.told_cut("model")) is not None:
        warnings.warn(f"{told}; they have no logits: raise max_length, or split the texts", stacklevel=2)
    logits = logits_of_encoded(classifier, encoded, batch_size=batch_size, progress=progress)
    return WordLogits(logits, encoded.n_read, encoded.n_words)


def predict_words(
    classifier: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    texts: Sequence[Sequence[str]],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
) -> pd.DataFrame:
    """The most probable class of each word, by its name, and the probabilities of all classes.

    Args:
        classifier, texts, batch_size: see `predict_word_logits`.
        max_length: the number of tokens that the model reads; default the tokenizer's own limit.

    Returns:
        One row for each word, in the order of texts and words: `text`, the row of the word's text; `word`; `label`, the
        name of the most probable class; and one column for each class, called by its name, with its probability.

    Raises:
        TypeError, ValueError: as `predict_word_logits`.
        ValueError: a text of which words would be cut off, with its row; or a class that is called as one of the first
            columns.
    """
    import pandas as pd

    check_is_token_classifier(classifier[0])
    names: Any = classifier[0].config.id2label
    names = [names[index] for index in range(len(names))]
    if taken := sorted(set(names) & set(_COLUMNS)):
        raise ValueError(f"one of the classes is called {taken[0]!r}, as is a column; use `predict_word_logits`")
    logits = logits_of_all_words(classifier, texts, batch_size=batch_size, max_length=max_length).logits
    frame = pd.DataFrame(
        {
            "text": [row for row, words in enumerate(texts) for _ in words],
            "word": [word for words in texts for word in words],
            "label": [names[index] for index in logits.argmax(dim=-1).tolist()],
        }
    )
    probabilities = pd.DataFrame(logits.double().softmax(dim=-1).numpy(), columns=names)
    return pd.concat([frame, probabilities], axis="columns")


def logits_of_all_words(
    classifier: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    texts: Sequence[Sequence[str]],
    *,
    batch_size: int,
    max_length: int | None = None,
) -> WordLogits:
    """As `predict_word_logits`, for callers who need every word: ValueError if a word would be cut off."""
    check_batch_size(batch_size)
    check_is_token_classifier(classifier[0])
    encoded = encode_words(classifier[1], texts, max_length)
    if (told := encoded.told_cut("model")) is not None:
        raise ValueError(f"{told}; raise max_length, or split the texts")
    logits = logits_of_encoded(classifier, encoded, batch_size=batch_size)
    return WordLogits(logits, encoded.n_read, encoded.n_words)


def check_is_token_classifier(model: PreTrainedModel) -> None:
    """Raise ValueError if a model has no class for each token."""
    task = prediction_task(model)
    if task != PredictionTask.TOKEN_CLASSIFICATION:
        raise ValueError(
            f"{type(model).__name__} is a {task} model, with one answer for a whole text; words need a model whose"
            " class ends with ForTokenClassification (`load_token_classifier`)"
        )


@torch.inference_mode()
def logits_of_encoded(
    classifier: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    encoded: EncodedWords,
    *,
    batch_size: int,
    progress: bool = False,
) -> Tensor:
    """The logits of the words that were read, one text after the other: fp32 (words, classes) on the CPU.

    Raises:
        ValueError: a text of more tokens than the model has positions, with its row.
    """
    model, tokenizer = classifier
    check_positions(model, encoded.token_ids)
    borders = list(accumulate(encoded.n_read, initial=0))
    slices = [slice(*border) for border in pairwise(borders)]
    n_classes: Any = model.config.num_labels
    logits = torch.empty(borders[-1], n_classes)
    with evaluation_mode(model):
        batches = rows_by_length(encoded.token_ids, batch_size)
        for rows in tqdm(batches, desc="Predicting", unit="batch", disable=not progress):
            batch = model_batch(model, [encoded.token_ids[row] for row in rows], tokenizer)
            outputs = model(**batch).logits.float().cpu()
            for row, of_text, real in zip(rows, outputs, batch["attention_mask"].cpu().bool(), strict=True):
                logits[slices[row]] = of_text[real][encoded.first_pieces[row]]
    return logits
