"""A model together with the tokenizer that its vocabulary needs: `TextClassifier` and `LanguageModel`.

Every function of the package that reads texts takes one of these pairs, so that a model cannot meet the tokenizer of
another. Both are named tuples: `model, tokenizer = classifier` takes one apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from distill_helpers.models.batching import (
    check_batch_size,
    check_positions,
    encode_texts,
    evaluation_mode,
    model_batch,
)

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LanguageModel", "TextClassifier", "label_names_of", "label_options", "predict_logits"]


class TextClassifier(NamedTuple):
    """A sequence classifier and the tokenizer that its vocabulary needs.

    Args:
        model: a sequence classifier of transformers. Its configuration names the classes.
        tokenizer: the model's own.

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> student
        TextClassifier(BertForSequenceClassification, 5 classes, 1,060,357 parameters, cpu)
        >>> student.predict(["my mac shows a grey screen", "windows will not start"])["label"].tolist()
        ['comp.sys.mac.hardware', 'comp.os.ms-windows.misc']
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return label_names_of(self.model)

    def predict(self, texts: Sequence[str], *, batch_size: int = 64, max_length: int | None = None) -> pd.DataFrame:
        """The most probable class of each text, by its name, and the probabilities of all classes.

        Args:
            texts: none of them empty.
            batch_size: the number of texts at a time.
            max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.

        Returns:
            One row for each text, in the order of the texts. The column `label` holds the name of the most probable
            class. One further column for each class, called by the class's name, holds its probability; the
            probabilities of a row sum to 1.

        Raises:
            ValueError: no text, an empty text (with its row), a batch size below 1, or a class that is itself called
                `label`.
        """
        import pandas as pd

        names = self.label_names
        if "label" in names:
            raise ValueError("one of the classes is called `label`, as is the first column; use `predict_logits`")
        logits = predict_logits(self, texts, batch_size=batch_size, max_length=max_length)
        labels = [names[index] for index in logits.argmax(dim=-1).tolist()]
        probabilities = pd.DataFrame(logits.double().softmax(dim=-1).numpy(), columns=list(names))
        return pd.concat([pd.Series(labels, name="label"), probabilities], axis="columns")

    def __repr__(self) -> str:
        return f"TextClassifier({_summary(self.model, f'{len(self.label_names)} classes')})"


class LanguageModel(NamedTuple):
    """A causal language model and its own tokenizer.

    Args:
        model: a causal language model of transformers.
        tokenizer: the model's own. The functions of `distill_helpers.llm` pad as a causal model needs it, whichever
            side the tokenizer pads and whether or not it has a padding token.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=2000, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
        >>> tokenizer = dh.load_course_model("help-desk-student").tokenizer
        >>> dh.LanguageModel(LlamaForCausalLM(config), tokenizer)
        LanguageModel(LlamaForCausalLM, 2,000 tokens, 296,472 parameters, cpu)
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def __repr__(self) -> str:
        vocab_size = self.model.config.get_text_config().vocab_size
        return f"LanguageModel({_summary(self.model, f'{vocab_size:,} tokens')})"


#: Either of the two, for functions that return the kind of model that they were given.
Model = TypeVar("Model", TextClassifier, LanguageModel)


@torch.inference_mode()
def predict_logits(
    classifier: TextClassifier,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: bool = False,
) -> Tensor:
    """A classifier's logits for each text, in the order of the texts. The model is used where it is.

    Args:
        classifier: model and tokenizer. The model keeps the mode (training or evaluation) in which it came.
        texts: none of them empty.
        batch_size: the number of texts at a time. Texts of similar length share a batch.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.
        progress: show a progress bar.

    Returns:
        fp32, (texts, classes), on the CPU.

    Raises:
        ValueError: no text, an empty text or one of more tokens than the model has positions (with its row), a
            `max_length` without room for a token, or a batch size below 1.

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> dh.predict_logits(student, ["my mac shows a grey screen", "windows will not start"]).shape
        torch.Size([2, 5])
    """
    check_batch_size(batch_size)
    model, tokenizer = classifier
    encoded = encode_texts(tokenizer, texts, max_length)
    check_positions(model, encoded)
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    rows: list[Tensor] = []
    with evaluation_mode(model):
        starts = range(0, len(by_length), batch_size)
        for start in tqdm(starts, desc="Predicting", unit="batch", disable=not progress):
            batch = model_batch(model, [encoded[i] for i in by_length[start : start + batch_size]], tokenizer)
            rows.append(model(**batch).logits.float().cpu())
    logits = torch.empty(len(encoded), rows[0].shape[1])
    logits[torch.tensor(by_length)] = torch.cat(rows)
    return logits


def label_options(names: Sequence[str]) -> dict[str, Any]:
    """The configuration entries that give a transformers model these classes.

    Raises:
        ValueError: fewer than two names, or a name that comes twice.
    """
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"a classifier needs two or more distinct label names, got {list(names)}")
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }


def label_names_of(model: PreTrainedModel) -> tuple[str, ...]:
    """The names of a classifier's classes, in the order of its logits."""
    names: Any = model.config.id2label  # a saved configuration has strings as keys, a loaded one integers
    return tuple(names[i] for i in range(len(names)))


def _summary(model: PreTrainedModel, size: str) -> str:
    return f"{type(model).__name__}, {size}, {model.num_parameters():,} parameters, {model.device}"
