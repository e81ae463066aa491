"""The loss by task: what hard labels are, what counts, and what is refused."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.binary_divergences import binary_divergence
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss, count_items
from distill_helpers.losses.hard_labels import TASKS, squared_score_error

SOFT, TASK, TOTAL = "soft_target_loss", "task_loss", "total_loss"
repeatable = settings(deadline=None, max_examples=25, derandomize=True)


def random_logits(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator), 2 * torch.randn(*shape, generator=generator)


def zeros_and_ones(*shape, seed=0):
    return torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).float()


def loss_of(task, *arguments, mask=None, num_items=None, label_mask=None, **choices):
    choices.setdefault("temperature", 1.0 if task == "regression" else 2.0)
    loss = DistillationLoss(DistillationConfig(task=task, **choices))
    return loss(*arguments, mask=mask, num_items=num_items, label_mask=label_mask)


# Multi-label


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("divergence", ["forward_kl", "generalized_jsd"])
def test_multi_label_terms_are_binary_divergence_and_binary_cross_entropy(alpha, divergence):
    student, teacher = random_logits(4, 3)
    labels = zeros_and_ones(4, 3)
    terms = loss_of("multi_label", student, teacher, labels, alpha=alpha, divergence=divergence)
    q = student.double().sigmoid()
    soft = binary_divergence(student, teacher, temperature=2.0, divergence=divergence).mean().item()
    task = -(labels * q.log() + (1 - labels) * (1 - q).log()).mean().item()
    expected = {TOTAL: alpha * soft + (1 - alpha) * task}
    expected |= {SOFT: soft} if alpha > 0 else {}
    expected |= {TASK: task} if alpha < 1 else {}
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)
    assert {value.dtype for value in terms.values()} == {torch.float32}


def test_a_sigmoid_teacher_is_not_matched_by_a_softmax():  # the student is the teacher minus 8
    teacher = random_logits(4, 3)[1]
    assert loss_of("single_label", teacher - 8, teacher, alpha=1.0)[TOTAL] < 1e-5
    assert loss_of("multi_label", teacher - 8, teacher, alpha=1.0)[TOTAL] > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.long, torch.int32])
def test_zeros_and_ones_may_have_any_dtype(dtype):
    student, labels = random_logits(4, 3)[0], zeros_and_ones(4, 3)
    labels[2, 1] = IGNORE_INDEX
    expected = loss_of("multi_label", student, None, labels, alpha=0)
    torch.testing.assert_close(loss_of("multi_label", student, None, labels.to(dtype), alpha=0), expected)


def test_missing_labels_add_nothing_to_the_task_term_and_count():
    student, teacher = (logits.requires_grad_() for logits in random_logits(3, 4))
    labels = zeros_and_ones(3, 4)
    missing = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    values = F.binary_cross_entropy_with_logits(student, labels, reduction="none").masked_fill(missing, 0.0)
    by_mark = loss_of("multi_label", student, teacher, labels.masked_fill(missing, IGNORE_INDEX), alpha=0.5)
    # Under a mask, anything may stand in the missing places.
    masked = labels.masked_fill(missing, math.nan)
    by_mask = loss_of("multi_label", student, teacher, masked, label_mask=~missing, alpha=0.5)
    torch.testing.assert_close(by_mark, by_mask)
    assert by_mark[TASK].item() == pytest.approx(values.mean().item(), rel=1e-5)
    assert by_mark[SOFT].item() == pytest.approx(
        binary_divergence(student, teacher, temperature=2.0).mean().item(), rel=1e-5
    )
    loss_of("multi_label", student, None, masked, label_mask=~missing, alpha=0)[TOTAL].backward()
    assert (student.grad[missing] == 0).all()
    assert student.grad[~missing].abs().min() > 0


# Regression


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 3)])
def test_regression_terms_are_squared_errors(alpha, shape):
    student, teacher = random_logits(*shape)
    labels = random_logits(*shape, seed=1)[0]
    terms = loss_of("regression", student, teacher, labels, alpha=alpha)
    soft, task = F.mse_loss(student, teacher).item(), F.mse_loss(student, labels).item()
    expected = {TOTAL: alpha * soft + (1 - alpha) * task}
    expected |= {SOFT: soft} if alpha > 0 else {}
    expected |= {TASK: task} if alpha < 1 else {}
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_a_column_and_a_row_of_scores_are_the_same_and_never_broadcast():
    student, teacher = random_logits(5)
    labels = random_logits(5, seed=1)[0]
    expected = loss_of("regression", student, teacher, labels, alpha=0.5)
    for columns in itertools.product((False, True), repeat=3):
        arguments = (
            values[:, None] if column else values
            for values, column in zip((student, teacher, labels), columns, strict=True)
        )
        torch.testing.assert_close(loss_of("regression", *arguments, alpha=0.5), expected)


def test_the_gradient_of_the_squared_error_reaches_the_student_alone():
    student, teacher = (scores.requires_grad_() for scores in random_logits(4, 2))
    labels = random_logits(4, 2, seed=1)[0]
    loss_of("regression", student, teacher, labels, alpha=0.3)[TOTAL].backward()
    expected = 2 * (0.3 * (student - teacher) + 0.7 * (student - labels)) / 8
    torch.testing.assert_close(student.grad, expected.detach())
    assert teacher.grad is None


@repeatable
@given(seed=st.integers(0, 1000), rows=st.integers(1, 6), columns=st.integers(1, 4))
def test_the_squared_error_is_that_of_fp64_positive_and_zero_at_equality(seed, rows, columns):
    student, teacher = random_logits(rows, columns, seed=seed)
    leaf, twin = student.clone().requires_grad_(), student.double().requires_grad_()
    found, exact = squared_score_error(leaf, teacher), ((twin - teacher.double()) ** 2).mean(dim=1)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
    assert (found >= 0).all()
    assert (squared_score_error(student, student) == 0).all()
    found.sum().backward()
    exact.sum().backward()
    torch.testing.assert_close(leaf.grad.double(), twin.grad, rtol=1e-5, atol=1e-6)


def test_half_precision_scores_are_compared_in_fp32():
    student, teacher = (scores.bfloat16() for scores in random_logits(4, 1))
    terms = loss_of("regression", student, teacher, teacher, alpha=0.5)
    assert {value.dtype for value in terms.values()} == {torch.float32}
    torch.testing.assert_close(terms, loss_of("regression", student.float(), teacher.float(), teacher, alpha=0.5))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 2)])
def test_rows_without_a_score_learn_from_the_teacher_and_count(shape):
    student, teacher = random_logits(*shape)
    labels = torch.full(shape, math.nan)
    labels[1] = -100.0  # a score, since the mask says so
    labels[3] = 2.0
    present = labels.isfinite()
    terms = loss_of("regression", student, teacher, labels, label_mask=present, alpha=0.5)
    expected = (F.mse_loss(student[1], labels[1]) + F.mse_loss(student[3], labels[3])).item() / 4
    assert terms[TASK].item() == pytest.approx(expected, rel=1e-5)
    assert terms[SOFT].item() == pytest.approx(F.mse_loss(student, teacher).item(), rel=1e-5)


# Token classification


def padded(rows, lengths, n_classes=4, longest=None, seed=0):
    """Logits of both models and labels of sequences of these lengths; NaN at the padding."""
    longest = longest or max(lengths)
    student, teacher = random_logits(rows, 12, n_classes, seed=seed)
    labels = torch.arange(rows * 12).reshape(rows, 12) % n_classes
    padding = torch.arange(12) >= torch.tensor(lengths)[:, None]
    student[padding], teacher[padding], labels[padding] = math.nan, math.nan, IGNORE_INDEX
    return student[:, :longest], teacher[:, :longest], labels[:, :longest]


def test_token_terms_are_means_over_the_labelled_tokens_without_a_shift():
    student, teacher, labels = padded(3, (5, 2, 4))
    labels[0, 1] = IGNORE_INDEX  # the second piece of a word
    terms = loss_of("token_classification", student, teacher, labels, alpha=0.4)
    soft, task = [], []
    for row, position in (labels != IGNORE_INDEX).nonzero().tolist():
        z, v, y = student[row, position].double(), teacher[row, position].double(), labels[row, position]
        p, q = (v / 2).softmax(-1), (z / 2).softmax(-1)
        soft.append((4 * (p * (p / q).log()).sum()).item())
        task.append(-z.log_softmax(-1)[y].item())
    assert len(task) == 10
    assert terms[SOFT].item() == pytest.approx(sum(soft) / 10, rel=1e-5)
    assert terms[TASK].item() == pytest.approx(sum(task) / 10, rel=1e-5)
    assert terms[TOTAL].item() == pytest.approx(0.4 * sum(soft) / 10 + 0.6 * sum(task) / 10, rel=1e-5)


@repeatable
@given(lengths=st.lists(st.integers(1, 9), min_size=2, max_size=4), more=st.integers(0, 3))
def test_padding_changes_neither_value_nor_gradient(lengths, more):
    rows = len(lengths)
    gradients, totals = [], []
    for longest in (max(lengths), max(lengths) + more):
        student, teacher, labels = padded(rows, lengths, longest=longest)
        student.requires_grad_()
        total = loss_of("token_classification", student, teacher, labels, alpha=0.4)[TOTAL]
        total.backward()
        totals.append(total)
        gradients.append(student.grad[labels != IGNORE_INDEX])
        assert (student.grad[labels == IGNORE_INDEX] == 0).all()
    torch.testing.assert_close(*totals)
    torch.testing.assert_close(*gradients)


def test_tokens_of_unlabelled_messages_learn_from_the_teacher_under_a_mask():
    student, teacher, _ = padded(2, (5, 3))
    mask = student[..., 0].isfinite()
    labels = torch.full((2, 5), IGNORE_INDEX)
    terms = loss_of("token_classification", student, teacher, labels, mask=mask, alpha=0.5)
    assert terms[TASK] == 0
    alone = loss_of("token_classification", student, teacher, mask=mask, alpha=1.0)
    torch.testing.assert_close(terms[SOFT], alone[SOFT])
    assert terms[SOFT] > 0


# What counts

BATCHES = {
    "single_label": lambda: (*random_logits(7, 4), torch.tensor([0, 1, IGNORE_INDEX, 3, IGNORE_INDEX, 0, 1])),
    "multi_label": lambda: (*random_logits(7, 4), zeros_and_ones(7, 4)),
    "regression": lambda: (*random_logits(7, 2), random_logits(7, 2, seed=1)[0]),
    "token_classification": lambda: padded(7, (5, 1, 3, 0, 2, 4, 1)),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("chunk_size", [None, 3])
@repeatable
@given(cuts=st.sets(st.integers(1, 6), min_size=1, max_size=3))
def test_accumulated_gradients_do_not_depend_on_how_the_batch_was_split(task, chunk_size, cuts):
    student, teacher, labels = BATCHES[task]()

    def gradient(bounds, counted):
        leaf = student.clone().requires_grad_()
        for start, stop in itertools.pairwise(bounds):
            part = slice(start, stop)
            arguments = (leaf[part], teacher[part], labels[part])
            loss_of(task, *arguments, num_items=counted, alpha=0.4, chunk_size=chunk_size)[TOTAL].backward()
        return leaf.grad

    whole = gradient([0, 7], None)
    torch.testing.assert_close(gradient([0, *sorted(cuts), 7], count_items(labels, task=task)), whole)
    assert whole.abs().sum() > 0


@pytest.mark.parametrize(
    ("labels", "task", "expected"),
    [
        (torch.tensor([0, IGNORE_INDEX]), "single_label", 2),
        (torch.full((3, 5), float(IGNORE_INDEX)), "multi_label", 3),
        (torch.zeros(3, 5).long(), "multi_label", 3),
        (torch.full((3,), math.nan), "regression", 3),
        (torch.zeros(3, 2), "regression", 3),
        (torch.tensor([[0, 1, IGNORE_INDEX], [2, IGNORE_INDEX, IGNORE_INDEX]]), "token_classification", 3),
    ],
)
def test_items_are_rows_or_labelled_tokens(labels, task, expected):
    assert count_items(labels, task=task) == expected


def test_items_of_another_task_are_not_counted():
    with pytest.raises(TypeError, match=r"class indices, got torch\.float32; pass the labels' own task"):
        count_items(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"task must be one of.*'multilabel'"):
        count_items(torch.zeros(3, 5), task="multilabel")


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_a_mask_over_rows_decides_which_count(task):
    student, teacher, labels = BATCHES[task]()
    mask = torch.tensor([True, False, False, True, True, False, True])
    expected = loss_of(task, student[mask], teacher[mask], labels[mask], alpha=0.5)
    student[~mask], teacher[~mask] = math.nan, math.inf
    torch.testing.assert_close(loss_of(task, student, teacher, labels, mask=mask, alpha=0.5), expected)


@pytest.mark.parametrize("task", ["single_label", "token_classification"])
def test_a_label_mask_serves_class_indices_too(task):
    student, teacher, labels = BATCHES[task]()
    present = labels != IGNORE_INDEX
    garbage = labels.masked_fill(~present, 999)
    expected = loss_of(task, student, teacher, labels, alpha=0.5)
    torch.testing.assert_close(loss_of(task, student, teacher, garbage, label_mask=present, alpha=0.5), expected)


# What is refused

PAIR, COLUMN, TOKENS = torch.zeros(2, 3), torch.zeros(2, 1), torch.zeros(2, 5, 3)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("task", "logits", "labels", "error", "message"),
    [
        # One column is a score or a yes-or-no label, and no choice among classes.
        ("single_label", COLUMN, torch.zeros(2).long(), ValueError, "softmax over one class.*task='regression'"),
        ("token_classification", TOKENS[..., :1], torch.zeros(2, 5).long(), ValueError, "softmax over one class"),
        ("single_label", PAIR, PAIR, TypeError, "class indices.*float32; set task='multi_label'.*task='regression'"),
        ("single_label", PAIR, PAIR.bool(), TypeError, "class indices.*bool"),
        ("single_label", PAIR, PAIR.long(), ValueError, r"\(2, 3\).*\(2,\); set task='multi_label'"),
        ("single_label", PAIR, torch.zeros(2), TypeError, "float32.*task='regression' for scores"),
        ("multi_label", PAIR, torch.zeros(2).long(), ValueError, r"\(2,\).*\(2, 3\).*one_hot\(labels, 3\)"),
        ("multi_label", PAIR, torch.zeros(3, 2), ValueError, r"\(3, 2\).*\(2, 3\)"),
        ("multi_label", PAIR, torch.tensor([[0, 1, 0], [1, 2, 0]]), ValueError, "row 1, column 1: the hard label 2"),
        ("multi_label", PAIR, torch.tensor([[0, 1, 0], [1, 0.5, 0]]), ValueError, "0.5 is neither 0 nor 1"),
        ("multi_label", PAIR, torch.tensor([[0, 1, 0], [1, 0, -1]]), ValueError, "row 1, column 2: the hard label -1"),
        ("multi_label", PAIR, torch.tensor([[0, 1, math.nan], [1, 0, 0]]), ValueError, "row 0, column 2.*nan"),
        ("multi_label", TOKENS, TOKENS, ValueError, r"\(batch, labels\) for task='multi_label', got \(2, 5, 3\)"),
        ("regression", COLUMN, torch.zeros(2, 3), ValueError, r"\(2, 3\).*\(2, 1\)"),
        ("regression", PAIR, torch.zeros(2), ValueError, r"\(2, 1\).*\(2, 3\)"),
        ("regression", COLUMN, torch.zeros(1, 2), ValueError, r"\(1, 2\).*\(2, 1\)"),
        ("regression", COLUMN, torch.tensor([1.0, math.nan]), ValueError, "row 1.*nan is not finite.*label_mask"),
        ("regression", COLUMN, torch.tensor([math.inf, 1.0]), ValueError, "row 0.*inf is not finite"),
        ("regression", COLUMN, torch.tensor([1.0, -100.0]), ValueError, "row 1.*-100 may be a score.*label_mask"),
        ("regression", TOKENS, TOKENS, ValueError, r"\(batch,\) or \(batch, columns\).*got \(2, 5, 3\)"),
        ("token_classification", PAIR, torch.zeros(2).long(), ValueError, r"\(batch, length, classes\).*\(2, 3\)"),
        ("token_classification", TOKENS, torch.zeros(2, 5), TypeError, "class indices.*float32"),
        ("token_classification", TOKENS, torch.zeros(2, 4).long(), ValueError, r"\(2, 4\).*\(2, 5\)"),
        ("token_classification", TOKENS, torch.full((2, 5), 3), ValueError, "label 3 is neither one of the 3"),
    ],
)
def test_labels_and_logits_of_another_task_are_refused_with_the_remedy(alpha, task, logits, labels, error, message):
    with pytest.raises(error, match=message):
        loss_of(task, logits, logits, labels, alpha=alpha)


@pytest.mark.parametrize(
    ("task", "labels", "label_mask", "message"),
    [
        ("multi_label", PAIR, torch.ones(2, 3), "bool.*float32"),
        ("multi_label", PAIR, torch.ones(2).bool(), r"\(2,\).*\(2, 3\)"),
        ("regression", PAIR, torch.ones(2).bool(), r"\(2,\).*\(2, 3\)"),
        ("multi_label", torch.full((2, 3), 2.0), torch.tensor([[False] * 3, [False, True, False]]), "row 1, column 1"),
        ("regression", torch.full((2, 3), math.nan), torch.tensor([[False] * 3, [False, True, False]]), "row 1, col"),
        ("single_label", torch.tensor([0, 9]), torch.tensor([False, True]), "label 9"),
        ("regression", None, torch.ones(2, 3).bool(), "pass hard_labels too"),
    ],
)
def test_a_label_mask_that_does_not_fit_is_refused(task, labels, label_mask, message):
    with pytest.raises(ValueError, match=message):
        loss_of(task, PAIR, PAIR, labels, label_mask=label_mask, alpha=1.0)


def test_teacher_and_student_need_one_shape_in_every_task():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        loss_of("multi_label", PAIR, torch.zeros(2, 4), PAIR)
    with pytest.raises(ValueError, match=r"\(2, 1\).*\(2, 3\)"):
        loss_of("regression", torch.zeros(2), PAIR, torch.zeros(2))
    with pytest.raises(ValueError, match=r"\(2, 5, 3\).*\(2, 4, 3\)"):
        loss_of("token_classification", TOKENS, TOKENS[:, :4], torch.zeros(2, 5).long())


def test_tokens_need_labels_or_a_mask():
    with pytest.raises(ValueError, match="hard_labels or a mask"):
        loss_of("token_classification", TOKENS, TOKENS, alpha=1.0)
