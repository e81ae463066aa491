"""Checks of notebook 03's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare
from distill_helpers.losses.soft_targets import soft_target_divergence

__all__ = ["CHECKS", "SUSPECTS", "factor_of"]

SoftLoss = Callable[[Tensor, Tensor, float], Tensor]


# These three functions have no docstrings. The notebook prints them, and a docstring would give the answer away.
def loss_a(z: Tensor, v: Tensor, temperature: float) -> Tensor:
    log_q = F.log_softmax(z / temperature, dim=-1)
    p = F.softmax(v / temperature, dim=-1)
    return temperature * F.kl_div(log_q, p, reduction="batchmean")


def loss_b(z: Tensor, v: Tensor, temperature: float) -> Tensor:
    student = F.log_softmax(z / temperature, dim=-1)
    teacher = F.log_softmax(v / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * (temperature * temperature)


def loss_c(z: Tensor, v: Tensor, temperature: float) -> Tensor:
    log_q, log_p = (z / temperature).log_softmax(-1), (v / temperature).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


#: The losses that the reader judges, in the order of the notebook.
SUSPECTS: dict[str, SoftLoss] = {"loss_a": loss_a, "loss_b": loss_b, "loss_c": loss_c}


def _constant_scaled(z: Tensor, v: Tensor, temperature: float) -> Tensor:
    log_q, log_p = (z / temperature).log_softmax(-1), (v / temperature).log_softmax(-1)
    return (temperature**2 * log_p.exp() * log_p - log_p.exp() * log_q).sum(-1).mean()


def _by_cross_entropy(z: Tensor, v: Tensor, temperature: float) -> Tensor:
    p = (v / temperature).softmax(-1)
    return temperature**2 * (F.cross_entropy(z / temperature, p) - torch.special.entr(p).sum(-1).mean())


def _value_alone(z: Tensor, v: Tensor, temperature: float) -> Tensor:
    bare = loss_c(z, v, temperature)
    return bare + ((temperature**2 - 1) * bare).detach()


def _times(factor: Callable[[float], float]) -> SoftLoss:
    """Multiply the bare KL by a factor of T. All losses that this makes have the same source."""

    def loss(z: Tensor, v: Tensor, temperature: float) -> Tensor:
        return factor(temperature) * loss_c(z, v, temperature)

    return loss


#: More losses, which the reader does not see. A sound test judges these as well.
_UNSEEN: dict[str, SoftLoss] = {
    "a loss that multiplies T² into the entropy of p only": _constant_scaled,
    "a loss written as a cross-entropy minus the entropy of p": _by_cross_entropy,
    "a loss with T² of the wrong sign, which drives q away from p": _times(lambda t: -(t**2)),
    "a loss with T² whose source does not show it": _times(lambda t: t * t),
    "a loss with T³": _times(lambda t: t**3),
    "a loss whose value is right, but T² was detached from its gradient": _value_alone,
}


def factor_of(loss: SoftLoss, temperature: float, seed: int = 0) -> float:
    """Measure how many times the gradient of the mean KL, without any factor, a soft loss's gradient is.

    Args:
        loss: takes student logits (rows, classes), teacher logits of the same shape and T, and returns a scalar. Its
            gradient must be a multiple of that of the KL.
        temperature: T > 0.
        seed: of the logits on which the factor is measured.

    Returns:
        The factor: T² for the loss T² · KL, and −T² if the sign is wrong.
    """
    z, v = _logits(seed)
    (gradient,) = torch.autograd.grad(loss(z.requires_grad_(), v, temperature), z)
    bare = soft_target_divergence(z, v, temperature=temperature, t_squared=False).mean()
    (expected,) = torch.autograd.grad(bare, z)
    return float((gradient * expected).sum() / expected.square().sum())


def _logits(seed: int, rows: int = 4, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z, v = torch.randn(2, rows, classes, generator=generator)
    return 2 * z + 1, 4 * v  # the means are not 0, so that a forgotten mean shows


def _check_step(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(1)
    rows, pixels, classes, temperature, rate = 6, 3, 4, 3.0, 0.5  # all different, so that a mistake shows
    x = torch.randn(rows, pixels, generator=generator)
    weights = torch.randn(pixels, classes, generator=generator)
    v = 3 * torch.randn(rows, classes, generator=generator)
    leaf = weights.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(soft_target_divergence(x @ leaf, v, temperature=temperature).mean(), leaf)
    step = rate * gradient
    z = x @ weights
    at_one = rate * temperature * x.T @ (z.softmax(-1) - v.softmax(-1)) / rows
    wrong_steps = {
        "the factor T² is missing: this is a step on the KL alone": step / temperature**2,
        "the inner derivative is missing: softmax(z/T) brings a factor 1/T, so T is left of T²": step * temperature,
        "the step goes uphill: subtract the learning rate times the gradient, and the gradient has q − p": -step,
        "this is a step on the sum over the images; the loss is their mean": step * rows,
        "divide the mean by the images only, not by images and classes": step / classes,
        "the learning rate is missing": gradient,
        "q and p are the softmaxes at T = 1 here; divide the logits by T first": at_one,
    }
    got = attempt(weights.clone(), x.clone(), v.clone(), temperature, rate)
    mistakes = {words: weights - wrong for words, wrong in wrong_steps.items()}
    steps_alone = {
        "this is the gradient; the function returns the weights after the step": gradient,
        "this is the step itself; the function returns the weights after it": step,
        "nothing has changed: these are the weights before the step": weights,
    }
    compare(got, weights - step, {**mistakes, **steps_alone})
    return "the logits' gradient is T·(q − p) over the images, and the images carry it to the weights"


def _share(z: Tensor, v: Tensor, temperature: float) -> Tensor:
    """T²‖g‖ of each row as a share of its limit."""
    apart = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
    g = ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / temperature
    return temperature**2 * g.norm(dim=-1) * z.shape[-1] / apart.norm(dim=-1)


def _check_high_from(attempt: Attempt) -> str:
    temperatures, tolerance = [2.0**k for k in range(10)], 0.1
    for classes in (5, 12):  # a class count that is written into the answer shows
        z, v = _logits(3, rows=24, classes=classes)
        shares = torch.stack([_share(z, v, t) for t in temperatures])
        grid = torch.tensor(temperatures)

        def lowest(near: Tensor, grid: Tensor = grid) -> Tensor:
            """The lowest temperature from which on all are near; infinity if the last one is not."""
            from_here_on = near.flip(0).cummin(dim=0).values.flip(0)
            return torch.where(from_here_on.any(dim=0), grid[from_here_on.int().argmax(dim=0)], torch.inf)

        near = (shares - 1).abs() <= tolerance
        uncentred = shares * _distance(z, v, centred=True) / _distance(z, v, centred=False)
        batch = (torch.stack([_share(z, v, t).mean() for t in temperatures]) - 1).abs() <= tolerance
        compare(
            attempt(z.clone(), v.clone(), list(temperatures), tolerance),
            lowest(near),
            {
                "the share may cross its limit and leave it again: it has to be near at every higher temperature too": (
                    torch.where(near.any(dim=0), grid[near.int().argmax(dim=0)], torch.inf)
                ),
                "a share can be too large as well: it overshoots its limit": lowest(shares >= 1 - tolerance),
                "a share can be too small as well: at low temperatures it stays below its limit": lowest(
                    shares <= 1 + tolerance
                ),
                "subtract the mean of the logits first: softmax sees only differences": lowest(
                    (uncentred - 1).abs() <= tolerance
                ),
                "N is the number of classes of these logits, not always 5": lowest(
                    (shares * 5 / classes - 1).abs() <= tolerance
                )
                if classes != 5
                else math.nan,
                "no share comes near 1: the exact norm has to be multiplied by T², and the limit has a 1/N": torch.full(
                    z.shape[:1], torch.inf
                ),
                "one temperature for each row is needed, not one for the whole batch": lowest(batch[:, None])[0],
            },
        )
    return "a temperature is high for a row when neither it nor any higher one is far from the limit"


def _distance(z: Tensor, v: Tensor, *, centred: bool) -> Tensor:
    apart = z - v
    return (apart - apart.mean(-1, keepdim=True) if centred else apart).norm(dim=-1)


def _check_suspects(attempt: Attempt) -> str:
    at, losses = 3.0, {**SUSPECTS, **_UNSEEN}
    answers: dict[str, bool] = {}
    for name, loss in losses.items():
        answer = attempt(loss)
        if not isinstance(answer, bool):
            raise Wrong(f"return True or False, got {type(answer).__name__}")
        answers[name] = answer
    truth = {name: abs(factor_of(loss, at) / at**2 - 1) < 1e-3 for name, loss in losses.items()}
    if all(answers.values()) or answers == {
        name: abs(factor_of(loss, 1.0) - 1) < 1e-3 for name, loss in losses.items()
    }:
        raise Wrong(
            "you call all of them right, or all but one. At T = 1 the factors 1, T and T² are equal, and at z = v every"
            " gradient is 0: test elsewhere"
        )
    if not any(answers.values()):
        raise Wrong("you call all of them wrong. Compare with a tolerance, and with the mean over the rows times T²")
    if answers == {name: not right for name, right in truth.items()}:
        raise Wrong("each answer is the opposite of the truth: return True for a loss that is right")
    for name, right in truth.items():
        if answers[name] != right:
            factor = factor_of(losses[name], at)
            said = "right" if answers[name] else "wrong"
            raise Wrong(
                f"you call {name} {said}; at T = {at:g} its gradient has the factor {factor:.3g}, T² is {at**2:g}"
            )
    return f"{_names(truth)} true, the rest false: the gradient at T = {at:g} says so, and training uses the gradient"


def _names(truth: Mapping[str, bool]) -> str:
    return ", ".join(name for name, right in truth.items() if right and name in SUSPECTS)


def _check_settings(attempt: Attempt) -> str:
    hard, temperature, rate = 0.4, 3.0, 0.1
    scale = (1 - hard) / temperature**2 + hard
    alpha = (1 - hard) / temperature**2 / scale
    swapped = hard / temperature**2 + 1 - hard
    wrong_way = (1 - hard) * temperature**2 + hard
    answer = attempt(hard, temperature, rate)
    if isinstance(answer, tuple | list):
        if not all(isinstance(number, int | float | Tensor) for number in answer):
            raise Wrong("return two numbers, alpha and the learning rate")
        answer = torch.tensor([float(number) for number in answer], dtype=torch.float64)

    def pair(alpha: float, rate: float) -> Tensor:
        return torch.tensor([alpha, rate], dtype=torch.float64)

    compare(
        answer,
        pair(alpha, rate * scale),
        {
            "you keep their weight and rate, but their loss has no T², and ours has": pair(1 - hard, rate),
            "their alpha is the weight of the hard labels, ours of the teacher": pair(
                hard / temperature**2 / swapped, rate * swapped
            ),
            "T² goes the wrong way: our loss multiplies by T², so our alpha has to be the smaller one": pair(
                (1 - hard) * temperature**2 / wrong_way, rate * wrong_way
            ),
            "alpha is right; SGD also needs the scale of the whole loss in its learning rate": pair(alpha, rate),
            "alpha is right; multiply the learning rate by the scale, do not divide by it": pair(alpha, rate / scale),
            "divide alpha by the scale, so that the two weights sum to 1 again": pair(
                (1 - hard) / temperature**2, rate * scale
            ),
        },
    )
    return "the two weights keep their ratio, and the common scale goes into SGD's learning rate"


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_step,
    "2": _check_high_from,
    "3": _check_suspects,
    "4": _check_settings,
}
