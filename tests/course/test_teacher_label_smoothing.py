"""Teachers of hard and of smoothed labels: what they learn from, what their students are trained with, and the log."""

import pytest
import torch
from published_text import readme_row

from distill_helpers.course.experiments import teacher_label_smoothing
from distill_helpers.course.experiments.digits import error_count, predict, train_teacher
from distill_helpers.course.experiments.teacher_label_smoothing import (
    ARMS,
    GRID,
    HARD,
    LOG,
    SEEDS,
    SMOOTHED,
    TEACHER_RATES,
    summary,
    teacher_of,
)
from distill_helpers.course.logs import RESULTS, read_log
from distill_helpers.data.corpora import load_digits


class Says(torch.nn.Module):
    """A teacher that gives the same logits whatever it is shown."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits


def test_each_teacher_learns_its_labels_and_validation_chooses_its_rate(monkeypatch) -> None:
    data, asked = load_digits(seed=0), []

    def watched(images, labels, seed, *, soft_labels, learning_rate):
        asked.append((torch.equal(images, data.train_images), seed, soft_labels, learning_rate))
        right = torch.nn.functional.one_hot(data.validation_labels, 10)
        return Says(right if learning_rate == TEACHER_RATES[1] else torch.zeros_like(right))

    monkeypatch.setattr(teacher_label_smoothing, "train_teacher", watched)
    for kind in (HARD, SMOOTHED):
        asked.clear()
        chosen = teacher_of.__wrapped__(kind, 0)
        assert [line[3] for line in asked] == list(TEACHER_RATES)
        assert all(line[0] and line[1] == 0 for line in asked)
        assert error_count(predict(chosen, data.validation_images), data.validation_labels) == 0, "another was chosen"
        for soft in (line[2] for line in asked):
            if kind == HARD:
                assert soft is None
            else:
                right = soft.softmax(dim=1).gather(1, data.train_labels[:, None])
                torch.testing.assert_close(right, torch.full_like(right, 0.91))


@pytest.mark.slow
def test_a_teacher_of_soft_labels_learns_them_instead_of_the_hard_ones() -> None:
    data = load_digits(seed=0)
    turned = (data.train_labels + 1) % 10
    soft = torch.nn.functional.one_hot(turned, 10).float().mul(20)
    teacher = train_teacher(data.train_images, data.train_labels, 0, soft_labels=soft, learning_rate=4e-3)
    assert error_count(predict(teacher, data.validation_images), (data.validation_labels + 1) % 10) < 20


def test_the_arms_are_two_teachers_at_each_setting() -> None:
    for (one, other), names in zip(
        zip(list(ARMS.values())[::2], list(ARMS.values())[1::2], strict=True),
        zip(list(ARMS)[::2], list(ARMS)[1::2], strict=True),
        strict=True,
    ):
        assert (one.teacher, other.teacher) == (HARD, SMOOTHED)
        assert one[1:] == other[1:]
        assert names == (one.name, other.name)


def test_the_log_is_whole_and_the_table_is_made_of_it() -> None:
    log = read_log(LOG)
    counts = log.groupby(["arm", "phase"]).size().unstack()
    assert set(counts.index) == set(ARMS)
    assert (counts["result"] == len(SEEDS)).all()
    assert (counts["choice"] == len(SEEDS) * len(GRID["learning_rate"])).all()
    table = summary()
    lines = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8").split("\n\n")[0].splitlines()[2:]
    assert [float(line.split("|")[2]) for line in lines] == pytest.approx(table["mean"].tolist(), abs=0.051)


def test_page_02_and_the_readme_say_what_the_log_says() -> None:
    """Students of 128 units profit at every setting; with 16 units no setting tells the two teachers apart."""
    table = summary()
    pairs = {ARMS[name]: table.loc[name] for name in ARMS if ARMS[name].teacher == SMOOTHED}
    wide = [line for arm, line in pairs.items() if arm.width == 128]
    assert all(line["difference"] < -line["± 95%"] for line in wide)
    assert all(-line["± 95%"] < line["difference"] < 0 for arm, line in pairs.items() if arm.width == 16)
    hard, smoothed = table.iloc[0], table.iloc[1]
    errors, ece = "teacher's errors", "its ECE %"
    gains = sorted(-round(line["difference"], 1) for line in wide)
    line = readme_row(LOG)
    for passage in (
        f"an ECE of {smoothed[ece]:.0f}% instead of {hard[ece]:.0f}%",
        f"{smoothed[errors]:.1f} errors of 500 instead of {hard[errors]:.1f}",
        f"make {gains[0]} to {gains[-1]} fewer",
    ):
        assert passage in line, passage
