"""The files that weights come from: none outside their folder, and none of the model's weights missing."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["check_loaded", "check_weight_files", "new_head"]


def check_weight_files(source: str | Path) -> None:
    """Raise ValueError if an index of weights in a folder names a file outside the folder, or is no index.

    Args:
        source: a folder. A name on the Hub has no files here yet, and passes.
    """
    for index in sorted(Path(source).glob("*.index.json")):
        try:
            files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{index} is not an index of weights ({error!r}); fetch or save the model again"
            ) from error
        for name in sorted(map(str, files)):
            if not _is_inside(name):
                raise ValueError(
                    f"{index} names {name!r}, which lies outside its folder; fetch the model again, from a source that"
                    " you trust"
                )


def _is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder, on this system and on Windows."""
    return not any(path.anchor or ".." in path.parts for path in (PurePosixPath(name), PureWindowsPath(name)))


def check_loaded(
    model: PreTrainedModel, report: dict[str, Any], source: str | Path, *, head_is_new: bool = False
) -> None:
    """Raise ValueError if a file lacked weights of the model, or holds layers that the configuration leaves out.

    Args:
        model: as it was loaded.
        report: of transformers (`output_loading_info=True`).
        source: where the weights came from, for the message.
        head_is_new: whether a new head was asked for. The head's weights may then be missing or of another shape.
    """
    head = _head(model) if head_is_new else set()
    if misshapen := {name for name, *_ in report["mismatched_keys"]} - head:
        raise ValueError(f"weights do not have the shapes that the configuration says: {sorted(misshapen)[:3]}")
    if missing := sorted(set(report["missing_keys"]) - head):
        only_head = set(missing) <= _head(model)
        remedy = (
            "these are the head, which would be random; to give the model a new head on purpose, pass label_names"
            if only_head and not head_is_new
            else "they would be random; save or fetch the model again, or load the class of model that was saved"
        )
        raise ValueError(
            f"{source} lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]}: {remedy}"
        )
    if extra := sorted(_layers_left_over(model, report["unexpected_keys"])):
        raise ValueError(
            f"{source} holds weights of layers that its configuration leaves out, such as {extra[0]}; set the number of"
            " layers in config.json to that of the weights, or cut the layers with `cut_layers` and save the model"
        )


def _head(model: PreTrainedModel) -> set[str]:
    """The names of the weights outside the model's body. An encoder without a head is all body."""
    if model.base_model is model:
        return set()
    return {name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}


def _layers_left_over(model: PreTrainedModel, unexpected: Any) -> set[str]:
    """The unexpected weights whose names are those of the model's own weights, with another number of a layer."""
    known = {re.sub(r"\.\d+\.", ".#.", name) for name in model.state_dict()}
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    full_names = {name if name.startswith(prefix) else prefix + name: name for name in unexpected}
    return {name for full, name in full_names.items() if re.sub(r"\.\d+\.", ".#.", full) in known and "#" not in full}


def new_head(model: PreTrainedModel, report: dict[str, Any]) -> PreTrainedModel:
    """The model if its head is new; if its head came from the source, the model's body with a new head."""
    if _head(model) <= set(report["missing_keys"]):
        return model
    fresh = type(model)(model.config)
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh
