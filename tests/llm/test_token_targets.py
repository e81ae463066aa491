"""Targets in fewer bytes: against autograd in fp64 on the outcomes that they keep; what truncation and sampling do."""

import math
from functools import partial

import pytest
import torch
from exact_divergences import divergence_in_fp64
from hypothesis import given, settings, strategies as st

from distill_helpers.llm.dense_targets import DenseTargets, HiddenTargets
from distill_helpers.llm.fused_loss import fused_distillation_loss
from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.target_kinds import SampledTargets, TopKTargets
from distill_helpers.llm.token_targets import target_divergence, target_divergence_and_gradient
from distill_helpers.losses.divergences import DIVERGENCES
from distill_helpers.losses.soft_targets import soft_target_divergence

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
@pytest.mark.slow
def test_top_k_targets_with_a_bucket_are_a_divergence_of_k_plus_1_outcomes(
    seed, n_tokens, k, divergence, temperature, chunk_size
):
    student, teacher = logits_of(n_tokens, seed)
    targets = TopKTargets.of(teacher, k, temperature, storage_dtype=torch.float32)
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
        target_divergence(student, TopKTargets.of(teacher, k, storage_dtype=torch.float32), divergence=divergence)
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
    with_bucket = target_divergence_and_gradient(teacher, TopKTargets.of(teacher, 4, storage_dtype=torch.float32))[1]
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
    exact = TopKTargets.of(teacher, 16, storage_dtype=torch.float32).log_probs.exp()
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
        (lambda t: TopKTargets.of(t, 4, 2.0), {}, "made at temperature 2, but the loss has 1"),
        (lambda t: SampledTargets.of(t, 4), {"divergence": "reverse_kl"}, "forward KL alone"),
        (lambda t: TopKTargets.of(t[:2], 4), {}, "2 rows of targets, but 3 tokens"),
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


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda t: (TopKTargets.of(t, 4), torch.eye(3)), {}, "TopKTargets are complete without the teacher's head"),
        (lambda t: (HiddenTargets(torch.eye(3)),), {}, "through the teacher's head; pass teacher_head"),
        (lambda t: (torch.eye(3),), {}, "through the teacher's head; pass teacher_head"),
        (lambda t: (SampledTargets.of(t, 4),), {"divergence": "reverse_kl"}, "estimate the forward KL alone"),
        (lambda t: (TopKTargets.of(t, 4, 2.0),), {"temperature": 3.0}, "made at temperature 2, but the loss has 3"),
        (lambda t: (SampledTargets.of(t, 4, 2.0),), {}, "made at temperature 2, but the loss has 1"),
        (lambda t: (DenseTargets.of(t[:2]),), {}, "2 rows of targets, but 3 tokens count"),
        (lambda t: (HiddenTargets(torch.eye(2), OutputHead(t.t())),), {}, "2 rows of targets, but 3 tokens count"),
        (
            lambda t: (TopKTargets.of(t, 4),),
            {"mask": torch.tensor([True, False, True])},
            "3 rows of targets, but 2 tokens count",
        ),
    ],
)
def test_the_fused_loss_refuses_a_wrong_combination_before_any_work(make, options, message, wrapped, monkeypatch):
    student, teacher = logits_of(3)
    arguments = make(teacher)
    monkeypatch.setattr(OutputHead, "logits", None)  # no product with a head
    head = torch.nn.Sequential(torch.nn.Linear(3, V)) if wrapped else student.t()
    monkeypatch.setattr(torch.nn.Linear, "forward", None)
    with pytest.raises(ValueError, match=message):
        fused_distillation_loss(torch.eye(3), head, *arguments, **options)


def test_the_fused_loss_refuses_a_token_outside_the_vocabulary_before_any_product(monkeypatch):
    student, _ = logits_of(3)
    targets = TopKTargets(torch.tensor([[1], [V - 1], [2]]), torch.zeros(3, 1), torch.full((3,), -math.inf))
    monkeypatch.setattr(OutputHead, "logits", None)
    with pytest.raises(ValueError, match=f"token {V - 1} is not among the student's {V - 1}"):
        fused_distillation_loss(torch.eye(3), student.t(), targets, vocab_size=V - 1)
    with pytest.raises(ValueError, match="token -1 is not among"):
        TopKTargets.one_hot(torch.tensor([0, -1])).check_vocabulary(V)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_hidden_states_and_their_head_are_as_good_as_all_logits(divergence):
    student, _ = logits_of(5)
    hidden, head = torch.randn(2, 5, 7)[0], torch.randn(V, 7)
    targets = HiddenTargets(hidden.half())
    dense = DenseTargets(targets.hidden.float() @ head.t())
    whole = targets.with_head(head)
    assert whole.hidden.dtype == torch.float32  # the head computes in its own precision, whatever was stored
    assert not whole.needs_head
    for compute in (target_divergence, target_divergence_and_gradient):
        torch.testing.assert_close(
            compute(student, whole, divergence=divergence), compute(student, dense.logits, divergence=divergence)
        )
    for loss_head in (student.t(), torch.nn.Sequential(torch.nn.Linear(5, V))):
        losses = [
            fused_distillation_loss(torch.eye(5), loss_head, *arguments, divergence=divergence, chunk_size=2)
            for arguments in ((targets, head), (whole,), (dense,))
        ]
        torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
        torch.testing.assert_close(losses[0], losses[2])


def test_a_teacher_in_half_precision_teaches_a_student_in_fp32():
    student, _ = logits_of(4)
    hidden, head = torch.randn(4, 7).bfloat16(), torch.randn(V, 7).bfloat16()
    loss = fused_distillation_loss(torch.eye(4), student.t(), HiddenTargets(hidden), head)
    dense = DenseTargets(hidden @ head.t())
    torch.testing.assert_close(loss, fused_distillation_loss(torch.eye(4), student.t(), dense))
    with pytest.raises(ValueError, match=r"teacher's hidden states are torch\.float32, its head is torch\.bfloat16"):
        fused_distillation_loss(torch.eye(4), student.t(), hidden.float(), head)


def test_a_repr_is_one_line_with_kind_and_size():
    _, teacher = logits_of(6)
    for targets, shown in (
        (TopKTargets.of(teacher, 3, 2.0), "TopKTargets(6 tokens, 22 bytes each, temperature=2)"),
        (SampledTargets.of(teacher, 3), "SampledTargets(6 tokens, 16 bytes each, temperature=1)"),
        (DenseTargets.of(teacher), "DenseTargets(6 tokens, 62 bytes each)"),
        (HiddenTargets(torch.zeros(6, 7), torch.nn.Linear(7, V)), "HiddenTargets(6 tokens, 28 bytes each)"),
        (DenseTargets.of(teacher)[:0], "DenseTargets(0 tokens, 62 bytes each)"),
    ):
        assert repr(targets) == shown


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
