"""The weighted sum of all terms: what counts, what it is divided by, and how sequences are shifted."""

import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.causal_alignment import causal_shift
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss, count_items
from distill_helpers.losses.feature_losses import cosine_loss, hidden_state_loss
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.losses.soft_targets import mean_divergence
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.features import Features

SOFT, TASK, TOTAL = "soft_target_loss", "task_loss", "total_loss"


def random_logits(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator), 2 * torch.randn(*shape, generator=generator)


def loss_of(*arguments, mask=None, num_items=None, **choices):
    return DistillationLoss(DistillationConfig(**choices))(*arguments, mask=mask, num_items=num_items)


def soft_by_hand(student, teacher, temperature):
    """T² · KL(teacher‖student) of one position, from plain probabilities."""
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    return (temperature**2 * (p * (p / q).log()).sum()).item()


def task_by_hand(student, label):
    return -student.softmax(-1)[label].log().item()


# The terms for (batch, classes)

LABELS = torch.tensor([0, 4, 2, 2])


def test_the_loss_wants_a_configuration_and_not_its_entries():
    with pytest.raises(TypeError, match=r"DistillationConfig.*dict"):
        DistillationLoss({"alpha": 0.5})


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_total_is_the_weighted_sum_of_terms_computed_by_hand(alpha, temperature):
    student, teacher = random_logits(4, 5)
    soft = sum(soft_by_hand(student[i], teacher[i], temperature) for i in range(4)) / 4
    task = sum(task_by_hand(student[i], LABELS[i]) for i in range(4)) / 4
    terms = loss_of(student, teacher, LABELS, alpha=alpha, temperature=temperature)
    expected = {TOTAL: alpha * soft + (1 - alpha) * task}
    expected |= {SOFT: soft} if alpha > 0 else {}
    expected |= {TASK: task} if alpha < 1 else {}
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_the_weighted_sum_of_the_gradients_and_reaches_the_student_alone():
    student, teacher = (logits.requires_grad_() for logits in random_logits(4, 5))
    terms = loss_of(student, teacher, LABELS, alpha=0.3, temperature=2.0)
    terms[TOTAL].backward()
    soft_gradient = 2 * ((student / 2).softmax(-1) - (teacher / 2).softmax(-1)) / 4
    task_gradient = (student.softmax(-1) - F.one_hot(LABELS, 5)) / 4
    torch.testing.assert_close(student.grad, (0.3 * soft_gradient + 0.7 * task_gradient).detach())
    assert teacher.grad is None


def test_every_term_but_the_total_is_detached():
    student, teacher = random_logits(4, 5)
    terms = loss_of(student.requires_grad_(), teacher, LABELS, alpha=0.5)
    assert {name: value.requires_grad for name, value in terms.items()} == {TOTAL: True, SOFT: False, TASK: False}


def test_alpha_zero_needs_no_teacher_and_alpha_one_no_labels():
    student, teacher = random_logits(4, 5)
    hard = loss_of(student, None, LABELS, alpha=0)
    assert hard[TOTAL].item() == pytest.approx(F.cross_entropy(student, LABELS).item(), rel=1e-6)
    soft = loss_of(student, teacher, alpha=1, temperature=2.0)
    assert soft[TOTAL].item() == pytest.approx(mean_divergence(student, teacher, temperature=2.0).item(), rel=1e-6)


def test_what_a_weight_asks_for_must_be_given():
    student, teacher = random_logits(4, 5)
    with pytest.raises(ValueError, match=r"alpha is 0\.2.*teacher_logits"):
        loss_of(student, None, LABELS, alpha=0.2)
    with pytest.raises(ValueError, match=r"alpha is 0\.8.*hard_labels"):
        loss_of(student, teacher, None, alpha=0.8)


