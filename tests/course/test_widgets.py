import re

import ipywidgets
import pytest
import torch

from distill_helpers import TextClassifier, create_student, load_course_model
from distill_helpers.course.widgets import live, render_business_case, render_side_by_side, render_soft_targets

NAMES = ("graphics", "windows", "mac")
TARGETS = {
    "texts": ["how do <i>i</i> install it", "which card"],
    "labels": [1, 0],
    "names": NAMES,
    "logits": torch.tensor([[1.0, 5.0, 0.0], [4.0, 3.5, -2.0]]),
}


@pytest.fixture(scope="module")
def student() -> TextClassifier:
    return load_course_model("help-desk-student", device="cpu")


def bits(markup: str) -> float:
    found = re.search(r"label, ([\d.]+) of at most", markup)
    assert found
    return float(found[1])


def test_live_renders_at_once_and_whenever_a_control_changes() -> None:
    box = live(lambda n: f"<p>{n}</p>", n=ipywidgets.IntSlider(3, 0, 9))
    assert box.children[-1].value == "<p>3</p>"
    box.children[0].value = 7
    assert box.children[-1].value == "<p>7</p>"


def test_an_error_in_a_render_function_is_not_swallowed() -> None:
    box = live(lambda n: f"<p>{6 // n}</p>", n=ipywidgets.IntSlider(3, 0, 9))
    with pytest.raises(ZeroDivisionError):
        box.children[0].value = 0


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
    with pytest.raises(ValueError, match=r"got 0\.0"):
        render_soft_targets(0, 0.0, **TARGETS)


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


def test_the_business_case_refuses_negative_numbers() -> None:
    with pytest.raises(ValueError, match=r"student_price .* -1"):
        render_business_case(1, 1, 1.0, -1.0, 0)
    with pytest.raises(ValueError, match=r"teacher_price .* 0"):
        render_business_case(1, 1, 0, 1.0, 0)
