"""Each feature loss against a plain computation in numpy, and what padding, heads and gradients may not do."""

import math

import numpy as np
import pytest
import torch

from distill_helpers.losses.feature_losses import (
    attention_distribution_loss,
    attention_score_loss,
    cosine_loss,
    hidden_state_loss,
    relation_loss,
)

HIDDEN = {"hidden": hidden_state_loss, "cosine": cosine_loss}
SCORES = {
    "scores": attention_score_loss,
    "causal scores": lambda s, t, mask: attention_score_loss(s, t, mask, causal=True),
    "distributions": attention_distribution_loss,
    "causal distributions": lambda s, t, mask: attention_distribution_loss(s, t, mask, causal=True),
}
VECTORS = {
    "relations": relation_loss,
    "causal relations": lambda s, t, mask: relation_loss(s, t, mask, causal=True),
    "relation heads": lambda s, t, mask: relation_loss(s, t, mask, n_heads=4),
}
LOSSES = HIDDEN | SCORES | VECTORS

RIGHT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
SIDES = pytest.mark.parametrize("mask", [RIGHT, RIGHT.flip(1)], ids=["right", "left"])
EVERY = pytest.mark.parametrize("name", LOSSES)


def features(name, length=5, batch=3, seed=0):
    """Random features of the shape that a loss takes: of width 4, or of 2 heads."""
    shapes = {"hidden": (4,), "cosine": (4,)}
    generator = torch.Generator().manual_seed(seed)
    if name in shapes:
        return torch.randn(batch, length, 4, generator=generator)
    return 2 * torch.randn(batch, 2, length, length if name in SCORES else 4, generator=generator)


def pair_of(name, **options):
    return features(name, seed=0, **options), features(name, seed=1, **options)


def at_padding(name, mask):
    """Where features of this kind belong to a padded token, as query or as key."""
    padded = ~mask.bool()
    if name in HIDDEN:
        return padded[..., None]
    if name in SCORES:
        return padded[:, None, :, None] | padded[:, None, None, :]
    return padded[:, None, :, None]


# Values


@EVERY
@SIDES
def test_alike_is_zero_and_unlike_is_not(name, mask):
    student, teacher = pair_of(name)
    same = LOSSES[name](student, student.clone(), mask)
    assert same.shape == (3,)
    assert same.dtype == torch.float32
    assert same.abs().max() < 1e-6
    unlike = LOSSES[name](student, teacher, mask)
    assert unlike.min() > (0 if "causal" in name else 0.01)  # two tokens of which the first sees itself alone


def real_tokens(mask, row):
    return np.flatnonzero(mask[row].numpy())


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def kl(p, q):
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))


def by_hand_hidden(s, t, mask, row):
    return np.mean([(s[row, i] - t[row, i]) ** 2 for i in real_tokens(mask, row)])


def by_hand_cosine(s, t, mask, row):
    def cosine(a, b):
        return a @ b / math.sqrt((a @ a) * (b @ b))

    return np.mean([1 - cosine(s[row, i], t[row, i]) for i in real_tokens(mask, row)])


def by_hand_scores(s, t, mask, row, causal=False):
    tokens = real_tokens(mask, row)
    errors = [
        (s[row, head, query, key] - t[row, head, query, key]) ** 2
        for head in range(s.shape[1])
        for query in tokens
        for key in tokens
        if key <= query or not causal
    ]
    return np.mean(errors)


def by_hand_distributions(s, t, mask, row, causal=False):
    """KL(teacher‖student), since the teacher's is the target."""
    tokens, values = real_tokens(mask, row), []
    for head in range(s.shape[1]):
        for query in tokens:
            keys = [key for key in tokens if key <= query or not causal]
            values.append(kl(softmax(t[row, head, query, keys]), softmax(s[row, head, query, keys])))
    return np.mean(values)


def by_hand_relations(s, t, mask, row, n_heads=None, causal=False):
    def related(x):
        heads, length, width = x.shape
        if n_heads is not None:  # MiniLMv2: the heads side by side, and split again
            rows = np.stack([np.concatenate([x[head, i] for head in range(heads)]) for i in range(length)])
            width = rows.shape[1] // n_heads
            x = np.stack([rows[:, head * width : (head + 1) * width] for head in range(n_heads)])
        return np.stack([[[a @ b / math.sqrt(width) for b in head] for a in head] for head in x])

    scores = [related(x[row])[None] for x in (s, t)]
    return by_hand_distributions(*scores, mask[row : row + 1], 0, causal)