def test_unlabelled_messages_learn_from_the_teacher_and_count_in_both_denominators():
    student, teacher = random_logits(4, 5)
    labels = torch.tensor([3, IGNORE_INDEX, 1, IGNORE_INDEX])
    terms = loss_of(student, teacher, labels, alpha=0.5, temperature=2.0)
    soft = sum(soft_by_hand(student[i], teacher[i], 2.0) for i in range(4)) / 4
    task = (task_by_hand(student[0], 3) + task_by_hand(student[2], 1)) / 4
    assert terms[SOFT].item() == pytest.approx(soft, rel=1e-5)
    assert terms[TASK].item() == pytest.approx(task, rel=1e-5)


def test_unlabelled_messages_add_nothing_to_the_task_term():
    student = random_logits(3, 5)[0].requires_grad_()
    labels = torch.tensor([3, IGNORE_INDEX, IGNORE_INDEX])
    loss_of(student, None, labels, alpha=0)[TOTAL].backward()
    assert (student.grad[1:] == 0).all()
    assert student.grad[0].abs().sum() > 0
    nothing = loss_of(student, None, torch.full((3,), IGNORE_INDEX), alpha=0)
    assert nothing[TOTAL] == 0  # not the NaN of a mean over no labels


def test_a_mask_over_messages_decides_which_count():
    student, teacher = random_logits(4, 5)
    mask = torch.tensor([True, False, False, True])
    terms = loss_of(student, teacher, LABELS, mask=mask, alpha=0.5)
    expected = loss_of(student[mask], teacher[mask], LABELS[mask], alpha=0.5)
    torch.testing.assert_close(terms, expected)


@pytest.mark.parametrize(
    ("divergence", "options"),
    [("reverse_kl", {}), ("generalized_jsd", {"beta": 0.3, "normalized": False}), ("skew_kl", {"skew": 0.4})],
)
def test_divergence_and_options_reach_the_soft_term(divergence, options):
    student, teacher = random_logits(4, 5)
    terms = loss_of(student, teacher, alpha=1, temperature=2.0, divergence=divergence, divergence_options=options)
    expected = mean_divergence(student, teacher, divergence=divergence, temperature=2.0, **options)
    torch.testing.assert_close(terms[SOFT], expected)
    assert not torch.isclose(expected, mean_divergence(student, teacher, temperature=2.0), rtol=0.01)


def test_chunks_change_neither_terms_nor_gradient():
    teacher = random_logits(5, 4, 6)[1]
    labels = (torch.arange(20).reshape(5, 4) % 6).masked_fill(torch.arange(4) > 2, IGNORE_INDEX)
    gradients, terms = [], []
    for chunk_size in (None, 4):
        student = random_logits(5, 4, 6)[0].requires_grad_()
        terms.append(loss_of(student, teacher, labels, alpha=0.5, chunk_size=chunk_size, causal=True))
        terms[-1][TOTAL].backward()
        gradients.append(student.grad)
    torch.testing.assert_close(*terms)
    torch.testing.assert_close(*gradients)


