"""Notebook 03: its widget, its suspects, and the keys of its quiz."""

import re

import pytest
import torch

from distill_helpers import mean_divergence
from distill_helpers.course.exercises.t_squared import SUSPECTS, factor_of
from distill_helpers.course.experiments.t_squared import without_t_squared
from distill_helpers.course.widgets.t_squared import PAIRS, render_t_squared, soft_target_numbers
from distill_helpers.losses.soft_targets import soft_target_divergence


def logits(pair: str) -> tuple[torch.Tensor, torch.Tensor]:
    z, v = (torch.tensor(values, dtype=torch.float64) for values in PAIRS[pair])
    return z, v


def gradient(z: torch.Tensor, v: torch.Tensor, temperature: float) -> torch.Tensor:
    """By autograd, of the KL without T², in double precision."""
    leaf = z.double().requires_grad_()
    log_p, log_q = (v.double() / temperature).log_softmax(-1), (leaf / temperature).log_softmax(-1)
    return torch.autograd.grad((log_p.exp() * (log_p - log_q)).sum(), leaf)[0]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("temperature", [2.0**k for k in (-2, 0, 1.5, 4, 6)])
def test_the_widget_over_its_whole_range(pair: str, temperature: float) -> None:
    markup = render_t_squared(temperature, pair)
    z, v = logits(pair)
    norm = float(gradient(z, v, temperature).norm())
    assert f"<td>{norm:.3g}</td>" in markup
    assert f"<td>{temperature**2 * norm:.3g}</td>" in markup
    assert f"T = {temperature:.3g}" in markup
    assert len(re.findall(r"<img [^>]*alt='[^']{20,}'", markup)) == 2


@pytest.mark.parametrize("pair", PAIRS)
def test_the_numbers_tend_to_their_limits(pair: str) -> None:
    z, v = logits(pair)
    far = soft_target_numbers(z, v, 1000.0)
    assert 1000.0**2 * far.gradient == pytest.approx(far.gradient_limit, rel=0.01)
    assert far.kl == pytest.approx(far.kl_limit, rel=0.01)
    near = soft_target_numbers(z, v, 1.0)
    assert near.kl == near.kl_claimed
    package = soft_target_divergence(z, v, temperature=4.0, t_squared=False)
    assert soft_target_numbers(z, v, 4.0).kl == pytest.approx(float(package), rel=1e-3)


def test_the_numbers_do_not_see_a_shift_and_scale_with_the_logits() -> None:
    z, v = logits("student before training")
    here, shifted = soft_target_numbers(z, v, 2.0), soft_target_numbers(z + 7, v - 3, 2.0)
    assert shifted.gradient == pytest.approx(here.gradient)
    assert shifted.kl_limit == pytest.approx(here.kl_limit)
    scaled = soft_target_numbers(3 * z, 3 * v, 6.0)
    assert scaled.gradient == pytest.approx(here.gradient / 3)
    assert scaled.kl == pytest.approx(here.kl)


def test_the_widget_refuses_what_it_cannot_show() -> None:
    name = next(iter(PAIRS))
    for temperature in (0.0, 0.1, 65.0, float("nan")):
        with pytest.raises(ValueError, match=f"got {temperature}"):
            render_t_squared(temperature, name)
    with pytest.raises(ValueError, match="unknown pair 'nothing'"):
        render_t_squared(1.0, "nothing")
    for temperature in (-1.0, 0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"positive, finite number, got {temperature}"):
            soft_target_numbers(*logits(name), temperature)


def test_one_suspect_has_t_squared_one_has_t_and_one_has_nothing() -> None:
    for temperature in (2.0, 5.0):
        factors = sorted(factor_of(loss, temperature, seed=3) for loss in SUSPECTS.values())
        assert factors == pytest.approx([1.0, temperature, temperature**2], rel=1e-3)


def test_the_factor_of_a_loss_has_its_sign() -> None:
    def uphill(z: torch.Tensor, v: torch.Tensor, temperature: float) -> torch.Tensor:
        return -(temperature**2) * mean_divergence(z, v, temperature=temperature, t_squared=False)

    assert factor_of(uphill, 3.0) == pytest.approx(-9.0, rel=1e-3)


def test_leaving_t_squared_out_is_another_alpha_and_another_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    z, v = torch.randn(2, 6, 4, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    hard = torch.nn.functional.cross_entropy(z, labels)
    for alpha in (0.1, 0.5, 1.0):
        config, scale = without_t_squared(3.0, alpha)
        bare = mean_divergence(z, v, temperature=3.0, t_squared=False)
        ours = config.alpha * mean_divergence(z, v, temperature=3.0) + (1 - config.alpha) * hard
        torch.testing.assert_close(alpha * bare + (1 - alpha) * hard, scale * ours)


def test_quiz_exact_power() -> None:
    z, v = logits("the table's pair")
    for temperature in (0.5, 1.0, 4.0, 64.0):
        apart = (z / temperature).softmax(-1) - (v / temperature).softmax(-1)
        torch.testing.assert_close(gradient(z, v, temperature), apart / temperature)


def test_quiz_one_to_two() -> None:
    z, v = logits("both sure of one class")
    assert (z.tolist(), v.tolist()) == ([10, 0, 0, -1, -2], [10, 5, 2, -3, -4])
    assert soft_target_numbers(z, v, 2.0).kl > 4 * soft_target_numbers(z, v, 1.0).kl


def test_quiz_large_against_what() -> None:
    z, v = logits("the table's pair")

    def share(z: torch.Tensor, v: torch.Tensor, temperature: float) -> float:
        numbers = soft_target_numbers(z, v, temperature)
        return temperature**2 * numbers.gradient / numbers.gradient_limit

    assert share(z + 100, v + 100, 2.0) == pytest.approx(share(z, v, 2.0))  # not the largest logit
    assert share(5 * z, 5 * v, 10.0) == pytest.approx(share(z, v, 2.0))  # the ratio of spread to T
    assert share(z / 100, v / 100, 1.0) > 0.99  # not 1
    assert share(10 * z, 10 * v, 10.0) < 0.5
    doubled = share(z.repeat(2), v.repeat(2), 2.0)  # not the number of classes: the same logits twice
    assert doubled == pytest.approx(share(z, v, 2.0))


def test_quiz_which_alpha() -> None:
    config, _ = without_t_squared(4.0, 0.5)
    assert round(config.alpha, 2) == 0.06


def test_quiz_adamw() -> None:
    generator = torch.Generator().manual_seed(0)
    x, v = torch.randn(64, 6, generator=generator).double(), torch.randn(64, 4, generator=generator).double()

    def trained(optimizer: type[torch.optim.Optimizer], t_squared: float, **options: float) -> torch.Tensor:
        weights = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
        step = optimizer([weights], lr=0.01, **options)
        for _ in range(50):
            log_p, log_q = (v / 16).log_softmax(-1), (x @ weights / 16).log_softmax(-1)
            step.zero_grad()
            (t_squared * (log_p.exp() * (log_p - log_q)).sum(-1).mean()).backward()
            step.step()
        return weights.detach()

    def apart(optimizer: type[torch.optim.Optimizer], **options: float) -> float:
        with_it, without = (trained(optimizer, factor, **options) for factor in (256.0, 1.0))
        return float((with_it - without).abs().max() / with_it.abs().max())

    assert apart(torch.optim.AdamW, eps=1e-16, weight_decay=0.1) < 1e-6  # the decay does not see the factor
    assert apart(torch.optim.AdamW, eps=1e-8) < 0.05
    assert apart(torch.optim.SGD) > 0.9
