"""A model for images together with the processor that makes its pixel values: `ImageClassifier`.

The processor of transformers stands where a text classifier has its tokenizer: it resizes, rescales and normalises.
Every image is checked against what the processor expects, since a wrong range of values changes every prediction
without an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from distill_helpers.data.labelled_images import check_image_list, image_array
from distill_helpers.models.batching import check_batch_size, evaluation_mode
from distill_helpers.models.text_models import label_names_of, model_summary, outputs_of, prediction_frame

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel
    from transformers.image_processing_utils import BaseImageProcessor

__all__ = ["ImageClassifier", "PixelReader", "predict_image_logits", "processor_settings"]


class ImageClassifier(NamedTuple):
    """An image classifier and the processor that makes its pixel values.

    Args:
        model: an image classifier of transformers. Its configuration names the classes.
        processor: the model's own image processor. The processors of transformers that work with Pillow need no
            torchvision.

    Example:
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
        >>> config = ViTConfig(
        ...     image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=10
        ... )
        >>> processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
        >>> classifier = dh.ImageClassifier(ViTForImageClassification(config), processor)
        >>> classifier
        ImageClassifier(ViTForImageClassification, 10 classes, 103,626 parameters, cpu)
        >>> classifier.predict([np.zeros((8, 8), "uint8")]).shape
        (1, 11)
    """

    model: PreTrainedModel
    processor: BaseImageProcessor

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return label_names_of(self.model)

    def predict(self, images: Sequence[Any], *, batch_size: int = 64) -> pd.DataFrame:
        """What the model says of each image, as `TextClassifier.predict` says it of texts.

        Args:
            images: see `predict_image_logits`.
            batch_size: the number of images at a time.
        """
        return prediction_frame(self.model, lambda: predict_image_logits(self, images, batch_size=batch_size))

    def __repr__(self) -> str:
        return f"ImageClassifier({model_summary(self.model, outputs_of(self.model))})"


class PixelReader:
    """From images to the pixel values of one model, with every image checked.

    Args:
        classifier: model and processor. Only the processor and the number of channels are kept.

    Raises:
        TypeError: a processor that is no image processor of transformers.
        ValueError: a model that reads other than one or three channels, or a processor for another number of them.
    """

    def __init__(self, classifier: ImageClassifier) -> None:
        from transformers.image_processing_utils import BaseImageProcessor

        model, self.processor = classifier
        if not isinstance(self.processor, BaseImageProcessor):
            remedy = "load the model's own with `AutoImageProcessor.from_pretrained`"
            if hasattr(self.processor, "image_processor"):
                remedy = "pass `processor.image_processor`"
            raise TypeError(f"a {type(self.processor).__name__} is no image processor of transformers; {remedy}")
        self.n_channels = int(getattr(model.config, "num_channels", 3))
        if self.n_channels not in (1, 3):
            raise ValueError(f"the model reads {self.n_channels} channels; images have one (grey) or three (RGB)")
        mean: Any = getattr(self.processor, "image_mean", None)
        if getattr(self.processor, "do_normalize", False) and np.ndim(mean) and len(mean) != self.n_channels:
            raise ValueError(
                f"the processor normalises {len(mean)} channels, and the model reads {self.n_channels}; load the"
                " model's own processor, or give it as many numbers as `image_mean` and `image_std`"
            )

    def arrays(self, images: Sequence[Any], first_row: int = 0) -> list[np.ndarray]:
        """Images as arrays (height, width, channels), with the values that the processor expects.

        Args:
            images: see `predict_image_logits`.
            first_row: the row of the first one, for messages.
        """
        return [self._array(image, row) for row, image in enumerate(images, start=first_row)]

    def check(self, images: Sequence[Any]) -> None:
        """Raise ValueError, with the row and the remedy, for images that the model can't read as they are."""
        check_image_list(images)
        for row, image in enumerate(images):
            self._array(image, row)

    def pixel_values(self, images: Sequence[Any], first_row: int = 0) -> Tensor:
        """The pixel values of some images, fp32, (images, channels, height, width).

        Args:
            images: see `predict_image_logits`.
            first_row: the row of the first one, for messages.

        Raises:
            ValueError: an image that can't be read, or images of different sizes from a processor that doesn't resize.
        """
        # The layout is said: an image of three rows could be one of three channels.
        processed = self.processor(self.arrays(images, first_row), input_data_format="channels_last")["pixel_values"]
        tensors = [torch.as_tensor(np.asarray(values), dtype=torch.float32) for values in processed]
        for row, tensor in enumerate(tensors, start=first_row):
            if tensor.dim() != 3 or tensor.shape != tensors[0].shape:
                raise ValueError(
                    f"row {row}: the processor makes pixel values of shape {tuple(tensor.shape)}, and"
                    f" {tuple(tensors[0].shape)} of row {first_row}; a model needs (channels, height, width), the same"
                    " for all images: set `processor.do_resize = True` and a size"
                )
            if tensor.shape[0] != self.n_channels:
                raise ValueError(
                    f"row {row}: the processor makes {tensor.shape[0]} channels, and the model reads {self.n_channels}"
                )
        return torch.stack(tensors)

    def _array(self, image: Any, row: int) -> np.ndarray:
        array = self._in_range(image_array(image, row), row)
        if array.ndim == 2:
            return np.repeat(array[..., None], self.n_channels, axis=-1)
        if self.n_channels == 1:
            raise ValueError(
                f"row {row}: the image is in colour, and the model reads one channel; convert it, `image.convert('L')`"
            )
        return array

    def _in_range(self, array: np.ndarray, row: int) -> np.ndarray:
        """The array if its values are those that the processor expects."""
        expected = self._largest_value
        if expected is None:
            return array
        low, high = float(array.min()), float(array.max())
        if expected == 1:
            if array.dtype == np.uint8 or low < 0 or high > 1:
                raise ValueError(
                    f"row {row}: the image has values from {low:g} to {high:g}, and the processor, which does not"
                    " rescale, expects floats from 0 to 1; set `processor.do_rescale = True`, or divide by 255"
                )
            return array
        if array.dtype == np.uint8:
            return array
        # Values from 0 to 1 would be divided by 255 once more, which leaves a black image.
        if low < 0 or high > 255 or 0 < high <= 1:
            raise ValueError(
                f"row {row}: the image has floats from {low:g} to {high:g}, and the processor expects values from 0 to"
                " 255; convert values from 0 to 1 with `(255 * image).round().astype('uint8')`, or set"
                " `processor.do_rescale = False`"
            )
        if (array != array.round()).any():
            raise ValueError(
                f"row {row}: the image has floats that are no whole numbers, and the processor expects values from 0 to"
                " 255; round them, `image.round().astype('uint8')`"
            )
        return array.astype(np.uint8)

    @property
    def _largest_value(self) -> int | None:
        """1 or 255, whichever the processor expects; None where the processor neither rescales nor normalises."""
        if getattr(self.processor, "do_rescale", False):
            return 255
        if not getattr(self.processor, "do_normalize", False):
            return None
        mean: Any = getattr(self.processor, "image_mean", 0.5)
        return 255 if np.max(mean) > 1 else 1