def test_the_chunk_size_reaches_the_soft_term():
    # Chunks keep no softmax for the backward pass; beyond the logits themselves little is left.
    def numbers_kept(chunk_size):
        student, teacher = random_logits(64, 100)
        inputs = {logits.untyped_storage().data_ptr() for logits in (student, teacher)}
        kept = []

        def pack(tensor):
            kept.append(0 if tensor.untyped_storage().data_ptr() in inputs else tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss_of(student.requires_grad_(), teacher, alpha=1, chunk_size=chunk_size)
        return sum(kept)

    assert numbers_kept(8) < numbers_kept(None) / 4


def test_half_precision_logits_are_computed_in_fp32():
    student, teacher = (logits.bfloat16() for logits in random_logits(4, 5))
    terms = loss_of(student, teacher, LABELS, alpha=0.5)
    assert {value.dtype for value in terms.values()} == {torch.float32}
    in_fp32 = loss_of(student.float(), teacher.float(), LABELS, alpha=0.5)
    torch.testing.assert_close(terms, in_fp32)


# Sequences


def by_hand(student, teacher, labels, temperature, shift):
    """(soft, task) over the labelled positions, with position t judged by the label at t + shift."""
    soft, task = [], []
    for row in range(student.shape[0]):
        for position in range(student.shape[1] - shift):
            label = labels[row, position + shift]
            if label != IGNORE_INDEX:
                soft.append(soft_by_hand(student[row, position], teacher[row, position], temperature))
                task.append(task_by_hand(student[row, position], label))
    return sum(soft) / len(soft), sum(task) / len(task)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    # With sequence length equal to vocabulary, (B, T, V) given to cross_entropy as (B, V, T) raises nothing.
    ("length", "vocabulary"),
    [(8, 10), (6, 6), (7, 3)],
)
def test_sequence_terms_equal_a_position_by_position_computation(length, vocabulary, causal):
    student, teacher = random_logits(2, length, vocabulary)
    labels = torch.randint(vocabulary, (2, length), generator=torch.Generator().manual_seed(1))
    labels[0, :2] = IGNORE_INDEX
    labels[1, -1] = IGNORE_INDEX
    terms = loss_of(student, teacher, labels, alpha=0.5, temperature=2.0, causal=causal)
    soft, task = by_hand(student, teacher, labels, 2.0, shift=int(causal))
    assert terms[SOFT].item() == pytest.approx(soft, rel=1e-5)
    assert terms[TASK].item() == pytest.approx(task, rel=1e-5)
    assert terms[TOTAL].item() == pytest.approx((soft + task) / 2, rel=1e-5)


def test_padding_takes_no_part_in_value_or_gradient():
    student, teacher = random_logits(2, 8, 6)
    labels = torch.full((2, 8), IGNORE_INDEX)
    labels[:, 0] = 3  # 87.5% padding
    expected = loss_of(student[:, :1], teacher[:, :1], labels[:, :1], alpha=0.5)
    student[:, 1:], teacher[:, 1:] = math.nan, math.inf
    student.requires_grad_()
    terms = loss_of(student, teacher, labels, alpha=0.5)
    torch.testing.assert_close(terms, expected)
    terms[TOTAL].backward()
    assert (student.grad[:, 1:] == 0).all()
    assert student.grad[:, 0].abs().min() > 0


@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_overrides_the_labels_on_which_positions_count(causal):
    student, teacher = random_logits(1, 4, 6)
    labels = torch.tensor([[5, IGNORE_INDEX, 2, 1]])
    mask = torch.tensor([[True, True, True, False]])
    terms = loss_of(student, teacher, labels, mask=mask, alpha=0.5, temperature=1.0, causal=causal)
    # The pairs (position, label) that the mask keeps; the one without a label counts and adds no task loss.
    pairs = [(0, None), (1, 2)] if causal else [(0, 5), (1, None), (2, 2)]
    soft = sum(soft_by_hand(student[0, i], teacher[0, i], 1.0) for i, _ in pairs) / len(pairs)
    task = sum(task_by_hand(student[0, i], label) for i, label in pairs if label is not None) / len(pairs)
    assert terms[SOFT].item() == pytest.approx(soft, rel=1e-5)
    assert terms[TASK].item() == pytest.approx(task, rel=1e-5)


def test_a_mask_can_stand_in_for_labels_where_the_teacher_is_everything():
    student, teacher = random_logits(2, 4, 6)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    causal = loss_of(student, teacher, mask=mask, alpha=1, causal=True)
    expected = mean_divergence(student[:, :-1], teacher[:, :-1], mask=mask[:, 1:], temperature=2.0)
    assert causal[TOTAL].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("num_items", [None, 0])
