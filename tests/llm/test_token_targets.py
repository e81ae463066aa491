"""Targets in fewer bytes: against autograd in fp64 on the outcomes that they keep; what truncation and sampling do."""

import math
from functools import partial

import pytest
import torch
from exact_divergences import divergence_in_fp64
from hypothesis import given, settings, strategies as st

from distill_helpers.llm.fused_loss import fused_distillation_loss
from distill_helpers.llm.token_targets import (
    DenseTargets,
    SampledTargets,
    TopKTargets,
    target_divergence,
    target_divergence_and_gradient,
)
from distill_helpers.losses.divergences import DIVERGENCES, soft_target_divergence

NAMES = sorted(DIVERGENCES)
V = 31


def logits_of(n_tokens=6, seed=0, spread=3.0, vocabulary=V):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(2, n_tokens, vocabulary, generator=generator)


def outcomes_in_fp64(logits, ids, temperature):
    """T times the log-probabilities of the tokens and of all others, written out."""
    p = (logits.double() / temperature).softmax(dim=1)
    kept = p.gather(1, ids)
    others = p.scatter(1, ids, 0.0).sum(dim=1, keepdim=True)
    return temperature * torch.cat([kept, others], dim=1).log()


@given(
    seed=st.integers(0, 2**16),
    n_tokens=st.integers(1, 7),
    k=st.integers(1, V - 1),
    divergence=st.sampled_from(NAMES),
    temperature=st.sampled_from([0.7, 1.0, 3.0]),
    chunk_size=st.sampled_from([None, 1, 3, 100]),
)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_top_k_targets_with_a_bucket_are_a_divergence_of_k_plus_1_outcomes(
    seed, n_tokens, k, divergence, temperature, chunk_size
):
    student, teacher = logits_of(n_tokens, seed)
    targets = TopKTargets.of(teacher, k, temperature, dtype=torch.float32)
    exact = student.double().requires_grad_()
    ids = targets.token_ids.long()
    expected = divergence_in_fp64(
        outcomes_in_fp64(exact, ids, temperature), outcomes_in_fp64(teacher, ids, temperature), divergence, temperature
    )
    expected.sum().backward()
    options = {"divergence": divergence, "temperature": temperature}
    value, gradient = target_divergence_and_gradient(student, targets, **options)
    torch.testing.assert_close(value.double(), expected.detach(), rtol=1e-5, atol=3e-6)
    torch.testing.assert_close(gradient.double(), exact.grad, rtol=1e-4, atol=3e-6)
    torch.testing.assert_close(target_divergence(student, targets, **options), value, rtol=1e-5, atol=3e-6)
    # The same through a head, which makes the logits of rows (one-hot hidden states pick them).
    head = student.t().contiguous().requires_grad_()
    loss = fused_distillation_loss(torch.eye(n_tokens), head, targets, chunk_size=chunk_size, **options)
    loss.backward()
    torch.testing.assert_close(loss.double().detach(), expected.mean().detach(), rtol=1e-5, atol=3e-6)
    torch.testing.assert_close(head.grad.t().double() * n_tokens, exact.grad, rtol=1e-4, atol=3e-6)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_truncation_never_adds_divergence_and_more_tokens_leave_less_of_it_out(divergence):
    student, teacher = logits_of(200)
    whole = soft_target_divergence(student, teacher, divergence=divergence)
    values = [
        target_divergence(student, TopKTargets.of(teacher, k, dtype=torch.float32), divergence=divergence)
        for k in (1, 4, 16, V - 1)
    ]
    for fewer, more in zip(values, [*values[1:], whole], strict=True):
        assert (fewer <= more + 1e-5).all()
    torch.testing.assert_close(values[-1], whole)  # a bucket of one token loses nothing
    assert values[0].mean() < 0.8 * whole.mean()


def test_sampled_targets_are_right_on_average_and_not_each_time():
    student, teacher = (logits[:1] for logits in logits_of(1))
    generator = torch.Generator().manual_seed(0)
    many = SampledTargets.of(teacher.expand(20_000, V), 5, 2.0, generator=generator)
    value, gradient = target_divergence_and_gradient(student.expand(20_000, V), many, temperature=2.0)
    exact = student.double().requires_grad_()
    expected = divergence_in_fp64(exact, teacher.double(), "forward_kl", 2.0)
    expected.sum().backward()
    for sample, truth in ((value, expected.detach()), (gradient, exact.grad[0])):
        error = (sample.double().mean(dim=0) - truth).abs()
        assert (error <= 5 * sample.std(dim=0) / math.sqrt(20_000) + 1e-6).all()
    assert value.std() > 0.1
    torch.testing.assert_close(target_divergence(student.expand(20_000, V), many, temperature=2.0), value)


