"""Tiny vision transformers, and images for them: scikit-learn's digits as uint8 arrays."""

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

import distill_helpers as dh
from distill_helpers.models.text_models import label_options

#: For tests of what older versions are refused for (`models.image_loading.check_transformers`).
NEW_ENOUGH = pytest.mark.skipif(Version(transformers.__version__) < Version("5.23"), reason="too old for images")
DIGITS = tuple(str(digit) for digit in range(10))


def processor(n_channels=1, size=8, **options):
    middle = [0.5] * n_channels
    return ViTImageProcessorPil(size={"height": size, "width": size}, image_mean=middle, image_std=middle, **options)


def tiny_vit(seed=0, *, n_channels=1, names=DIGITS, task="single_label", n_layers=2, size=8, **options):
    """Weights so large that the logits differ between images."""
    config = ViTConfig(
        image_size=size,
        patch_size=4,
        num_channels=n_channels,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        initializer_range=0.3,
        **label_options(names, task),
        **options,
    )
    torch.manual_seed(seed)
    return dh.ImageClassifier(ViTForImageClassification(config).eval(), processor(n_channels, size))


def digits(n=24, start=0):
    """Images and labels of the training split."""
    splits = dh.load_digits()
    images = (255 * splits.train_images[start : start + n]).round().to(torch.uint8).view(-1, 8, 8).numpy()
    return list(images), splits.train_labels[start : start + n].tolist()
