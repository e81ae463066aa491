"""Images through the same loss and trainer: the data set, and students that are trained, saved and read back."""

import copy

import numpy as np
import pytest
import torch
from tiny_images import NEW_ENOUGH, digits, processor, tiny_vit
from transformers import TrainerCallback, TrainingArguments

import distill_helpers as dh
from distill_helpers.training.checkpoints import names_in_memory

pytestmark = NEW_ENOUGH

N = 24


def make_set(student, start=0, n=N, teacher=None, labels=True, **options):
    images, known = digits(n, start)
    logits = None if teacher is None else dh.predict_image_logits(teacher, images)
    return dh.ImageDistillationDataset(images, known if labels else None, logits, student, **options)


def train(student, folder, alpha=0.5, n_epochs=3, sets=None, **options):
    teacher = tiny_vit(seed=9)
    sets = sets or (make_set(student, teacher=teacher), make_set(student, start=100, teacher=teacher))
    options = {"learning_rate": 3e-3, "batch_size": 8, "device": "cpu", "progress": False} | options
    return dh.train_student_with_distillation(
        student, *sets, dh.DistillationConfig(alpha=alpha), n_epochs=n_epochs, output_dir=folder, **options
    )


# The data set


def test_items_hold_pixels_labels_and_the_teachers_logits():
    student = tiny_vit()
    images, labels = digits(N)
    data = make_set(student, teacher=tiny_vit(seed=9))
    expected = torch.from_numpy(np.stack(images)).float() / 127.5 - 1
    assert data.task == "single_label"
    for row in (0, 5, N - 1, -1):
        torch.testing.assert_close(data[row]["pixel_values"][0], expected[row])
        assert data[row]["labels"] == labels[row]
    batch = dh.ImageDistillationCollator()([data[3], data[1]])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "pixel_values": (2, 1, 8, 8),
        "labels": (2,),
        "teacher_logits": (2, 10),
    }
    assert torch.equal(batch["teacher_logits"][1], data.teacher_logits[1])


def test_pixels_are_made_once_or_each_time():
    student = tiny_vit()
    kept, made = make_set(student), make_set(student, keep_pixels=False)
    assert all(torch.equal(a["pixel_values"], b["pixel_values"]) for a, b in zip(kept, made, strict=True))
    assert repr(kept).endswith("24 with hard labels, 6,144 bytes of pixels)")
    assert repr(made).endswith("24 with hard labels, pixels not kept)")
    with pytest.raises(ValueError, match=r"take 6,144 bytes, more than max_bytes \(6,143\).*keep_pixels=False"):
        make_set(student, max_bytes=6143)


def test_labels_follow_the_students_task():
    images, _ = digits(2)
    several = tiny_vit(names=("loop", "line"), task="multi_label")
    data = dh.ImageDistillationDataset(images, [[1, 0], [-100, 1]], None, several)
    assert data.task == "multi_label"
    assert data[1]["labels"].tolist() == [-100, 1]
    scores = dh.ImageDistillationDataset(images, [0.5, None], None, tiny_vit(names=("age",), task="regression"))
    assert scores[1]["label_mask"].tolist() == [False]
    with pytest.raises(ValueError, match="row 0: the label 1 is no row of 0 and 1"):
        dh.ImageDistillationDataset(images, [1, 0], None, several)


def test_bad_input_is_refused_with_its_row():
    student, (images, labels) = tiny_vit(), digits(3)
    with pytest.raises(ValueError, match="nothing to learn from"):
        dh.ImageDistillationDataset(images, None, None, student)
    with pytest.raises(ValueError, match="3 images, but 2 labels"):
        dh.ImageDistillationDataset(images, labels[:2], None, student)
    with pytest.raises(ValueError, match="3 images, but 4 teacher_logits"):
        dh.ImageDistillationDataset(images, labels, torch.zeros(4, 10), student)
    with pytest.raises(ValueError, match="row 2: the teacher's logits are not finite"):
        dh.ImageDistillationDataset(
            images, labels, torch.zeros(3, 10).index_fill(0, torch.tensor(2), torch.nan), student
        )
    with pytest.raises(ValueError, match="row 1: label 10 is neither one of the teacher's 10"):
        dh.ImageDistillationDataset(images, [0, 10, 0], torch.zeros(3, 10), student)
    for keep_pixels in (True, False):
        with pytest.raises(ValueError, match="row 1: a str is no image"):
            dh.ImageDistillationDataset([images[0], "cat.png"], [0, 1], None, student, keep_pixels=keep_pixels)
    with pytest.raises(TypeError, match="must be an ImageClassifier"):
        dh.ImageDistillationDataset(images, labels, None, student.model)


