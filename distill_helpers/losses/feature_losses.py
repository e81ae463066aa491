"""Losses between a teacher's and a student's features, one number for each message.

Each loss is a mean over the tokens of a message, or over its pairs of tokens. A long message therefore counts as much
as a short one, and a batch can be split without changing the result. Padding counts nowhere, neither as query nor as
key. Every `attention_mask` is (batch, sequence), 1 or True where there is a token. Teacher features never receive a
gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.losses.divergences import forward_kl
from distill_helpers.losses.soft_targets import mean_per_item
from distill_helpers.models.features import attention_pairs

__all__ = [
    "attention_distribution_loss",
    "attention_score_loss",
    "cosine_loss",
    "hidden_state_loss",
    "relation_loss",
]


def hidden_state_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean squared error of hidden states or embeddings (TinyBERT, arXiv 1909.10351, equations 8 and 9).

    Args:
        student, teacher: (batch, sequence, width). Where the widths differ, project the student's first.
        attention_mask: (batch, sequence), 1 where there is a token.

    Returns:
        fp32, (batch,): the squared error, a mean over width and tokens.

    Raises:
        ValueError: shapes that differ.

    Example:
        Two messages; the second has one token and one position of padding, which does not count:

        >>> student, teacher = torch.ones(2, 2, 8), torch.zeros(2, 2, 8)
        >>> student[1, 1] = 100
        >>> dh.hidden_state_loss(student, teacher, torch.tensor([[1, 1], [1, 0]]))
        tensor([1., 1.])
    """
    student, teacher, real = _hidden_pair(student, teacher, attention_mask)
    return mean_per_item((student - teacher).square().mean(dim=-1), real)


def cosine_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """1 − cosine of hidden states, a mean over tokens (DistilBERT, arXiv 1910.01108, section 2).

    Arguments and errors as in `hidden_state_loss`. The result is fp32, (batch,), in [0, 2].

    Example:
        The lengths of the vectors do not count, their directions do:

        >>> student, teacher = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[5.0, 5.0]]])
        >>> dh.cosine_loss(student, teacher, torch.ones(1, 1))
        tensor([0.2929])
    """
    student, teacher, real = _hidden_pair(student, teacher, attention_mask)
    return mean_per_item(1 - F.cosine_similarity(student, teacher, dim=-1), real)


def attention_score_loss(
    student_scores: Tensor, teacher_scores: Tensor, attention_mask: Tensor, causal: bool = False
) -> Tensor:
    """Mean squared error of attention scores before the softmax (TinyBERT, arXiv 1909.10351, equation 7).

    Scores are compared because the squared error of probabilities falls with the square of the message's length.

    Args:
        student_scores, teacher_scores: (batch, heads, sequence, sequence), from `Features.attention_scores`.
        attention_mask: (batch, sequence), 1 where there is a token.
        causal: compare only pairs whose key is not later than the query.

    Returns:
        fp32, (batch,): a mean over heads and the pairs of tokens that count.

    Raises:
        ValueError: shapes that differ, such as unequal numbers of heads.

    Example:
        >>> student, teacher = torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)  # two heads, three tokens
        >>> dh.attention_score_loss(student, teacher, torch.ones(1, 3))
        tensor([1.])
    """
    _check_heads(student_scores, teacher_scores)
    pairs = attention_pairs(attention_mask, causal)
    # Scores at padding become 0 before the difference, so that they reach neither value nor gradient.
    student_scores = student_scores.float().masked_fill(~pairs, 0.0)
    teacher_scores = teacher_scores.detach().float().masked_fill(~pairs, 0.0)
    return mean_per_item((student_scores - teacher_scores).square().mean(dim=1, keepdim=True), pairs)


