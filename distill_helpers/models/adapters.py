"""LoRA adapters: which base model an adapter belongs to, the names of its classes, and adapter and base made one."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from distill_helpers.data.installed_files import require_package
from distill_helpers.models.manifest import read_manifest

__all__ = [
    "adapter_base",
    "adapter_label_names",
    "adapter_task",
    "check_can_be_merged",
    "is_adapter",
    "merge_adapter",
    "merged_copy",
]

_WEIGHTS = "adapter_model.safetensors"


def is_adapter(source: str | Path) -> bool:
    """Whether a folder holds an adapter of PEFT."""
    return (Path(source) / "adapter_config.json").is_file()


def adapter_base(folder: Path) -> str:
    """The folder or Hub name of the model that an adapter was trained on.

    Raises:
        FileNotFoundError: weights in another format than safetensors, or an adapter that names no base.
        ImportError: the package `peft` (extra `lora`) is missing.
        ValueError: a damaged `adapter_config.json`.
    """
    if not (folder / _WEIGHTS).is_file():  # PEFT would unpickle adapter_model.bin instead
        raise FileNotFoundError(f"{folder} has no {_WEIGHTS}; pickled adapters are not loaded")
    base = _settings(folder).get("base_model_name_or_path")
    if not base:
        raise FileNotFoundError(
            f"adapter_config.json in {folder} names no base model, so the adapter's base was never saved; merge the"
            " adapter where its base is in memory (`model.merge_and_unload()`) and save the whole model"
        )
    return str(base)


def adapter_task(folder: Path) -> str | None:
    """What an adapter says that it is for, in PEFT's words: "SEQ_CLS", "TOKEN_CLS", …; None where it does not say.

    Raises:
        ImportError, ValueError: as `adapter_base`.
    """
    return _settings(folder).get("task_type")


def _settings(folder: Path) -> dict[str, Any]:
    require_package("peft", f"Loading the adapter {folder}", extra="lora")
    file = folder / "adapter_config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); copy or save the adapter again") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file} is damaged: it holds a {type(settings).__name__}; copy or save the adapter again")
    return settings


def adapter_label_names(folder: Path, given: Sequence[str] | None) -> Sequence[str]:
    """The names of an adapter's classes. PEFT does not store them: they are in the manifest, or are given.

    Raises:
        FileNotFoundError: neither a manifest nor given names.
        ValueError: names are given although the manifest has some, or altered weights.
    """
    if (folder / "manifest.json").is_file():
        if given is not None:
            raise ValueError(f"{folder} is an adapter with a head of its own; leave label_names out")
        return read_manifest(folder)["label_names"]  # checks the weights
    if given is None:
        raise FileNotFoundError(
            f"the adapter {folder} has no manifest.json, and nothing else names the classes of its head; pass"
            " label_names, in the order of the logits"
        )
    return given


def merge_adapter(base: Any, folder: Path, missing: Sequence[str]) -> Any:
    """The base with the adapter in this folder merged into its weights. Changes `base`.

    Args:
        base: the model that the adapter was trained on.
        folder: of the adapter.
        missing: names of the base's weights that its own file lacked, such as the head. The adapter must bring them.

    Raises:
        ValueError: an adapter without these weights, or with fewer adapted layers than the base has.
    """
    from peft import PeftModel

    with safe_open(folder / _WEIGHTS, framework="pt") as file:
        brought = set(file.keys())
    if lacking := sorted(name for name in missing if f"base_model.model.{name}" not in brought):
        raise ValueError(
            f"neither the adapter {folder} nor its base has the weight {lacking[0]}, which would be random; save the"
            " adapter with its head (`task_type='SEQ_CLS'`, 'TOKEN_CLS' or `modules_to_save` in the LoraConfig)"
        )
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers for a name that transformers will drop in version 6.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("error", message=".*missing adapter keys")
        try:
            model: Any = PeftModel.from_pretrained(base, folder)
        except UserWarning as warning:
            raise ValueError(
                f"the adapter {folder} was not trained on this base, which has layers that the adapter lacks; load it"
                f" on its own base, or save the model merged where the base is in memory ({warning})"
            ) from warning
        model = model.merge_and_unload()
    model.requires_grad_(True)  # PEFT froze the base, and a student cut from this teacher would not learn
    return model


def check_can_be_merged(model: Any) -> None:
    """Raise ValueError for a model with an adapter that could not be saved as one whole model. Others pass.

    An adapter alone does not say all: its base may never have been saved, or may be another model by now.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "the student's adapter was added by `model.add_adapter`, so that its folder would hold the adapter alone;"
            " wrap the model with `peft.get_peft_model` instead"
        )
    if not hasattr(model, "peft_config"):
        return
    if not hasattr(model, "merge_and_unload") or model.active_peft_config.is_prompt_learning:
        raise ValueError(
            f"the student's adapter is {model.active_peft_config.peft_type.value}, which can't be merged into its base,"
            " so that no folder would hold the whole student; use LoRA, or DistillationTrainer, and save base and"
            " adapter yourself"
        )
    if getattr(model.get_base_model(), "is_quantized", False):
        raise ValueError(
            "the student's base is quantised, and merging the adapter would round its weights; adapt the base in fp32,"
            " or use DistillationTrainer, and save base and adapter yourself"
        )


def merged_copy(model: Any) -> Any:
    """A whole model of transformers with the adapter of this PEFT model in its weights. `model` is not changed."""
    return copy.deepcopy(model).merge_and_unload()
