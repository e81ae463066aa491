"""The folders of sentence-transformers: which pooling they ask for, and the files that say so.

A folder lists its modules in `modules.json`. Three of them are read and written here: Transformer, Pooling and, where
the embeddings have length 1, Normalize. Every other module changes the embeddings, and is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["POOLINGS", "EncoderSettings", "read_encoder_settings", "write_encoder_settings"]

#: How one vector is made out of the vectors of a text's tokens: their mean, or the vector of the first token.
POOLINGS = ("mean", "cls")

_MODULES, _POOLING_FOLDER, _CONFIG = "modules.json", "1_Pooling", "config.json"
# Today's names of the poolings, and the switches that named them before version 6 of sentence-transformers.
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_INSTEAD = (
    "compute the embeddings with sentence-transformers, and give `torch.as_tensor(model.encode(texts))` to the data set"
    " as teacher_logits"
)


class EncoderSettings(NamedTuple):
    """What a folder of sentence-transformers says about its embeddings.

    Attributes:
        pooling: one of `POOLINGS`.
        normalize: whether the embeddings are scaled to length 1.
        max_length: longer texts are cut to so many tokens; None for the tokenizer's own limit.
        lower_case: whether texts are lower-cased before the tokenizer reads them.
        weights: the folder of the transformer and its tokenizer.
    """

    pooling: str
    normalize: bool
    max_length: int | None
    lower_case: bool
    weights: Path


def read_encoder_settings(folder: Path) -> EncoderSettings | None:
    """What a folder says about its embeddings; None if it has no `modules.json`.

    Raises:
        ValueError: a module, a pooling or a setting that changes the embeddings and is not known here; or a file that
            can't be read.
    """
    if not (folder / _MODULES).is_file():
        return None
    modules = _read(folder / _MODULES, list)
    kinds = [str(module.get("type")) for module in modules if isinstance(module, dict)]
    names = [kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind for kind in kinds]
    known = ["Transformer", "Pooling", "Normalize"]
    if len(kinds) != len(modules) or names not in (known[:2], known):
        other = next((name for name in names if name not in known), None)
        reason = f"the module {other}" if other else f"the modules {', '.join(names) or 'none'}"
        raise ValueError(
            f"{folder} makes its embeddings with {reason}, and only Transformer, Pooling and Normalize, in this order,"
            f" are known here; {_INSTEAD}"
        )
    weights, pooling = (_inside(folder, str(module.get("path", ""))) for module in modules[:2])
    prompts = _read(folder / "config_sentence_transformers.json", dict, {})
    if (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name")):
        raise ValueError(
            f"{folder} puts the prompt {prompts['default_prompt_name']!r} before every text, which is not done here;"
            f" {_INSTEAD}"
        )
    # The file's name depends on the architecture: sentence_bert_config.json, sentence_roberta_config.json, …
    file = next(iter(sorted(weights.glob("sentence_*_config.json"))), weights / "sentence_bert_config.json")
    transformer = _read(file, dict, {})
    for setting, needed in (("transformer_task", "feature-extraction"), ("module_output_name", "token_embeddings")):
        if transformer.get(setting, needed) != needed:
            raise ValueError(
                f"{file}: {setting} is {transformer[setting]!r}, and only {needed!r} is known here; {_INSTEAD}"
            )
    return EncoderSettings(
        _pooling_of(pooling / _CONFIG),
        len(modules) == 3,
        transformer.get("max_seq_length"),
        bool(transformer.get("do_lower_case", False)),
        weights,
    )


def write_encoder_settings(folder: Path, pooling: str, normalize: bool, width: int) -> None:
    """Write `modules.json` and the settings of the pooling beside the files of a transformer.

    The form is the one that every version of sentence-transformers reads, from 2 to 6.
    """
    modules = [
        ("Transformer", ""),
        ("Pooling", _POOLING_FOLDER),
        *([("Normalize", "2_Normalize")] if normalize else []),
    ]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(modules)
    ]
    switches = {switch: name == pooling for switch, name in _SWITCHES.items()}
    for _, path in modules[1:]:
        (folder / path).mkdir(parents=True, exist_ok=True)
    _write(folder / _POOLING_FOLDER / _CONFIG, {"word_embedding_dimension": width, **switches})
    if normalize:
        _write(folder / "2_Normalize" / _CONFIG, {})
    _write(folder / _MODULES, listed)


def _pooling_of(file: Path) -> str:
    settings = _read(file, dict)
    chosen = settings.get("pooling_mode") or [name for switch, name in _SWITCHES.items() if settings.get(switch)]
    modes = [chosen] if isinstance(chosen, str) else list(chosen)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ValueError(f"{file}: the pooling is {' and '.join(modes) or 'missing'}; known are {POOLINGS}; {_INSTEAD}")
    return str(modes[0])


def _inside(folder: Path, path: str) -> Path:
    inner = (folder / path).resolve()
    if not inner.is_relative_to(folder.resolve()) or not inner.is_dir():
        raise ValueError(f"{folder / _MODULES} names the folder {path!r}, which is not inside {folder}; fetch it again")
    return folder / path


def _read(file: Path, kind: type, default: Any = None) -> Any:
    if default is not None and not file.is_file():
        return default
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} can't be read ({error}); fetch or save the model again") from error
    if not isinstance(content, kind):
        raise ValueError(f"{file} holds a {type(content).__name__} in place of a {kind.__name__}; fetch it again")
    return content


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
