"""A student's vocabulary: the tokens that the texts use most, with embeddings projected from the teacher's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import BertTokenizer, PreTrainedTokenizerFast

from distill_helpers.data.text_inputs import TextInput, text_parts
from distill_helpers.models.architectures import embedding_weight
from distill_helpers.students.vocabulary_models import vocabulary_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["project_embeddings", "trim_vocabulary"]

_REMEDY = "keep the teacher's whole vocabulary (`narrow_student`, `cut_layers`)"
# A class with methods of its own in these places does more than its `tokenizer.json` says.
_ENCODING = ("__call__", "_encode_plus", "tokenize", "pad", "decode", "_decode")
_SETTINGS = ("model_max_length", "padding_side", "truncation_side")
_BERT_SETTINGS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
_OTHER_SETTINGS = (
    "add_prefix_space",
    "chat_template",
    "clean_up_tokenization_spaces",
    "extra_special_tokens",
    "model_input_names",
    "split_special_tokens",
)


def trim_vocabulary(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[TextInput], size: int
) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """A tokenizer that keeps the `size` entries which `texts` use most.

    WordPiece, byte-pair encoding (byte-level or with characters) and Unigram can be trimmed. Special tokens, tokens
    that were added to the tokenizer, and single characters always stay: ASCII, those in `texts`, and the symbols of all
    256 bytes where the tokenizer has them. A word that loses its entry is therefore spelled out in pieces and does not
    become unknown, and an added token such as `[url]` is still one token. A text whose entries all stay has the same
    tokens as before.

    Byte-pair encoding builds an entry from smaller ones, and those stay with the entry.

    Args:
        tokenizer: a fast tokenizer, such as those of BERT, RoBERTa, DeBERTa-v2, XLM-R, T5, GPT-2, Llama and Qwen.
        texts: the training texts, or pairs of texts; never the test set.
        size: the number of entries to keep at most.

    Returns:
        The new tokenizer, and the old index of each of its entries, with which to pick rows of an embedding. The new
        tokenizer is a `BertTokenizer` if the old one is, and otherwise a `PreTrainedTokenizerFast`.

    Raises:
        TypeError: a tokenizer without a fast version, of another kind (WordLevel), or of a class that encodes or
            decodes in Python.
        ValueError: no texts, a size too small for the entries that always stay, or a post-processor that adds a token
            that the tokenizer does not have.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student").tokenizer
        >>> small, kept_ids = dh.trim_vocabulary(tokenizer, ["my mac shows a grey screen"], 150)
        >>> len(tokenizer), len(small), small.tokenize("my mac is slow")
        (5000, 146, ['my', 'mac', 'i', '##s', 's', '##l', '##o', '##w'])
    """
    parts = text_parts(texts)
    if not parts:
        raise ValueError("texts is empty; pass the training texts, whose entries are kept")
    fast, pipeline = _opened(tokenizer)
    vocabulary = vocabulary_of(pipeline)
    if vocabulary is None:
        raise TypeError(
            f"{type(fast).__name__} is a {pipeline['model']['type']} tokenizer, and a word that loses its entry"
            f" would be unknown; {_REMEDY}"
        )
    counts = Counter(index for ids in fast(parts, add_special_tokens=False)["input_ids"] for index in ids)
    used = {entry: counts[index] for entry, index in vocabulary.indices.items() if counts[index]}
    characters = {character for text in (*used, *map(_normalized(fast), parts)) for character in text}

    indices: dict[str, int] = fast.get_vocab()
    special = _special_tokens(fast, pipeline, indices)
    always = vocabulary.always_kept(characters) | vocabulary.stranded(used) | (special & vocabulary.indices.keys())
    outside = sorted(special - vocabulary.indices.keys(), key=indices.__getitem__)  # beside the model's own entries
    smallest = len(always) + len(outside)
    if size < smallest:
        raise ValueError(f"size must be at least {smallest} (special and added tokens, and characters), got {size}")
    frequent = [entry for entry in vocabulary.by_use(used) if entry not in always][: size - smallest]
    kept = sorted({*always, *frequent}, key=vocabulary.indices.__getitem__)

    pipeline["model"] = vocabulary.trimmed(kept)
    kept_ids = [indices[entry] for entry in (*kept, *outside)]
    trimmed = _wrapped(fast, _renumbered(pipeline, {old: new for new, old in enumerate(kept_ids)}))
    if lost := [token for token in _added_tokens(fast) if trimmed.tokenize(token) != fast.tokenize(token)]:
        raise ValueError(
            f"the added token {lost[0]!r} is not one token of the trimmed tokenizer; add it to the trimmed tokenizer"
            " yourself, and to the embedding of the student"
        )
    return trimmed, kept_ids


def _opened(tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedTokenizerFast, dict[str, Any]]:
    """A fast tokenizer, and what its `tokenizer.json` would hold. Raises TypeError where that is not all it does."""
    kind = type(tokenizer).__name__
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TypeError(
            f"{kind} is no fast tokenizer; load its fast version (`AutoTokenizer`), wrap a `tokenizers.Tokenizer` in"
            f" `PreTrainedTokenizerFast(tokenizer_object=...)`, or {_REMEDY}"
        )
    own = [name for name in _ENCODING if getattr(type(tokenizer), name) is not getattr(PreTrainedTokenizerFast, name)]
    own += vars(tokenizer.backend_tokenizer)  # CLIP's decoding
    if own:
        raise TypeError(
            f"{kind} has its own `{own[0]}`, which a trimmed tokenizer would lose; load it as a"
            f" `PreTrainedTokenizerFast` if you do without, or {_REMEDY}"
        )
    try:
        return tokenizer, json.loads(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # the `tokenizers` library raises nothing more specific
        raise TypeError(f"{kind} has a step in Python, which cannot be saved; {_REMEDY}") from error


def _normalized(tokenizer: PreTrainedTokenizerFast) -> Any:
    normalizer = tokenizer.backend_tokenizer.normalizer
    return str if normalizer is None else normalizer.normalize_str


def _added_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items())]


def _special_tokens(
    tokenizer: PreTrainedTokenizerFast, pipeline: Mapping[str, Any], indices: Mapping[str, int]
) -> set[str]:
    """The tokens with a role, those that were added, and those that a template puts around texts."""
    named, around = (
        {*tokenizer.all_special_tokens, *_added_tokens(tokenizer)},
        _template_ids(pipeline["post_processor"]),
    )
    if missing := around - set(indices.values()):
        raise ValueError(
            f"the post-processor of the tokenizer adds token {min(missing)} to texts, and the tokenizer has no such"
            " token; give `tokenizer.backend_tokenizer` a post-processor with tokens of its own"
        )
    return {token for token, index in indices.items() if token in named or index in around}


def _template_ids(step: Mapping[str, Any] | None) -> set[int]:
    """The indices of the tokens that a post-processor adds: a template, BERT's, RoBERTa's, or several."""
    if step is None:
        return set()
    own = {step[name][1] for name in ("cls", "sep") if name in step}
    own |= {index for token in step.get("special_tokens", {}).values() for index in token["ids"]}
    return own.union(*map(_template_ids, step.get("processors", [])))


def _renumbered(pipeline: dict[str, Any], new: Mapping[int, int]) -> str:
    """The `tokenizer.json` of a pipeline whose model is trimmed already, with the new indices elsewhere, too."""
    added = [{**token, "id": new[token["id"]]} for token in pipeline["added_tokens"]]
    renumbered = {
        **pipeline,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "post_processor": _renumbered_step(pipeline["post_processor"], new),
        # How the last batch happened to be cut and padded.
        "truncation": None,
        "padding": None,
    }
    return json.dumps(renumbered)


def _renumbered_step(step: dict[str, Any] | None, new: Mapping[int, int]) -> dict[str, Any] | None:
    """A post-processor with the new indices of the tokens that it adds (`_template_ids`)."""
    if step is None:
        return None
    changed: dict[str, Any] = {name: [step[name][0], new[step[name][1]]] for name in ("cls", "sep") if name in step}
    if "special_tokens" in step:
        changed["special_tokens"] = {
            name: {**token, "ids": [new[index] for index in token["ids"]]}
            for name, token in step["special_tokens"].items()
        }
    if "processors" in step:
        changed["processors"] = [_renumbered_step(part, new) for part in step["processors"]]
    return {**step, **changed}


def _wrapped(tokenizer: PreTrainedTokenizerFast, pipeline: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a `tokenizer.json`, with the other settings of this one."""
    backend = type(tokenizer.backend_tokenizer).from_str(pipeline)
    bert = isinstance(tokenizer, BertTokenizer)
    # The classes of other architectures would rebuild the pipeline when they are loaded, with the unknown token at the
    # index that it has in the whole vocabulary.
    kind: Any = BertTokenizer if bert else PreTrainedTokenizerFast
    names = (*_SETTINGS, *(_BERT_SETTINGS if bert else _OTHER_SETTINGS))
    settings = {name: getattr(tokenizer, name) for name in names if hasattr(tokenizer, name)}
    return kind(tokenizer_object=backend, **settings, **tokenizer.special_tokens_map)


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
        0.5
    """
    target = embedding_weight(student)
    source = embedding_weight(teacher).detach()
    if len(kept_ids) != len(target):
        raise ValueError(f"the student's vocabulary has {len(target)} entries, kept_ids has {len(kept_ids)}")
    if not 0 <= min(kept_ids) <= max(kept_ids) < len(source):
        outside = next(index for index in kept_ids if not 0 <= index < len(source))
        raise ValueError(
            f"kept_ids names row {outside}, and the teacher's embedding has {len(source)} rows; after adding tokens to"
            " its tokenizer, call `teacher.resize_token_embeddings(len(tokenizer))` and train it"
        )
    source = source[torch.as_tensor(list(kept_ids), device=source.device)]
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