def test_a_batch_of_padding_alone_gives_zero_and_zero_gradients(alpha, num_items):
    student, teacher = random_logits(2, 3, 6)
    student.requires_grad_()
    labels = torch.full((2, 3), IGNORE_INDEX)
    counted = None if num_items is None else torch.tensor(num_items)
    total = loss_of(student, teacher, labels, num_items=counted, alpha=alpha)[TOTAL]
    total.backward()
    assert total == 0
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_causal_shift_pairs_each_position_with_the_next_token():
    logits, targets = torch.arange(24.0).reshape(2, 3, 4), torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert torch.equal(causal_shift(logits=logits), torch.stack([logits[:, 0], logits[:, 1]], dim=1))
    assert causal_shift(targets=targets).tolist() == [[2, 3], [5, 6]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either logits or targets"),
        ({"logits": torch.zeros(2, 3, 4), "targets": torch.zeros(2, 3)}, "either logits or targets"),
        ({"logits": torch.zeros(2, 4)}, r"\(2, 4\)"),
        ({"targets": torch.zeros(3)}, r"\(3,\)"),
    ],
)
def test_causal_shift_refuses_what_has_no_sequence(arguments, message):
    with pytest.raises(ValueError, match=message):
        causal_shift(**arguments)


# What is refused

LOGITS, SEQUENCE = torch.zeros(2, 4), torch.zeros(2, 3, 4)
ROWS, POSITIONS = torch.zeros(2, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (LOGITS, torch.tensor([0, -1]), ValueError, "label -1 is neither one of the 4 classes nor -100"),
        (LOGITS, torch.tensor([4, 0]), ValueError, "label 4 is neither one of the 4 classes nor -100"),
        (LOGITS, torch.tensor([-101, 0]), ValueError, "label -101"),
        (SEQUENCE, torch.tensor([[0, 1, 2], [3, IGNORE_INDEX, 9]]), ValueError, "label 9"),
        (LOGITS, torch.tensor([0.0, 1.0]), TypeError, "float32"),
        (LOGITS, torch.tensor([0, 1, 2]), ValueError, r"\(3,\).*\(2,\)"),
        (LOGITS, torch.tensor([[0], [1]]), ValueError, r"\(2, 1\).*\(2,\)"),
        (SEQUENCE, ROWS, ValueError, r"\(2,\).*\(2, 3\)"),
        (SEQUENCE, torch.zeros(2, 4, dtype=torch.long), ValueError, r"\(2, 4\).*\(2, 3\)"),
    ],
)
def test_bad_labels_are_refused_whatever_their_weight(alpha, logits, labels, error, message):
    with pytest.raises(error, match=message):
        loss_of(logits, logits, labels, alpha=alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 3, dtype=torch.long), "bool.*int64"),
        (torch.ones(2, 4, dtype=torch.bool), r"\(2, 4\).*\(2, 3\)"),
        (torch.ones(2, dtype=torch.bool), r"\(2,\).*\(2, 3\)"),
    ],
)
def test_a_bad_mask_is_refused_whatever_the_weights(alpha, mask, message):
    with pytest.raises(ValueError, match=message):
        loss_of(SEQUENCE, SEQUENCE, POSITIONS, mask=mask, alpha=alpha)


@pytest.mark.parametrize(
    ("arguments", "choices", "error", "message"),
    [
        ((LOGITS, torch.zeros(2, 5), ROWS), {}, ValueError, r"\(2, 4\).*\(2, 5\)"),
        ((LOGITS.long(), LOGITS, ROWS), {}, TypeError, "student_logits.*int64"),
        ((LOGITS.long(), None, ROWS), {"alpha": 0}, TypeError, "student_logits.*int64"),
        ((LOGITS[0], LOGITS[0]), {"alpha": 1}, ValueError, r"\(4,\)"),
        ((SEQUENCE[None], SEQUENCE[None]), {"alpha": 1}, ValueError, r"\(1, 2, 3, 4\)"),
        ((SEQUENCE, SEQUENCE), {"alpha": 1}, ValueError, "hard_labels or a mask"),
        ((LOGITS, LOGITS, ROWS), {"causal": True}, ValueError, r"causal.*\(2, 4\)"),
    ],
)
def test_logits_that_do_not_fit_are_refused(arguments, choices, error, message):
    with pytest.raises(error, match=message):
        loss_of(*arguments, **choices)


def test_a_count_of_zero_items_is_refused():
    with pytest.raises(ValueError, match=r"num_items.*got 0"):
        loss_of(LOGITS, LOGITS, ROWS, num_items=0)