def test_top_k_without_its_bucket_is_biased_where_sampling_is_not():
    """What the bucket is for: a student equal to the teacher must be at rest."""
    _, teacher = logits_of(50)
    with_bucket = target_divergence_and_gradient(teacher, TopKTargets.of(teacher, 4, dtype=torch.float32))[1]
    kept = teacher.topk(4, dim=1)
    renormalised = torch.full_like(teacher, -math.inf).scatter(1, kept.indices, kept.values)
    without = target_divergence_and_gradient(teacher, renormalised)[1]
    assert with_bucket.abs().max() < 1e-6
    assert without.abs().max() > 0.01


def test_hard_labels_are_targets_whose_divergence_is_the_cross_entropy():
    student, _ = logits_of(5)
    labels = torch.tensor([0, 3, 30, 7, 7])
    exact = student.clone().requires_grad_()
    expected = torch.nn.functional.cross_entropy(exact, labels, reduction="none")
    expected.sum().backward()
    value, gradient = target_divergence_and_gradient(student, TopKTargets.one_hot(labels))
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, exact.grad)


def test_half_precision_keeps_probabilities_to_half_a_percent():
    _, teacher = logits_of(100, spread=6.0)
    stored = TopKTargets.of(teacher, 16).log_probs.float().exp()
    exact = TopKTargets.of(teacher, 16, dtype=torch.float32).log_probs.exp()
    likely = exact > 1.2e-7
    assert ((stored - exact).abs() / exact)[likely].max() < 0.0045
    dense = DenseTargets.of(teacher + 1000.0).logits.float().softmax(dim=1)
    torch.testing.assert_close(dense, teacher.softmax(dim=1), atol=0.003, rtol=0.01)


def test_bytes_are_counted_as_they_lie_on_disk():
    _, teacher = logits_of(3)
    assert TopKTargets.of(teacher, 8).bytes_per_token == 8 * (4 + 2) + 4
    assert SampledTargets.of(teacher, 8).bytes_per_token == 8 * 4 + 4
    assert DenseTargets.of(teacher).bytes_per_token == 2 * V


def test_rows_are_picked_and_moved_together():
    _, teacher = logits_of(6)
    for targets in (TopKTargets.of(teacher, 3), SampledTargets.of(teacher, 3), DenseTargets.of(teacher)):
        part = targets[torch.tensor([4, 1])].to("cpu")
        assert len(targets) == 6
        assert len(part) == 2
        assert all((part.tensors[name] == tensor[[4, 1]]).all() for name, tensor in targets.tensors.items())


@pytest.mark.parametrize("kind", [DenseTargets.of, partial(TopKTargets.of, k=9), SampledTargets.of])
def test_tokens_that_a_teacher_rules_out_stay_ruled_out(kind):
    _, teacher = logits_of(4)
    teacher[:, 5] = -math.inf
    value, gradient = target_divergence_and_gradient(logits_of(4)[0], kind(teacher))
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    if kind in (DenseTargets.of, SampledTargets.of):  # in a bucket the student may put its probability where it likes
        assert (gradient[:, 5] > 0).all()  # downhill is a smaller logit


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda t: TopKTargets.of(t, 4, 2.0), {}, "of temperature 2"),
        (lambda t: SampledTargets.of(t, 4), {"divergence": "reverse_kl"}, "forward KL alone"),
        (lambda t: TopKTargets.of(t[:2], 4), {}, "2 rows of targets"),
        (lambda t: TopKTargets.of(torch.cat([t, 9 + t], dim=1), 4), {}, "is not among the student's 31"),
        (lambda t: TopKTargets.of(t, V), {}, "k must lie in 1 to 30"),
        (lambda t: SampledTargets.of(t, 0), {}, "at least 1"),
        (lambda t: TopKTargets.of(t, 4, 0.0), {}, "temperature"),
        (lambda t: TopKTargets(torch.zeros(3, 2), torch.zeros(3, 1), torch.zeros(3)), {}, r"must be \(tokens, k\)"),
        (lambda t: TopKTargets(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(4)), {}, "a row for each token"),
    ],
)
def test_what_does_not_fit_is_refused(make, options, message):
    student, teacher = logits_of(3)
    with pytest.raises(ValueError, match=message):
        target_divergence(student, make(teacher), **options)


def test_the_fused_loss_refuses_targets_beside_a_head_and_rows_that_do_not_count():
    student, teacher = logits_of(3)
    targets = TopKTargets.of(teacher, 4)
    with pytest.raises(ValueError, match="none with targets"):
        fused_distillation_loss(torch.eye(3), student.t(), targets, student.t())
    with pytest.raises(ValueError, match="2 positions count"):
        fused_distillation_loss(torch.eye(3), student.t(), targets, mask=torch.tensor([True, False, True]))


def test_a_wrapped_head_takes_targets_too():
    student, teacher = logits_of(5)
    targets = TopKTargets.of(teacher, 4)
    head = torch.nn.Sequential(torch.nn.Linear(5, V, bias=False))
    with torch.no_grad():
        head[0].weight.copy_(student.t())
    loss = fused_distillation_loss(torch.eye(5), head, targets, chunk_size=2)
    loss.backward()
    plain = student.t().contiguous().requires_grad_()
    expected = fused_distillation_loss(torch.eye(5), plain, targets)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(head[0].weight.grad, plain.grad)
