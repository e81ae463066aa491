"""The figures of each epoch, and the best epoch: ties, every metric, and validation without labels."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from training_runs import StopAt, flat, train, weights_sha256
from transformers import EvalPrediction

from distill_helpers import DistillationConfig, DistillationDataset, classification_metrics
from distill_helpers.models.text_models import predict_logits
from distill_helpers.training import train_student
from distill_helpers.training.constant_answers import warn_if_nothing_was_learned
from distill_helpers.training.task_validation import TASK_VALIDATION
from distill_helpers.training.validation_metrics import (
    SELECTIONS,
    best_row,
    selection_metric,
    validation_metrics,
)


def measure(student, labels, teacher=None):
    logits = np.asarray(student, dtype=np.float32)
    predictions = logits if teacher is None else (logits, np.asarray(teacher, dtype=np.float32))
    return validation_metrics(EvalPrediction(predictions, np.asarray(labels)))


def test_the_figures_are_those_of_the_evaluation():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(40, 5, generator=generator) * 3 for _ in range(2))
    labels = torch.randint(5, (40,), generator=generator).tolist()
    found, expected = measure(student, labels, teacher), classification_metrics(student, labels, teacher)
    for name in ("accuracy", "nll", "agreement"):
        assert found[name] == pytest.approx(expected[name], rel=1e-9)
    kl = torch.nn.functional.kl_div(
        student.double().log_softmax(1), teacher.double().log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert found["kl"] == pytest.approx(float(kl), rel=1e-9)


def test_what_has_no_label_is_left_out_of_the_figures_of_labels_alone():
    logits = [[2.0, 1], [1, 2], [2, 1], [2, 1]]
    found = measure(logits, [0, 0, -100, 0], teacher=[[0, 1.0], [0, 1], [1, 0], [1, 0]])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["agreement"] == pytest.approx(3 / 4)
    assert set(measure(logits, [-100] * 4, logits)) == {"agreement", "kl", "agreement_then_kl"}
    assert measure(logits, [-100] * 4) == {}


def test_padding_of_sequences_is_left_out():
    padded = [[[2.0, 1], [-100, -100]], [[1, 2], [2, 1]]]
    found = measure(padded, [[0, -100], [0, 0]], teacher=padded)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert (found["agreement"], found["kl"]) == (1, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused_with_the_row(value):
    with pytest.raises(ValueError, match="validation row 2 are not finite"):
        measure([[0, 1.0], [0, 1], [value, 1]], [0, 0, -100])


def test_one_number_orders_by_accuracy_and_then_by_nll():
    n = 1000
    keys = [measure([[z, 0.0]] * right + [[-z, 0.0]] * (n - right), [0] * n)
            for right, z in [(500, 9.0), (500, 0.1), (501, 90.0), (501, 9.0)]]  # fmt: skip
    numbers = [key["accuracy_then_nll"] for key in keys]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 4


HISTORY = pd.DataFrame(
    {
        "epoch": [1.0, 2, 3, 4],
        "eval_loss": [0.9, 0.8, 0.7, 0.6],
        "eval_accuracy": [0.5, 0.7, 0.7, 0.7],
        "eval_nll": [0.3, 0.77, 0.24, 0.24],
        "eval_agreement": [0.9, 0.9, 0.9, 0.8],
        "eval_kl": [0.2, 0.1, 0.3, 0.05],
    }
)


@pytest.mark.parametrize(("choice", "row"), [("accuracy", 2), ("nll", 2), ("agreement", 1), ("kl", 3), ("loss", 3)])
def test_the_best_row_of_a_history(choice, row):
    assert best_row(HISTORY, choice) == row


def test_every_choice_is_a_metric_of_the_trainer():
    found = {choice: selection_metric(choice) for choice in SELECTIONS}
    assert found["accuracy"] == ("accuracy_then_nll", True)
    assert found["agreement"] == ("agreement_then_kl", True)
    assert [found[name] for name in ("nll", "kl", "loss")] == [("nll", False), ("kl", False), ("loss", False)]


# Whole trainings


def figures_of(monkeypatch, **columns):
    """Let the epochs have these validation figures, whatever the student says."""
    epochs = iter(range(10**6))

    def invented(prediction):
        found = validation_metrics(prediction)
        epoch = next(epochs)
        found |= {name: values[epoch] for name, values in columns.items()}
        if "accuracy" in found:
            found["accuracy_then_nll"] = found["accuracy"] + 1 / (1 + found["nll"]) / 21
        if "agreement" in found:
            found["agreement_then_kl"] = found["agreement"] + 1 / (1 + found["kl"]) / 21
        return found

    of_classes = TASK_VALIDATION["single_label"]._replace(metrics=invented)
    monkeypatch.setitem(TASK_VALIDATION, "single_label", of_classes)
    return epochs


def best_epoch(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in card.splitlines() if line.startswith("| best epoch")]
    return int(line.split("|")[2].split()[0])


RUN = {"n_epochs": 3, "batch_size": 16, "learning_rate": 2e-3}


@pytest.mark.parametrize(
    ("choice", "columns", "expected"),
    [
        (None, {"accuracy": [0.5, 0.9, 0.9], "nll": [0.1, 0.77, 0.24]}, 3),
        (None, {"accuracy": [0.5, 0.9, 0.9], "nll": [0.1, 0.24, 0.24]}, 2),
        (None, {"accuracy": [0.9, 0.5, 0.4], "nll": [2.0, 0.2, 0.1]}, 1),
        ("nll", {"accuracy": [0.9, 0.5, 0.4], "nll": [2.0, 0.2, 0.1]}, 3),
        ("agreement", {"agreement": [0.5, 0.8, 0.8], "kl": [0.1, 0.3, 0.2]}, 3),
        ("kl", {"agreement": [0.5, 0.8, 0.8], "kl": [0.3, 0.1, 0.2]}, 2),
    ],
)
def test_the_best_epoch_is_the_one_that_the_metric_says(
    make_classifier, make_sets, tmp_path, monkeypatch, choice, columns, expected
):
    figures_of(monkeypatch, **columns)
    saved = {}

    class Keep(StopAt):
        def on_save(self, args, state, control, model=None, **kwargs):
            saved[round(state.epoch)] = flat(model).clone()

    result = train(
        make_classifier(), make_sets(), tmp_path, metric_for_best_model=choice, callbacks=[Keep(None)], **RUN
    )
    assert torch.equal(flat(result.model), saved[expected])
    assert best_epoch(tmp_path) == expected


@pytest.mark.slow
def test_a_resumed_run_breaks_ties_as_an_uninterrupted_one(make_classifier, make_sets, tmp_path, monkeypatch):
    columns = {"accuracy": [0.9, 0.9, 0.9], "nll": [0.3, 0.77, 0.24]}
    figures_of(monkeypatch, **columns)
    whole = train(make_classifier(), make_sets(), tmp_path / "whole", **RUN)
    figures_of(monkeypatch, **columns)
    with pytest.raises(KeyboardInterrupt):
        train(make_classifier(), make_sets(), tmp_path / "parts", callbacks=[StopAt(8)], **RUN)
    next(rest := figures_of(monkeypatch, **columns)), next(rest)
    again = train(make_classifier(), make_sets(), tmp_path / "parts", **RUN)
    assert weights_sha256(tmp_path / "parts") == weights_sha256(tmp_path / "whole")
    pd.testing.assert_frame_equal(again.history, whole.history)
    assert best_epoch(tmp_path / "parts") == 3


@pytest.mark.slow
def test_a_run_whose_folder_was_moved_finds_its_best_epoch(make_classifier, make_sets, tmp_path, monkeypatch):
    columns = {"accuracy": [0.9, 0.5, 0.4], "nll": [0.3, 0.77, 0.24]}
    figures_of(monkeypatch, **columns)
    whole = train(make_classifier(), make_sets(), tmp_path / "whole", **RUN)
    figures_of(monkeypatch, **columns)

    class StopAtTheEnd(StopAt):
        def on_train_end(self, args, state, control, **kwargs):
            raise KeyboardInterrupt  # every checkpoint is written, and the student is not saved yet

    with pytest.raises(KeyboardInterrupt):
        train(make_classifier(), make_sets(), tmp_path / "here", callbacks=[StopAtTheEnd(None)], **RUN)
    (tmp_path / "here").rename(tmp_path / "there")
    again = train(make_classifier(), make_sets(), tmp_path / "there", **RUN)
    assert torch.equal(flat(again.model), flat(whole.model))


@pytest.mark.parametrize("choice", [None, "agreement", "kl", "loss"])
@pytest.mark.slow
def test_validation_without_labels_goes_by_the_teacher(make_classifier, make_sets, help_desk, tmp_path, choice):
    sets = make_sets()
    sets[1].labels = [-100] * 21
    result = train(make_classifier(), sets, tmp_path, metric_for_best_model=choice, **RUN)
    assert not {"eval_accuracy", "eval_nll"} & set(result.history)
    best = result.history.iloc[best_row(result.history, choice or "agreement")]
    texts = help_desk.validation.subset(range(0, 399, 19)).texts
    found = measure(predict_logits(result.classifier, texts), [-100] * 21, sets[1].teacher_logits)
    assert (found["agreement"], found["kl"]) == pytest.approx((best["eval_agreement"], best["eval_kl"]), rel=1e-5)
    assert best_epoch(tmp_path) == best["epoch"]


@pytest.mark.parametrize(
    ("choice", "change", "message"),
    [
        ("f1", {}, r"must be one of \['accuracy', 'nll', 'agreement', 'kl', 'loss'\] or None, got 'f1'"),
        ("accuracy", {"labels": [-100] * 21}, "is 'accuracy', but val_dataset has no hard labels"),
        ("nll", {"labels": [-100] * 21}, "is 'nll', but val_dataset has no hard labels"),
        ("agreement", {"teacher_logits": None}, "is 'agreement', but val_dataset has no teacher logits"),
        ("kl", {"teacher_logits": None}, "is 'kl', but val_dataset has no teacher logits"),
        (None, {"labels": [-100] * 21, "teacher_logits": None}, "unlabelled messages alone and no teacher logits"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_refused(make_classifier, make_sets, tmp_path, choice, change, message):
    sets = make_sets()
    for name, value in change.items():
        setattr(sets[1], name, value)
    with pytest.raises(ValueError, match=message):
        train(make_classifier(), sets, tmp_path / "x", DistillationConfig(alpha=0), metric_for_best_model=choice)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_part_of_the_labels_is_enough_where_the_metric_is_named(make_classifier, make_sets, tmp_path):
    sets = make_sets()
    sets[1].labels[20] = -100
    result = train(make_classifier(), sets, tmp_path, metric_for_best_model="nll", **RUN)
    assert result.history["eval_nll"].notna().all()


# The warning


def warned(labels, reached, teacher_logits=None, column="eval_accuracy", task="single_label"):
    data = DistillationDataset.__new__(DistillationDataset)
    data.labels, data.teacher_logits, data.task = labels, teacher_logits, task
    history = pd.DataFrame({"epoch": [1.0], column: [reached]})
    choice = "accuracy" if column == "eval_accuracy" else "agreement"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn_if_nothing_was_learned(("mac", "pc", "x"), data, history, choice)
    return [str(warning.message) for warning in seen]


def test_a_student_no_better_than_the_most_frequent_class_is_named():
    (message,) = warned([0, 1, 1, 2, -100], 0.5)
    assert "its validation accuracy is 50.0%, and always answering 'pc' would reach 50.0%" in message
    assert "learning rate" in message
    assert warned([0, 1, 1, 2], 0.25) != []
    assert warned([0, 1, 1, 2], 0.75) == []
    assert warned([1, 1, 1], 1.0) == []  # one class says nothing


def test_without_labels_the_teachers_predictions_judge():
    logits = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    (message,) = warned([-100] * 3, 0.5, logits, "eval_agreement")
    assert "agreement with the teacher is 50.0%, and always answering 'mac' would reach 66.7%" in message


@pytest.mark.slow
def test_a_training_warns_where_nothing_was_learned_and_not_for_features_alone(
    make_classifier, make_sets, tmp_path, recwarn
):
    with pytest.warns(UserWarning, match="the student has not learned to tell the classes apart"):
        train(make_classifier(), make_sets(), tmp_path / "a", learning_rate=1e-12)
    recwarn.clear()
    features = DistillationConfig(response_loss_weight=0, intermediate_layers=True)
    teacher = make_classifier(seed=1, n_layers=4)
    train(make_classifier(), make_sets(), tmp_path / "b", features, learning_rate=1e-12, teacher=teacher)
    assert not [warning for warning in recwarn if "has not learned" in str(warning.message)]
    assert train_student.warn_if_nothing_was_learned is warn_if_nothing_was_learned
