"""The fused loss against autograd on all logits in fp64; what it never holds; what it refuses."""

import math
from shutil import which
from unittest import mock

import pytest
import torch
from exact_divergences import divergence_in_fp64
from hypothesis import given, settings, strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig

from distill_helpers.llm import dense_targets
from distill_helpers.llm.dense_targets import DenseTargets
from distill_helpers.llm.fused_loss import fused_distillation_loss
from distill_helpers.llm.output_heads import OutputHead, logits_buffer, output_head
from distill_helpers.losses.causal_alignment import causal_shift
from distill_helpers.losses.divergences import DIVERGENCES
from distill_helpers.losses.soft_targets import mean_divergence

NAMES = sorted(DIVERGENCES)


def random_inputs(batch=2, length=5, vocabulary=23, student_width=6, teacher_width=9, seed=0):
    """Student hidden and head, teacher hidden and head, with logits of a spread of about 3."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator)

    return (
        normal(batch, length, student_width),
        normal(vocabulary, student_width, scale=3 * student_width**-0.5),
        normal(batch, length, teacher_width),
        normal(vocabulary, teacher_width, scale=3 * teacher_width**-0.5),
    )


def in_fp64(tensors, mask, temperature, divergence, mask_rows=True):
    """Loss and gradients of hidden states and head by autograd, written out from the definitions in fp64."""
    student, head, teacher, teacher_head = (tensor.double() for tensor in tensors)
    student.requires_grad_()
    head.requires_grad_()
    values = divergence_in_fp64(student @ head.t(), teacher @ teacher_head.t(), divergence, temperature)
    loss = values[mask].mean() if mask_rows else values.mean()
    loss.backward()
    return loss.detach(), student.grad, head.grad


def relative(actual, expected):
    return float((actual.double() - expected).norm() / expected.norm().clamp(min=1e-12))


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6)),
    vocabulary=st.integers(2, 60),
    widths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    divergence=st.sampled_from(NAMES),
    temperature=st.sampled_from([0.7, 1.0, 3.0]),
    chunk_size=st.sampled_from([None, 1, 2, 3, 7, 100]),
    trained=st.sampled_from([(True, True), (True, False), (False, True)]),
    share=st.sampled_from([0.3, 0.7, 1.0]),
)
@settings(deadline=None, max_examples=150, derandomize=True)
@pytest.mark.slow
def test_loss_and_gradients_are_those_of_autograd_in_fp64(
    seed, shape, vocabulary, widths, divergence, temperature, chunk_size, trained, share
):
    tensors = random_inputs(*shape, vocabulary, *widths, seed)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    mask[0, 0] = True
    student, head = tensors[0].clone().requires_grad_(trained[0]), tensors[1].clone().requires_grad_(trained[1])
    loss = fused_distillation_loss(
        student, head, *tensors[2:], mask, temperature=temperature, divergence=divergence, chunk_size=chunk_size
    )
    loss.backward()
    expected = in_fp64(tensors, mask, temperature, divergence)
    assert abs(float(loss.detach()) - float(expected[0])) <= 1e-5 * max(float(expected[0]), 1e-2)
    for tensor, gradient in ((student, expected[1]), (head, expected[2])):
        if tensor.requires_grad:
            # Where the gradient itself is next to nothing, the rounding of logits of size 10 is all there is.
            assert float((tensor.grad.double() - gradient).norm()) <= 1e-5 * max(float(gradient.norm()), 0.05)
        else:
            assert tensor.grad is None


@pytest.mark.parametrize("divergence", NAMES)
def test_a_tied_head_collects_both_gradients(divergence):
    _, head, teacher, teacher_head = random_inputs()
    ids = torch.arange(10).reshape(2, 5)

    def gradient(loss_of):
        weight = head.clone().requires_grad_()
        loss_of(weight[ids].tanh(), weight).backward()
        return weight.grad

    fused = gradient(lambda h, w: fused_distillation_loss(h, w, teacher, teacher_head, divergence=divergence))
    plain = gradient(lambda h, w: mean_divergence(h @ w.t(), teacher @ teacher_head.t(), divergence=divergence))
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("divergence", NAMES)
def test_bias_cap_and_scale_are_those_of_the_logits(divergence):
    student, weight, teacher, teacher_weight = random_inputs()
    bias, teacher_bias = torch.randn(2, 23)
    inputs = [tensor.clone().requires_grad_() for tensor in (student, weight, bias)]
    copies = [tensor.clone().requires_grad_() for tensor in (student, weight, bias)]
    teacher_head = OutputHead(teacher_weight, teacher_bias, soft_cap=4.0)
    fused = fused_distillation_loss(
        inputs[0],
        OutputHead(inputs[1], inputs[2], 2.5, 0.6),
        teacher,
        teacher_head,
        divergence=divergence,
        chunk_size=3,
    )
    raw = 0.6 * (copies[0] @ copies[1].t() + copies[2])
    teacher_logits = 4.0 * ((teacher @ teacher_weight.t() + teacher_bias) / 4.0).tanh()
    plain = mean_divergence(2.5 * (raw / 2.5).tanh(), teacher_logits, divergence=divergence)
    fused.backward()
    plain.backward()
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)
    for one, other in zip(inputs, copies, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_padded_rows_of_both_heads_are_left_out():
    student, head, teacher, teacher_head = random_inputs(vocabulary=20)
    # Padding that would win every softmax.
    padded = torch.cat([head, 50 * torch.ones(4, 6)]).requires_grad_()
    padded_teacher = torch.cat([teacher_head, 70 * torch.ones(12, 9)])
    loss = fused_distillation_loss(student, padded, teacher, padded_teacher, vocab_size=20)
    exact = head.clone().requires_grad_()
    expected = fused_distillation_loss(student, exact, teacher, teacher_head)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(padded.grad[:20], exact.grad)
    assert padded.grad[20:].abs().max() == 0
    with pytest.raises(ValueError, match=r"24 rows, the teacher's 32.*vocab_size=len\(tokenizer\)"):
        fused_distillation_loss(student, padded, teacher, padded_teacher)
    with pytest.raises(ValueError, match="1 to 24, the smaller head's rows, got 25"):
        fused_distillation_loss(student, padded, teacher, padded_teacher, vocab_size=25)


def test_the_loss_does_not_depend_on_the_split_under_accumulation():
    student, head, teacher, teacher_head = random_inputs(batch=4)
    mask = torch.rand(4, 5, generator=torch.Generator().manual_seed(3)) < 0.5
    whole, parts = head.clone().requires_grad_(), head.clone().requires_grad_()
    fused_distillation_loss(student, whole, teacher, teacher_head, mask).backward()
    for rows in (slice(0, 1), slice(1, 4)):
        loss = fused_distillation_loss(
            student[rows], parts, teacher[rows], teacher_head, mask[rows], num_items=mask.sum()
        )
        loss.backward()
    torch.testing.assert_close(parts.grad, whole.grad)


def test_nothing_counts():
    student, head, teacher, teacher_head = random_inputs()
    student.requires_grad_()
    head.requires_grad_()
    none = torch.zeros(2, 5, dtype=torch.bool)
    loss = fused_distillation_loss(student, head, teacher, teacher_head, none)
    loss.backward()
    assert loss == 0
    assert student.grad.abs().max() == 0
    assert head.grad.abs().max() == 0


def test_masked_rows_are_not_looked_at():
    student, head, teacher, teacher_head = random_inputs()
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, 2] = False
    expected = fused_distillation_loss(student, head, teacher, teacher_head, mask)
    student[0, 2], teacher[0, 2] = math.nan, math.inf
    student.requires_grad_()
    loss = fused_distillation_loss(student, head, teacher, teacher_head, mask)
    loss.backward()
    assert loss == expected
    assert torch.isfinite(student.grad).all()


def test_a_nan_that_counts_is_not_hidden():
    student, head, teacher, teacher_head = random_inputs()
    student[0, 0, 0] = math.nan
    assert fused_distillation_loss(student, head, teacher, teacher_head).isnan()


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [
            leaf.untyped_storage().size() // leaf.element_size()
            for leaf in tree_leaves(result)
            if torch.is_tensor(leaf)
        ]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize("wrapped", [False, True])
def test_no_tensor_of_tokens_times_vocabulary_exists(wrapped):
    student, head, teacher, teacher_head = random_inputs(batch=8, length=32, vocabulary=1000)
    layer = nn.Sequential(nn.Linear(6, 1000, bias=False)) if wrapped else nn.Linear(6, 1000, bias=False)
    student.requires_grad_()
    with LargestTensor() as seen:
        fused_distillation_loss(student, layer, teacher, teacher_head, chunk_size=16).backward()
    assert seen.numel <= 16 * 1024  # a row is filled up to a multiple of 64
    with LargestTensor() as seen:
        mean_divergence(student @ head.t(), teacher @ teacher_head.t()).backward()
    assert seen.numel >= 256 * 1000


def test_without_gradients_none_is_computed(monkeypatch):
    tensors = random_inputs()
    expected = fused_distillation_loss(tensors[0].clone().requires_grad_(), *tensors[1:])
    monkeypatch.setattr(DenseTargets, "divergence_and_gradient", None)
    torch.testing.assert_close(fused_distillation_loss(*tensors), expected.detach())


@pytest.mark.slow
@pytest.mark.skipif(not which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("divergence", ["forward_kl", "generalized_jsd"])
def test_compiled_it_gives_the_same(divergence):
    """By its own option, and in a training step that somebody compiles whole."""
    tensors = random_inputs(length=40)

    def gradients(loss_of, **options):
        student, head = (tensor.clone().requires_grad_() for tensor in tensors[:2])
        loss = loss_of(student, head, *tensors[2:], divergence=divergence, chunk_size=7, **options)
        loss.backward()
        return loss.detach(), student.grad, head.grad

    expected = gradients(fused_distillation_loss)
    with mock.patch("distill_helpers.llm.dense_targets._compiled", wraps=dense_targets._compiled) as compiled:
        torch.testing.assert_close(gradients(fused_distillation_loss, compiled=True), expected)
    assert compiled.call_count == 2 * 40 // 7 + 1  # a block for each chunk
    torch.testing.assert_close(gradients(torch.compile(fused_distillation_loss)), expected)


def test_rows_of_logits_begin_at_whole_cache_lines_and_chunks_are_of_one_size():
    student, head, teacher, teacher_head = random_inputs(batch=1, length=10)
    sizes = []

    class Buffers(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = (kwargs or {}).get("out")
            if function is torch.ops.aten.mm.out and out.shape[1] == len(head):
                sizes.append((len(out), out.stride(0) % 64, out.data_ptr() % 64))
            return function(*args, **(kwargs or {}))

    with Buffers():
        fused_distillation_loss(student, head, teacher, teacher_head, chunk_size=8)
    assert sizes == 4 * [(5, 0, 0)]


def test_what_lies_between_the_rows_of_a_buffer_is_zero():
    """Products in bf16 on a CPU with AMX read it, and multiply it by 0."""
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        buffer = logits_buffer(torch.zeros(1, 3), 4, 70)
    finally:
        torch.use_deterministic_algorithms(False)
    assert buffer.shape == (4, 70)
    assert buffer.isnan().all()
    assert torch.equal(buffer.as_strided((4, 58), (128, 1), 70), torch.zeros(4, 58))


def small_model(**options):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        **options,
    )
    return AutoModelForCausalLM.from_config(config)


def test_a_head_under_lora_gives_what_all_logits_give():
    teacher, ids = small_model().eval(), torch.arange(24).reshape(2, 12)
    lora = LoraConfig(target_modules=["lm_head", "q_proj"], r=2, init_lora_weights=False)
    student = get_peft_model(small_model(), lora)
    mask = torch.rand(2, 12, generator=torch.Generator().manual_seed(0)) < 0.7
    with torch.no_grad():
        taught = teacher.model(ids).last_hidden_state[:, :-1]
        teacher_logits = teacher(ids).logits

    def gradients(loss):
        student.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}

    inner = student.base_model.model
    shifted = causal_shift(targets=mask)
    hidden = inner.model(ids).last_hidden_state[:, :-1]
    fused = fused_distillation_loss(hidden, output_head(inner), taught, output_head(teacher), shifted, chunk_size=5)
    ours = gradients(fused)
    plain = mean_divergence(causal_shift(logits=student(ids).logits), causal_shift(logits=teacher_logits), mask=shifted)
    theirs = gradients(plain)
    torch.testing.assert_close(fused, plain)
    assert ours.keys() == theirs.keys()
    assert any("lm_head" in name for name in ours)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_keep_theirs_and_sum_in_fp32(dtype):
    # 4,000 rows: gradients of equal sign, whose sum in half precision stops growing.
    student, head, teacher, teacher_head = random_inputs(batch=1, length=4000, vocabulary=11)
    student, teacher = student[:, :1].expand(-1, 4000, -1), teacher[:, :1].expand(-1, 4000, -1)
    inputs = [tensor.to(dtype) for tensor in (student, head, teacher, teacher_head)]
    weight = inputs[1].clone().requires_grad_()
    hidden = inputs[0].clone().requires_grad_()
    loss = fused_distillation_loss(hidden, weight, *inputs[2:], chunk_size=50)
    loss.backward()
    assert loss.dtype == torch.float32
    assert (hidden.grad.dtype, weight.grad.dtype) == (dtype, dtype)
    expected = in_fp64(inputs, None, 1.0, "forward_kl", mask_rows=False)
    tolerance = 1e-6 if dtype == torch.float64 else 4 * torch.finfo(dtype).eps
    assert relative(weight.grad, expected[2]) < tolerance


def test_autocast_computes_in_its_dtype_and_returns_the_parameters():
    student, head, teacher, teacher_head = random_inputs()
    weight = head.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = fused_distillation_loss(student.bfloat16(), weight, teacher, teacher_head)
    loss.backward()
    assert weight.grad.dtype == torch.float32
    expected = in_fp64((student, head, teacher, teacher_head), None, 1.0, "forward_kl", mask_rows=False)
    assert relative(weight.grad, expected[2]) < 0.03


def test_the_gradient_can_be_scaled_and_added():
    tensors = random_inputs()
    weight = tensors[1].clone().requires_grad_()
    (3 * fused_distillation_loss(tensors[0], weight, *tensors[2:]) + weight.sum()).backward()
    alone = tensors[1].clone().requires_grad_()
    fused_distillation_loss(tensors[0], alone, *tensors[2:]).backward()
    torch.testing.assert_close(weight.grad, 3 * alone.grad + 1)


def test_a_second_backward_pass_says_why_there_is_none():
    tensors = random_inputs()
    weight = tensors[1].clone().requires_grad_()
    loss = fused_distillation_loss(tensors[0], weight, *tensors[2:])
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, weight, create_graph=True)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        loss.backward()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"student_hidden": torch.zeros(2, 4, 6)}, ValueError, "of the same positions"),
        ({"student_hidden": torch.zeros(2, 5, 7)}, ValueError, "student's hidden states are 7 wide, its head 6"),
        ({"teacher_hidden": torch.zeros(2, 5, 6)}, ValueError, "teacher's hidden states are 6 wide, its head 9"),
        ({"student_hidden": torch.zeros(2, 5, 6).half()}, ValueError, "hidden states are torch.float16, its head"),
        ({"student_hidden": torch.zeros(2, 5, 6, dtype=torch.long)}, TypeError, "floating point"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, ValueError, "the mask has shape"),
        ({"mask": torch.ones(2, 5)}, ValueError, "mask must be bool"),
        ({"temperature": 0.0}, ValueError, "temperature"),
        ({"divergence": "kl"}, ValueError, "unknown divergence"),
        ({"beta": 0.5}, TypeError, "beta"),
        ({"chunk_size": 0}, ValueError, "chunk_size"),
        ({"num_items": 0}, ValueError, "num_items"),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, message):
    names = ("student_hidden", "student_head", "teacher_hidden", "teacher_head")
    arguments = dict(zip(names, random_inputs(), strict=True)) | changes
    with pytest.raises(error, match=message):
        fused_distillation_loss(**arguments)


def test_without_gradients_every_block_of_rows_is_compared(monkeypatch):
    """A large vocabulary leaves room for a few rows in a block; the loss of each evaluation is made of such blocks."""
    monkeypatch.setattr(DenseTargets, "block_size", 2 * 23)
    student, head, teacher, teacher_head = random_inputs(batch=3, length=7)
    expected = fused_distillation_loss(student, head.clone().requires_grad_(), teacher, teacher_head)
    exact, *_ = in_fp64((student, head, teacher, teacher_head), torch.ones(3, 7, dtype=torch.bool), 1.0, "forward_kl")
    for targets in (teacher.reshape(-1, 9), DenseTargets((teacher @ teacher_head.t()).reshape(-1, 23))):
        hidden = student.reshape(-1, 6)
        theirs = teacher_head if isinstance(targets, torch.Tensor) else None
        with torch.no_grad():
            loss = fused_distillation_loss(hidden, head, targets, theirs, chunk_size=5)
        assert float(loss) == pytest.approx(float(exact), rel=1e-5)
    assert float(expected) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("wrapped", [False, True])
def test_dense_targets_wider_than_the_vocabulary_are_cut(wrapped):
    """The teacher's head may be padded further than the student's; the padding's logits are large here."""
    student, head, teacher, teacher_head = random_inputs(batch=1, length=7)
    logits = (teacher @ teacher_head.t())[0]
    padded = DenseTargets(torch.cat([logits, torch.full((7, 8), 30.0)], dim=1))
    module = nn.Linear(6, 23, bias=False)
    with torch.no_grad():
        module.weight.copy_(head)
    own = nn.Sequential(module) if wrapped else module
    expected = fused_distillation_loss(student[0], module, DenseTargets(logits))
    loss = fused_distillation_loss(student[0], own, padded, vocab_size=23)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected_gradient, module.weight.grad = module.weight.grad, None
    fused_distillation_loss(student[0], module, DenseTargets(logits)).backward()
    torch.testing.assert_close(module.weight.grad, expected_gradient)
    with pytest.raises(ValueError, match="pass vocab_size"):
        fused_distillation_loss(student[0], own, padded)


@pytest.mark.parametrize("number", [3, torch.tensor(3)])
def test_a_head_that_is_a_module_divides_by_the_items_of_the_whole_step(number):
    student, head, teacher, teacher_head = random_inputs(batch=1, length=7)
    module = nn.Linear(6, 23, bias=False)
    with torch.no_grad():
        module.weight.copy_(head)
    losses = [
        fused_distillation_loss(student, own, teacher, teacher_head, num_items=number, chunk_size=2)
        for own in (module, nn.Sequential(module))
    ]
    mean = fused_distillation_loss(student, module, teacher, teacher_head)
    torch.testing.assert_close(losses[0], mean * 7 / 3)
    torch.testing.assert_close(losses[1], mean * 7 / 3)
