"""Notebook 02: its widgets, and the keys of its quiz."""

import math
import re

import pytest
import torch

from distill_helpers.course.experiments import capacity
from distill_helpers.course.quiz import load_quiz
from distill_helpers.course.widgets.temperature import render_reliability, render_temperature
from distill_helpers.evaluation.measures import classification_metrics

NAMES = ("graphics", "windows", "mac")
TARGETS = {
    "texts": ["how do <i>i</i> install it", "which card"],
    "names": NAMES,
    "logits": torch.tensor([[1.0, 5.0, 0.0], [4.0, 3.5, -200.0]]),
}
TEMPERATURES = [0.25, 0.5, 1.0, 2.0, 4.0, 16.0, 32.0]


def key(name: str) -> str:
    (question,) = [q for q in load_quiz("02_temperature") if q.name == name]
    (choice,) = [c for c in question.choices if c.right]
    return f"{choice.text} {choice.why}"


# Widgets


@pytest.mark.parametrize("message", range(2))
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_message_over_the_whole_range(message: int, temperature: float) -> None:
    markup = render_temperature(message, temperature, **TARGETS)
    z = TARGETS["logits"][message].double()
    first, second = ("windows", "graphics") if message == 0 else ("graphics", "windows")
    gap = float(z.topk(2).values[0] - z.topk(2).values[1])
    assert f"<b>{first}</b>, at every T" in markup
    assert f"Second: {second}, {gap:.2f} logits below" in markup
    p = (z / temperature).softmax(-1)
    assert f"<b>{float(torch.special.entr(p).sum()) / math.log(2):.2f}</b> of at most 1.58 bits" in markup
    for share in p.tolist():
        assert f"{100 * share:.0f}%" in markup
    ratio = re.search(r"exp\(.*?\) = <b>(.*?)</b>", markup)
    assert ratio
    if math.exp(gap / temperature) < 1e6:
        assert float(ratio[1].replace(",", "")) == pytest.approx(float(p.max() / p.topk(2).values[1]), abs=0.006)
    else:
        assert ratio[1] == f"10^{gap / temperature / math.log(10):.0f}"
    assert "<i>" not in markup


def test_a_ratio_too_large_to_print_is_a_power_of_ten() -> None:
    far = TARGETS | {"logits": torch.tensor([[900.0, 0.0, 0.0], [0.0, 0.0, 0.0]])}
    assert "<b>10^1563</b>" in render_temperature(0, 0.25, **far)


def test_a_message_that_does_not_exist_and_a_bad_temperature_are_refused() -> None:
    for message in (2, -1):
        with pytest.raises(ValueError, match=f"message .* got {message}"):
            render_temperature(message, 1.0, **TARGETS)
    for temperature in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match=f"temperature .* got {temperature}"):
            render_temperature(0, temperature, **TARGETS)
        with pytest.raises(ValueError, match=f"temperature .* got {temperature}"):
            render_reliability(temperature, logits=torch.eye(2), labels=[0, 1])


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_reliability_over_the_whole_range(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(300, 5, generator=generator)
    labels = torch.multinomial((logits / 2).softmax(-1), 1, generator=generator).squeeze(1).tolist()
    markup = render_reliability(temperature, logits=logits, labels=labels)
    row = classification_metrics(logits / temperature, labels)
    assert f"NLL {row['nll']:.3f} nats, ECE {100 * row['ece']:.1f}%, accuracy {100 * row['accuracy']:.1f}%" in markup
    gap = (logits / temperature).softmax(-1).amax(-1).mean() - row["accuracy"]
    assert ("overconfident on average" if gap > 0 else "underconfident on average") in markup
    assert "data:image/png;base64," in markup
    assert "alt='Reliability diagram" in markup


def test_reliability_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(1,\)"):
        render_reliability(1.0, logits=torch.eye(2), labels=[0])


# Keys


def test_quiz_ratio() -> None:
    z = torch.tensor([4.0, 0.0, 1.7])
    cold, hot = z.softmax(-1), (z / 4).softmax(-1)
    assert float(cold[0] / cold[1]) == pytest.approx(54.6, abs=0.05)
    assert f"{float(hot[0] / hot[1]):.2f} times" in key("ratio")


def test_quiz_accuracy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(1000, 5, generator=generator, dtype=torch.float64)
    labels = [i % 5 if i < 780 else (i + 1) % 5 for i in range(1000)]
    logits[range(1000), [i % 5 for i in range(1000)]] += 50  # the answer is i % 5, right on 780 of 1,000
    for temperature in (1, 10):
        assert classification_metrics(logits / temperature, labels)["accuracy"] == 0.78
    assert key("accuracy").startswith("78%")


def test_quiz_longer() -> None:
    table = capacity.summary()
    costs, losses = (
        [table.loc[capacity.Arm(16, 20, epochs).name, column] for epochs in (60, 960)]
        for column in ("more than T = 1", "train KL, T = 20")
    )
    (question,) = [q for q in load_quiz("02_temperature") if q.name == "longer"]
    assert f"{costs[0]:.0f} more after 60 epochs, {costs[1]:.0f} more after 960" in question.text
    assert losses[1] < losses[0]
    assert key("longer").startswith("Unfinished training may be part of the gap")


def test_quiz_information() -> None:
    z = torch.tensor([4.0, 1.0, 0.5, -2.0, -3.0], dtype=torch.float64)
    low, high = (z / 2).softmax(-1), (z / 16).softmax(-1)
    torch.testing.assert_close((high.log() * 16 / 2).softmax(-1), low)
    torch.testing.assert_close((low.log() * 2 / 16).softmax(-1), high)
    assert torch.special.entr(high).sum() > torch.special.entr(low).sum()
    assert "can be computed from the other" in key("information")
