"""Where TRL's losses and ours mean the same, they are the same: values, and gradients of hidden states and heads."""

import pytest
import torch
from trl.experimental.gkd import GKDTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from distill_helpers import fused_distillation_loss
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm import compute_token_level_distillation_loss

#: Our options, and TRL's β. Its Jensen–Shannon divergence is the paper's, without our normalisation.
SAME = {
    "forward_kl": ({"divergence": "forward_kl"}, 0.0),
    "jsd": ({"divergence": "generalized_jsd", "beta": 0.5, "normalized": False}, 0.5),
    "reverse_kl": ({"divergence": "reverse_kl"}, 1.0),
}


def inputs():
    generator = torch.Generator().manual_seed(0)
    shapes = {"student": (2, 9, 12), "student_head": (40, 12), "teacher": (2, 9, 16), "teacher_head": (40, 16)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    mask = torch.rand(2, 9, generator=generator) < 0.6
    return tensors, mask


def with_gradients(loss_of):
    tensors, mask = inputs()
    for name in ("student", "student_head"):
        tensors[name].requires_grad_()
    loss = loss_of(tensors, mask)
    loss.backward()
    return loss.detach(), tensors["student"].grad, tensors["student_head"].grad


@pytest.mark.parametrize("name", SAME)
def test_the_fused_loss_is_that_of_trls_distillation_trainer(name):
    options, beta = SAME[name]
    ours = with_gradients(lambda t, mask: fused_distillation_loss(*t.values(), mask, **options))
    theirs = with_gradients(
        lambda t, mask: _chunked_divergence_loss(
            t["student"], t["teacher"], t["student_head"], t["teacher_head"], mask, beta
        )[0]
    )
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SAME)
def test_the_token_level_loss_is_that_of_trls_gkd(name):
    options, beta = SAME[name]

    def labelled(mask):
        return torch.where(mask, 7, IGNORE_INDEX)

    # TRL shifts before it calls its function, ours shifts inside.
    ours = with_gradients(
        lambda t, mask: compute_token_level_distillation_loss(
            t["student"] @ t["student_head"].t(), t["teacher"] @ t["teacher_head"].t(), labelled(mask), **options
        )["total_loss"]
    )
    theirs = with_gradients(
        lambda t, mask: GKDTrainer.generalized_jsd_loss(
            (t["student"] @ t["student_head"].t())[:, :-1],
            (t["teacher"] @ t["teacher_head"].t())[:, :-1],
            labels=labelled(mask)[:, 1:],
            beta=beta,
        )
    )
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)
