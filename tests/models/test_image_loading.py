"""Image classifiers from a folder: with the processor that was saved, and never with random weights in silence."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_images import DIGITS, NEW_ENOUGH, digits, tiny_vit

import distill_helpers as dh

pytestmark = NEW_ENOUGH


def test_an_old_transformers_is_refused_and_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "5.6.0")
    for use in (lambda: dh.load_image_classifier(tmp_path), lambda: dh.create_image_student(tiny_vit(), hidden_size=8)):
        with pytest.raises(ImportError, match=r"(?s)transformers>=5\.23 is required .*Images need it"):
            use()


@pytest.fixture
def folder(tmp_path):
    classifier = tiny_vit(seed=3)
    classifier.model.save_pretrained(tmp_path / "model")
    classifier.processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_classifier_gives_the_same_logits(folder):
    images, _ = digits(4)
    loaded = dh.load_image_classifier(folder, device="cpu")
    assert torch.equal(dh.predict_image_logits(loaded, images), dh.predict_image_logits(tiny_vit(seed=3), images))
    assert loaded.label_names == DIGITS
    assert not loaded.model.training


def test_missing_weights_and_files_are_refused(folder, tmp_path):
    weights = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if "classifier" not in k}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 2 weights.*pass label_names"):
        dh.load_image_classifier(folder, device="cpu")
    assert dh.load_image_classifier(folder, label_names=("a", "b"), device="cpu").label_names == ("a", "b")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(OSError, match="processor"):
        dh.load_image_classifier(folder, device="cpu")
    with pytest.raises(OSError, match="neither a folder nor a model in the local cache"):
        dh.load_image_classifier(tmp_path / "nowhere")


def test_new_names_for_a_head_that_is_there_are_refused(folder):
    with pytest.raises(ValueError, match="has a head of its own"):
        dh.load_image_classifier(folder, label_names=[f"class {name}" for name in DIGITS], device="cpu")