# The training


class LastIsWorst(TrainerCallback):
    """Ruins the student after its second epoch, so that the last epoch can't be the best one."""

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        if state.epoch and state.epoch >= 2:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(std=0.5)


@pytest.mark.slow
def test_the_student_of_the_best_epoch_comes_back_whole_and_is_saved_with_its_processor(tmp_path):
    # ViT is saved under other names than those in memory; the Trainer would load the head of the best epoch alone.
    student = tiny_vit()
    before = copy.deepcopy(student.model.state_dict())
    result = train(student, tmp_path, metric_for_best_model="nll", callbacks=[LastIsWorst()])
    best = result.history["eval_nll"].min()
    assert result.history["eval_nll"].iloc[-1] > best + 0.1
    images, labels = digits(N, 100)
    data = dh.LabelledImages(images, labels, student.label_names)
    assert dh.evaluate(result.classifier, data)["nll"] == pytest.approx(best, abs=1e-5)
    loaded = dh.load_image_classifier(tmp_path, device="cpu")
    expected = dh.predict_image_logits(result.classifier, images)
    assert torch.equal(dh.predict_image_logits(loaded, images), expected)
    assert "pipeline_tag: image-classification" in (tmp_path / "README.md").read_text()
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.model.state_dict().items())
    with pytest.warns(UserWarning, match="read back and not trained again"):
        again = train(student, tmp_path, metric_for_best_model="nll", callbacks=[LastIsWorst()])
    assert isinstance(again.classifier, dh.ImageClassifier)
    assert torch.equal(dh.predict_image_logits(again.classifier, images), expected)
    teacher = tiny_vit(seed=9)
    other = make_set(student, start=1, teacher=teacher), make_set(student, start=100, teacher=teacher)
    with pytest.raises(ValueError, match="differs in training images, training labels, teacher logits"):
        train(student, tmp_path, sets=other, metric_for_best_model="nll")


class KilledError(Exception):
    pass


