"""New students: a transformer from scratch, and a narrower or shallower version of the teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from distill_helpers.data.text_inputs import TextInput, check_inputs, text_parts
from distill_helpers.models.architectures import (
    embedding_weight,
    feed_forward_size_of,
    keep_layers,
    set_feed_forward_size,
    transformer_layers,
)
from distill_helpers.models.layer_settings import keep_layers_in_config
from distill_helpers.models.pooled_encoders import pooled_encoder
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.saved_structure import check_has_no_adapter, check_saved_structure, forget_source
from distill_helpers.models.sentence_encoders import SentenceEncoder
from distill_helpers.models.text_models import Classifier, Model, label_options
from distill_helpers.models.word_pieces import check_words
from distill_helpers.students.vocabulary import project_embeddings, trim_vocabulary

__all__ = ["create_student", "create_transformer", "cut_layers", "narrow_student"]

# Widths that some configurations keep beside `hidden_size`, and that are equal to it where they are not chosen.
_WIDTHS = ("embedding_size", "pooler_hidden_size")


def create_transformer(
    label_names: Sequence[str],
    vocab_size: int,
    *,
    hidden_size: int = 128,
    n_layers: int = 2,
    n_heads: int = 2,
    max_length: int = 64,
    dropout: float = 0.1,
    seed: int = 0,
    task: str = "single_label",
    pad_token_id: int | None = 0,
) -> BertForSequenceClassification | BertForTokenClassification:
    """A BERT classifier with random weights, small enough for a CPU.

    Args:
        label_names: the classes, labels or scores, in the order of the logits.
        vocab_size: the number of rows of the embedding, usually `len(tokenizer)` of a trimmed tokenizer.
        hidden_size: the width. The feed-forward layers are four times as wide.
        n_layers, n_heads: the number of layers, and of attention heads in each layer.
        max_length: the number of positions, in word pieces.
        dropout: the dropout of hidden states and attention.
        seed: of the weights.
        task: what the model predicts, "single_label", "multi_label" or "regression" of texts, of which its
            configuration says so, or "token_classification", of which its class does.
        pad_token_id: the token that the tokenizer pads with. Its row of the embedding is never trained. None if there
            is no such token.

    Raises:
        ValueError: a width that the heads do not divide, a size below 1, names that the task cannot have, or another
            task.

    Example:
        >>> model = dh.create_transformer(("mac", "windows"), vocab_size=1000, hidden_size=64, n_layers=1)
        >>> f"{model.num_parameters():,}"
        '122,626'
    """
    sizes = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "max_length": max_length,
    }
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if hidden_size % n_heads:
        raise ValueError(f"hidden_size {hidden_size} is not a multiple of n_heads {n_heads}; change one of them")
    if task not in list(PredictionTask):
        raise ValueError(f"task must be one of {[str(known) for known in PredictionTask]}, got {task!r}")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=max_length,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=pad_token_id,
        **label_options(label_names, task),
    )
    for_tokens = task == PredictionTask.TOKEN_CLASSIFICATION
    return (BertForTokenClassification if for_tokens else BertForSequenceClassification)(config).eval()


def create_student(
    teacher: Classifier,
    texts: Sequence[TextInput] | Sequence[Sequence[str]],
    *,
    vocab_size: int = 5000,
    hidden_size: int = 128,
    n_layers: int = 2,
    n_heads: int = 2,
    max_length: int = 64,
    dropout: float = 0.1,
    teacher_embeddings: bool = True,
    seed: int = 0,
) -> Classifier:
    """A small transformer with the teacher's classes, a vocabulary trimmed to `texts` and the teacher's embeddings.

    The student of a `SentenceEncoder` is a `SentenceEncoder` of width `hidden_size`, with the teacher's pooling. For a
    student that is narrower than its teacher, `fit_pca` and `project` make the targets.

    Args:
        teacher: gives the task with its classes, labels or scores, the tokenizer and the embeddings.
        texts: training texts or pairs of texts, labelled or not, to which the vocabulary is trimmed; for a teacher that
            classifies tokens, the words of each text.
        vocab_size: the number of entries to keep at most.
        teacher_embeddings: start from the teacher's embeddings (`project_embeddings`) instead of random ones.
        hidden_size, n_layers, n_heads, max_length, dropout, seed: see `create_transformer`.

    Raises:
        TypeError, ValueError: see `trim_vocabulary`, `create_transformer` and `project_embeddings`.
        ValueError: texts that the teacher's task does not have, with the row.

    Example:
        >>> teacher = dh.load_course_model("help-desk-student", device="cpu")
        >>> dh.create_student(teacher, ["my mac shows a grey screen", "no sound"], vocab_size=200, hidden_size=64)
        TextClassifier(BertForSequenceClassification, 5 classes, 118,277 parameters, cpu)
    """
    _refuse_images(teacher)
    task = prediction_task(teacher.model)
    tokenizer, kept_ids = trim_vocabulary(teacher.tokenizer, _whole_texts(task, texts), vocab_size)
    tokenizer.model_max_length = max_length
    model: Any = create_transformer(
        teacher.label_names,
        len(tokenizer),
        hidden_size=hidden_size,
        n_layers=n_layers,
        n_heads=n_heads,
        max_length=max_length,
        dropout=dropout,
        seed=seed,
        task=task,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.config.problem_type = teacher.model.config.problem_type  # the same task, said in the same way
    if teacher_embeddings:
        project_embeddings(model, teacher.model, kept_ids)
    if isinstance(teacher, SentenceEncoder):
        model = pooled_encoder(model.base_model, teacher.pooling, teacher.normalize)
    return teacher._replace(model=model, tokenizer=tokenizer)


def _whole_texts(task: PredictionTask, inputs: Any) -> list[str]:
    """The inputs of a task, checked, as texts without words apart and without pairs."""
    if task == PredictionTask.TOKEN_CLASSIFICATION:
        check_words(inputs)
        return [" ".join(words) for words in inputs]
    check_inputs(inputs)
    return text_parts(inputs)


def narrow_student(
    teacher: Classifier,
    *,
    hidden_size: int,
    n_layers: int | None = None,
    n_heads: int | None = None,
    seed: int = 0,
) -> Classifier:
    """The teacher's architecture, narrower and shallower, with the teacher's tokenizer.

    Both models see the same tokens. The student is to the teacher what TinyBERT is to BERT (arXiv 1909.10351). Its
    layers are random, to be taught by the teacher's hidden states. Its word embeddings start as the teacher's, on their
    principal components (`project_embeddings`).

    Args:
        teacher: an encoder of the BERT family or a decoder of the Llama family. The teacher is not changed.
        hidden_size: the width. The feed-forward layers get narrower in proportion.
        n_layers: the number of layers; default as many as the teacher.
        n_heads: attention heads in each layer; default as many as the teacher. Where heads share keys and values
            (Llama's `num_key_value_heads`), as many heads share them as in the teacher, or the next larger number that
            divides `n_heads`.
        seed: of the weights.

    Returns:
        A model on the teacher's device and in its precision, and the teacher's own tokenizer.

    Raises:
        TypeError: an encoder–decoder, or feed-forward layers that are not known.
        ValueError: a width or a number of layers below 1 or above the teacher's; a width that the heads do not divide
            or, with rotary positions, divide into heads of an odd width.

    Example:
        >>> teacher = dh.load_course_model("help-desk-student", device="cpu")
        >>> dh.ModelShape.of(dh.narrow_student(teacher, hidden_size=64, n_layers=1).model)
        ModelShape(n_layers=1, width=64, n_heads=2)
    """
    _refuse_images(teacher)
    transformer_layers(teacher.model)  # checks the architecture
    check_has_no_adapter(teacher.model)
    config: Any = copy.deepcopy(teacher.model.config)
    text = config.get_text_config()
    n_layers = text.num_hidden_layers if n_layers is None else n_layers
    n_heads = text.num_attention_heads if n_heads is None else n_heads
    check_narrow(text, hidden_size, n_layers, n_heads)
    set_feed_forward_size(config, max(1, round(feed_forward_size_of(config) * hidden_size / text.hidden_size)))
    if getattr(text, "num_key_value_heads", None) is not None:
        in_proportion = max(1, n_heads * text.num_key_value_heads // text.num_attention_heads)
        text.num_key_value_heads = max(n for n in range(1, in_proportion + 1) if n_heads % n == 0)
    # In DeepSeek's attention, `head_dim` is the rotated part of a head, which has a size of its own.
    if getattr(text, "head_dim", None) is not None and not hasattr(text, "qk_rope_head_dim"):
        text.head_dim = hidden_size // n_heads
    for name in _WIDTHS:
        if getattr(text, name, None) == text.hidden_size:
            setattr(text, name, hidden_size)
    text.hidden_size, text.num_attention_heads = hidden_size, n_heads
    keep_layers_in_config(config, range(n_layers))
    torch.manual_seed(seed)
    model: Any = type(teacher.model)(config)  # of the teacher's class, which may classify tokens
    model.to(teacher.model.dtype)
    project_embeddings(model, teacher.model, range(len(embedding_weight(teacher.model))))
    check_saved_structure(model)
    forget_source(model)
    return teacher._replace(model=model.to(teacher.model.device).eval())


def _refuse_images(teacher: Any) -> None:
    if getattr(teacher.model, "main_input_name", None) == "pixel_values":
        raise TypeError("the teacher reads images and has no vocabulary; use `create_image_student`, or `cut_layers`")


def check_narrow(teacher: Any, hidden_size: int, n_layers: int, n_heads: int) -> None:
    """Raise ValueError for sizes that no narrow student of a teacher with this configuration can have."""
    sizes = {"hidden_size": (hidden_size, teacher.hidden_size), "n_layers": (n_layers, teacher.num_hidden_layers)}
    for name, (value, limit) in sizes.items():
        if not 1 <= value <= limit:
            raise ValueError(f"{name} must lie between 1 and the teacher's {limit}, got {value}")
    if n_heads < 1 or hidden_size % n_heads:
        raise ValueError(f"hidden_size {hidden_size} is not a multiple of n_heads {n_heads}; change one of them")
    if getattr(teacher, "rope_parameters", None) and hidden_size // n_heads % 2:
        raise ValueError(
            f"heads of width {hidden_size // n_heads} (hidden_size {hidden_size} / n_heads {n_heads}): rotary positions"
            f" turn pairs, so the width must be even; make hidden_size a multiple of {2 * n_heads}"
        )


def cut_layers(teacher: Model, layers: Sequence[int]) -> Model:
    """A student that keeps some of the teacher's layers, with the teacher's embeddings, head and tokenizer.

    Args:
        teacher: a classifier or a language model, encoder or decoder. The teacher is not changed.
        layers: the indices of the layers to keep, 0-based and ascending. DistilBERT keeps 0, 2, 4, 7, 9, 11 of 12
            (transformers research projects, `distillation/scripts/extract_distilbert.py`).

    Raises:
        TypeError: an encoder–decoder, or a model whose layers are not found (`architectures.transformer_layers`).
        ValueError: no layer, a layer that does not exist, an order that is not ascending, or layers that the saved
            configuration could not describe, so that the student would be another model once it is loaded
            (`saved_structure.check_saved_structure`).

    Example:
        >>> teacher = dh.load_course_model("help-desk-student", device="cpu")
        >>> dh.cut_layers(teacher, [1])
        TextClassifier(BertForSequenceClassification, 5 classes, 862,085 parameters, cpu)
    """
    n_layers = len(transformer_layers(teacher.model))
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < n_layers:
        raise ValueError(f"layers must be ascending indices from 0 to {n_layers - 1}, got {list(layers)}")
    model = copy.deepcopy(teacher.model)
    keep_layers(model, layers)
    check_saved_structure(model)
    forget_source(model)
    return cast(Model, teacher._replace(model=model.eval()))
