"""Notebook 04: its widget, its wrong labels, and the keys of its quiz."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from distill_helpers import DistillationConfig, DistillationLoss, forward_kl, mean_divergence, reverse_kl
from distill_helpers.course.experiments import language_model_arms
from distill_helpers.course.experiments.alpha import corrupt
from distill_helpers.course.quiz import Question, load_quiz
from distill_helpers.course.widgets.distillation_loss import GRID, bell, fit_bell, mean_and_sd, render_modes, two_peaks
from distill_helpers.course.widgets.simplex import LABEL, TEACHERS, descent, pull, render_simplex
from distill_helpers.data.corpora import load_grimm_tales


def rows(markup: str) -> dict[str, list[str]]:
    """The table's cells by the name of their line: mean, sd, entropy, share right of 0, what is held."""
    found = re.findall(r"<tr><th scope='row'[^>]*>(.*?)</th>(.*?)</tr>", markup)
    return {name: re.findall(r"<td>(.*?)</td>", cells) for name, cells in found}


@pytest.mark.slow
@pytest.mark.parametrize("distance", [0.0, 3.0, 6.0])
@pytest.mark.parametrize("right_weight", [0.1, 0.5, 0.9])
def test_modes_over_the_whole_range(distance: float, right_weight: float) -> None:
    for beta in (0.0, 0.6, 1.0):
        markup = render_modes(distance, right_weight, beta)
        table = rows(markup)
        assert list(table) == ["teacher", "forward KL", f"JSD, β = {beta:g}", "reverse KL"]
        assert "-0.0" not in markup
        assert "nan" not in markup.split("alt=")[1]
        assert table["forward KL"][-1] == table["teacher"][-1] == "both peaks"
        if distance == 6:
            assert table["reverse KL"][-1] == "one peak"
        if beta in (0.0, 1.0):
            assert table[f"JSD, β = {beta:g}"] == table["reverse KL" if beta else "forward KL"]