class KillsAfterTheFirstEpoch(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        if state.epoch and state.epoch >= 1:
            raise KilledError


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    whole = train(tiny_vit(), tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tiny_vit(), tmp_path / "killed", callbacks=[KillsAfterTheFirstEpoch()])
    resumed = train(tiny_vit(), tmp_path / "killed")
    states = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_a_live_teacher_gives_the_same_student_as_its_cached_logits(tmp_path):
    cached = train(tiny_vit(), tmp_path / "cached", alpha=1.0, n_epochs=2)
    teacher = tiny_vit(seed=9)
    sets = make_set(tiny_vit(), keep_pixels=False), make_set(tiny_vit(), start=100)
    live = train(tiny_vit(), tmp_path / "live", alpha=1.0, n_epochs=2, sets=sets, teacher=teacher)
    for name, weight in cached.model.state_dict().items():
        torch.testing.assert_close(live.model.state_dict()[name], weight, atol=1e-5, rtol=1e-4)
    assert live.history["eval_kl"].iloc[-1] == pytest.approx(cached.history["eval_kl"].iloc[-1], abs=1e-4)


@pytest.mark.slow
def test_several_labels_of_images_are_learned(tmp_path):
    student = tiny_vit(names=("loop", "line"), task="multi_label")
    images, labels = digits(N)
    rows = [[int(label in (0, 6, 8, 9)), int(label in (1, 4, 7))] for label in labels]
    data = dh.ImageDistillationDataset(images, rows, None, student)
    result = dh.train_student_with_distillation(
        student,
        data,
        data,
        dh.DistillationConfig(task="multi_label", alpha=0.0),
        n_epochs=8,
        batch_size=8,
        learning_rate=1e-2,
        output_dir=tmp_path,
        device="cpu",
        progress=False,
    )
    assert result.history["eval_bce"].iloc[-1] < result.history["eval_bce"].iloc[0] - 0.1
    assert dh.evaluate(result.classifier, type("Data", (), {"images": images, "labels": rows})())["micro_f1"] > 0.8


def test_what_does_not_fit_the_student_is_refused_before_the_training(tmp_path, make_sets):
    student, teacher = tiny_vit(), tiny_vit(seed=9)
    good = make_set(student, teacher=teacher)
    other_pixels = student._replace(processor=processor(rescale_factor=1 / 128))
    with pytest.raises(ValueError, match="val_dataset was made with another processor"):
        train(student, tmp_path, sets=(good, make_set(other_pixels, teacher=teacher)))
    with pytest.raises(ValueError, match="train_dataset is a DistillationDataset, and the student reads images"):
        train(tiny_vit(names=tuple("abcde")), tmp_path, sets=make_sets())
    with pytest.raises(ValueError, match="group_by_length groups texts"):
        train(student, tmp_path, group_by_length=True)
    with pytest.raises(ValueError, match="10 teacher classes, but the student has 2"):
        train(tiny_vit(names=("a", "b")), tmp_path, sets=(good, good))
    with pytest.raises(ValueError, match="the two processors differ"):
        train(student, tmp_path, sets=(good, good), teacher=teacher._replace(processor=other_pixels.processor))
    colour = tiny_vit(n_channels=3)._replace(processor=student.processor)
    with pytest.raises(ValueError, match="different numbers of channels"):
        train(student, tmp_path, sets=(good, good), teacher=colour)
    big = student._replace(processor=processor(size=12))
    with pytest.raises(ValueError, match="does not take the 12 × 12 pixels"):
        train(big, tmp_path, sets=(make_set(big, teacher=teacher), make_set(big, teacher=teacher)))
    with pytest.raises(ValueError, match="feature terms compare the tokens of texts"):
        dh.DistillationTrainer(
            student.model,
            dh.DistillationConfig(intermediate_layers=True),
            TrainingArguments(str(tmp_path), report_to="none", use_cpu=True),
            teacher=teacher,
            train_dataset=good,
        )
    assert not list(tmp_path.iterdir())


def test_a_text_student_refuses_images(tmp_path, make_classifier):
    images = make_set(
        tiny_vit(names=make_classifier().label_names), labels=False, teacher=tiny_vit(seed=9, names=tuple("abcde"))
    )
    with pytest.raises(ValueError, match="train_dataset holds images, and the student reads texts"):
        train(make_classifier(), tmp_path, sets=(images, images), alpha=1.0)


def test_a_checkpoint_has_the_names_of_the_weights_in_memory(tmp_path):
    from safetensors.torch import load_file

    student, (images, _) = tiny_vit(seed=4), digits(3)
    with names_in_memory(student.model):
        student.model.save_pretrained(tmp_path)
    student.processor.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == student.model.state_dict().keys()
    loaded = dh.load_image_classifier(tmp_path, device="cpu")
    assert torch.equal(dh.predict_image_logits(loaded, images), dh.predict_image_logits(student, images))
    assert "save_pretrained" not in vars(student.model)


def test_figures_of_images_are_those_of_their_logits():
    classifier, (images, labels) = tiny_vit(), digits(N)
    logits, teacher_logits = dh.predict_image_logits(classifier, images), torch.randn(N, 10)
    data = dh.LabelledImages(images, labels, classifier.label_names)
    row = dh.evaluate(classifier, data, teacher_logits=teacher_logits)
    expected = dh.classification_metrics(logits, labels, teacher_logits)
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    with pytest.raises(ValueError, match="model of images is evaluated on an object with images and labels"):
        dh.evaluate(classifier, object())
    with pytest.raises(ValueError, match="timing and max_length are for texts"):
        dh.evaluate(classifier, data, timing=True)
