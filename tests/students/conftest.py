"""Messages, and the base encoder as an untrained classifier."""

import pytest
from tiny_models import NAMES

from distill_helpers.models.loading import base_encoder_path, load_text_classifier


@pytest.fixture(scope="module")
def texts(help_desk):
    return help_desk.train.texts[:150]


@pytest.fixture(scope="module")
def base_classifier():
    return load_text_classifier(base_encoder_path(), label_names=NAMES, device="cpu")
