"""Notebook 01: its widget, and the keys of its quiz."""

import json
import math
import re

import pytest
import torch
from published_text import words_of_page

from distill_helpers.course.experiments import help_desk_students, label_budget
from distill_helpers.course.experiments.fair_arms import paired_gain
from distill_helpers.course.experiments.linear_models import TEXTS
from distill_helpers.course.logs import read_log
from distill_helpers.course.tasks import get_task
from distill_helpers.course.widgets.dark_knowledge import HIGHEST_BIAS, render_bias
from distill_helpers.models.loading import COURSE_MODELS

LOGITS = torch.tensor(
    [[3.0, 0.0, 2.0], [2.0, 0.0, 1.5], [0.0, 4.0, 0.5], [1.0, 0.0, 0.5], [0.0, 3.0, 1.0], [9.0, 0.0, 1.0]]
)
LABELS = torch.tensor([0, 0, 1, 2, 2, 2])


def table(markup: str) -> dict[str, list[int]]:
    rows = re.findall(r"<th scope='row'[^>]*>([^<]*)</th><td>(\d+)</td><td>(\d+)</td><td>(\d+)</td>", markup)
    return {name: [int(n) for n in figures] for name, *figures in rows}


def test_the_bias_moves_errors_from_the_missing_digit_to_the_others() -> None:
    # images, errors without bias, errors with it
    assert table(render_bias(0.0, logits=LOGITS, labels=LABELS, missing=(2,))) == {
        "missing digits: 2": [3, 3, 3],
        "the others": [3, 0, 0],
        "all": [6, 3, 3],
    }
    assert table(render_bias(0.75, logits=LOGITS, labels=LABELS, missing=(2,))) == {
        "missing digits: 2": [3, 3, 2],
        "the others": [3, 0, 1],
        "all": [6, 3, 3],
    }


@pytest.mark.slow
@pytest.mark.parametrize("bias", [HIGHEST_BIAS * k / 8 for k in range(9)])
@pytest.mark.parametrize("missing", [(2,), (0, 2)])
def test_the_widget_over_its_whole_range(bias: float, missing: tuple[int, ...]) -> None:
    markup = render_bias(bias, logits=LOGITS, labels=LABELS, missing=missing)
    gone, others, everything = table(markup).values()
    assert [a + b for a, b in zip(gone, others, strict=True)] == everything
    assert gone[2] <= gone[1]
    assert others[2] >= others[1]
    assert f"errors at bias {bias:g}" in markup
    assert f"at the chosen bias, {bias:g}." in markup
    assert render_bias(bias, logits=LOGITS, labels=LABELS, missing=missing) == markup


def test_the_widget_refuses_what_makes_no_sense() -> None:
    for bias in (-0.25, HIGHEST_BIAS + 0.25, math.nan):
        with pytest.raises(ValueError, match=f"got {bias}"):
            render_bias(bias, logits=LOGITS, labels=LABELS, missing=(2,))
    with pytest.raises(ValueError, match="6 images and 5 labels"):
        render_bias(1.0, logits=LOGITS, labels=LABELS[:5], missing=(2,))
    for missing in ((), (7,), (0, 1, 2)):
        with pytest.raises(ValueError, match=re.escape(f"got {missing}")):
            render_bias(1.0, logits=LOGITS, labels=LABELS, missing=missing)


def test_quiz_sharpened() -> None:
    soft = torch.tensor([0.62, 0.21, 0.09, 0.05, 0.03], dtype=torch.float64)
    assert (4 * soft.log()).softmax(-1)[0].item() == pytest.approx(0.9865, abs=5e-5)


def test_quiz_bits() -> None:
    prior = math.log2(5)
    assert prior == pytest.approx(2.32, abs=0.005)
    assert prior - 0.5 == pytest.approx(1.82, abs=0.005)


