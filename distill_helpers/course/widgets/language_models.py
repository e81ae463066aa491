"""Widgets of notebook 09: two models' distributions of the next token, and the errors of truncated targets."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from distill_helpers.course.figures import html_table, probability_bars
from distill_helpers.llm.dense_targets import DenseTargets, HiddenTargets
from distill_helpers.llm.target_kinds import SampledTargets, TopKTargets
from distill_helpers.llm.token_targets import TokenTargets, target_divergence_and_gradient

__all__ = ["DRAWS", "render_next_token", "render_top_k", "target_errors"]

#: The number of independent targets of the same token whose gradients are averaged, to tell bias from noise.
DRAWS = 25


def render_next_token(
    position: int,
    *,
    token_ids: Sequence[int],
    logits: Mapping[str, Tensor],
    text_of: Callable[[list[int]], str],
    n_tokens: int = 6,
) -> str:
    """Show the text so far, and the next tokens that each model expects: bars, with all other tokens in one.

    Args:
        position: of the token to be predicted, from 1. token_ids: the whole sequence. logits: by the model's name,
        (sequence, vocabulary); row t predicts token t + 1. The likeliest tokens of the first
            model are shown, and the true token.
        text_of: turns token ids into text.
        n_tokens: number of the first model's tokens.

    Raises:
        IndexError: a position without a token, or without one before it.
    """
    if not 1 <= position < len(token_ids):
        raise IndexError(f"position must lie in 1 to {len(token_ids) - 1}, got {position}")
    distributions = [values[position - 1].float().softmax(dim=-1) for values in logits.values()]
    true = token_ids[position]
    shown = distributions[0].topk(n_tokens).indices.tolist()
    shown += [] if true in shown else [true]
    names = [_visible(text_of([token])) for token in shown]
    names = [name if names.count(name) == 1 else f"{name} #{token}" for name, token in zip(names, shown, strict=True)]
    columns = [[float(p[token]) for token in shown] for p in distributions]
    columns = [[*column, max(0.0, 1 - sum(column))] for column in columns]
    entropies = [float(torch.special.entr(p).sum()) for p in distributions]
    before = html.escape(text_of(list(token_ids[max(0, position - 24) : position])))
    figures = "; ".join(f"{name}: {value:.1f} nats" for name, value in zip(logits, entropies, strict=True))
    return (
        f"<p>…{before}<b>{html.escape(text_of([true]))}</b></p>"
        + probability_bars([*names, "all others"], columns, list(logits), names[shown.index(true)])
        + f"<p>How unsure each is (entropy): {html.escape(figures)}.</p>"
    )


def _visible(text: str) -> str:
    return text.replace("\n", "↵").replace(" ", "␣") or "(nothing)"


def target_errors(
    k: int, teacher_logits: Tensor, student_logits: Tensor, width: int, *, seed: int = 0
) -> dict[str, tuple[float, float, float, float]]:
    """Measure what each way of keeping a teacher's distributions costs, and how wrong its gradient is.

    Args:
        k: number of tokens that are kept, or drawn.
        teacher_logits, student_logits: (tokens, vocabulary).
        width: of the teacher's hidden states.
        seed: of the draws.

    Returns:
        By name, four numbers. The bytes of a token. The forward KL that a student sees, in nats. The relative error of
        a token's gradient (the root of the mean square over tokens). The same error of the mean gradient of `DRAWS`
        independent targets, in which the noise is gone and the bias is left.
    """
    _, gradient = target_divergence_and_gradient(student_logits, teacher_logits)
    top = teacher_logits.topk(k, dim=1)
    renormalised = torch.full_like(teacher_logits, -math.inf).scatter(1, top.indices, top.values)
    bucket = TopKTargets.of(teacher_logits, k)
    sampled = SampledTargets.of(teacher_logits, k, generator=torch.Generator().manual_seed(seed))
    dense = DenseTargets.of(teacher_logits)
    ways: dict[str, tuple[int, Tensor | TokenTargets]] = {
        "all logits": (dense.bytes_per_token, dense),
        "the head's input": (HiddenTargets(torch.zeros(1, width, dtype=torch.float16)).bytes_per_token, teacher_logits),
        f"{k} likeliest, renormalised": (k * 6, renormalised),
        f"{k} likeliest and a bucket": (bucket.bytes_per_token, bucket),
        f"{k} drawn": (sampled.bytes_per_token, sampled),
    }
    errors = {}
    for name, (n_bytes, targets) in ways.items():
        values, own = target_divergence_and_gradient(student_logits, targets)
        error = float((own - gradient).norm() / gradient.norm())
        errors[name] = (float(n_bytes), float(values.mean()), error, error)
    size, value, error, _ = errors[f"{k} drawn"]
    many = SampledTargets.of(teacher_logits, DRAWS * k, generator=torch.Generator().manual_seed(seed + 1))
    _, own = target_divergence_and_gradient(student_logits, many)
    errors[f"{k} drawn"] = size, value, error, float((own - gradient).norm() / gradient.norm())
    return errors


def render_top_k(k: int, *, teacher_logits: Tensor, student_logits: Tensor, width: int) -> str:
    """Show `target_errors` as a table, and the probability that lies outside the k likeliest tokens."""
    errors = target_errors(k, teacher_logits, student_logits, width)
    outside = 1 - float(teacher_logits.float().softmax(dim=1).topk(k, dim=1).values.sum(dim=1).mean())
    heads = ("kept", "bytes a token", "KL seen (nats)", "gradient off by", f"mean of {DRAWS} gradients off by")
    rows = [
        (name, f"{size:,.0f}", f"{value:.2f}", f"{one:.0%}", f"{mean:.0%}")
        for name, (size, value, one, mean) in errors.items()
    ]
    return html_table(heads, rows) + (
        f"<p>Outside the {k} likeliest tokens lie {outside:.0%} of the teacher's probability, a mean over"
        f" {len(teacher_logits)} tokens.</p>"
    )
