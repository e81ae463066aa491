"""A model together with the tokenizer that its vocabulary needs: `TextClassifier` and `LanguageModel`.

Every function of the package that reads texts takes one of these pairs, so that a model cannot meet the tokenizer of
another. Both are named tuples: `model, tokenizer = classifier` takes one apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from distill_helpers.data.text_inputs import TextInput
from distill_helpers.models.batching import (
    check_batch_size,
    check_positions,
    encode_texts,
    evaluation_mode,
    model_batch,
    rows_by_length,
)
from distill_helpers.models.parameter_counts import count_parameters
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.word_predictions import predict_words

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "LanguageModel",
    "TextClassifier",
    "check_label_names",
    "label_names_of",
    "label_options",
    "predict_logits",
]


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
        """The names of the classes, labels or scores, in the order of the logits."""
        return label_names_of(self.model)

    def predict(
        self, texts: Sequence[TextInput], *, batch_size: int = 64, max_length: int | None = None
    ) -> pd.DataFrame:
        """What the model says of each text, by its task (`prediction_task`): classes, labels or scores by name.

        Args:
            texts: texts, or pairs of texts (tuples of two), none of them empty; the words of each text, if the model
                classifies tokens.
            batch_size: the number of texts at a time.
            max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.

        Returns:
            One row for each text, in the order of the texts, and one column for each output, called by its name.

            * One class of several: the columns hold the probabilities, which sum to 1 in a row. A first column `label`
              holds the name of the most probable class.
            * Several labels: the columns hold the probability of each label by itself, the sigmoid of its logit. A
              first column `labels` holds the tuple of the names whose probability is at least 0.5, perhaps none.
            * Scores: the columns hold the scores as they are. A single one is called `score`.
            * A class for each word: one row for each word, see `word_predictions.predict_words`.

        Raises:
            ValueError: no text, an empty text (with its row), a batch size below 1, a class that is itself called
                `label` (a label, `labels`), a model whose task is not known, or words that would be cut off.
        """
        if prediction_task(self.model) == PredictionTask.TOKEN_CLASSIFICATION:
            return predict_words(self, texts, batch_size=batch_size, max_length=max_length)
        return prediction_frame(
            self.model, lambda: predict_logits(self, texts, batch_size=batch_size, max_length=max_length)
        )

    def __repr__(self) -> str:
        return f"TextClassifier({model_summary(self.model, outputs_of(self.model))})"


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
        return f"LanguageModel({model_summary(self.model, f'{vocab_size:,} tokens')})"


#: Either of the two, for functions that return the kind of model that they were given.
Model = TypeVar("Model", bound=TextClassifier | LanguageModel)
Classifier = TypeVar("Classifier", bound=TextClassifier)


@torch.inference_mode()
def predict_logits(
    classifier: TextClassifier,
    texts: Sequence[TextInput],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: bool = False,
) -> Tensor:
    """A classifier's logits for each text, in the order of the texts. The model is used where it is.

    Args:
        classifier: model and tokenizer. The model keeps the mode (training or evaluation) in which it came.
        texts: texts, or pairs of texts (tuples of two), none of them empty.
        batch_size: the number of texts at a time. Texts of similar length share a batch.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.
        progress: show a progress bar.

    Returns:
        fp32, (texts, classes), on the CPU.

    Raises:
        ValueError: no text, an empty text or one of more tokens than the model has positions (with its row), a
            `max_length` without room for a token, a batch size below 1, or a model that has not one row of logits for
            each text, as one that classifies tokens.

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> dh.predict_logits(student, ["my mac shows a grey screen", "windows will not start"]).shape
        torch.Size([2, 5])
    """
    check_batch_size(batch_size)
    model, tokenizer = classifier
    encoded = encode_texts(tokenizer, texts, max_length)
    check_positions(model, encoded)
    batches = rows_by_length(encoded, batch_size)
    rows: list[Tensor] = []
    with evaluation_mode(model):
        for numbers in tqdm(batches, desc="Predicting", unit="batch", disable=not progress):
            batch = model_batch(model, [encoded[i] for i in numbers], tokenizer)
            rows.append(model(**batch).logits.float().cpu())
            if rows[-1].dim() != 2:
                raise ValueError(
                    f"{type(model).__name__} gives logits of shape {tuple(rows[-1].shape)} for {len(rows[-1])} texts,"
                    " not one row for each; use a classifier of whole texts, or `predict_word_logits` with words"
                )
    logits = torch.empty(len(encoded), rows[0].shape[1])
    logits[torch.tensor(list(chain(*batches)))] = torch.cat(rows)
    return logits


def prediction_frame(model: PreTrainedModel, predict: Callable[[], Tensor]) -> pd.DataFrame:
    """The answers of a classifier by name, as `TextClassifier.predict` describes them.

    Args:
        model: says the task and the names.
        predict: computes the logits, (inputs, outputs), on the CPU. It is called if the task and the names allow it.
    """
    import pandas as pd

    task, names = prediction_task(model), label_names_of(model)
    if task == PredictionTask.TOKEN_CLASSIFICATION:
        raise ValueError("the model classifies tokens, so a text has no single answer; predict words instead")
    first = {PredictionTask.SINGLE_LABEL: "label", PredictionTask.MULTI_LABEL: "labels"}.get(task)
    if first in names:
        raise ValueError(f"one of the classes is called `{first}`, as is the first column; use `predict_logits`")
    logits = predict().double()
    if task == PredictionTask.REGRESSION:
        return pd.DataFrame(logits.numpy(), columns=["score"] if len(names) == 1 else list(names))
    if task == PredictionTask.MULTI_LABEL:
        probabilities = logits.sigmoid()
        chosen: list[Any] = [
            tuple(name for name, is_on in zip(names, row, strict=True) if is_on)
            for row in (probabilities >= 0.5).tolist()
        ]
    else:
        probabilities = logits.softmax(dim=-1)
        chosen = [names[index] for index in logits.argmax(dim=-1).tolist()]
    columns = pd.DataFrame(probabilities.numpy(), columns=list(names))
    return pd.concat([pd.Series(chosen, name=first, dtype=object), columns], axis="columns")


def label_options(names: Sequence[str], task: str = "single_label") -> dict[str, Any]:
    """The configuration entries that give a transformers model these classes, labels or scores.

    Raises:
        ValueError: fewer than two names of classes, no name for another task, or a name that comes twice.
    """
    of_classes = task in (PredictionTask.SINGLE_LABEL, PredictionTask.TOKEN_CLASSIFICATION)
    if isinstance(names, str) or len(names) < (2 if of_classes else 1) or len(set(names)) != len(names):
        least = "two or more distinct label names" if of_classes else "one or more distinct names"
        raise ValueError(f"a {task} model needs {least}, got {names if isinstance(names, str) else list(names)!r}")
    problems = {"multi_label": "multi_label_classification", "regression": "regression"}
    return {
        **({"problem_type": problems[task]} if task in problems else {}),
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }


def check_label_names(of_teacher: tuple[str, ...], yours: Sequence[str] | None) -> None:
    """Raise ValueError if the names of your labels are not the teacher's, in the teacher's order. None passes."""
    if yours is not None and tuple(yours) != of_teacher:
        raise ValueError(f"the teacher's classes are {of_teacher}, yours {tuple(yours)}; reorder your labels")


def label_names_of(model: PreTrainedModel) -> tuple[str, ...]:
    """The names of a classifier's classes, in the order of its logits."""
    names: Any = model.config.id2label  # a saved configuration has strings as keys, a loaded one integers
    return tuple(names[i] for i in range(len(names)))


def outputs_of(model: PreTrainedModel) -> str:
    n, problem = len(label_names_of(model)), model.config.problem_type
    if problem == "regression" or (problem is None and n == 1):
        return f"{n} score{'s' * (n != 1)}"
    if problem == "multi_label_classification":
        return f"{n} label{'s' * (n != 1)}"
    return f"{n} classes"


def model_summary(model: PreTrainedModel, size: str) -> str:
    return f"{type(model).__name__}, {size}, {count_parameters(model):,} parameters, {model.device}"
