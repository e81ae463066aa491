"""A student's vocabulary: the tokens that the texts use most, with embeddings projected from the teacher's."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import BertTokenizer

from distill_helpers.models.architectures import embedding_weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["project_embeddings", "trim_vocabulary"]

_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def trim_vocabulary(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], size: int
) -> tuple[BertTokenizer, list[int]]:
    """A WordPiece tokenizer that keeps the `size` entries which `texts` use most.

    Special tokens, tokens that were added to the tokenizer, and single characters (ASCII, and those in `texts`) always
    stay. A word that loses its entry is therefore spelled out in pieces and does not become [UNK], and an added token
    such as `[url]` is still one token.

    Args:
        tokenizer: a WordPiece tokenizer (BERT, MiniLM, DistilBERT, ELECTRA).
        texts: the training texts; never the test set.
        size: the number of entries to keep at most.

    Returns:
        The new tokenizer, and the old index of each of its entries, with which to pick rows of an embedding.

    Raises:
        TypeError: a tokenizer that is not WordPiece.
        ValueError: a size too small for the entries that always stay.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student").tokenizer
        >>> small, kept_ids = dh.trim_vocabulary(tokenizer, ["my mac shows a grey screen"], 150)
        >>> len(tokenizer), len(small), small.tokenize("my mac is slow")
        (5000, 146, ['my', 'mac', 'i', '##s', 's', '##l', '##o', '##w'])
    """
    if not isinstance(tokenizer, BertTokenizer):
        raise TypeError(f"only WordPiece (BERT) tokenizers can be trimmed here, got {type(tokenizer).__name__}")
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    added = {token.content: token for _, token in sorted(tokenizer.added_tokens_decoder.items())}
    kept = list(dict.fromkeys(token for token in (*_SPECIAL_TOKENS, *added) if token in vocabulary))
    used = {char for text in texts for char in tokenizer.backend_tokenizer.normalizer.normalize_str(text)}
    characters = ((token, token.removeprefix("##")) for token in vocabulary)
    kept += [token for token, c in characters if len(c) == 1 and (c.isascii() or c in used) and token not in added]
    if size < len(kept):
        raise ValueError(f"size must be at least {len(kept)} (special and added tokens, and characters), got {size}")
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
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )
    # An entry alone would be a row of the embedding that no text reaches: WordPiece splits `[url]` at its brackets.
    trimmed.add_tokens([copy.copy(token) for token in added.values()])
    if lost := [token for token in added if trimmed.tokenize(token) != tokenizer.tokenize(token)]:
        raise ValueError(
            f"the added token {lost[0]!r} is not one token of the trimmed tokenizer; add it to the trimmed tokenizer"
            " yourself, and to the embedding of the student"
        )
    return trimmed, [vocabulary[token] for token in kept]


def project_embeddings(student: PreTrainedModel, teacher: PreTrainedModel, kept_ids: Sequence[int]) -> float:
    """Start the student's word embeddings as the teacher's, on their principal components. Changes `student`.

    Args:
        student: its row i comes from the teacher's row `kept_ids[i]`.
        teacher: at least as wide as the student.
        kept_ids: the teacher's index of each entry of the student's vocabulary, from `trim_vocabulary`.

    Returns:
        The share of the embeddings' variance that survives the projection.

    Raises:
        ValueError: sizes that do not fit.

    Example:
        >>> teacher = dh.load_course_model("help-desk-student", device="cpu")
        >>> tokenizer, kept_ids = dh.trim_vocabulary(teacher.tokenizer, dh.load_help_desk().train.texts[:200], 1000)
        >>> student = dh.create_transformer(teacher.label_names, len(tokenizer), hidden_size=32)
        >>> round(dh.project_embeddings(student, teacher.model, kept_ids), 2)
        0.53
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
    # Linear-algebra libraries disagree on the sign of a principal direction. A fixed sign makes a seed mean the same.
    largest = directions[torch.arange(len(directions)), directions.abs().argmax(dim=1)]
    directions = directions * largest.sign()[:, None]
    with torch.no_grad():
        target.copy_((centred @ directions[:width].T).to(target))
    variance = singular.square()
    return float(variance[:width].sum() / variance.sum())
