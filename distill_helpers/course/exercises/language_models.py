"""Checks of notebook 09's exercises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from distill_helpers.course.exercises import Attempt, Wrong, compare
from distill_helpers.llm import compute_token_level_distillation_loss
from distill_helpers.losses import IGNORE_INDEX
from distill_helpers.token_targets import TopKTargets, target_divergence

__all__ = ["CHECKS"]


def _check_token_loss(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(9)
    student, teacher = (2 * torch.randn(2, 6, 11, generator=generator) for _ in range(2))
    labels = torch.tensor([[-100, -100, 4, 7, 2, -100], [-100, 3, 9, 1, 5, 8]])

    def kl(own: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        log_q, log_p = own.log_softmax(-1), others.log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    counted = labels[:, 1:] != IGNORE_INDEX
    values = kl(student[:, :-1], teacher[:, :-1])
    unshifted = kl(student, teacher)
    rows = [values[row][counted[row]].mean() for row in range(2)]
    got = attempt(student.clone(), teacher.clone(), labels.clone())
    compare(
        got,
        compute_token_level_distillation_loss(student, teacher, labels)["total_loss"],
        {
            "not shifted: the logits at t are about token t + 1, so the mask of the labels is one too late": unshifted[
                labels != IGNORE_INDEX
            ].mean(),
            "the mask is one too late: whether position t counts is said by labels[:, 1:]": values[
                labels[:, :-1] != IGNORE_INDEX
            ].mean(),
            "prompt and padding count in yours": values.mean(),
            "divide by the tokens that count, not by all positions": (values * counted).sum() / counted.numel(),
            "divide by the number of tokens, not of sequences": values[counted].sum() / 2,
            "a mean of the sequences' means: tokens of short completions would weigh more": torch.stack(rows).mean(),
            "the labels are shifted the wrong way: position t predicts token t + 1": kl(student[:, 1:], teacher[:, 1:])[
                labels[:, :-1] != IGNORE_INDEX
            ].mean(),
            "the divergence is the wrong way round: the teacher's distribution comes first": kl(
                teacher[:, :-1], student[:, :-1]
            )[counted].mean(),
        },
    )
    return "eight tokens of twelve positions count, each once, and each is predicted by the position before it"


def _check_chunks(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(10)
    hidden, head = torch.randn(10, 4, generator=generator), torch.randn(13, 4, generator=generator)
    p = (2 * torch.randn(10, 13, generator=generator)).softmax(-1)
    right_hidden, right_head = hidden.clone().requires_grad_(), head.clone().requires_grad_()
    loss = -(p * (right_hidden @ right_head.t()).log_softmax(-1)).sum(-1).mean()
    loss.backward()
    largest = 0

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = super().__torch_function__(func, types, args, kwargs or {})
            if isinstance(result, torch.Tensor) and result.dim() == 2 and result.shape[1] == 13:
                largest = max(largest, result.shape[0] if func is not torch.Tensor.t else 0)
            return result

    got: Any = attempt(hidden.clone().as_subclass(Watched), head.clone(), p.clone(), 3)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong("return two gradients: of the hidden states and of the head")
    of_hidden, of_head = (torch.as_tensor(g).as_subclass(torch.Tensor) for g in got)
    assert right_hidden.grad is not None
    assert right_head.grad is not None
    q = (hidden @ head.t()).softmax(-1)
    compare(
        of_hidden,
        right_hidden.grad,
        {
            "divide by the number of tokens: the loss is a mean": 10 * right_hidden.grad,
            "the sign: the gradient with respect to a logit is q − p": -right_hidden.grad,
            "each chunk is divided by its own size: divide by all tokens": ((q - p) @ head)
            / torch.tensor([3.0] * 9 + [1.0])[:, None],
        },
    )
    compare(
        of_head,
        right_head.grad,
        {
            "the head's gradient is a sum over all chunks; this is the last one's": (q - p)[9:].t() @ hidden[9:] / 10,
            "divide by the number of tokens: the loss is a mean": 10 * right_head.grad,
            "the sign: the gradient with respect to a logit is q − p": -right_head.grad,
        },
    )
    if largest > 3:
        raise Wrong(
            f"right, but {largest} rows of logits were there at once, and the chunk size is 3: loop over chunks"
        )
    return "the gradient is complete before the next chunk's logits are made, so no more than three rows ever existed"


def _check_bucket(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(11)
    student, teacher = (torch.randn(5, 12, generator=generator) for _ in range(2))
    targets = TopKTargets.of(teacher, 3, dtype=torch.float32)
    ids, p = targets.token_ids.long(), targets.log_probs.exp()
    q = student.softmax(-1).gather(1, ids)
    inside = (p * (p.log() - q.log())).sum(-1)
    rest_p, rest_q = 1 - p.sum(-1), 1 - q.sum(-1)
    sorted_q = student.softmax(-1).topk(3, dim=1).values
    compare(
        attempt(student.clone(), ids.clone(), p.clone()),
        target_divergence(student, targets),
        {
            "the bucket is missing: what lies outside the k tokens counts as one more outcome": inside,
            "renormalised: then a student that gives the rest any probability is wrong, even the teacher itself": (
                p / p.sum(-1, keepdim=True)
            )
            .mul((p / p.sum(-1, keepdim=True)).log() - q.log())
            .sum(-1),
            "both renormalised: how much lies outside the k tokens is not compared then": F.kl_div(
                (q / q.sum(-1, keepdim=True)).log(), p / p.sum(-1, keepdim=True), reduction="none"
            ).sum(-1),
            "the student's own likeliest tokens are others: gather it at the teacher's": (
                p * (p.log() - sorted_q.log())
            ).sum(-1)
            + rest_p * (rest_p.log() - (1 - sorted_q.sum(-1)).log()),
            "return a number for each token, not their mean": (inside + rest_p * (rest_p / rest_q).log()).mean(),
        },
    )
    return "k + 1 outcomes: never more than the true divergence, and 0 for the teacher itself"


def _check_bytes(attempt: Attempt) -> str:
    batch, length, vocabulary, width, k = 8, 2048, 128_256, 4096, 64
    tokens = batch * length
    expected = {
        "logits": tokens * vocabulary * 4,
        "dense": tokens * vocabulary * 2,
        "top_k": tokens * (k * 6 + 4),
        "hidden": tokens * width * 2,
    }
    got: Any = attempt(batch, length, vocabulary, width, k)
    if not isinstance(got, dict) or set(got) != set(expected):
        raise Wrong(f"return a dictionary with the keys {', '.join(expected)}")
    hints = {
        "logits": {"fp32 has four bytes": tokens * vocabulary * 2, "of every token of every sequence": vocabulary * 4},
        "dense": {"half precision has two bytes": tokens * vocabulary * 4},
        "top_k": {
            "the ids take four bytes each as well": tokens * (k * 2 + 4),
            "the bucket's four bytes are missing": tokens * k * 6,
            "the bucket is one number for each token, not for each of its k": tokens * k * 10,
        },
        "hidden": {
            "half precision has two bytes": tokens * width * 4,
            "width numbers a token": tokens * vocabulary * 2,
        },
    }
    for name, value in expected.items():
        try:
            compare(float(got[name]), float(value), {words: float(v) for words, v in hints[name].items()})
        except Wrong as wrong:
            raise Wrong(f"{name}: {wrong}") from None
    return (
        f"{expected['logits'] / 1e9:.1f} GB for one copy of the logits; the top 64 take"
        f" {expected['top_k'] / 1e6:.0f} MB, the hidden states {expected['hidden'] / 1e6:.0f} MB"
    )


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_token_loss,
    "2": _check_chunks,
    "3": _check_bucket,
    "4": _check_bytes,
}
