"""Notebook 00: its widgets, and the keys of its quiz."""

import re
from typing import Any

import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from distill_helpers import (
    DistillationConfig,
    DistillationLoss,
    TextClassifier,
    create_student,
    load_course_model,
)
from distill_helpers.course.folders import SOLUTIONS, SOURCES
from distill_helpers.course.notebooks import head_of
from distill_helpers.course.results import BEST, TEACHER, read_results, read_timing
from distill_helpers.course.tasks import SMALLEST, get_task
from distill_helpers.course.widgets.start_here import render_business_case, render_side_by_side
from distill_helpers.evaluation.measures import agreement, classification_metrics
from distill_helpers.losses.divergences import forward_kl


@pytest.fixture(scope="module")
def student() -> TextClassifier:
    return load_course_model("help-desk-student", device="cpu")


def test_side_by_side_agrees_with_itself(student: TextClassifier) -> None:
    markup = render_side_by_side("how do i change the font of an xterm", teacher=student, student=student)
    assert "They agree" in markup
    assert all(name in markup for name in student.label_names)
    answer = re.search(r"teacher says <b>(.*?)</b>", markup)
    assert answer
    assert answer[1] == "comp.windows.x"


def test_side_by_side_asks_for_a_message_and_refuses_other_classes(student: TextClassifier) -> None:
    assert "Type a message" in render_side_by_side("  ", teacher=student, student=student)
    other = create_student(student, ["some text"], vocab_size=200, teacher_embeddings=False)
    other.model.config.id2label = dict(enumerate("abcde"))
    with pytest.raises(ValueError, match="different classes"):
        render_side_by_side("text", teacher=student, student=other)


def test_the_business_case_of_the_story() -> None:
    markup = render_business_case(50_000, 1_000, 0.03, 0.001, 20_000)
    for figure in ("50,000 thousand", "$1,500 a day", "$50 a day", "30.0× cheaper", "a cut of 96.7%", "14 days"):
        assert figure in markup
    assert "10.0× cheaper, a cut of 90.0%" in render_business_case(50_000, 1_000, 0.03, 0.003, 20_000)


@pytest.mark.parametrize("requests", [1_000, 200_000])
@pytest.mark.parametrize("prices", [(0.001, 0.03), (0.06, 0.0), (0.03, 0.03)])
def test_the_business_case_over_its_range(requests: int, prices: tuple[float, float]) -> None:
    markup = render_business_case(requests, 4_000, *prices, 200_000)
    assert ("never pays" in markup) == (prices[1] >= prices[0])
    assert markup.startswith("<div class='mathjax_ignore tex2jax_ignore'>")  # dollars are no mathematics


def test_the_business_case_refuses_negative_numbers() -> None:
    with pytest.raises(ValueError, match=r"student_price .* -1"):
        render_business_case(1, 1, 1.0, -1.0, 0)
    with pytest.raises(ValueError, match=r"teacher_price .* 0"):
        render_business_case(1, 1, 0, 1.0, 0)


def test_quiz_what_it_minimised() -> None:
    assert SMALLEST.labels == "soft"
    assert get_task("help-desk").temperature == 2.0
    torch.manual_seed(0)
    student, teacher = torch.randn(8, 5), torch.randn(8, 5)
    loss = DistillationLoss(DistillationConfig(temperature=2.0, alpha=1.0))
    values = [loss(student, teacher, torch.full((8,), k))["total_loss"] for k in range(5)]
    assert all(torch.equal(value, values[0]) for value in values)
    assert loss(teacher, teacher)["total_loss"] == pytest.approx(0, abs=1e-6)
    assert values[0] > 0.01


def test_quiz_price_of_a_tenth() -> None:
    for price, words in ((0.003, "10.0× cheaper, a cut of 90.0%"), (0.001, "30.0× cheaper, a cut of 96.7%")):
        assert words in render_business_case(1_000, 1_000, 0.03, price, 0)


def test_quiz_parameters_and_speed() -> None:
    parameters = read_results("help-desk").groupby("model")["parameters"].mean()
    time = read_timing("help-desk")
    assert round(parameters[TEACHER] / parameters[BEST]) == 21
    assert round(time["teacher_latency_ms"] / time["student_latency_ms"], 1) == 9.5
    vocabulary, width = 30_522, 384  # of the teacher's encoder
    assert vocabulary * width > parameters[TEACHER] / 2


def test_quiz_agreement_measures() -> None:
    labels = torch.tensor([0, 1, 2])
    wrong = torch.eye(3)[(labels + 1) % 3]
    assert agreement(wrong, 9 * wrong) == 1.0
    assert not torch.allclose(wrong.softmax(-1), (9 * wrong).softmax(-1), atol=0.1)
    assert classification_metrics(wrong, labels.tolist())["accuracy"] == 0.0


def test_agreement_beyond_luck_is_cohens_kappa() -> None:
    """Exercise 00.3, its solution against scikit-learn."""
    source = (SOLUTIONS / "00_3.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(source, names)
    first, second = torch.randn(2, 200, 5, generator=torch.Generator().manual_seed(0)) + torch.tensor([2.0, 1, 0, 0, 0])
    kappa = cohen_kappa_score(first.argmax(-1), second.argmax(-1))
    assert kappa < agreement(first, second) - 0.2
    assert names["agreement_beyond_luck"](first, second) == pytest.approx(kappa)


def test_quiz_divergence_of_zero() -> None:
    torch.manual_seed(0)
    logits = torch.randn(64, 5, dtype=torch.float64)
    shifted = logits + torch.randn(64, 1)  # other logits, the same probabilities
    assert forward_kl(shifted.log_softmax(-1), logits.log_softmax(-1)).abs().max() < 1e-12
    assert agreement(shifted, logits) == 1.0
    same_answers = 2 * logits
    assert agreement(same_answers, logits) == 1.0
    assert forward_kl(same_answers.log_softmax(-1), logits.log_softmax(-1)).mean() > 0.01


def test_the_ways_through_name_sections_that_exist_and_hours_that_add_up() -> None:
    page = " ".join((SOURCES / "00_start_here.py").read_text("utf-8").replace("\n# ", "\n").split())
    ways = page.split("### Three ways through")[1].split("# %%")[0]
    linked = re.split(r"\[\d\d\]\((\w+)\.ipynb\)", ways.split("- **You have")[0])[1:]
    for name, text in zip(linked[::2], linked[1::2], strict=True):
        headings = re.findall(r"(?m)^# #+ (.*)$", (SOURCES / f"{name}.py").read_text("utf-8"))
        for section in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text):
            assert any(heading.startswith(section) for heading in headings), section
    heads = [head_of(source) for source in SOURCES.glob("*.py")]
    hours = [sum(head.reading for head in heads) / 60, sum(head.exercises for head in heads) / 60]
    assert round(sum(hours)) == 12
    assert 0.44 < hours[1] / sum(hours) < 0.5
