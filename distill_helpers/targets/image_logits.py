"""The teacher's logits of images, computed once and kept on disk, as `targets.logits` does it for texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_helpers.data.labelled_images import pixels_sha256
from distill_helpers.models.batching import check_batch_size, check_finite
from distill_helpers.models.image_models import (
    ImageClassifier,
    PixelReader,
    predict_image_logits,
    processor_settings,
)
from distill_helpers.models.loading import pick_device
from distill_helpers.models.text_models import check_label_names
from distill_helpers.targets.cache import compute_in_shards, model_key

__all__ = ["precompute_teacher_image_logits"]


def precompute_teacher_image_logits(
    teacher: ImageClassifier,
    images: Sequence[Any],
    batch_size: int = 64,
    device: str | torch.device | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    label_names: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Tensor:
    """The teacher's logits for each image, computed once.

    The key of the cache covers the teacher's weights and configuration, the class and the settings of its processor,
    and the pixels. An image of Pillow and the array of its pixels have the same key.

    Args:
        teacher: model and processor.
        images: see `predict_image_logits`; whether or not they have hard labels.
        batch_size: the number of images at a time. It is no part of the cache key.
        device: default the best there is. The teacher is moved there and cast to `dtype`.
        dtype: the precision in which the teacher computes.
        label_names: the classes in the order of *your* labels, to be checked against the teacher's.
        cache_dir: the folder in which the logits are kept; None keeps nothing.
        progress: show a progress bar.

    Returns:
        fp32, (images, classes), on the CPU, in the order of the images.

    Raises:
        TypeError: a teacher that is no `ImageClassifier`.
        ValueError: no image, one that can't be read (with its row), label names in another order, or logits that are
            not finite.

    Example:
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
        >>> config = ViTConfig(image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
        >>> teacher = dh.ImageClassifier(ViTForImageClassification(config), processor)
        >>> images = [np.full((8, 8), value, "uint8") for value in (0, 100, 200)]
        >>> dh.precompute_teacher_image_logits(teacher, images, device="cpu", progress=False).shape
        torch.Size([3, 2])
    """
    if not isinstance(teacher, ImageClassifier):
        raise TypeError(f"the teacher of images must be an ImageClassifier, got {type(teacher).__name__}")
    check_batch_size(batch_size)
    check_label_names(teacher.label_names, label_names)
    reader = PixelReader(teacher)
    reader.check(images)
    teacher.model.to(device=pick_device(device), dtype=dtype)  # type: ignore[call-arg]
    folder = None
    if cache_dir is not None:
        # One image at a time, so that a folder of large photographs need not fit into memory.
        pixels = pixels_sha256(reader.arrays([image], row)[0] for row, image in enumerate(images))
        key = model_key(teacher.model, dtype, processor=processor_settings(teacher.processor), images=pixels)
        folder = Path(cache_dir) / key

    def compute(rows: slice) -> dict[str, Tensor]:
        of_rows = [images[row] for row in range(rows.start, rows.stop)]
        logits = predict_image_logits(teacher, of_rows, batch_size=batch_size)
        check_finite(logits, "in half precision try dtype=torch.float32", first_row=rows.start)
        return {"logits": logits}

    return compute_in_shards(
        folder,
        len(images),
        lambda rows: {"logits": (rows.stop - rows.start, len(teacher.label_names))},
        compute,
        title="Teacher labels",
        progress=progress,
    )["logits"]
