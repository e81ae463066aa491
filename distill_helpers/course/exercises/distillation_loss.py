"""Checks of notebook 04's exercises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare, needs_gradient, seeded_randn
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss
from distill_helpers.losses.soft_targets import mean_divergence

__all__ = ["CHECKS"]


def _check_gradient(attempt: Attempt) -> str:
    z, v = seeded_randn(6, 5, seed=0), 3 * seeded_randn(6, 5, seed=1)
    y = torch.tensor([0, 3, 1, 4, 2, 2])
    T, alpha = 3.0, 0.7
    wanted = z.clone().requires_grad_()
    DistillationLoss(DistillationConfig(temperature=T, alpha=alpha))(wanted, v, y)["total_loss"].backward()
    assert wanted.grad is not None
    one_hot = F.one_hot(y, 5).float()
    soft = ((z / T).softmax(-1) - (v / T).softmax(-1)) / len(z)
    hard, hot_hard = (z.softmax(-1) - one_hot) / len(z), ((z / T).softmax(-1) - one_hot) / len(z)
    got = attempt(z.clone(), v.clone(), y, T, alpha)
    compare(
        got,
        wanted.grad,
        {
            "the loss is a mean: divide by the number of messages": len(z) * wanted.grad,
            "the soft term lacks a factor: T² times 1/T leaves T": alpha * soft + (1 - alpha) * hard,
            "the soft term has T² instead of T: softmax(z/T) brings a 1/T": alpha * T**2 * soft + (1 - alpha) * hard,
            "the weights are swapped: alpha belongs to the teacher": (1 - alpha) * T * soft + alpha * hard,
            "the hard term has no temperature: it compares softmax(z) with the label": alpha * T * soft
            + (1 - alpha) * hot_hard,
            "the sign: student minus target": -wanted.grad,
        },
    )
    return (
        "autograd finds the same gradient. Both terms are student minus target: the teacher's distribution pulls with"
        " alpha·T, the hard label with 1 − alpha"
    )


def _check_soft_loss(attempt: Attempt) -> str:
    z, v, T = seeded_randn(7, 5, seed=2).requires_grad_(), 3 * seeded_randn(7, 5, seed=3), 2.5
    with torch.no_grad():
        log_q, log_p = (z / T).log_softmax(-1), (v / T).log_softmax(-1)
        right = mean_divergence(z, v, temperature=T)
        reverse = mean_divergence(z, v, divergence="reverse_kl", temperature=T)
        no_logs = T**2 * F.kl_div(log_q.exp(), log_p.exp(), reduction="batchmean")
    got = _scalar(
        attempt(z, v.clone(), T),
        {
            "both faults are still there: the direction, and the mean over the classes": reverse / 5,
            "the direction is still that of KL(student‖teacher): the first argument is the student": reverse,
            "the mean still runs over the classes too: it divides by messages × classes": right / 5,
            "T² is missing": right / T**2,
            "the sum over the messages must be divided by their number": right * 7,
            "the first argument of kl_div must be log-probabilities": no_logs,
        },
        right,
    )
    needs_gradient(got, z)
    return "the first argument is the student's log-probabilities, and batchmean divides by the messages alone"


def _check_masked_kl(attempt: Attempt) -> str:
    z, v = seeded_randn(3, 6, 8, seed=4), 2 * seeded_randn(3, 6, 8, seed=5)
    student = z.clone().requires_grad_()
    mask = torch.arange(6) < torch.tensor([[5], [2], [1]])
    per_position = (v.softmax(-1) * (v.log_softmax(-1) - z.log_softmax(-1))).sum(-1)
    right = per_position[mask].mean()
    rows = (per_position * mask).sum(-1) / mask.sum(-1)
    got = _scalar(
        attempt(student, v.clone(), mask),
        {
            "padding still counts: this is the mean over all positions": per_position.mean(),
            "divide by the positions that count, not by all of them": (per_position * mask).mean(),
            "a sum: divide by the positions that count": (per_position * mask).sum(),
            "divide by the positions that count, not by the messages": (per_position * mask).sum() / 3,
            "a mean of the messages' means: a token of a short message would count more": rows.mean(),
            "the mask is inverted: True means that a position counts": per_position[~mask].mean(),
        },
        right,
    )
    needs_gradient(got, student)
    empty = torch.as_tensor(attempt(z.clone().requires_grad_(), v.clone(), torch.zeros_like(mask)))
    if not bool(empty.isfinite().all()):
        raise Wrong(f"an empty mask must give 0, not {empty.item()}: 0 / 0 would end the training")
    compare(empty, torch.tensor(0.0))
    garbage = ~mask.unsqueeze(-1)
    for who, of_student, of_teacher in (("the student", z.masked_fill(garbage, torch.nan), v), ("the teacher", z, v)):
        leaf = of_student.clone().requires_grad_()
        teacher = of_teacher.masked_fill(garbage, torch.nan) if who == "the teacher" else of_teacher.clone()
        value = torch.as_tensor(attempt(leaf, teacher, mask))
        where = f"NaN of {who} at a padded position reaches the"
        if not bool(value.isfinite()):
            raise Wrong(f"{where} loss: NaN × 0 is NaN; drop padding before the softmax, of both models")
        compare(value.detach(), right)
        value.backward()  # type: ignore[no-untyped-call]
        if leaf.grad is None or not bool(leaf.grad.isfinite().all()):
            raise Wrong(f"{where} gradient; drop padding before the softmax, of both models")
    return "every token counts as much as any other, an empty mask gives 0, and garbage under padding stays there"


def _check_causal(attempt: Attempt) -> str:
    # Five of the six positions predict something, and there are five classes: without flattening nothing is raised.
    z = 2 * seeded_randn(2, 6, 5, seed=6)
    student = z.clone().requires_grad_()
    labels = torch.tensor([[0, 1, 2, 3, 4, 1], [2, 2, 0, 4, IGNORE_INDEX, IGNORE_INDEX]])
    right = DistillationLoss(DistillationConfig(alpha=0.0, causal=True))(z, None, labels)["total_loss"]

    def flat(logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
        return F.cross_entropy(logits.reshape(-1, 5), targets.reshape(-1), ignore_index=IGNORE_INDEX, **options)

    values = flat(z[:, :-1], labels[:, 1:], reduction="none").view(2, 5)
    counted = (labels[:, 1:] != IGNORE_INDEX).sum(-1)
    got = _scalar(
        attempt(student, labels.clone()),
        {
            "both faults are still there: not flattened, and shifted the wrong way": F.cross_entropy(
                z[:, 1:], labels[:, :-1], ignore_index=IGNORE_INDEX
            ),
            "not flattened: cross_entropy takes dimension 1, the sequence, for the classes": F.cross_entropy(
                z[:, :-1], labels[:, 1:], ignore_index=IGNORE_INDEX
            ),
            "shifted the wrong way: position t would predict token t − 1": flat(z[:, 1:], labels[:, :-1]),
            "not shifted: position t would predict token t, which it has read": flat(z, labels),
            "shifted by two: position t predicts token t + 1": flat(z[:, :-2], labels[:, 2:]),
            "divide by the labels that count, not by all positions": values.mean(),
            "a mean of the messages' means: divide once, by all labels that count": (values.sum(-1) / counted).mean(),
        },
        right,
    )
    needs_gradient(got, student)
    return "logits without the last position meet labels without the first, and the classes are the last dimension"


def _scalar(got: Any, mistakes: Mapping[str, Tensor | float], right: Tensor) -> Tensor | float:
    """Compare a loss that still has its graph, and return it."""
    compare(got.detach() if isinstance(got, Tensor) else got, right, mistakes)
    return got


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_gradient,
    "2": _check_soft_loss,
    "3": _check_masked_kl,
    "4": _check_causal,
}