def attention_distribution_loss(
    student_scores: Tensor, teacher_scores: Tensor, attention_mask: Tensor, causal: bool = False
) -> Tensor:
    """KL(teacher‖student) of attention distributions (MiniLM, arXiv 2002.10957, section 3.1).

    Arguments, shapes and errors as in `attention_score_loss`; the softmax over the keys is part of this function.

    Returns:
        fp32, (batch,): nats, a mean over heads and queries.

    Example:
        A student that looks at both tokens alike, and a teacher that looks at the first one:

        >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.tensor([[[[3.0, 0.0], [3.0, 0.0]]]])
        >>> dh.attention_distribution_loss(student, teacher, torch.ones(1, 2))
        tensor([0.5023])
    """
    _check_heads(student_scores, teacher_scores)
    real = attention_mask.bool()
    # A padded query has no key at all, and its softmax would be NaN. It may look everywhere here, and is dropped below.
    closed = ~attention_pairs(attention_mask, causal) & real[:, None, :, None]
    student_log_p, teacher_log_p = (
        torch.log_softmax(scores.float().masked_fill(closed, -torch.inf), dim=-1)
        for scores in (student_scores, teacher_scores.detach())
    )
    return mean_per_item(forward_kl(student_log_p, teacher_log_p).mean(dim=1), real)


def relation_loss(
    student: Tensor, teacher: Tensor, attention_mask: Tensor, n_heads: int | None = None, causal: bool = False
) -> Tensor:
    """KL(teacher‖student) between self-relations softmax(x·xᵀ/√d) of queries, keys or values.

    MiniLM relates the values (arXiv 2002.10957, section 3.2), head by head. MiniLMv2 (arXiv 2012.15828, section 3.1)
    joins the heads and splits the width again into `n_heads` relation heads, so that teacher and student may have
    different numbers of attention heads, and different widths.

    Args:
        student, teacher: (batch, heads, sequence, head width), the queries, keys or values of `Features`.
        attention_mask: (batch, sequence), 1 where there is a token.
        n_heads: the number of relation heads; None takes the attention heads as they are.
        causal: relate each token only to itself and to earlier tokens.

    Returns:
        fp32, (batch,): nats, a mean over relation heads and tokens.

    Raises:
        ValueError: unequal heads without `n_heads`, or a width that `n_heads` does not divide.

    Example:
        Two heads of width 8 against four of width 16, through eight relation heads:

        >>> student, teacher = torch.zeros(1, 2, 3, 8), torch.zeros(1, 4, 3, 16)
        >>> dh.relation_loss(student, teacher, torch.ones(1, 3), n_heads=8)
        tensor([0.])
    """
    if n_heads is not None:
        student, teacher = (_regroup(x, n_heads) for x in (student, teacher))
    elif student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"{student.shape[1]} heads of the student against {teacher.shape[1]} of the teacher; give n_heads, the"
            " number of relation heads into which both widths are split (MiniLMv2)"
        )
    student_scores, teacher_scores = (
        x.float() @ x.float().transpose(-1, -2) * x.shape[-1] ** -0.5 for x in (student, teacher)
    )
    return attention_distribution_loss(student_scores, teacher_scores, attention_mask, causal)


def _regroup(vectors: Tensor, n_heads: int) -> Tensor:
    """(batch, heads, sequence, head width) → (batch, n_heads, sequence, width / n_heads)."""
    joined = vectors.transpose(1, 2).flatten(start_dim=2)
    if n_heads < 1 or joined.shape[-1] % n_heads:
        raise ValueError(f"n_heads {n_heads} does not divide the width {joined.shape[-1]}")
    return joined.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def _hidden_pair(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student features {tuple(student.shape)} and teacher features {tuple(teacher.shape)} differ in shape; a"
            " smaller width needs a projector (FeatureTerms has them), another sequence length the same tokenizer"
        )
    if attention_mask.shape != student.shape[:2]:
        raise ValueError(f"attention_mask {tuple(attention_mask.shape)} does not fit features {tuple(student.shape)}")
    real = attention_mask.bool()
    # Padding becomes 0 in both, so that it reaches neither value nor gradient.
    closed = ~real[..., None]
    return student.float().masked_fill(closed, 0.0), teacher.detach().float().masked_fill(closed, 0.0), real


def _check_heads(student_scores: Tensor, teacher_scores: Tensor) -> None:
    if student_scores.dim() != 4 or student_scores.shape != teacher_scores.shape:
        raise ValueError(
            "attention scores must be (batch, heads, sequence, sequence), of one shape in both models, got"
            f" {tuple(student_scores.shape)} and {tuple(teacher_scores.shape)}; for unequal numbers of heads use"
            " relation_loss with n_heads"
        )
