"""Checks of notebook 06's exercises."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_helpers.course.exercises import Attempt, Wrong, compare, needs_gradient, seeded_randn
from distill_helpers.losses.feature_losses import attention_distribution_loss, hidden_state_loss
from distill_helpers.losses.layer_maps import alternating_layers, layer_map

__all__ = ["CHECKS"]


def _check_entries(attempt: Attempt) -> str:
    for n_student, n_teacher in ((4, 12), (6, 12), (3, 6)):
        right = [0, *(layer + 1 for _, layer in layer_map("uniform", n_student, n_teacher))]
        rounded = [i * (n_teacher + 1) // (n_student + 1) for i in range(n_student + 1)]
        layers = [layer for _, layer in layer_map("uniform", n_student, n_teacher)]
        last = [0, *(layer + 1 for _, layer in layer_map("last", n_student, n_teacher))]
        ends = [0, *(layer + 1 for layer in alternating_layers(n_student, n_teacher))]
        shifted = [i + n_teacher - n_student for i in range(n_student + 1)]
        got = _whole_numbers(attempt(n_student, n_teacher))
        compare(
            got,
            _tensor(right),
            {
                f"the last entry, {n_teacher}, is followed by nobody: divide the layers, not the entries": _tensor(
                    rounded
                ),
                "the embeddings' pair (0, 0) is missing: the student has one entry more than layers": _tensor(
                    right[1:]
                ),
                "these are layers counted from 0; entry 0 of hidden_states is the embeddings": _tensor(layers),
                "one too low: layer i is entry i + 1, and the embeddings follow the embeddings": _tensor([0, *layers]),
                "that is the map to the last layers; the uniform map takes every k-th layer": _tensor(last),
                "that is DistilBERT's choice with both ends; the uniform map takes every k-th layer": _tensor(ends),
                "the embeddings follow a layer half-way up; they have a pair of their own": _tensor(shifted),
            },
        )
    try:
        attempt(4, 6)
    except Wrong as wrong:
        if "raised ValueError" in str(wrong):
            return "entry m follows entry k·m: the embeddings follow the embeddings, the last layer follows the last"
        raise
    raise Wrong("6 is no multiple of 4: raise a ValueError instead of rounding")


def _whole_numbers(got: Any) -> Tensor:
    try:
        return _tensor([operator.index(entry) for entry in got])
    except (TypeError, ValueError, RuntimeError) as error:
        raise Wrong(f"a list of whole numbers is needed, got {got!r:.60}") from error


def _tensor(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _check_hidden(attempt: Attempt) -> str:
    student, teacher = seeded_randn(3, 6, 4, seed=0), 2 * seeded_randn(3, 6, 8, seed=1)
    mask = torch.arange(6) < torch.tensor([[6], [2], [3]])
    torch.manual_seed(2)
    projector = nn.Linear(4, 8)
    projected = projector(student).detach()
    right = hidden_state_loss(projected, teacher, mask)
    squared = (projected - teacher).square().mean(dim=-1)

    def ask(own: Tensor, other: Tensor) -> Tensor:
        return _as_tensor(attempt(own, other, mask, projector))

    own, other = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    got = ask(own, other)
    compare(
        got.detach(),
        right,
        {
            "both faults are still there: padding counts, and one mean runs over all messages": squared.mean(),
            "padding still counts": squared.mean(dim=1),
            "a sum over the message's tokens: divide by their number": (squared * mask).sum(dim=1),
            "divide by the message's tokens, not by all positions": (squared * mask).mean(dim=1),
            "one number for each message, (messages,): this is one mean over all tokens": squared[mask].mean(),
            "one number for each message, (messages,): you took the mean of the right ones": right.mean(),
            "the mean runs over the width too, and yours is a sum over it": 8 * right,
            "the mask is inverted: True marks a token": hidden_state_loss(projected, teacher, ~mask),
            "the loss is 0: a pair whose widths differ must be projected, not skipped": torch.zeros(3),
        },
    )
    needs_gradient(got, own)
    if projector.weight.grad is None or not bool(projector.weight.grad.abs().sum() > 0):
        raise Wrong("the value is right, but no gradient reaches the projector, which would stay random")
    if other.grad is not None and bool(other.grad.abs().sum() > 0):
        raise Wrong("a gradient flows into the teacher: detach its hidden states")
    spoilt = teacher.masked_fill(~mask[..., None], float("inf"))
    own = student.clone().requires_grad_()
    projector.zero_grad()
    got = ask(own, spoilt)
    if not bool(got.isfinite().all()):
        raise Wrong("infinite values at padded positions reach the loss: inf × 0 is NaN; fill them with 0 first")
    got.sum().backward()  # type: ignore[no-untyped-call]
    for gradient in (own.grad, projector.weight.grad):
        if gradient is None or not bool(gradient.isfinite().all()):
            raise Wrong(
                "with infinite values under padding the loss is finite and its gradient is not: fill the difference"
                " with 0 before you square it"
            )
    return "the tokens of a message count equally, padding does not; student and projector learn, the teacher does not"


def _check_nearest_heads(attempt: Attempt) -> str:
    teacher, mask = 2 * seeded_randn(3, 5, 6, 6, seed=99), torch.arange(6) < torch.tensor([[6], [2], [3]])
    student = teacher[:, [3, 0, 3, 4, 1, 2]] + 3 * seeded_randn(3, 6, 6, 6, seed=100)
    student = student + 3 * seeded_randn(3, 6, 6, 1, seed=101)  # of a query's scores, the softmax forgets it
    everywhere, n_tokens = torch.ones_like(mask), mask.sum(dim=-1)[:, None, None]

    def kl(teacher: Tensor, student: Tensor, keys: Tensor = mask, queries: Tensor = mask) -> Tensor:
        """KL of all pairs of heads, (messages, heads of the second, heads of the first)."""
        scores = torch.broadcast_tensors(teacher[:, None], student[:, :, None])
        log_p, log_q = (x.masked_fill(~keys[:, None, None, None], -1e9).log_softmax(dim=-1) for x in scores)
        per_query = (log_p.exp() * (log_p - log_q)).sum(dim=-1) * queries[:, None, None]
        return per_query.sum(dim=-1) / queries.sum(dim=-1)[:, None, None]

    pairs = (mask[:, None, :] & mask[:, :, None])[:, None, None]
    errors = ((student[:, :, None] - teacher[:, None]).square() * pairs).sum(dim=(-1, -2))
    values = [[attention_distribution_loss(student[:, [i]], teacher[:, [j]], mask) for j in range(5)] for i in range(6)]
    by_message = torch.stack([torch.stack(row, dim=-1) for row in values], dim=1)
    right = by_message.mean(dim=0).argmin(dim=-1)
    distances = {
        "the largest KL is the farthest head, not the nearest": -by_message,
        "that is the KL from student to teacher: the expectation is under the teacher's attention": kl(
            student, teacher
        ).transpose(1, 2),
        "padding still counts as a query: take the mean over a message's own tokens": kl(
            teacher, student, queries=everywhere
        ),
        "padding still counts as a key: no token looks at it, so fill it before the softmax": kl(
            teacher, student, keys=everywhere
        ),
        "compare the attention, not the scores: a number added to all scores of a query changes no attention": errors
        / n_tokens.square(),
        "long messages count more in your mean: average over a message's queries first, then over the messages": (
            by_message * n_tokens
        ),
        "that is the nearest in the last message alone: average over the messages": by_message[-1:],
    }
    mistakes: dict[str, Tensor | float] = {
        "for each head of the *student* a head of the teacher is asked for, not the other way round": (
            by_message.mean(dim=0).argmin(dim=0)
        ),
        "one answer for each message: average over the messages before the argmin": by_message.argmin(dim=-1),
        "these are the smallest divergences; return which head has them": by_message.mean(dim=0).min(dim=-1).values,
        "the heads are compared in their order: the student's first head may do the job of any head": torch.arange(6),
    }
    mistakes |= {words: distance.mean(dim=0).argmin(dim=-1) for words, distance in distances.items()}
    compare(_numbers(attempt(student.clone(), teacher.clone(), mask)), right, mistakes)
    moved = attempt(teacher.roll(1, dims=1), teacher.clone(), mask)
    compare(_numbers(moved), torch.tensor([4, 0, 1, 2, 3]))
    return (
        "a student may have learned every job and still give its heads another order: compared head by head it looks"
        " wrong, averaged it looks right, and this list tells the two apart"
    )


def _numbers(got: Any) -> Tensor:
    try:
        return torch.as_tensor(got)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Wrong(f"a list or tensor of whole numbers is needed, got {got!r:.60}") from error


class _Student(nn.Module):
    """A student whose forward pass uses nothing that an answer attaches to it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)