def processor_settings(processor: BaseImageProcessor) -> dict[str, Any]:
    """Everything that the pixel values of an image depend on beside the image: the processor's class and settings."""
    return {"class": type(processor).__name__, **processor.to_dict()}


@torch.inference_mode()
def predict_image_logits(
    classifier: ImageClassifier, images: Sequence[Any], *, batch_size: int = 64, progress: bool = False
) -> Tensor:
    """A classifier's logits for each image, in the order of the images. The model is used where it is.

    Args:
        classifier: model and processor. The model keeps the mode (training or evaluation) in which it came.
        images: `PIL.Image.Image`, or arrays of the shape (height, width) or (height, width, 3). Arrays hold uint8, or
            floats in the range that the processor expects: 0 to 255 where it rescales, 0 to 1 where it doesn't. Grey
            images are given to a model of three channels as grey RGB.
        batch_size: the number of images at a time.
        progress: show a progress bar.

    Returns:
        fp32, (images, classes), on the CPU.

    Raises:
        TypeError: a processor that is no image processor.
        ValueError: no image, a batch size below 1, an image that can't be read or has other values (with its row and
            the remedy), or pixel values that the model doesn't take.

    Example:
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
        >>> config = ViTConfig(image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
        >>> classifier = dh.ImageClassifier(ViTForImageClassification(config), processor)
        >>> dh.predict_image_logits(classifier, [np.zeros((28, 28), "uint8")]).shape
        torch.Size([1, 2])
    """
    check_batch_size(batch_size)
    reader = PixelReader(classifier)
    reader.check(images)
    model = classifier.model
    rows: list[Tensor] = []
    with evaluation_mode(model):
        starts = range(0, len(images), batch_size)
        for start in tqdm(starts, desc="Predicting", unit="batch", disable=not progress):
            of_batch = [images[row] for row in range(start, min(start + batch_size, len(images)))]
            rows.append(image_logits(model, reader.pixel_values(of_batch, start)).float().cpu())
    return torch.cat(rows)


def image_logits(model: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """The logits of one batch, in the model's precision and on its device.

    Raises:
        ValueError: pixel values that the model doesn't take, with the remedy.
    """
    try:
        return model(pixel_values=pixel_values.to(model.device, model.dtype)).logits
    except ValueError as error:
        height, width = pixel_values.shape[-2:]
        raise ValueError(
            f"{type(model).__name__} does not take the {height} × {width} pixels that the processor makes ({error});"
            " load the model's own processor, or set `processor.size`"
        ) from error
