"""Images as arrays, checked one by one, and images with labels.

An image is a `PIL.Image.Image` or an array. What can be read in one way only is read; what would have to be guessed,
such as an image with a transparent background, is refused with its row and a remedy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill_helpers.data.installed_files import require_package

__all__ = ["LabelledImages", "check_image_list", "image_array", "pixels_sha256"]

# Modes of Pillow that are brought to grey or to RGB without a choice of one's own.
_CONVERTED = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
# Modes with transparency, and the mode that is left where every pixel is opaque.
_TRANSPARENT = {"LA": "L", "La": "L", "RGBA": "RGB", "RGBa": "RGB", "PA": "RGB"}


@dataclass(frozen=True, repr=False, eq=False)
class LabelledImages:
    """Images with one label each.

    Args:
        images: `PIL.Image.Image`, or uint8 arrays of the shape (height, width) or (height, width, 3). They may have
            different sizes.
        labels: indices into `label_names`, one for each image.
        label_names: the classes, in the order of the indices.

    Raises:
        ValueError: numbers of images and labels that differ, no image at all, or an image that can't be read or a label
            outside the names, with its row (0-based).

    Example:
        >>> import numpy as np
        >>> data = dh.LabelledImages([np.zeros((8, 8), "uint8"), np.full((8, 8), 255, "uint8")], [0, 1], ("ink", "no"))
        >>> data, data.subset([1]).labels
        (LabelledImages(2 images, 2 classes), [1])
    """

    images: Sequence[Any]
    labels: Sequence[int]
    label_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels; each image needs one label")
        check_image_list(self.images)
        for row, image in enumerate(self.images):
            image_array(image, row)
        for row, label in enumerate(self.labels):
            if not 0 <= label < len(self.label_names):
                raise ValueError(f"row {row}: label {label} is not an index into the {len(self.label_names)} names")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"LabelledImages({len(self):,} images, {len(self.label_names)} classes)"

    def subset(self, rows: Iterable[int]) -> LabelledImages:
        """The images at these rows, in this order."""
        rows = list(rows)
        return LabelledImages([self.images[i] for i in rows], [self.labels[i] for i in rows], self.label_names)


def check_image_list(images: Sequence[Any]) -> None:
    """Raise ValueError unless this is a sequence of images: one image alone would be read row by row."""
    if not hasattr(images, "__len__") or not hasattr(images, "__getitem__") or isinstance(images, str | bytes | dict):
        raise ValueError(f"pass a list of images, got one {type(images).__name__}; a single image is `[image]`")
    if len(images) == 0:
        raise ValueError("pass a non-empty list of images")
    shape = getattr(images, "shape", None)
    # (8, 8, 3) may be one image or eight of three columns, (3, 8, 8) one image or three.
    if shape is not None and (len(shape) < 3 or (len(shape) == 3 and {shape[0], shape[-1]} & {1, 3, 4})):
        raise ValueError(
            f"an array of shape {tuple(shape)} may be a single image; pass a list of images: `[image]`, or"
            " `list(images)` for several"
        )


def image_array(image: Any, row: int) -> np.ndarray:
    """An image as an array of the shape (height, width) or (height, width, 3), of uint8 or float32.

    An image of Pillow comes back upright, as its EXIF orientation says. An array is not copied without need.

    Args:
        image: a `PIL.Image.Image`, or an array with the values that the processor of the model expects.
        row: of the image, for messages.

    Raises:
        ValueError: anything else, with the row and the remedy: no image, another shape or type of number, no pixel, a
            value that is not finite, transparency, 16 bits for a pixel, an animation, or a file that can't be read.
    """
    if isinstance(image, np.ndarray):
        return _checked(image, row)
    if hasattr(image, "getbands") and hasattr(image, "getexif"):  # Pillow need not be installed for arrays
        return _from_pillow(image, row)
    remedy = ""
    if isinstance(image, str | bytes) or hasattr(image, "open"):
        remedy = ", open a file with `PIL.Image.open(path)`"
    elif hasattr(image, "permute"):
        remedy = ", convert a tensor (3, height, width) with `image.permute(1, 2, 0).numpy()`"
    raise ValueError(f"row {row}: a {type(image).__name__} is no image; pass images of Pillow or uint8 arrays{remedy}")


def pixels_sha256(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 over types, shapes and pixels of images that `image_array` has made, in their order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _checked(array: np.ndarray, row: int) -> np.ndarray:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0:
        raise ValueError(f"row {row}: the image of shape {array.shape} has no pixel; drop the row or fix it")
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
        remedy = "pass (height, width) or (height, width, 3)"
        if array.ndim == 3 and array.shape[0] in (1, 3):
            remedy += "; channels that come first are moved by `image.transpose(1, 2, 0)`"
        elif array.ndim == 3 and array.shape[-1] == 4:
            remedy += "; a fourth channel of transparency needs a background first"
        raise ValueError(f"row {row}: an array of shape {array.shape} is no image; {remedy}")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ValueError(
            f"row {row}: the image has values of {array.dtype}; pass uint8, for values from 0 to 255"
            " `image.astype('uint8')`, for 16 bits `(image / 257).round().astype('uint8')`"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"row {row}: the image has values that are not finite; drop the row or fix it")
    return array.astype(np.float32, copy=False)


def _from_pillow(image: Any, row: int) -> np.ndarray:
    require_package("PIL", "An image that is no array", extra="images")
    from PIL import ImageOps

    # The first image of a photograph with several (MPO) is the photograph.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError(
            f"row {row}: the image has {image.n_frames} frames; choose one, `image.seek(number)`, and pass"
            " `image.copy()`"
        )
    try:
        image = ImageOps.exif_transpose(image)
    except OSError as error:
        raise ValueError(
            f"row {row}: the image can't be read ({error}); fetch the file again or drop the row"
        ) from error
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        opaque = image.convert("RGBA")
        if opaque.getchannel("A").getextrema()[0] < 255:
            raise ValueError(
                f"row {row}: the image has transparent pixels, whose colour nobody knows; put it on a background,"
                " `Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))"
                ".convert('RGB')`"
            )
        image = image.convert(_TRANSPARENT.get(image.mode, "L" if image.mode == "L" else "RGB"))
    image = image.convert(_CONVERTED[image.mode]) if image.mode in _CONVERTED else image
    if image.mode not in ("L", "RGB"):
        raise ValueError(
            f"row {row}: the image has the mode {image.mode!r} of Pillow, which has no one way to 8 bits; bring it to"
            " 'L' or 'RGB' yourself, for 16 bits `Image.fromarray((np.asarray(image) / 257).round().astype('uint8'))`"
        )
    return _checked(np.asarray(image), row)
