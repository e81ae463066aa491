"""Checks of notebook 09's exercises."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.weak import WeakIdKeyDictionary

from distill_helpers.course.exercises import Attempt, Wrong, compare
from distill_helpers.llm.target_kinds import TopKTargets
from distill_helpers.llm.token_targets import target_divergence
from distill_helpers.losses.soft_targets import mean_divergence

__all__ = ["CHECKS"]


def _check_chunks(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(10)
    n, chunk, vocabulary = 602, 3, 200
    hidden, head = (torch.randn(rows, 2, generator=generator) for rows in (n, vocabulary))
    log_p = (2 * torch.randn(n, vocabulary, generator=generator)).log_softmax(-1)
    right_hidden, right_head = hidden.clone().requires_grad_(), head.clone().requires_grad_()
    mean_divergence(right_hidden @ right_head.t(), log_p, divergence="reverse_kl").backward()
    alive, held, most = WeakIdKeyDictionary(), 0, 0

    def release(numbers: int) -> None:
        nonlocal held
        held -= numbers

    class Watched(torch.Tensor):
        """Counts the numbers that are held at once, whatever their shape: logits may be transposed, or in a list."""

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal held, most
            result = super().__torch_function__(func, types, args, kwargs or {})
            if isinstance(result, torch.Tensor) and result not in alive:
                alive[result] = True
                held += result.numel()
                most = max(most, held)
                weakref.finalize(result, release, result.numel())
            return result

    # Autograd would keep the softmaxes of all chunks until one backward pass.
    with torch.inference_mode():
        got: Any = attempt(hidden.clone().as_subclass(Watched), head.clone(), log_p.clone(), chunk)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong("return two gradients: of the hidden states and of the head")
    of_hidden, of_head = (torch.as_tensor(g).as_subclass(torch.Tensor) for g in got)
    if (of_hidden.shape, of_head.shape) == (head.shape, hidden.shape):
        raise Wrong("the gradient of the hidden states comes first, that of the head second")
    assert right_hidden.grad is not None
    assert right_head.grad is not None
    log_q = (hidden @ head.t()).log_softmax(-1)
    q, ratio = log_q.exp(), log_q - log_p
    of_row = q * (ratio - (q * ratio).sum(-1, keepdim=True))
    last = n - n % chunk  # where the last chunk begins
    sizes = torch.tensor([float(chunk)] * last + [float(n % chunk)] * (n % chunk))[:, None]
    mistakes = {
        "this is forward KL's gradient, q − p; reverse KL weighs log q − log p by q": (q - log_p.exp()) / n,
        "q (log q − log p) is not all: q depends on each logit of its row, so subtract the row's KL": q * ratio / n,
        "the 1 of hint 1 is still there: summed over i it vanishes": q * (ratio + 1) / n,
        "divide by the number of tokens: the loss is a mean": of_row,
        "the sign: the gradient is positive where the student is surer than the teacher": -of_row / n,
        "each chunk is divided by its own size: divide by all tokens": of_row / sizes,
    }
    if of_hidden.shape == hidden.shape and not of_hidden[last:].any():
        raise Wrong("the last rows of the gradient of hidden are 0: 602 tokens are 200 chunks of three, and one of two")
    compare(of_hidden, right_hidden.grad, {words: gradient @ head for words, gradient in mistakes.items()})
    one = {
        "the head's gradient is a sum over all chunks; this is the last one's": of_row[last:].t() @ hidden[last:] / n
    }
    compare(of_head, right_head.grad, one | {words: g.t() @ hidden for words, g in mistakes.items()})
    # A right answer holds up to fifteen tensors of three rows, and the gradient of hidden, perhaps in parts before.
    if most > 15 * chunk * vocabulary + 3 * hidden.numel():
        raise Wrong(
            f"right, but as many numbers as {most // vocabulary} rows of logits were held at once, and a chunk has"
            f" {chunk} rows: finish each chunk, gradient included, before the next one's logits are made"
        )
    return "each chunk's gradient is complete before the next chunk's logits are made, so at most three rows exist"


def _check_bucket(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(11)
    student, teacher = (torch.randn(5, 12, generator=generator) for _ in range(2))
    teacher[-1, 0] += 30  # a sure teacher: in fp32 nothing is left for the bucket
    targets = TopKTargets.of(teacher, 3, storage_dtype=torch.float32)
    ids, p = targets.token_ids.long(), targets.log_probs.exp()
    q = student.softmax(-1).gather(1, ids)
    inside = (p * (p.log() - q.log())).sum(-1)
    rest_p, rest_q = targets.log_tail.exp(), 1 - q.sum(-1)
    sorted_q = student.softmax(-1).topk(3, dim=1).values
    got = attempt(student.clone(), ids.clone(), p.clone())
    if isinstance(got, torch.Tensor) and got.isnan().any():
        raise Wrong(
            "not a number where the teacher is sure: there, its k probabilities sum to 1, or by rounding to a little"
            " more, and 0 · log 0 counts as 0"
        )
    reverse = (q * (q.log() - p.log())).sum(-1) + rest_q * (rest_q / rest_p).log()
    # Without the sure teacher's row, where the value depends on the clamp.
    if isinstance(got, torch.Tensor) and got.shape == (5,) and (got - reverse)[:-1].abs().max() < 1e-5:
        raise Wrong("the divergence is the wrong way round: the teacher's probabilities are the weights")
    compare(
        got,
        target_divergence(student, targets),
        {
            "the bucket is missing: all tokens outside the k count as one more outcome": inside,
            "renormalised: then every student that gives the rest some probability is wrong, even the teacher": (
                p / p.sum(-1, keepdim=True)
            )
            .mul((p / p.sum(-1, keepdim=True)).log() - q.log())
            .sum(-1),
            "softmax over all tokens first, then gather: a softmax over the k leaves nothing for the bucket": (
                p * (p.log() - student.gather(1, ids).log_softmax(-1))
            ).sum(-1),
            "both renormalised: then the probability outside the k tokens is not compared": F.kl_div(
                (q / q.sum(-1, keepdim=True)).log(), p / p.sum(-1, keepdim=True), reduction="none"
            ).sum(-1),
            "the student's own likeliest tokens are others: gather it at the teacher's tokens": (
                p * (p.log() - sorted_q.log())
            ).sum(-1)
            + rest_p * (rest_p.log() - (1 - sorted_q.sum(-1)).log()),
            "return a number for each token, not their mean": (inside + rest_p * (rest_p / rest_q).log()).mean(),
        },
    )
    return "with k + 1 outcomes the value is never above the true divergence, and it is 0 for the teacher itself"


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
        "logits": {
            "fp32 has four bytes": tokens * vocabulary * 2,
            "multiply by the tokens of all sequences": vocabulary * 4,
        },
        "dense": {"half precision has two bytes": tokens * vocabulary * 4},
        "top_k": {
            "the ids take four bytes each, too": tokens * (k * 2 + 4),
            "the bucket's four bytes are missing": tokens * k * 6,
            "the bucket is one number for each token, not for each of its k": tokens * k * 10,
        },
        "hidden": {
            "half precision has two bytes": tokens * width * 4,
            "a token has `width` numbers": tokens * vocabulary * 2,
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
    "1": _check_chunks,
    "2": _check_bucket,
    "3": _check_bytes,
}
