"""The universal logit distance, written out."""

import pytest
import torch

from distill_helpers.llm import universal_logit_distance


def random_pair(seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(2, *shape, generator=generator) for shape in ((6, 11), (8, 17)))
    student_mask = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]]).bool()
    teacher_mask = torch.tensor([[0, 0, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 0]]).bool()
    return student, teacher, student_mask, teacher_mask


def test_sorted_probabilities_of_the_nth_tokens_are_compared():
    student, teacher, student_mask, teacher_mask = random_pair()
    values = []
    for row in range(2):
        own, others = student_mask[row].nonzero().flatten(), teacher_mask[row].nonzero().flatten()
        for s, t in zip(own, others, strict=False):
            q = sorted(student[row, s].double().softmax(-1).tolist(), reverse=True) + [0.0] * 6
            p = sorted(teacher[row, t].double().softmax(-1).tolist(), reverse=True)
            values.append(sum(abs(a - b) for a, b in zip(p, q, strict=True)))
    assert len(values) == 2 + 4
    loss = universal_logit_distance(student, teacher, student_mask, teacher_mask)
    assert float(loss) == pytest.approx(sum(values) / 6, rel=1e-5)
    assert float(universal_logit_distance(student, teacher, student_mask, teacher_mask, num_items=12)) == pytest.approx(
        sum(values) / 12, rel=1e-5
    )


def test_the_order_of_a_vocabulary_does_not_matter():
    student, _, mask, _ = random_pair()
    shuffled = student[..., torch.randperm(11, generator=torch.Generator().manual_seed(1))]
    assert float(universal_logit_distance(student, shuffled, mask, mask)) == pytest.approx(0.0, abs=1e-6)


def test_the_student_learns_how_sure_to_be():
    _, teacher, _, teacher_mask = random_pair()
    student = torch.randn(2, 8, 11, generator=torch.Generator().manual_seed(3)).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = universal_logit_distance(student, teacher, teacher_mask, teacher_mask)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05
    assert not student.grad[~teacher_mask].any()


def test_nothing_to_compare_is_nothing_and_shapes_are_checked():
    student, teacher, student_mask, teacher_mask = random_pair()
    none = torch.zeros_like(teacher_mask)
    assert float(universal_logit_distance(student, teacher, student_mask, none)) == 0.0
    with pytest.raises(ValueError, match="of the same batch"):
        universal_logit_distance(student[:1], teacher, student_mask, teacher_mask)
    with pytest.raises((ValueError, TypeError), match="mask"):
        universal_logit_distance(student, teacher, teacher_mask, teacher_mask)


def test_the_teacher_gets_no_gradient():
    student, teacher, student_mask, teacher_mask = random_pair()
    student.requires_grad_()
    teacher.requires_grad_()
    universal_logit_distance(student, teacher, student_mask, teacher_mask).backward()
    assert student.grad.any()
    assert teacher.grad is None
