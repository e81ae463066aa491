"""The training set of an image student: images, hard labels, and what the teacher says of the images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill_helpers.data.labelled_images import pixels_sha256
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.batching import evaluation_mode
from distill_helpers.models.image_models import ImageClassifier, PixelReader, image_logits, processor_settings
from distill_helpers.models.prediction_tasks import prediction_task
from distill_helpers.training.dataset import checked_teacher_logits
from distill_helpers.training.task_labels import labels_of_task, rows_with_labels

__all__ = ["ImageDistillationCollator", "ImageDistillationDataset", "check_image_pair", "check_image_set"]


class ImageDistillationDataset(Dataset):
    """Images with hard labels and the teacher's logits, checked when the data set is made.

    The pixel values of an image take 4 · channels · height · width bytes: 602 kB for RGB of 224 × 224. By default they
    are made once and kept. Otherwise they are made whenever an item is read, which costs some milliseconds of each
    image in each epoch and no memory beside the images that you pass.

    Args:
        images: see `predict_image_logits`.
        labels: of the student's task, as in `DistillationDataset`: class indices, with `IGNORE_INDEX` (−100) for an
            image without a hard label; rows of 0 and 1 for several labels; scores. None where no image has one.
        teacher_logits: (images, classes), from `precompute_teacher_image_logits`; None to train on hard labels alone,
            or with a live teacher.
        student: its processor makes the pixel values, and its model says the task and the number of channels.
        keep_pixels: make the pixel values once and keep them.
        max_bytes: refuse to keep more than so many bytes of pixel values.

    Raises:
        TypeError: a student that is no `ImageClassifier`, labels that come as one string, or teacher logits that are no
            tensor.
        ValueError: lengths that differ, an image that can't be read, logits that are not finite or of another shape, a
            label that the task does not have (each with its row), neither labels nor teacher logits, or more than
            `max_bytes` of pixel values.

    Example:
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
        >>> config = ViTConfig(image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
        >>> student = dh.ImageClassifier(ViTForImageClassification(config), processor)
        >>> images = [np.full((28, 28), value, "uint8") for value in (0, 255)]
        >>> data = dh.ImageDistillationDataset(images, [0, dh.IGNORE_INDEX], torch.randn(2, 2), student)
        >>> data
        ImageDistillationDataset(2 images, 1 with hard labels, teacher logits of 2 columns, 1,536 bytes of pixels)
        >>> data[0]["pixel_values"].shape
        torch.Size([3, 8, 8])
    """

    #: There are no feature terms of images.
    teacher_features = None

    def __init__(
        self,
        images: Sequence[Any],
        labels: Sequence[Any] | None,
        teacher_logits: Tensor | None,
        student: ImageClassifier,
        *,
        keep_pixels: bool = True,
        max_bytes: int = 4 * 1024**3,
    ) -> None:
        if not isinstance(student, ImageClassifier):
            raise TypeError(f"the student must be an ImageClassifier, got {type(student).__name__}")
        if labels is None and teacher_logits is None:
            raise ValueError("there is nothing to learn from; give hard labels or teacher logits")
        self.reader = PixelReader(student)
        self.reader.check(images)
        for name, values in (("labels", labels), ("teacher_logits", teacher_logits)):
            if values is not None and len(values) != len(images):
                raise ValueError(f"{len(images)} images, but {len(values)} {name}")
        self.images = images
        self.task = str(prediction_task(student.model))
        if teacher_logits is not None:
            teacher_logits = checked_teacher_logits(teacher_logits, self.task).detach().float().cpu()
        self.teacher_logits = teacher_logits
        n_columns = None if teacher_logits is None else teacher_logits.shape[1]
        self.labels = labels_of_task(self.task, labels, len(images), n_columns)
        self._lacks_scores = isinstance(self.labels, Tensor) and bool(self.labels.isnan().any())
        self._pixels: Tensor | None = None
        if keep_pixels:
            # An array of another size than the first one's is refused by its row, below.
            n_bytes = self.reader.pixel_values([images[0]]).nbytes * len(images)
            if n_bytes > max_bytes:
                raise ValueError(
                    f"the pixel values of {len(images):,} images take {n_bytes:,} bytes, more than max_bytes"
                    f" ({max_bytes:,}); pass keep_pixels=False, or a larger limit"
                )
            self._pixels = torch.cat(
                [
                    self.reader.pixel_values([images[row] for row in range(start, min(start + 64, len(images)))], start)
                    for start in range(0, len(images), 64)
                ]
            )

    def __repr__(self) -> str:
        parts = [f"{len(self):,} images", f"{sum(rows_with_labels(self.labels)):,} with hard labels"]
        if self.teacher_logits is not None:
            parts.append(f"teacher logits of {self.teacher_logits.shape[1]} columns")
        parts.append("pixels not kept" if self._pixels is None else f"{self._pixels.nbytes:,} bytes of pixels")
        return f"ImageDistillationDataset({', '.join(parts)})"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, int | Tensor]:
        row = range(len(self))[index]
        pixels = self.reader.pixel_values([self.images[row]], row)[0] if self._pixels is None else self._pixels[row]
        item: dict[str, int | Tensor] = {"pixel_values": pixels, "labels": self.labels[row]}
        if self._lacks_scores:
            item["label_mask"] = ~self.labels[row].isnan()  # type: ignore[union-attr]
        if self.teacher_logits is not None:
            item["teacher_logits"] = self.teacher_logits[row]
        return item

    @cached_property
    def pixels_key(self) -> str:
        """SHA-256 over the pixels of all images, in their order, as they are before the processor has seen them."""
        return pixels_sha256(self.reader.arrays([image], row)[0] for row, image in enumerate(self.images))


class ImageDistillationCollator:
    """Makes a batch of a list of items of an `ImageDistillationDataset`.

    Example:
        >>> item = {"pixel_values": torch.zeros(3, 8, 8), "labels": 1}
        >>> batch = dh.ImageDistillationCollator()([item, item])
        >>> batch["pixel_values"].shape, batch["labels"]
        (torch.Size([2, 3, 8, 8]), tensor([1, 1]))
    """

    def __call__(self, items: list[dict]) -> dict[str, Tensor]:
        """`pixel_values` (batch, channels, height, width), `labels`, `label_mask` and `teacher_logits` of each item."""
        return {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}


def check_image_set(name: str, data: Any, student: ImageClassifier) -> None:
    """Raise ValueError if the student can't read a data set, or would read other pixel values than it was made for."""
    if not isinstance(data, ImageDistillationDataset):
        raise ValueError(
            f"{name} is a {type(data).__name__}, and the student reads images; make an ImageDistillationDataset"
        )
    if processor_settings(data.reader.processor) != processor_settings(student.processor):
        raise ValueError(
            f"{name} was made with another processor than the student's; make the data set with the student"
        )
    if data.reader.n_channels != PixelReader(student).n_channels:
        raise ValueError(f"{name} was made for a model of {data.reader.n_channels} channels; make it with the student")
    first = torch.as_tensor(data[0]["pixel_values"])[None]
    with torch.no_grad(), evaluation_mode(student.model):
        image_logits(student.model, first)


def check_image_pair(teacher: Any, student: Any, processor: Any, config: DistillationConfig) -> None:
    """Raise ValueError if a live teacher would read another model's pixel values, or for feature terms of images.

    Args:
        teacher: an `ImageClassifier`; None, and models of texts, pass.
        student: the student's model.
        processor: the student's; None if it is unknown.
        config: the objective.
    """
    if config.uses_features and getattr(student, "main_input_name", None) == "pixel_values":
        raise ValueError(
            "feature terms compare the tokens of texts, and the student reads images; leave them out of the"
            " DistillationConfig, and learn from the teacher's logits"
        )
    if not isinstance(teacher, ImageClassifier):
        return
    if processor is not None and processor_settings(processor) != processor_settings(teacher.processor):
        raise ValueError(
            "a live teacher reads the student's pixel values, and the two processors differ; give both models the same"
            " processor, or use cached teacher_logits (`precompute_teacher_image_logits`)"
        )
    if getattr(student.config, "num_channels", 3) != getattr(teacher.model.config, "num_channels", 3):
        raise ValueError(
            "a live teacher reads the student's pixel values, and the two models read different numbers of channels;"
            " use cached teacher_logits (`precompute_teacher_image_logits`)"
        )
