"""Image classifiers: the pixels are those that the processor expects, and the logits those of each image alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_images import digits, processor, tiny_vit
from transformers import ConvNextConfig, ConvNextForImageClassification

import distill_helpers as dh
from distill_helpers.models.image_models import PixelReader


@pytest.fixture(scope="module")
def classifier():
    return tiny_vit()


def test_the_logits_are_those_of_each_image_alone(classifier):
    images, _ = digits(7)
    expected = []
    for image in images:
        pixels = torch.tensor((image / 255 - 0.5) / 0.5, dtype=torch.float32)[None, None]
        expected.append(classifier.model(pixel_values=pixels).logits[0])
    logits = dh.predict_image_logits(classifier, images, batch_size=3)
    torch.testing.assert_close(logits, torch.stack(expected).detach(), atol=1e-5, rtol=0)
    assert torch.cdist(logits, logits).fill_diagonal_(1).min() > 0.01
    from_pillow = dh.predict_image_logits(classifier, [Image.fromarray(image) for image in images])
    torch.testing.assert_close(from_pillow, logits, atol=1e-5, rtol=0)
    stacked = dh.predict_image_logits(classifier, np.stack(images))
    torch.testing.assert_close(stacked, logits, atol=1e-5, rtol=0)


def test_grey_images_are_grey_rgb_for_a_model_of_three_channels():
    classifier = tiny_vit(n_channels=3)
    images, _ = digits(3)
    as_rgb = dh.predict_image_logits(classifier, [Image.fromarray(image).convert("RGB") for image in images])
    torch.testing.assert_close(dh.predict_image_logits(classifier, images), as_rgb)


def test_an_image_of_three_rows_keeps_its_channels_last():
    image = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8)
    reader = PixelReader(tiny_vit(n_channels=3))
    pixels = reader.pixel_values([image])
    expected = np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_allclose(pixels[0].numpy() * 127.5 + 127.5, expected, atol=1)


def test_images_of_different_sizes_are_resized_or_refused_with_their_row(classifier):
    images = [np.zeros((8, 8), np.uint8), np.zeros((9, 12), np.uint8)]
    assert dh.predict_image_logits(classifier, images).shape == (2, 10)
    as_they_are = classifier._replace(processor=processor(do_resize=False))
    with pytest.raises(ValueError, match=r"row 1: .*\(1, 9, 12\), and \(1, 8, 8\) of row 0.*do_resize = True"):
        dh.predict_image_logits(as_they_are, images)


RESCALES, BETWEEN_0_AND_1 = processor(), processor(do_rescale=False)


@pytest.mark.parametrize(
    ("own_processor", "image", "words"),
    [
        (RESCALES, np.full((8, 8), 0.5), r"floats from 0\.5 to 0\.5.*values from 0 to 255.*255 \* image"),
        (RESCALES, np.full((8, 8), -1.0), "floats from -1 to -1"),
        (RESCALES, np.full((8, 8), 256.0), "floats from 256"),
        (RESCALES, np.full((8, 8), 100.5), "no whole numbers.*round"),
        (RESCALES, np.eye(8), "floats from 0 to 1"),
        (BETWEEN_0_AND_1, np.full((8, 8), 200, np.uint8), r"expects floats from 0 to 1.*do_rescale = True"),
        (BETWEEN_0_AND_1, Image.new("L", (8, 8), 200), "expects floats from 0 to 1"),
        (BETWEEN_0_AND_1, np.full((8, 8), 1.5), "values from 1.5 to 1.5"),
        (RESCALES, np.zeros((8, 8, 3), np.uint8), r"in colour.*convert\('L'\)"),
    ],
)
def test_values_that_the_processor_does_not_expect_are_refused_with_their_row(classifier, own_processor, image, words):
    odd = classifier._replace(processor=own_processor)
    good = np.zeros((8, 8), np.float32)
    with pytest.raises(ValueError, match=f"row 2: .*{words}"):
        dh.predict_image_logits(odd, [good, good, image], batch_size=1)


def test_floats_in_the_expected_range_give_the_same_pixels(classifier):
    images, _ = digits(3)
    expected = dh.predict_image_logits(classifier, images)
    torch.testing.assert_close(dh.predict_image_logits(classifier, [i.astype(np.float64) for i in images]), expected)
    from_0_to_1 = classifier._replace(processor=processor(do_rescale=False, do_resize=False))
    logits = dh.predict_image_logits(from_0_to_1, [image / 255 for image in images])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_pixels_that_the_model_does_not_take_are_refused_with_the_remedy(classifier):
    wrong_size = classifier._replace(processor=processor(size=12))
    with pytest.raises(ValueError, match=r"does not take the 12 × 12 pixels.*processor\.size"):
        dh.predict_image_logits(wrong_size, digits(1)[0])
    with pytest.raises(ValueError, match="normalises 3 channels, and the model reads 1"):
        dh.predict_image_logits(classifier._replace(processor=processor(3)), digits(1)[0])


def test_what_is_no_image_processor_is_refused(classifier, small_tokenizer):
    with pytest.raises(TypeError, match=r"is no image processor.*AutoImageProcessor\.from_pretrained"):
        dh.predict_image_logits(classifier._replace(processor=small_tokenizer), digits(1)[0])
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        dh.predict_image_logits(classifier, digits(1)[0], batch_size=0)
    with pytest.raises(ValueError, match="may be a single image"):
        classifier.predict(np.zeros((8, 8, 3), np.uint8))


def test_predictions_follow_the_task(classifier):
    images, _ = digits(4)
    frame = classifier.predict(images)
    probabilities = frame[list(classifier.label_names)].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert frame["label"].tolist() == [str(i) for i in probabilities.argmax(axis=1)]
    several = tiny_vit(names=("loop", "line"), task="multi_label").predict(images)
    assert list(several.columns) == ["labels", "loop", "line"]
    assert list(tiny_vit(names=("age",), task="regression").predict(images).columns) == ["score"]


def test_the_model_keeps_its_mode_and_drops_nothing():
    classifier = tiny_vit(hidden_dropout_prob=0.5)
    classifier.model.train()
    images, _ = digits(3)
    assert torch.equal(dh.predict_image_logits(classifier, images), dh.predict_image_logits(classifier, images))
    assert classifier.model.training


def test_a_convolutional_network_is_read_the_same_way():
    config = ConvNextConfig(num_channels=1, patch_size=2, hidden_sizes=[4, 8], depths=[1, 1], num_stages=2)
    classifier = dh.ImageClassifier(ConvNextForImageClassification(config).eval(), processor())
    assert dh.predict_image_logits(classifier, digits(2)[0]).shape == (2, 2)
    with pytest.raises(TypeError, match="bring a student of your own"):
        dh.create_image_student(classifier, hidden_size=4)


def test_a_classifier_is_shown_in_one_line(classifier):
    assert repr(classifier) == "ImageClassifier(ViTForImageClassification, 10 classes, 5,018 parameters, cpu)"
