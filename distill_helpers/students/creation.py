"""Students: a transformer from scratch, a trimmed vocabulary, projected embeddings, a narrow or a shallow teacher.

The order in which to try them, by what they gave in this course's measurements: trim the vocabulary (it is most of a
small model's parameters), start the embeddings from the teacher's, and only then think about more layers.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distill_helpers.models.architectures import (
    feed_forward_size,
    keep_layers,
    keep_layers_in_config,
    set_feed_forward_size,
    transformer_layers,
)
from distill_helpers.models.loading import Model, TextClassifier, embedding_weight, label_names_of, label_options

__all__ = [
    "create_student",
    "create_transformer",
    "cut_layers",
    "narrow_student",
    "project_embeddings",
    "trim_vocabulary",
]

_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


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
) -> BertForSequenceClassification:
    """A BERT classifier with random weights, small enough for a CPU.

    Args:
        label_names: classes, in the order of the logits.
        vocab_size: rows of the embedding, usually `len(tokenizer)` of a trimmed tokenizer.
        hidden_size: width; the feed-forward layers are four times as wide.
        n_layers, n_heads: depth, and attention heads per layer.
        max_length: positions, in word pieces.
        dropout: of hidden states and attention.
        seed: of the weights.

    Raises:
        ValueError: a width that the heads do not divide, or a size below 1.
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
        raise ValueError(f"hidden_size {hidden_size} is not a multiple of n_heads {n_heads}")
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
        **label_options(label_names),
    )
    return BertForSequenceClassification(config).eval()


