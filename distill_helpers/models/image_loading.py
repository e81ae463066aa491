"""Image classifiers from a folder or the Hub, by the rules of `models.loading`: no download and no code unasked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.utils.versions import require_version

from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.loading import cached_snapshot, pick_device, quiet_transformers
from distill_helpers.models.stored_weights import check_loaded, check_weight_files
from distill_helpers.models.text_models import label_options

__all__ = ["check_transformers", "load_image_classifier"]


def check_transformers() -> None:
    """Raise ImportError for a transformers that is too old for images.

    Up to 5.10 at least, its processors are loaded with torchvision alone, and up to 5.8 a vision transformer keeps its
    layers elsewhere. 5.23 is the lowest version with which the tests of images pass.
    """
    require_version("transformers>=5.23", "Images need it; run `pip install -U transformers`.")


def load_image_classifier(
    source: str | Path,
    *,
    label_names: Sequence[str] | None = None,
    allow_download: bool = False,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> ImageClassifier:
    """An image classifier with its own processor, from a folder or the Hub.

    Args:
        source: a folder in the format of transformers, with the processor's file in it; or a name on the Hugging Face
            Hub.
        label_names: give an image encoder without a head a new, untrained head with these classes. None keeps the head
            that the source has.
        allow_download: let the name be fetched from the Hub. False uses only what is on this machine.
        device: default the best there is.
        seed: of the new head's weights.

    Returns:
        The model (fp32, evaluation mode) and its own processor.

    Raises:
        OSError: the source is neither a folder nor in the local cache, and downloads are not allowed; or it has no
            processor.
        ImportError: transformers is older than 5.23.
        ValueError: `label_names` for a source that has a head of its own; a source whose files name files outside their
            folder, or that lacks weights of the model.

    Example:
        >>> from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
        >>> config = ViTConfig(image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> ViTForImageClassification(config).save_pretrained("my-model")
        >>> _ = ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained("my-model")
        >>> dh.load_image_classifier("my-model", device="cpu")
        ImageClassifier(ViTForImageClassification, 2 classes, 103,490 parameters, cpu)
    """
    check_transformers()
    if not allow_download and not Path(source).is_dir():
        source = cached_snapshot(str(source))
    check_weight_files(source)
    local: dict[str, Any] = {"local_files_only": not allow_download, "trust_remote_code": False}
    options: dict[str, Any] = {"dtype": torch.float32, **local}
    if label_names is not None:
        options |= label_options(label_names)
    torch.manual_seed(seed)
    with quiet_transformers():  # what is missing is told by an error below, unless a new head was asked for
        model, report = AutoModelForImageClassification.from_pretrained(
            source,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=label_names is not None,
            **options,
        )
        processor = AutoImageProcessor.from_pretrained(source, **local)
    check_loaded(model, report, source, head_is_new=label_names is not None)
    if label_names is not None and not report["missing_keys"] and not report["mismatched_keys"]:
        raise ValueError(
            f"{source} has a head of its own for {len(label_names)} classes, which label_names would only rename; leave"
            " label_names out, or load the encoder without its head (`AutoModel.from_pretrained`) and save that"
        )
    return ImageClassifier(model.to(pick_device(device)).eval(), processor)
