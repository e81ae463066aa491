"""Images as arrays: what is read, and what is refused with its row because it could be read in several ways."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import distill_helpers as dh
from distill_helpers.data.labelled_images import check_image_list, image_array, pixels_sha256

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (COLOUR, COLOUR),
        (COLOUR.astype(np.float64), COLOUR.astype(np.float32)),
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(COLOUR), COLOUR),
        (Image.fromarray(COLOUR).convert("RGBA"), COLOUR),  # opaque everywhere
        (Image.fromarray(GREY).convert("LA"), GREY),
        (Image.fromarray(GREY).convert("P"), np.repeat(GREY[..., None], 3, axis=-1)),
        (Image.fromarray(GREY > 20), np.where(GREY > 20, 255, 0).astype(np.uint8)),
    ],
)
def test_an_image_is_read_as_an_array(image, expected):
    np.testing.assert_array_equal(image_array(image, 0), expected)
    assert image_array(image, 0).dtype == expected.dtype


def test_a_photograph_comes_back_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(image_array(Image.open(file), 0), np.rot90(GREY, k=-1))


def transparent(mode):
    image = Image.fromarray(COLOUR).convert("RGBA")
    image.putpixel((0, 0), (1, 2, 3, 0))
    return image.convert(mode) if mode != "P" else palette_with_transparency()


def palette_with_transparency():
    image = Image.fromarray(GREY).convert("P")
    image.info["transparency"] = 0
    return image


def animation():
    file = io.BytesIO()
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return Image.open(file)


def cut_short():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:2000]))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("cat.png", r"a str is no image.*PIL\.Image\.open"),
        (torch.zeros(3, 8, 8), r"a Tensor is no image.*permute\(1, 2, 0\)"),
        (None, "a NoneType is no image"),
        (float("nan"), "a float is no image"),
        (COLOUR.transpose(2, 0, 1), r"\(3, 6, 8\) is no image.*transpose\(1, 2, 0\)"),
        (np.zeros((6, 8, 4), np.uint8), "fourth channel"),
        (np.zeros((2, 6, 8, 3), np.uint8), "no image"),
        (np.zeros(8, np.uint8), "no image"),
        (np.zeros((0, 8), np.uint8), "no pixel"),
        (GREY.astype(np.int64), r"int64; pass uint8.*astype\('uint8'\)"),
        (GREY.astype(np.uint16), "uint16"),
        (GREY > 3, "bool"),
        (np.full((6, 8), np.nan), "not finite"),
        (np.where(GREY == 5, np.inf, GREY), "not finite"),
        (transparent("RGBA"), "transparent pixels.*alpha_composite"),
        (transparent("LA"), "transparent pixels"),
        (transparent("P"), "transparent pixels"),
        (Image.fromarray(GREY.astype(np.uint16)), "mode 'I;16'"),
        (Image.fromarray(GREY.astype(np.float32)), "mode 'F'"),
        (animation(), "2 frames"),
        (cut_short(), "can't be read"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused_with_its_row(image, words):
    with pytest.raises(ValueError, match=f"row 7: .*{words}"):
        image_array(image, 7)


@pytest.mark.parametrize("one", [GREY, COLOUR, COLOUR.transpose(2, 0, 1), Image.fromarray(GREY), "cat.png", []])
def test_a_single_image_is_no_list_of_images(one):
    with pytest.raises(ValueError, match="list of images"):
        check_image_list(one)


def test_an_array_of_many_images_is_a_list_of_images():
    check_image_list(np.zeros((5, 6, 8), np.uint8))
    check_image_list(np.zeros((5, 6, 8, 3), np.uint8))


def test_the_hash_covers_pixels_type_shape_and_order():
    arrays = [GREY, GREY[::-1], GREY.reshape(8, 6), GREY.astype(np.float32)]
    assert len({pixels_sha256([array]) for array in arrays}) == 4
    assert pixels_sha256(arrays) != pixels_sha256(arrays[::-1])
    assert pixels_sha256([GREY]) == pixels_sha256([image_array(Image.fromarray(GREY), 0)])


def test_labelled_images_are_checked_and_shown_in_one_line():
    data = dh.LabelledImages([GREY, Image.fromarray(COLOUR)], [0, 1], ("cat", "dog"))
    assert repr(data) == "LabelledImages(2 images, 2 classes)"
    assert data.subset([1]).images[0] is data.images[1]
    with pytest.raises(ValueError, match="1 images but 2 labels"):
        dh.LabelledImages([GREY], [0, 1], ("cat", "dog"))
    with pytest.raises(ValueError, match="row 1: label 2 is not an index"):
        dh.LabelledImages([GREY, GREY], [0, 2], ("cat", "dog"))
    with pytest.raises(ValueError, match="row 1: a str is no image"):
        dh.LabelledImages([GREY, "cat.png"], [0, 1], ("cat", "dog"))