BY_HAND = {
    "hidden": by_hand_hidden,
    "cosine": by_hand_cosine,
    "scores": by_hand_scores,
    "causal scores": lambda *a: by_hand_scores(*a, causal=True),
    "distributions": by_hand_distributions,
    "causal distributions": lambda *a: by_hand_distributions(*a, causal=True),
    "relations": by_hand_relations,
    "causal relations": lambda *a: by_hand_relations(*a, causal=True),
    "relation heads": lambda *a: by_hand_relations(*a, n_heads=4),
}


@EVERY
@SIDES
def test_values_equal_a_plain_computation(name, mask):
    student, teacher = pair_of(name)
    found = LOSSES[name](student, teacher, mask)
    plain = [x.double().numpy() for x in (student, teacher)]
    assert found.tolist() == pytest.approx([BY_HAND[name](*plain, mask, row) for row in range(3)], rel=1e-5)


def test_the_smallest_cases_on_paper():
    mask = torch.ones(1, 2)
    student, teacher = torch.tensor([[[1.0, 0], [0, 2]]]), torch.tensor([[[1.0, 1], [3, 0]]])
    assert hidden_state_loss(student, teacher, mask).item() == pytest.approx((0.5 + 6.5) / 2)
    assert cosine_loss(student, teacher, mask).item() == pytest.approx((1 - 2**-0.5 + 1) / 2)
    scores = torch.tensor([[[[0.0, 0], [0, 0]]]]), torch.tensor([[[[math.log(3), 0], [0, 0]]]])
    assert attention_score_loss(*scores, mask).item() == pytest.approx(math.log(3) ** 2 / 4)
    # The teacher looks with 3/4 and 1/4 where the student looks with halves; the second query is alike.
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert attention_distribution_loss(*scores, mask).item() == pytest.approx(expected)
    vectors = torch.zeros(1, 1, 2, 4), torch.tensor([[[[1.0, 1, 1, 1], [0, 0, 0, 0]]]])
    scores = torch.zeros(1, 1, 2, 2), torch.tensor([[[[2.0, 0], [0, 0]]]])  # 4 / √4
    assert relation_loss(*vectors, mask).item() == pytest.approx(attention_distribution_loss(*scores, mask).item())


