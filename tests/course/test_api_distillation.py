"""Notebook 08: its widgets, and the keys of its quiz."""

import re
from datetime import date

import numpy as np
import pytest

from distill_helpers.api import TeacherAnswer, Usage, estimate_api_distillation_cost, load_prices
from distill_helpers.api.costs.price_table import Price, PriceTable
from distill_helpers.api.labels.label_bias import batch_calibrated, matched_to_prior
from distill_helpers.course.experiments.fair_arms import paired_gain
from distill_helpers.course.experiments.queue_teacher import read_answers
from distill_helpers.course.experiments.weak_teacher import ALONE, ARMS, REFERENCES, results, summary
from distill_helpers.course.folders import ROOT, SOURCES
from distill_helpers.course.quiz import Question, load_quiz
from distill_helpers.course.widgets.api_distillation import render_cost, render_trust, right_by_share
from distill_helpers.data.corpora import load_help_desk

TODAY = date.today()
STRONG = list(REFERENCES.values())[-1]
PRICES = PriceTable(
    [
        Price("openai", "large", 2.0, 1.0, 2.0, 10.0, TODAY, "https://example.org/a", 0.5),
        Price("openai", "small & <cheap>", 0.2, 0.1, 0.2, 1.0, TODAY, "https://example.org/b"),
        Price("anthropic", "other", 1.0, 0.1, 1.25, 5.0, TODAY, "https://example.org/c", 0.5),
    ]
)


