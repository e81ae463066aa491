import torch


def as_given(student, projectors, teacher):
    """no projector is in the optimizer"""
    return torch.optim.AdamW(student.parameters(), lr=1e-3)


class _PlainList(torch.nn.Module):
    def __init__(self, student, projectors):
        super().__init__()
        self.student, self.projectors = student, projectors


def in_a_plain_list(student, projectors, teacher):
    """a plain list has no parameters that PyTorch could find"""
    return torch.optim.AdamW(_PlainList(student, projectors).parameters(), lr=1e-3)


def first_one_only(student, projectors, teacher):
    """another is not"""
    return torch.optim.AdamW([*student.parameters(), *projectors[0].parameters()], lr=1e-3)


def weights_only(student, projectors, teacher):
    """weight or bias"""
    return torch.optim.AdamW([*student.parameters(), *[m.weight for m in projectors]], lr=1e-3)


def student_forgotten(student, projectors, teacher):
    """the student is not in the optimizer"""
    return torch.optim.AdamW(torch.nn.ModuleList(projectors).parameters(), lr=1e-3)


def teacher_too(student, projectors, teacher):
    """it would move towards its student"""
    return torch.optim.AdamW(torch.nn.ModuleList([student, *projectors, teacher]).parameters(), lr=1e-3)


def rate_of_zero(student, projectors, teacher):
    """is their learning rate 0"""
    groups = [
        {"params": list(student.parameters())},
        {"params": [p for m in projectors for p in m.parameters()], "lr": 0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3)


def parameters_only(student, projectors, teacher):
    """return the optimizer, got list"""
    return [*student.parameters(), *[p for m in projectors for p in m.parameters()]]
