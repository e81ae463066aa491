"""Checks of notebook 03's exercises."""

from __future__ import annotations

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


#: Two more losses, which the reader does not see. A sound test judges these as well.
_UNSEEN: dict[str, SoftLoss] = {
    "one that multiplies T² into the entropy of p only": _constant_scaled,
    "one written as a cross-entropy minus the entropy of p": _by_cross_entropy,
}


def factor_of(loss: SoftLoss, temperature: float, seed: int = 0) -> float:
    """Measure the ratio of a soft loss's gradient to the gradient of the mean KL without any factor.

    Args:
        loss: takes student logits (rows, classes), teacher logits of the same shape and T, and returns a scalar.
        temperature: T > 0.
        seed: of the logits on which the ratio is measured.

    Returns:
        The ratio of the two norms: T² for the loss T² · KL.
    """
    z, v = _logits(seed)
    (gradient,) = torch.autograd.grad(loss(z.requires_grad_(), v, temperature), z)
    bare = soft_target_divergence(z, v, temperature=temperature, t_squared=False).mean()
    (expected,) = torch.autograd.grad(bare, z)
    return float(gradient.norm() / expected.norm())


def _logits(seed: int, rows: int = 4, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z, v = torch.randn(2, rows, classes, generator=generator)
    return 2 * z + 1, 4 * v  # the means are not 0, so that a forgotten mean shows


def _check_gradient(attempt: Attempt) -> str:
    z, v = _logits(1)
    temperature = 3.0
    leaf = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(soft_target_divergence(leaf, v, temperature=temperature).mean(), leaf)
    at_one = temperature * (z.softmax(-1) - v.softmax(-1)) / len(z)
    compare(
        attempt(z.clone(), v.clone(), temperature),
        expected,
        {
            "the factor T² is missing: this is the gradient of the KL alone": expected / temperature**2,
            "the inner derivative is missing: softmax(z/T) brings a factor 1/T, so T is left of T²": expected
            * temperature,
            "the sign is the other way round: it is q − p, so that a step downhill moves q towards p": -expected,
            "this is the gradient of the sum over the rows; the loss is their mean": expected * len(z),
            "divide the mean by the rows only, not by rows and classes": expected / z.shape[-1],
            "q and p are the softmaxes at T = 1 here; divide the logits by T first": at_one,
        },
    )
    return "T²·(q − p)/T = T·(q − p): one factor T is left at every temperature, and at high T q − p shrinks as 1/T"


def _check_share(attempt: Attempt) -> str:
    z, v = _logits(2)
    temperature = 2.5
    n = z.shape[-1]
    exact = temperature**2 * ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)).norm(dim=-1) / temperature
    centred = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
    limit = centred.norm(dim=-1) / n
    compare(
        attempt(z.clone(), v.clone(), temperature),
        exact / limit,
        {
            "this is the other way round: the limit divided by the exact value": limit / exact,
            "subtract the mean of the logits first: softmax sees only differences": exact / ((z - v).norm(dim=-1) / n),
            "the limit has a 1/N, the number of classes, which is missing": exact / limit / n,
            "the exact norm has to be multiplied by T²": exact / limit / temperature**2,
            "one factor T too many: the gradient is (q − p)/T, not q − p": exact / limit * temperature,
            "one share for each row is needed, not one for the whole batch": exact.norm() / limit.norm(),
        },
    )
    return "a share near 1 says that this row is in the high-T limit, where T² keeps the gradient's size"


def _check_suspects(attempt: Attempt) -> str:
    at, losses = 3.0, {**SUSPECTS, **_UNSEEN}
    answers: dict[str, bool] = {}
    for name, loss in losses.items():
        answer = attempt(loss)
        if not isinstance(answer, bool):
            raise Wrong(f"return True or False, got {type(answer).__name__}")
        answers[name] = answer
    truth = {name: abs(factor_of(loss, at) / at**2 - 1) < 1e-3 for name, loss in losses.items()}
    if all(answers.values()):
        raise Wrong(
            "you call all of them right. At T = 1 the factors 1, T and T² are equal, and at z = v every gradient is 0:"
            " test elsewhere"
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
    "1": _check_gradient,
    "2": _check_share,
    "3": _check_suspects,
    "4": _check_settings,
}