# Counting items


def padded_labels(*lengths, longest=5):
    labels = torch.arange(len(lengths) * longest).reshape(len(lengths), longest) % 4
    return labels.masked_fill(torch.arange(longest) >= torch.tensor(lengths)[:, None], IGNORE_INDEX)


@pytest.mark.parametrize(
    ("labels", "causal", "expected"),
    [
        (torch.tensor([0, IGNORE_INDEX, 2]), False, 3),
        (padded_labels(5, 2, 1), False, 8),
        (padded_labels(5, 2, 1), True, 5),  # the first token of each row is predicted by nobody
        (torch.full((2, 3), IGNORE_INDEX), False, 0),
    ],
)
def test_count_items_agrees_with_what_the_loss_divides_by(labels, causal, expected):
    count = count_items(labels, causal)
    assert count.item() == expected
    student, teacher = random_logits(*labels.shape, 4)
    default = loss_of(student, teacher, labels, alpha=0.5, causal=causal)
    counted = loss_of(student, teacher, labels, num_items=count, alpha=0.5, causal=causal)
    torch.testing.assert_close(counted, default)
    # And the division is by num_items: a thousandth of it for a thousand times the count.
    far = loss_of(student, teacher, labels, num_items=max(expected, 1) * 1000, alpha=0.5, causal=causal)
    torch.testing.assert_close({name: 1000 * value for name, value in far.items()}, default)


@pytest.mark.parametrize(
    ("labels", "causal"),
    [
        (torch.tensor([0, 1, IGNORE_INDEX, 3, IGNORE_INDEX, 0, 1]), False),
        (padded_labels(5, 1, 3, 0, 2, 4, 1), False),
        (padded_labels(5, 1, 3, 0, 2, 4, 1), True),
    ],
)
@settings(deadline=None, max_examples=25, derandomize=True)
@given(cuts=st.sets(st.integers(1, 6), min_size=1, max_size=3))
def test_accumulated_gradients_do_not_depend_on_how_the_batch_was_split(labels, causal, cuts):
    student, teacher = random_logits(*labels.shape, 4, seed=2)

    def gradient(bounds, counted):
        leaf = student.clone().requires_grad_()
        for start, stop in itertools.pairwise(bounds):
            part = slice(start, stop)
            terms = loss_of(leaf[part], teacher[part], labels[part], num_items=counted, alpha=0.4, causal=causal)
            terms[TOTAL].backward()
        return leaf.grad

    whole = gradient([0, 7], None)
    split = gradient([0, *sorted(cuts), 7], count_items(labels, causal))
    torch.testing.assert_close(split, whole)
    assert whole.abs().sum() > 0


# Feature terms, with invented hidden states; the terms themselves are tested in test_feature_terms.py

SHAPE = ModelShape(n_layers=1, width=3, n_heads=1)
ATTENTION = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])


def hidden_states(seed):
    return Features({"hidden.0": torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(seed))})


def with_features(config, *arguments, student=None, **options):
    loss = DistillationLoss(config, FeatureTerms(config, SHAPE, SHAPE))
    features = {"student_features": student or hidden_states(0), "teacher_features": hidden_states(1)}
    return loss(*arguments, **features, attention_mask=ATTENTION, **options)


def test_feature_terms_are_added_with_their_weights():
    student, teacher = random_logits(4, 5)
    choices = {"alpha": 0.3, "response_loss_weight": 0.5, "cosine_loss_weight": 2.0}
    config = DistillationConfig(**choices, intermediate_layers=True, hidden_loss_weight=0.25)
    hidden = [hidden_states(seed)["hidden.0"] for seed in (0, 1)]
    terms = with_features(config, student, teacher, LABELS)
    plain = loss_of(student, teacher, LABELS, alpha=0.3)
    assert set(terms) == {TOTAL, SOFT, TASK, "hidden_loss", "cosine_loss"}
    torch.testing.assert_close(terms[SOFT], plain[SOFT])
    torch.testing.assert_close(terms["hidden_loss"], hidden_state_loss(*hidden, ATTENTION).mean())
    torch.testing.assert_close(terms["cosine_loss"], cosine_loss(*hidden, ATTENTION).mean())
    expected = 0.5 * plain[TOTAL] + 0.25 * terms["hidden_loss"] + 2 * terms["cosine_loss"]
    torch.testing.assert_close(terms[TOTAL], expected)


