"""Notebook 05: its widget, and the keys of its quiz."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_helpers import (
    IGNORE_INDEX,
    DistillationConfig,
    DistillationLoss,
    load_course_model,
    precompute_teacher_logits,
)
from distill_helpers.course.experiments import help_desk_students, linear_models
from distill_helpers.course.logs import read_log
from distill_helpers.course.widgets.response_distillation import render_soft_targets

NAMES = ("graphics", "windows", "mac")
TARGETS = {
    "texts": ["how do <i>i</i> install it", "which card"],
    "labels": [1, 0],
    "names": NAMES,
    "logits": torch.tensor([[1.0, 5.0, 0.0], [4.0, 3.5, -2.0]]),
}


def bits(markup: str) -> float:
    found = re.search(r"label, ([\d.]+) of at most", markup)
    assert found
    return float(found[1])


@pytest.mark.parametrize("message", range(2))
@pytest.mark.parametrize("temperature", [2.0**k for k in range(-1, 5)])
def test_soft_targets_over_the_whole_range(message: int, temperature: float) -> None:
    markup = render_soft_targets(message, temperature, **TARGETS)
    p = (TARGETS["logits"][message] / temperature).softmax(-1)
    assert bits(markup) == pytest.approx(float(torch.special.entr(p).sum() / torch.log(torch.tensor(2.0))), abs=0.006)
    for share in p.tolist():
        assert f"{100 * share:.0f}%" in markup
    assert f"{NAMES[TARGETS['labels'][message]]} ✓" in markup
    assert "<i>" not in markup


def test_soft_targets_carry_more_bits_at_higher_temperature() -> None:
    found = [bits(render_soft_targets(0, t, **TARGETS)) for t in (0.5, 1.0, 2.0, 4.0, 16.0)]
    assert found == sorted(found)
    assert found[-1] < 1.59  # log2(3)


def test_soft_targets_refuse_what_does_not_exist() -> None:
    with pytest.raises(ValueError, match="got 2"):
        render_soft_targets(2, 1.0, **TARGETS)
    for temperature in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"positive, finite number, got {temperature}"):
            render_soft_targets(0, temperature, **TARGETS)


def test_quiz_what_the_cache_key_covers(tmp_path: Path) -> None:
    classifier = load_course_model("help-desk-student", device="cpu")
    model = classifier.model
    texts = ["a mouse that jumps about on the screen", "font of an xterm"]
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))

    def labels_again(texts: list[str], **changed: Any) -> bool:
        passes.clear()
        settings = {"max_length": 48, "device": "cpu", "cache_dir": tmp_path, "progress": False} | changed
        precompute_teacher_logits(classifier, texts, **settings)
        return bool(passes)

    assert labels_again(texts)
    assert not labels_again(texts)
    assert not labels_again(texts, batch_size=1)
    assert labels_again([*texts, "one more"])
    assert labels_again(texts, max_length=6)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    assert labels_again(texts)


def test_quiz_why_the_linear_model() -> None:
    """A student and the linear model that has read the same text."""
    students, lines = help_desk_students.summary()["mean"], linear_models.summary()["accuracy %"]
    for texts in linear_models.TEXTS:
        line = lines[f"tf-idf, sender's queue, {texts}"]
        assert students[f"sender's queue, {texts}"] < line < students[f"teacher's distribution, {texts}"]


def test_quiz_best_of_ten() -> None:
    right = np.random.default_rng(0).binomial(400, 0.75, size=(20_000, 10)) / 400
    assert right.mean() == pytest.approx(0.75, abs=0.001)
    assert right.std() == pytest.approx(0.0217, abs=0.001)
    assert right.max(axis=1).mean() == pytest.approx(0.78, abs=0.005)


def test_quiz_row_without_a_label() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    labels = torch.tensor([1, IGNORE_INDEX, 4, IGNORE_INDEX])
    loss = DistillationLoss(DistillationConfig(temperature=2.0, alpha=0.7))
    (gradient,) = torch.autograd.grad(loss(student, teacher, labels)["total_loss"], student)
    soft = 2.0 * ((student / 2).softmax(-1) - (teacher / 2).softmax(-1)) / 4  # T·(q − p), a mean over four rows
    torch.testing.assert_close(gradient[labels < 0], 0.7 * soft[labels < 0].detach())
    assert not torch.allclose(gradient[labels >= 0], 0.7 * soft[labels >= 0])


def test_quiz_what_one_seed_proves() -> None:
    log = read_log(help_desk_students.LOG).query("phase == 'result'")
    runs = log.pivot_table(index="seed", columns="arm", values="accuracy")
    soft, hard = (runs[f"teacher's {labels}, messages"].to_numpy() for labels in ("distribution", "choice"))
    assert soft.mean() > hard.mean()
    same = (hard > soft).sum()
    assert same == 2
    assert (hard[:, None] > soft).sum() - same == 5  # of 20 pairs of different seeds
    line = help_desk_students.factors().loc["softness, messages"]
    assert f"{line['points']:.1f} ± {line['± 95%']:.1f}" == "1.2 ± 1.8"