def test_quiz_gradient() -> None:
    z = torch.tensor([[0.5, 0.3, 0.2]]).log().requires_grad_()
    hard = torch.nn.functional.cross_entropy(z, torch.tensor([0]))
    soft = torch.nn.functional.cross_entropy(z, torch.tensor([[0.6, 0.4, 0.0]]))
    assert torch.autograd.grad(hard, z)[0][0, 1].item() == pytest.approx(0.3)
    assert torch.autograd.grad(soft, z)[0][0, 1].item() == pytest.approx(-0.1)


def test_quiz_control() -> None:
    p = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)).softmax(-1)
    answer, place = p.max(-1, keepdim=True)
    even = ((1 - answer) / 9).expand_as(p).scatter(1, place, answer)
    # Seen from a digit that is never the answer, no label says anything that it does not say of the other wrong digits.
    never_three = even[place[:, 0] != 3]
    wrong = torch.arange(10) != place[place[:, 0] != 3]
    spread = torch.where(wrong, never_three, math.nan)
    assert torch.equal(spread.nan_to_num(-1).amax(1), spread.nan_to_num(2).amin(1))


def test_quiz_last_epoch() -> None:
    runs = label_budget.results().query("epochs == 240")
    hard, soft = (runs[runs["kind"] == kind] for kind in ("hard labels", "soft labels, T = 20"))
    right_of_hard, right_of_soft = (torch.tensor(part["curve"].tolist()).mean(dim=0) for part in (hard, soft))
    assert (right_of_hard.argmax() + 1) * hard["every"].iloc[0] == 48
    assert right_of_soft.argmax() * soft["every"].iloc[0] > 100
    assert right_of_soft[-1] > right_of_hard[-1]
    assert hard["errors"].mean() + 2 < soft["errors"].mean()


def test_what_the_page_says_of_the_help_desk_is_what_the_log_says() -> None:
    log = read_log(help_desk_students.LOG).query("phase == 'result'")
    by_seed = 100 * log.pivot_table(index="seed", columns="arm", values="accuracy")
    page = words_of_page("01_dark_knowledge")
    gains = {
        (texts, name): paired_gain(by_seed, f"{more}, {texts}", f"{less}, {texts}")
        for texts in TEXTS
        for name, more, less in (
            ("both", "teacher's distribution", "sender's queue"),
            ("choice", "teacher's choice", "sender's queue"),
            ("doubts", "teacher's distribution", "teacher's choice"),
        )
    }
    points = {key: f"{gain['difference']:.1f} ± {gain['± 95%']:.1f}" for key, gain in gains.items()}
    alone, both = TEXTS
    pairs = by_seed[f"teacher's distribution, {alone}"] - by_seed[f"sender's queue, {alone}"]
    task = get_task("help-desk")
    manifest = json.loads((COURSE_MODELS / "help-desk-teacher" / "manifest.json").read_text())
    for passage in (
        f"the teacher's labels bring {points[both, 'both']} points**, in every seed, nearly all of them by its choice:"
        f" {points[both, 'choice']}. Its doubts add {points[both, 'doubts']}.",
        f"On the messages alone they bring {points[alone, 'both']}**",
        f"The five gains go from −{-pairs.min():.1f} to {pairs.max():.1f} points",
        f"the {len(task.data.train):,} training messages, or also {len(task.transfer_texts(unlabelled=False)[0]):,}",
        f"right on {100 * manifest['measured']['test_accuracy']:.1f}% of the test messages",
        f"beat the senders' by {gains[both, 'both']['difference']:.1f} points where windows are read, and by"
        f" {gains[both, 'choice']['difference']:.1f} if they are made hard",
    ):
        assert passage in page, passage
    for name in ("both", "choice", "doubts"):
        assert gains[both, name]["won"] == "5 of 5"
    runs = log[log["arm"].str.startswith("teacher")].groupby("arm")["learning_rate"].unique()
    assert all(list(rates) == [min(help_desk_students.GRID["learning_rate"])] for rates in runs)
