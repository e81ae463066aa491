"""The experiments on images and on several teachers: their parts, and their committed logs and tables."""

import numpy as np
import pytest
import torch

from distill_helpers.course.experiments import image_task, several_teachers
from distill_helpers.course.logs import RESULTS, read_log
from distill_helpers.data.corpora import load_digits
from distill_helpers.losses.soft_targets import soft_target_divergence

EXPERIMENTS = (image_task, several_teachers)


def test_the_images_are_the_digits_spread_over_all_greys():
    parts, digits = image_task.digit_images(0), load_digits(seed=0)
    assert [len(part) for part in parts.values()] == [1097, 200, 500]
    image = parts["test"].images[3]
    assert (image.shape, image.dtype) == ((8, 8), np.uint8)
    assert np.abs(image.ravel() / 255 - digits.test_images[3].numpy()).max() < 1 / 500
    assert parts["test"].labels == digits.test_labels.tolist()
    assert max(image.max() for image in parts["train"].images) == 255


def test_each_desk_labels_its_own_messages_and_no_message_twice():
    labels = np.repeat(np.arange(5), 300)
    chosen, unlabelled = several_teachers._choose(labels, seed=0)
    rows = np.concatenate([*chosen, unlabelled])
    assert len(set(rows)) == len(rows) == 300 + several_teachers.N_UNLABELLED
    for own, queues in zip(chosen, several_teachers.DESKS, strict=True):
        assert np.isin(labels[own], queues).sum() == 70
        assert len(own) == 100
        assert set(labels[own]) == set(range(5))  # so that each teacher has a logit for each queue
    again, _ = several_teachers._choose(labels, seed=0)
    other, _ = several_teachers._choose(labels, seed=1)
    assert np.array_equal(chosen[0], again[0])
    assert not np.array_equal(chosen[0], other[0])


def test_the_arms_learn_from_the_teachers_that_they_name():
    generator = torch.Generator().manual_seed(0)
    logits = [{part: torch.randn(6, 5, generator=generator) for part in ("train", "validation")} for _ in range(3)]
    rows = np.array([4, 0, 2])
    desks = several_teachers.Desks(rows, np.array([]), logits, [0.1, 0.2, 0.3], best=1)
    labels = [0, 3, 4]
    targets = {
        name: several_teachers._targets(arm, desks, rows, labels)[0]
        for name, arm in several_teachers.ARMS.items()
        if arm.teachers != "none"
    }
    train = [own["train"][rows] for own in logits]
    assert torch.equal(targets["best single teacher"], train[1])
    temperature = several_teachers.TEMPERATURE
    mixture = sum((own / temperature).softmax(-1) for own in train) / 3
    torch.testing.assert_close((targets["mean of probabilities"] / temperature).softmax(-1), mixture)
    own_teachers = torch.stack([train[0][0], train[1][1], train[2][2]])
    assert soft_target_divergence(own_teachers, targets["each label's own teacher"]).abs().max() < 1e-5


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda module: module.LOG)
def test_the_log_is_complete_and_the_table_is_made_from_it(experiment):
    log = read_log(experiment.LOG)
    assert not log.duplicated(["phase", "arm", "seed", "learning_rate"]).any()
    choices, results = log[log["phase"] == "choice"], log[log["phase"] == "result"]
    assert (choices.groupby("arm")["learning_rate"].nunique() == len(experiment.LEARNING_RATES)).all()
    assert (results.groupby("arm")["seed"].nunique().reindex(list(experiment.ARMS)) == 5).all()
    assert not set(choices["seed"]) & set(results["seed"])
    assert log["steps"].nunique() == 1
    page = (RESULTS / f"{experiment.LOG}.md").read_text(encoding="utf-8")
    for name, row in experiment.summary().iterrows():
        assert f"| {name} " in page
        assert f" {row['mean']:.1f} |" in page
