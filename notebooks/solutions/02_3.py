import torch


def best_of_grid(logits, labels, grid):
    return min(grid, key=lambda t: float(torch.nn.functional.cross_entropy(logits / t, labels)))
