import torch


def optimizer_for(student, projectors, teacher):
    trained = torch.nn.ModuleList([student, *projectors])  # a ModuleList registers what it holds; the teacher stays out
    return torch.optim.AdamW(trained.parameters(), lr=1e-3)