@pytest.mark.parametrize("right_weight", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("distance", [1.0, 3.5, 6.0])
def test_forward_kl_takes_over_mean_and_width(distance: float, right_weight: float) -> None:
    teacher = two_peaks(distance, right_weight)
    assert mean_and_sd(fit_bell(teacher, "forward_kl")) == pytest.approx(mean_and_sd(teacher), abs=0.05)


@pytest.mark.parametrize(("right_weight", "peak"), [(0.3, -2.5), (0.8, 2.5), (0.5, -2.5)])
def test_reverse_kl_takes_the_larger_peak_and_of_equal_ones_the_left(right_weight: float, peak: float) -> None:
    mean, sd = mean_and_sd(fit_bell(two_peaks(5.0, right_weight), "reverse_kl"))
    assert mean == pytest.approx(peak, abs=0.05)
    assert sd == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_no_bell_of_a_lattice_is_closer_than_the_fit(divergence: str) -> None:
    function = {"forward_kl": forward_kl, "reverse_kl": reverse_kl}[divergence]
    teacher = two_peaks(4.0, 0.6)
    means = torch.linspace(-4, 4, 41).repeat_interleave(30).unsqueeze(1)
    bells = bell(means, torch.linspace(-1, 1.5, 30).repeat(41).unsqueeze(1))
    best = float(function(bells, teacher.expand_as(bells)).min())
    assert float(function(fit_bell(teacher, divergence), teacher)) <= best + 1e-3


def test_distributions_sum_to_one_on_the_grid() -> None:
    for log_p in (two_peaks(6.0, 0.1), bell(7.9, 1.0), bell(0.0, -1.0)):
        assert log_p.shape == GRID.shape
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ((-0.5, 0.5, 0.5), r"distance .* -0\.5"),
        ((6.5, 0.5, 0.5), r"distance .* 6\.5"),
        ((3.0, 0.0, 0.5), r"right_weight .* 0\.0"),
        ((3.0, 1.0, 0.5), r"right_weight .* 1\.0"),
        ((3.0, 0.5, 1.5), r"beta .* 1\.5"),
        ((3.0, 0.5, -0.1), r"beta .* -0\.1"),
    ],
)
def test_modes_refuse_what_does_not_exist(parameters: tuple[float, float, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        render_modes(*parameters)


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("temperature", [0.5, 1, 8])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_triangle_pulls_against_the_gradient_of_the_loss(temperature: float, alpha: float, teacher: str) -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    loss = DistillationLoss(DistillationConfig(temperature=temperature, alpha=alpha))
    v, label = torch.tensor(TEACHERS[teacher]).log().expand(6, 3), torch.zeros(6, dtype=torch.long)
    loss(logits, v if alpha > 0 else None, label if alpha < 1 else None)["total_loss"].backward()
    found = pull(logits.detach().numpy(), temperature, alpha, teacher)
    np.testing.assert_allclose(found, -6 * logits.grad.numpy(), atol=1e-5)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_at_t_1_the_student_of_the_triangle_ends_on_the_line_and_there_nothing_pulls(teacher: str) -> None:
    for alpha in (0.2, 0.5, 1.0):
        path = descent(1, alpha, teacher)
        np.testing.assert_allclose(path[0], 1 / 3)
        np.testing.assert_allclose(path[-1], alpha * TEACHERS[teacher] + (1 - alpha) * LABEL, atol=7e-3)
        assert np.abs(pull(np.log(path[-1]), 1, alpha, teacher)).max() < 7e-3


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize(("temperature", "alpha"), [(0.5, 0.0), (1, 0.5), (20, 1.0)])
def test_the_triangle_over_its_range(temperature: float, alpha: float, teacher: str) -> None:
    markup, end = render_simplex(temperature, alpha, teacher), descent(temperature, alpha, teacher)[-1]
    assert rows(markup)["student"] == [f"{share:.1%}" for share in end]
    assert f"student Billing {end[0]:.0%}, Returns {end[1]:.0%}, Technical {end[2]:.0%}" in markup


@pytest.mark.parametrize(("parameters", "named"), [((0, 0.5), "above 0, got 0"), ((1, 1.5), r"\[0, 1\], got 1\.5")])
def test_the_triangle_refuses_what_does_not_exist(parameters: tuple[float, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        render_simplex(*parameters)


def test_a_share_of_the_labels_becomes_wrong() -> None:
    labels = torch.arange(1000) % 10
    wrong = corrupt(labels, 0.2, seed=1)
    assert int((wrong != labels).sum()) == 200
    assert set(wrong.tolist()) == set(range(10))
    assert torch.equal(wrong, corrupt(labels, 0.2, seed=1))
    assert not torch.equal(wrong, corrupt(labels, 0.2, seed=2))
    assert torch.equal(corrupt(labels, 0.0, seed=1), labels)
    with pytest.raises(ValueError, match=r"got 1\.5"):
        corrupt(labels, 1.5, seed=0)


@pytest.mark.slow
def test_the_random_logits_of_page_04_are_spread_like_those_of_the_courses_language_model() -> None:
    teacher = language_model_arms.teacher()
    token_ids = torch.tensor([teacher.tokenizer(load_grimm_tales().test[0])["input_ids"][:64]])
    with torch.no_grad():
        logits = teacher.model(token_ids).logits[0].float()
    assert logits.shape[-1] > 32_768
    assert 3.5 < float(logits.std(dim=-1).mean()) < 4.5  # the page draws them with 4


def key(name: str) -> str:
    questions: dict[str, Question] = {question.name: question for question in load_quiz("04_distillation_loss")}
    return next(choice.text for choice in questions[name].choices if choice.right)


def test_quiz_entropy() -> None:
    # Any pair of distributions: the difference of the two losses is the entropy.
    log_p, log_q = torch.tensor([0.6, 0.4]).log(), torch.tensor([0.3, 0.7]).log()
    cross_entropy, entropy = -(log_p.exp() * log_q).sum(), -(log_p.exp() * log_p).sum()
    assert float(forward_kl(log_q, log_p)) == pytest.approx(float(cross_entropy - entropy))
    assert key("entropy") == f"{0.9 - 0.6:.1f} nats"


def test_quiz_argument_order() -> None:
    a, b = torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])
    found = F.kl_div(a.log(), b, reduction="sum")
    torch.testing.assert_close(found, (b * (b / a).log()).sum())
    assert key("argument_order") == "KL(b‖a)"


def test_quiz_padding() -> None:
    logits = torch.zeros(1, 512, 4).requires_grad_()
    teacher = torch.tensor([2.0, 0.0, 0.0, 0.0]).expand(1, 512, 4)
    mean_divergence(logits, teacher).backward()
    assert logits.grad is not None
    size = logits.grad.abs().sum(dim=-1)[0]
    assert key("padding") == f"{100 * float(size[64:].sum() / size.sum()):.1f}%"


def test_quiz_reverse_kl() -> None:
    mean, sd = mean_and_sd(fit_bell(two_peaks(5.0, 0.6), "reverse_kl"))
    assert mean - 2 * sd > 0  # right of the valley: long
    assert key("reverse_kl") == "long answers"


def test_quiz_mixed_label() -> None:
    loss = DistillationLoss(DistillationConfig(temperature=1.0, alpha=0.7))
    teacher, label = torch.zeros(1, 2), torch.tensor([0])

    def pull(probability: float) -> float:
        student = torch.tensor([[probability, 1 - probability]]).log().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(student, teacher, label)["total_loss"], student)
        return float(gradient.abs().max())

    still = float(key("mixed_label"))
    assert pull(still) < 1e-6
    assert min(pull(still - 0.1), pull(still + 0.1)) > 0.05