def trim_vocabulary(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], size: int
) -> tuple[BertTokenizer, list[int]]:
    """A WordPiece tokenizer that keeps the `size` entries which `texts` use most.

    Special tokens and single characters (ASCII, and those in `texts`) always stay, so a word that lost its entry is
    spelled out in pieces instead of becoming [UNK].

    Args:
        tokenizer: a WordPiece tokenizer (BERT, MiniLM, DistilBERT, ELECTRA).
        texts: the training texts; never the test set.
        size: entries to keep at most.

    Returns:
        The new tokenizer, and the old index of each of its entries (to pick rows of an embedding).

    Raises:
        TypeError: a tokenizer that is not WordPiece.
        ValueError: a size too small for the entries that always stay.
    """
    if not isinstance(tokenizer, BertTokenizer):
        raise TypeError(f"only WordPiece (BERT) tokenizers can be trimmed here, got {type(tokenizer).__name__}")
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    kept = [token for token in _SPECIAL_TOKENS if token in vocabulary]
    used = {char for text in texts for char in tokenizer.backend_tokenizer.normalizer.normalize_str(text)}
    characters = ((token, token.removeprefix("##")) for token in vocabulary)
    kept += [token for token, char in characters if len(char) == 1 and (char.isascii() or char in used)]
    if size < len(kept):
        raise ValueError(f"size must be at least {len(kept)} (special tokens and characters), got {size}")
    counts = Counter(i for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"] for i in ids)
    by_index = {index: token for token, index in vocabulary.items()}
    always = set(kept)
    frequent = [by_index[i] for i, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    kept += [token for token in frequent if token not in always][: size - len(kept)]
    kept.sort(key=vocabulary.__getitem__)
    # `vocab=`, not `vocab_file=`: the latter silently maps every word to [UNK] in transformers 5.
    trimmed = BertTokenizer(
        vocab={token: i for i, token in enumerate(kept)},
        do_lower_case=tokenizer.do_lower_case,
        strip_accents=tokenizer.strip_accents,
        tokenize_chinese_chars=tokenizer.tokenize_chinese_chars,
        model_max_length=tokenizer.model_max_length,
    )
    return trimmed, [vocabulary[token] for token in kept]


def project_embeddings(student: PreTrainedModel, teacher: PreTrainedModel, kept_ids: Sequence[int]) -> float:
    """Start the student's word embeddings as the teacher's, on their principal components. Changes `student`.

    Args:
        student: gets row i from the teacher's row `kept_ids[i]`.
        teacher: at least as wide as the student.
        kept_ids: the teacher's index of each entry of the student's vocabulary, from `trim_vocabulary`.

    Returns:
        The share of the embeddings' variance that survives the projection.

    Raises:
        ValueError: sizes that do not fit.
    """
    target = embedding_weight(student)
    source = embedding_weight(teacher).detach()
    source = source[torch.as_tensor(list(kept_ids), device=source.device)]
    if len(source) != len(target):
        raise ValueError(f"the student's vocabulary has {len(target)} entries, kept_ids has {len(source)}")
    width = target.shape[1]
    if width > min(source.shape):
        raise ValueError(f"cannot fill a width of {width} from a {source.shape[0]} × {source.shape[1]} embedding")
    centred = (source - source.mean(dim=0)).double().cpu()
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    # The sign of a principal direction is the linear-algebra library's whim; fixed here, so that a seed is a seed.
    largest = directions[torch.arange(len(directions)), directions.abs().argmax(dim=1)]
    directions = directions * largest.sign()[:, None]
    with torch.no_grad():
        target.copy_((centred @ directions[:width].T).to(target))
    variance = singular.square()
    return float(variance[:width].sum() / variance.sum())


def create_student(
    teacher: TextClassifier,
    texts: Sequence[str],
    *,
    vocab_size: int = 5000,
    hidden_size: int = 128,
    n_layers: int = 2,
    n_heads: int = 2,
    max_length: int = 64,
    dropout: float = 0.1,
    teacher_embeddings: bool = True,
    seed: int = 0,
) -> TextClassifier:
    """A small transformer with the teacher's classes, a vocabulary trimmed to `texts` and the teacher's embeddings.

    Args:
        teacher: gives the classes, the tokenizer and the embeddings.
        texts: training texts (labelled or not), to which the vocabulary is trimmed.
        vocab_size: entries at most.
        teacher_embeddings: start from the teacher's embeddings (`project_embeddings`) instead of random ones.
        hidden_size, n_layers, n_heads, max_length, dropout, seed: see `create_transformer`.

    Raises:
        TypeError, ValueError: as the three functions it is made of.
    """
    tokenizer, kept_ids = trim_vocabulary(teacher.tokenizer, texts, vocab_size)
    tokenizer.model_max_length = max_length
    model = create_transformer(
        label_names_of(teacher.model),
        len(tokenizer),
        hidden_size=hidden_size,
        n_layers=n_layers,
        n_heads=n_heads,
        max_length=max_length,
        dropout=dropout,
        seed=seed,
    )
    if teacher_embeddings:
        project_embeddings(model, teacher.model, kept_ids)
    return TextClassifier(model, tokenizer)


def narrow_student(
    teacher: TextClassifier,
    *,
    hidden_size: int,
    n_layers: int | None = None,
    n_heads: int | None = None,
    seed: int = 0,
) -> TextClassifier:
    """The teacher's architecture, narrower and shallower, with its tokenizer: both see the same tokens.

    What TinyBERT is to BERT (arXiv 1909.10351): random layers, to be taught by the teacher's hidden states. Its word
    embeddings start as the teacher's on their principal components (`project_embeddings`).

    Args:
        teacher: an encoder of the BERT family or a decoder of the Llama family; it is not changed.
        hidden_size: width; the feed-forward layers get narrower in proportion.
        n_layers: depth; default the teacher's.
        n_heads: attention heads per layer; default as many as the teacher. Where heads share keys and values (Llama's
            `num_key_value_heads`), as many share them as in the teacher, or the next number above that divides.
        seed: of the weights.

    Returns:
        A model on the teacher's device, in its precision, and the teacher's own tokenizer.

    Raises:
        TypeError: an encoder–decoder, or feed-forward layers that are not known.
        ValueError: a width or a depth below 1 or above the teacher's, a width that the heads do not divide or, with
            rotary positions, divide into heads of an odd width.
    """
    transformer_layers(teacher.model)  # for its check of the architecture
    config: Any = copy.deepcopy(teacher.model.config)
    text = config.get_text_config()
    n_layers = text.num_hidden_layers if n_layers is None else n_layers
    n_heads = text.num_attention_heads if n_heads is None else n_heads
    _check_narrow(text, hidden_size, n_layers, n_heads)
    set_feed_forward_size(config, max(1, round(feed_forward_size(config) * hidden_size / text.hidden_size)))
    if getattr(text, "num_key_value_heads", None) is not None:
        most = max(1, n_heads * text.num_key_value_heads // text.num_attention_heads)
        text.num_key_value_heads = max(n for n in range(1, most + 1) if n_heads % n == 0)
    if getattr(text, "head_dim", None) is not None:
        text.head_dim = hidden_size // n_heads
    text.hidden_size, text.num_attention_heads = hidden_size, n_heads
    keep_layers_in_config(config, range(n_layers))
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config, dtype=teacher.model.dtype)
    project_embeddings(model, teacher.model, range(len(embedding_weight(teacher.model))))
    return TextClassifier(model.to(teacher.model.device).eval(), teacher.tokenizer)


def _check_narrow(teacher: Any, hidden_size: int, n_layers: int, n_heads: int) -> None:
    """Raise ValueError for sizes that a teacher with this configuration has no student of."""
    sizes = {"hidden_size": (hidden_size, teacher.hidden_size), "n_layers": (n_layers, teacher.num_hidden_layers)}
    for name, (value, most) in sizes.items():
        if not 1 <= value <= most:
            raise ValueError(f"{name} must lie between 1 and the teacher's {most}, got {value}")
    if n_heads < 1 or hidden_size % n_heads:
        raise ValueError(f"hidden_size {hidden_size} is not a multiple of n_heads {n_heads}; change one of them")
    if getattr(teacher, "rope_parameters", None) and hidden_size // n_heads % 2:
        raise ValueError(
            f"heads of width {hidden_size // n_heads} (hidden_size {hidden_size} / n_heads {n_heads}): rotary positions"
            f" turn pairs, so it must be even; make hidden_size a multiple of {2 * n_heads}"
        )


def cut_layers(teacher: Model, layers: Sequence[int]) -> Model:
    """A student that keeps some of the teacher's layers, with its embeddings, head and tokenizer.

    Args:
        teacher: a classifier or a language model, encoder or decoder; it is not changed.
        layers: 0-based indices of the layers to keep, in order. DistilBERT keeps 0, 2, 4, 7, 9, 11 of 12
            (transformers research projects, `distillation/scripts/extract_distilbert.py`).

    Raises:
        TypeError: an encoder–decoder, or a model whose layers are not found (`architectures.transformer_layers`).
        ValueError: no layer, one that does not exist, or an order that is not ascending.
    """
    n_layers = len(transformer_layers(teacher.model))
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < n_layers:
        raise ValueError(f"layers must be ascending indices from 0 to {n_layers - 1}, got {list(layers)}")
    model = copy.deepcopy(teacher.model)
    keep_layers(model, layers)
    return teacher._replace(model=model.eval())
