"""Students of vision transformers: smaller, saved and loaded with the same logits, and never an image too many."""

import pytest
import torch
from tiny_images import NEW_ENOUGH, digits, tiny_vit

import distill_helpers as dh

pytestmark = NEW_ENOUGH


def reloaded(student, folder):
    student.model.save_pretrained(folder)
    student.processor.save_pretrained(folder)
    return dh.load_image_classifier(folder, device="cpu")


def test_a_small_student_has_the_teachers_task_classes_and_patches(tmp_path):
    teacher = tiny_vit(names=("loop", "line"), task="multi_label")
    student = dh.create_image_student(teacher, hidden_size=8, n_layers=1, seed=1)
    config = student.model.config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (8, 1, 16)
    assert (config.patch_size, config.image_size, config.num_channels) == (4, 8, 1)
    assert dh.prediction_task(student.model) == "multi_label"
    assert student.label_names == teacher.label_names
    assert student.processor is teacher.processor
    images, _ = digits(3)
    loaded = reloaded(student, tmp_path)
    assert torch.equal(dh.predict_image_logits(loaded, images), dh.predict_image_logits(student, images))


def test_the_seed_decides_the_weights():
    teacher, (images, _) = tiny_vit(), digits(2)
    first, same, other = (
        dh.predict_image_logits(dh.create_image_student(teacher, hidden_size=8, seed=seed), images)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_cut_layers_are_the_teachers_own(tmp_path):
    teacher, (images, _) = tiny_vit(n_layers=3), digits(3)
    student = dh.cut_layers(teacher, [0, 2])
    assert isinstance(student, dh.ImageClassifier)
    assert student.model.config.num_hidden_layers == 2
    kept, cut = teacher.model.vit.layers, student.model.vit.layers
    assert torch.equal(kept[2].mlp.fc1.weight, cut[1].mlp.fc1.weight)
    assert kept[2].mlp.fc1.weight is not cut[1].mlp.fc1.weight
    loaded = reloaded(student, tmp_path)
    assert torch.equal(dh.predict_image_logits(loaded, images), dh.predict_image_logits(student, images))
    assert not torch.equal(dh.predict_image_logits(teacher, images), dh.predict_image_logits(student, images))


def test_what_needs_a_vocabulary_or_another_size_is_refused():
    teacher = tiny_vit()
    with pytest.raises(TypeError, match="use `create_image_student`"):
        dh.create_student(teacher, ["a text"])
    with pytest.raises(TypeError, match="use `create_image_student`"):
        dh.narrow_student(teacher, hidden_size=8)
    with pytest.raises(TypeError, match="must be an ImageClassifier, got ViT"):
        dh.create_image_student(teacher.model, hidden_size=8)
    with pytest.raises(ValueError, match="hidden_size must lie between 1 and the teacher's 16"):
        dh.create_image_student(teacher, hidden_size=32)
    with pytest.raises(ValueError, match="not a multiple of n_heads 2"):
        dh.create_image_student(teacher, hidden_size=9)