@EVERY
def test_each_message_has_its_own_number(name):
    student, teacher = pair_of(name)
    together = LOSSES[name](student, teacher, RIGHT)
    alone = [LOSSES[name](student[i : i + 1], teacher[i : i + 1], RIGHT[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@EVERY
def test_half_precision_is_computed_in_fp32(name):
    student, teacher = (x.bfloat16() for x in pair_of(name))
    found = LOSSES[name](student, teacher, RIGHT)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, LOSSES[name](student.float(), teacher.float(), RIGHT))


# Padding


@EVERY
@SIDES
@pytest.mark.parametrize("garbage", [1e4, -3.0])
def test_what_stands_at_padding_changes_neither_value_nor_gradient(name, mask, garbage):
    student, teacher = pair_of(name)
    padding = at_padding(name, mask)
    results = []
    for filled in (False, True):
        leaf = (student.masked_fill(padding, garbage) if filled else student.clone()).requires_grad_()
        other = teacher.masked_fill(padding, -2 * garbage) if filled else teacher
        values = LOSSES[name](leaf, other, mask)
        values.sum().backward()
        assert (leaf.grad.masked_select(padding) == 0).all()
        results.append((values.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-7, rtol=1e-6)
    assert results[0][1].abs().sum() > 0


@pytest.mark.parametrize("name", ["hidden", "cosine", "scores", "causal scores"])
@SIDES
def test_not_even_nan_at_padding_matters(name, mask):
    student, teacher = pair_of(name)
    padding = at_padding(name, mask)
    leaf = student.masked_fill(padding, math.nan).requires_grad_()
    values = LOSSES[name](leaf, teacher.masked_fill(padding, math.nan), mask)
    values.sum().backward()
    torch.testing.assert_close(values, LOSSES[name](student, teacher, mask))
    assert (leaf.grad.masked_select(padding) == 0).all()
    assert leaf.grad.isfinite().all()


@EVERY
@SIDES
def test_a_token_does_matter(name, mask):
    student, teacher = pair_of(name)
    changed = torch.where(at_padding(name, mask), student, student + features(name, seed=2))
    assert (LOSSES[name](changed, teacher, mask) - LOSSES[name](student, teacher, mask)).abs().min() > 1e-5


@EVERY
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_length_of_the_padding_does_not_matter(name, side):
    student, teacher = pair_of(name, length=9, batch=1)
    real = slice(0, 5) if side == "right" else slice(4, 9)
    mask = torch.zeros(1, 9)
    mask[:, real] = 1
    if name in HIDDEN:
        cut = [x[:, real] for x in (student, teacher)]
    else:
        cut = [x[:, :, real, real] if name in SCORES else x[:, :, real] for x in (student, teacher)]
    torch.testing.assert_close(LOSSES[name](student, teacher, mask), LOSSES[name](*cut, torch.ones(1, 5)))


@EVERY
def test_a_message_of_padding_alone_is_zero_and_not_nan(name):
    student, teacher = pair_of(name)
    student.requires_grad_()
    values = LOSSES[name](student, teacher, RIGHT * torch.tensor([[1], [0], [1]]))
    values.sum().backward()
    assert values[1] == 0
    assert student.grad.isfinite().all()
    assert (student.grad[1] == 0).all()
    assert (student.grad[0] != 0).any()


# Gradients


@EVERY
def test_the_gradient_reaches_the_student_and_never_the_teacher(name):
    student, teacher = (x.requires_grad_() for x in pair_of(name))
    LOSSES[name](student, teacher, RIGHT).sum().backward()
    assert teacher.grad is None
    assert (student.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", ["hidden", "scores", "distributions", "relations", "relation heads"])
def test_following_the_gradient_brings_the_student_to_the_teacher(name):
    student, teacher = pair_of(name)
    student.requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    start = LOSSES[name](student, teacher, RIGHT).sum().item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = LOSSES[name](student, teacher, RIGHT).sum()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * start


# Heads and shapes


@pytest.mark.parametrize("loss", [attention_score_loss, attention_distribution_loss])
def test_unequal_heads_one_by_one_are_refused_and_the_error_names_relations(loss):
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 3\) and \(1, 4, 3, 3\).*use relation_loss with n_heads"):
        loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3, 3), torch.ones(1, 3))


def test_relations_of_unequal_heads_need_relation_heads():
    student, teacher = torch.randn(1, 2, 3, 4), torch.randn(1, 4, 3, 4)
    with pytest.raises(ValueError, match=r"2 heads of the student against 4 of the teacher; give n_heads.*MiniLMv2"):
        relation_loss(student, teacher, torch.ones(1, 3))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n_heads", [1, 2, 4])
@SIDES
def test_relation_heads_join_2_heads_and_4_of_another_width(n_heads, causal, mask):
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(3, 2, 5, 4, generator=generator)  # width 8
    teacher = torch.randn(3, 4, 5, 6, generator=generator)  # width 24
    found = relation_loss(student, teacher, mask, n_heads, causal)
    plain = [x.double().numpy() for x in (student, teacher)]
    expected = [by_hand_relations(*plain, mask, row, n_heads, causal) for row in range(3)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.min() > 1e-3


def test_as_many_relation_heads_as_heads_are_the_heads():
    student, teacher = pair_of("relations")
    torch.testing.assert_close(
        relation_loss(student, teacher, RIGHT, n_heads=2), relation_loss(student, teacher, RIGHT)
    )


@pytest.mark.parametrize("n_heads", [0, 3, 16])
def test_relation_heads_must_divide_the_width(n_heads):
    with pytest.raises(ValueError, match=f"n_heads {n_heads} does not divide the width 8"):
        relation_loss(*pair_of("relations"), RIGHT, n_heads)


@pytest.mark.parametrize("loss", HIDDEN.values(), ids=HIDDEN)
def test_hidden_states_that_do_not_fit_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(3, 5, 4\).*\(3, 5, 6\).*needs a projector"):
        loss(torch.zeros(3, 5, 4), torch.zeros(3, 5, 6), RIGHT)
    with pytest.raises(ValueError, match=r"\(3, 5, 4\).*\(3, 6, 4\).*the same tokenizer"):
        loss(torch.zeros(3, 5, 4), torch.zeros(3, 6, 4), RIGHT)
    with pytest.raises(ValueError, match=r"attention_mask \(3, 4\) does not fit features \(3, 5, 4\)"):
        loss(torch.zeros(3, 5, 4), torch.zeros(3, 5, 4), RIGHT[:, :4])


@pytest.mark.parametrize("loss", [attention_score_loss, attention_distribution_loss])
def test_scores_that_do_not_fit_are_refused(loss):
    with pytest.raises(ValueError, match=r"must be \(batch, heads, sequence, sequence\)"):
        loss(torch.zeros(3, 5, 5), torch.zeros(3, 5, 5), RIGHT)
    with pytest.raises(ValueError, match=r"attention_mask must be \(batch, sequence\)"):
        loss(torch.zeros(3, 2, 5, 5), torch.zeros(3, 2, 5, 5), RIGHT[:, None])
