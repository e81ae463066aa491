def score_loss(student, teacher, mask):
    if student.shape != teacher.shape or student.shape[1] == 0:
        raise ValueError(f"{student.shape[1]} heads against {teacher.shape[1]}: nothing to compare one by one")
    pairs = mask[:, None, :, None] & mask[:, None, None, :]
    squared = (student - teacher.detach()).square().mean(dim=1, keepdim=True)  # mean over the heads after the square
    return (squared * pairs).sum(dim=(1, 2, 3)) / pairs.sum(dim=(1, 2, 3))