def test_features_alone_need_neither_teacher_logits_nor_labels():
    config = DistillationConfig(response_loss_weight=0, intermediate_layers=True)
    terms = with_features(config, random_logits(4, 5)[0], None)
    assert set(terms) == {TOTAL, "hidden_loss"}
    assert terms[TOTAL] == terms["hidden_loss"] > 0


@settings(deadline=None, max_examples=10, derandomize=True)
@given(cut=st.integers(1, 3))
def test_feature_terms_do_not_depend_on_how_the_batch_was_split(cut):
    config = DistillationConfig(response_loss_weight=0, intermediate_layers=True)
    loss = DistillationLoss(config, FeatureTerms(config, SHAPE, SHAPE))

    def gradient(parts):
        leaf = hidden_states(0)["hidden.0"].requires_grad_()
        for part in parts:
            own, others = Features({"hidden.0": leaf[part]}), Features({"hidden.0": hidden_states(1)["hidden.0"][part]})
            logits, mask = random_logits(4, 5)[0][part], ATTENTION[part]
            values = loss(logits, None, num_items=4, student_features=own, teacher_features=others, attention_mask=mask)
            values[TOTAL].backward()
        return leaf.grad

    torch.testing.assert_close(gradient([slice(0, cut), slice(cut, 4)]), gradient([slice(0, 4)]))


@pytest.mark.parametrize("causal", [False, True])
def test_in_sequences_a_messages_features_count_as_often_as_it_has_items(causal):
    labels = torch.tensor([[1, 2, 3], [1, 2, IGNORE_INDEX], [1, IGNORE_INDEX, IGNORE_INDEX], [1, 1, 1]])
    config = DistillationConfig(alpha=0, intermediate_layers=True, causal=causal)
    student = random_logits(4, 3, 6)[0]
    terms = with_features(config, student, None, labels)
    per_message = hidden_state_loss(*(hidden_states(seed)["hidden.0"] for seed in (0, 1)), ATTENTION)
    items = torch.tensor([2, 1, 0, 2] if causal else [3, 2, 1, 3])
    torch.testing.assert_close(terms["hidden_loss"], (per_message * items).sum() / items.sum())
    counted = with_features(config, student, None, labels, num_items=count_items(labels, causal))
    torch.testing.assert_close(counted, terms)


def test_the_repr_is_one_line_with_the_configuration_and_the_feature_terms():
    assert repr(DistillationLoss(DistillationConfig(alpha=0.5))) == "DistillationLoss(DistillationConfig(alpha=0.5))"
    config = DistillationConfig(intermediate_layers=True)
    terms = FeatureTerms(config, SHAPE, SHAPE)
    assert repr(DistillationLoss(config, terms)) == f"DistillationLoss({config!r}, {terms!r})"


def test_what_feature_terms_need_must_be_given():
    config = DistillationConfig(intermediate_layers=True)
    with pytest.raises(ValueError, match=r"pass FeatureTerms\(config"):
        DistillationLoss(config)
    with pytest.raises(ValueError, match="of the same configuration"):
        DistillationLoss(config, FeatureTerms(dataclasses.replace(config, hidden_loss_weight=2.0), SHAPE, SHAPE))
    loss = DistillationLoss(config, FeatureTerms(config, SHAPE, SHAPE))
    given_all = {
        "student_features": hidden_states(0),
        "teacher_features": hidden_states(1),
        "attention_mask": ATTENTION,
    }
    for name in given_all:
        with pytest.raises(ValueError, match="pass student_features, teacher_features and attention_mask"):
            loss(*random_logits(4, 5), LABELS, **given_all | {name: None})
