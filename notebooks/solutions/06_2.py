def hidden_loss(student, teacher, mask, projector):
    padding = ~mask[..., None]
    difference = (projector(student) - teacher.detach()).masked_fill(padding, 0.0)  # before the square: inf stays out
    return difference.square().mean(dim=-1).sum(dim=1) / mask.sum(dim=1)