def _check_optimizer(attempt: Attempt) -> str:
    torch.manual_seed(5)
    student = _Student()
    projectors = [nn.Linear(4, 8), nn.Linear(4, 8)]
    teacher = nn.Linear(4, 8)
    optimizer = attempt(student, projectors, teacher)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise Wrong(f"return the optimizer, got {type(optimizer).__name__}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known = {id(p) for p in parameters}
    if len(known) < len(parameters):
        raise Wrong("a parameter is in the optimizer twice")
    if known & {id(p) for p in teacher.parameters()}:
        raise Wrong("the teacher is in the optimizer: it would move towards its student")
    included = [[id(p) in known for p in projector.parameters()] for projector in projectors]
    if not any(map(any, included)):
        raise Wrong("no projector is in the optimizer: a plain list has no parameters that PyTorch could find")
    if not all(map(any, included)):
        raise Wrong("one projector is in the optimizer, another is not")
    if not all(map(all, included)):
        raise Wrong("of a projector, only weight or bias is in the optimizer")
    if any(id(p) not in known for p in student.parameters()):
        raise Wrong("the student is not in the optimizer: only the projectors would learn")
    x = seeded_randn(8, 4, seed=6)
    start = [p.detach().clone() for p in parameters]
    F.mse_loss(projectors[0](student(x)) + projectors[1](student(x)), teacher(x).detach()).backward()
    optimizer.step()
    if any(torch.equal(before, p) for before, p in zip(start, parameters, strict=True)):
        raise Wrong("after a step some parameters have not changed: is their learning rate 0?")
    return "student and projectors move, and the teacher stays: parameters that no optimizer has never learn"


def _as_tensor(got: Any) -> Tensor:
    if not isinstance(got, Tensor):
        raise Wrong(f"a tensor is needed, got {type(got).__name__}")
    return got


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_entries,
    "2": _check_hidden,
    "3": _check_nearest_heads,
    "4": _check_optimizer,
}