@pytest.mark.parametrize("n_examples", [1, 10_000, 1_000_000])
@pytest.mark.parametrize("system_prompt_tokens", [0, 900, 4000])
@pytest.mark.parametrize("cached_share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("batch", [False, True])
def test_the_bill_over_its_whole_range(n_examples, system_prompt_tokens, cached_share, batch) -> None:
    markup = render_cost("large", n_examples, system_prompt_tokens, 5, cached_share, batch, prices=PRICES)
    cost = estimate_api_distillation_cost(
        n_examples,
        60,
        5,
        "large",
        system_prompt_tokens=system_prompt_tokens,
        cached_share=cached_share,
        batch=batch,
        prices=PRICES,
    )
    for part in ("input", "output", "total"):
        assert f"<b>${cost[f'{part}_cost_usd']:,.2f}</b>" in markup
    assert f"{n_examples:,} requests" in markup
    assert "other" not in markup  # another provider's
    assert ("small &amp; &lt;cheap&gt;" in markup) == (not batch)  # it has no batch price


def test_the_bill_is_made_of_the_packages_prices_and_refuses_what_has_none() -> None:
    for price in load_prices():
        assert f"<b>{price.model}</b>" in render_cost(price.model, 10, 100, 5, 0.0, False)
    with pytest.raises(ValueError, match="gpt-9"):
        render_cost("gpt-9", 10, 100, 5, 0.0, False)
    with pytest.raises(ValueError, match="n_examples"):
        render_cost("large", 0, 100, 5, 0.0, False, prices=PRICES)


P = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
LABELS = np.array([0, 1, 0, 1])


def trust(share: float, calibrated: bool) -> str:
    return render_trust(share, calibrated, probabilities=P, labels=LABELS, names=("Mac", "a & b"))


def test_calibration_makes_the_mean_log_probabilities_equal_and_not_the_mean_probabilities() -> None:
    calibrated = batch_calibrated(read_answers("train", load_help_desk()).probabilities)
    assert np.ptp(np.log(calibrated).mean(axis=0)) < 1e-9
    assert 0.01 < np.ptp(calibrated.mean(axis=0)) < 0.1


def test_how_right_the_surest_are() -> None:
    np.testing.assert_allclose(right_by_share(P, LABELS), [1, 1 / 2, 2 / 3, 1 / 2])


@pytest.mark.parametrize(
    ("share", "calibrated", "right", "counts"),
    [
        (1.0, False, 50, [(2, 4), (2, 0)]),
        (0.5, False, 50, [(1, 2), (1, 0)]),
        (0.25, False, 100, [(1, 1), (0, 0)]),
        (0.01, False, 100, [(1, 1), (0, 0)]),
        (1.0, True, 50, [(2, 2), (2, 2)]),
    ],
)
def test_trust_over_its_range(share, calibrated, right, counts) -> None:
    markup = trust(share, calibrated)
    assert f"are right in {right}% of cases" in markup
    assert re.search(r"<img [^>]*alt='[^']{20,}'", markup)
    cells = re.findall(r"</th><td>(\d+)</td><td>(\d+)</td></tr>", markup)
    assert [(int(a), int(b)) for a, b in cells] == counts
    assert "a &amp; b" in markup


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_trust_refuses_a_share_out_of_range(share) -> None:
    with pytest.raises(ValueError, match=rf"got {share}"):
        trust(share, False)


def test_the_reading_says_what_the_log_says() -> None:
    """The words of the notebook that are figures: means over five seeds, in points."""
    table, runs = summary(), results()
    mean, ece, right = table["mean"], table["ECE %"], table["teacher right %"]
    by_seed = 100 * runs.pivot_table(index="seed", columns="arm", values="accuracy")
    beside = [name for name, arm in ARMS.items() if arm.verified and arm.alpha]
    at_half, at_tenth, surest = (paired_gain(by_seed, name, ALONE) for name in beside)
    raw, likeliest = mean["log-probabilities"], "calibrated, likeliest queue"
    steps = [("log-probabilities", "as written"), ("calibrated", "log-probabilities")]
    steps += [(likeliest, "log-probabilities"), ("calibrated", likeliest)]
    added, calibrating, by_queue, by_softness = (
        f"{gain['difference']:.1f} ± {gain['± 95%']:.1f}" for gain in (paired_gain(by_seed, *pair) for pair in steps)
    )
    page = " ".join((SOURCES / "08_api_distillation.py").read_text(encoding="utf-8").replace("\n# ", "\n").split())
    page = page.replace("−", "-")
    for passage in (
        f"Raw probabilities add {added}, which is nothing",
        f"worth twelve points ({calibrating})",
        f"Of them {by_queue} come with the likeliest queue alone, and {by_softness} with the *soft* labels.",
        f"its student in {mean['calibrated']:.0f}% of all 1,952",
        f"Of the surest half {right['calibrated, surest half']:.0f}% are right instead of {right['calibrated']:.0f}%",
        f"of nothing else have {mean[ALONE]:.0f}.",
        f"cost {-at_half['difference']:.1f} ± {at_half['± 95%']:.1f} at alpha 0.5, in every seed",
        f"At 0.1 the difference is {at_tenth['difference']:.1f} ± {at_tenth['± 95%']:.1f}, with its surest half"
        f" {surest['difference']:.1f} ± {surest['± 95%']:.1f}:",
        f"an ECE of {ece[beside].min():.0f} to {ece[beside].max():.0f}% in all three rows instead of {ece[ALONE]:.0f}%",
        f"a teacher that was trained for the job has {mean[STRONG]:.0f}.",
        f"on all true labels has {mean['all true labels']:.0f}, on our own teacher's logits {mean[STRONG]:.0f}.",
        f"a tenth of true labels *alone* gives {mean[ALONE]:.0f}.",
        f"with {mean['calibrated']:.0f}, is {mean[STRONG] - mean['calibrated']:.0f} points below the student of our",
        f"The filter brings nothing back ({mean['calibrated, surest half']:.0f}).",
        f"True labels for one message in ten bring it to {mean[beside[1]]:.0f}, which these labels reach alone.",
        f"written answers alone give {mean['as written']:.0f}",
        f"{mean['calibrated']:.0f} points where 251 true labels alone give {mean[ALONE]:.0f}.",
    ):
        assert passage in page, passage
    assert mean["as written"] == pytest.approx(100 / 3, abs=2)
    assert round(mean["calibrated"] - raw) == 12
    assert (round(mean["calibrated"] - mean["as written"]), round(mean[STRONG] - mean["as written"])) == (13, 41)
    assert mean["calibrated, surest half"] < mean["calibrated"]
    verified = [round(mean[name] - mean["calibrated"]) for name in beside]
    assert (min(verified), max(verified)) == (4, 12)
    assert at_half["won"] == "0 of 5"
    assert all(abs(gain["difference"]) < gain["± 95%"] for gain in (at_tenth, surest))
    of_test = read_answers("test", load_help_desk())
    of_teacher = 100 * (batch_calibrated(of_test.probabilities).argmax(axis=1) == of_test.labels).mean()
    assert f"calibrated teacher is right in {of_teacher:.0f}% of its 400 test messages" in page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (
        f"the teacher has {right['calibrated']:.0f}% of the training messages right, and {of_teacher:.0f}% of 400"
        in readme
    )
    assert f"alone {mean[ALONE]:.0f}%; the teacher's answers beside these labels cost" in readme
    assert f"cost {-at_half['difference']:.1f} ± {at_half['± 95%']:.1f} points at alpha 0.5" in readme


def key(name: str) -> str:
    questions: dict[str, Question] = {question.name: question for question in load_quiz("08_api_distillation")}
    return next(choice.text for choice in questions[name].choices if choice.right)


def test_quiz_kill() -> None:
    # The test of a hundred kills asserts it: tests/api/collecting/test_collector.py.
    assert key("kill") == "at most 8"


def test_quiz_truncated() -> None:
    assert not TeacherAnswer("half a sen", "length", "m", Usage()).usable
    assert key("truncated") == "it is kept in the journal and counted, but becomes no training example"


def test_quiz_off_label() -> None:
    masses = np.array([0.30, 0.10])
    shares = masses / masses.sum()
    assert key("off_label") == f"({shares[0]:.2f}, {shares[1]:.2f}), off-label mass {1 - masses.sum():.2f}"


def test_quiz_bias() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random(2000) > 0.9).astype(int)
    scores = 2.0 * np.eye(2)[labels] + generator.normal(size=(2000, 2))
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    def right(q: np.ndarray) -> float:
        return float((q.argmax(1) == labels).mean())

    assert right(batch_calibrated(p)) < right(p) - 0.05
    assert right(matched_to_prior(p, [0.9, 0.1])) > right(p) - 0.01
    assert key("bias") == "the labels get worse: calibration takes the frequent class for a bias"


def test_quiz_samples() -> None:
    assert key("samples") == f"{(0.8 * 0.2 / 5) ** 0.5:.2f}"


def test_quiz_prompt() -> None:
    table = PriceTable([Price("openai", "m", 2.0, 0.2, 2.0, 10.0, TODAY, "https://example.org", 0.5)])

    def cost(answer: int = 5, system: int = 2_000, **options) -> float:
        return estimate_api_distillation_cost(
            100_000, 60, answer, "m", system_prompt_tokens=system, prices=table, **options
        )["total_cost_usd"]

    left = {
        "answers of 1 token instead of 5": cost(answer=1) / cost(),
        "a prompt of 700 tokens instead of 2,000": cost(system=700) / cost(),
        "the batch API and nine tenths of the prompt from the cache": cost(batch=True, cached_share=0.9) / cost(),
    }
    assert min(left, key=left.get) == key("prompt")
    assert left["answers of 1 token instead of 5"] == pytest.approx(0.99, abs=0.005)
    assert left["a prompt of 700 tokens instead of 2,000"] < 0.5
    assert left[key("prompt")] == pytest.approx(1 / 9, abs=0.005)
