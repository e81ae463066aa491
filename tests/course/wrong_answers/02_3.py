import torch
from torch.nn.functional import cross_entropy


def by_accuracy(logits, labels, grid):
    """accuracy is the same at every T"""
    return max(grid, key=lambda t: ((logits / t).argmax(-1) == labels).double().mean().item())


def by_confidence(logits, labels, grid):
    """use the probability of the label"""
    return max(grid, key=lambda t: (logits / t).softmax(-1).amax(-1).log().mean().item())


def place(logits, labels, grid):
    """place in the grid"""
    losses = torch.stack([cross_entropy(logits / t, labels) for t in grid])
    return int(losses.argmin())


def the_loss(logits, labels, grid):
    """that is the NLL"""
    return min(cross_entropy(logits / t, labels) for t in grid)


def multiplies(logits, labels, grid):
    """multiplied by T"""
    return min(grid, key=lambda t: float(cross_entropy(logits * t, labels)))


def worst(logits, labels, grid):
    """use the probability of the label"""
    return max(grid, key=lambda t: float(cross_entropy(logits / t, labels)))


def leaves_it(logits, labels, grid):
    """leaves the model as it was"""
    return 1.0


def confidence_like_accuracy(logits, labels, grid):
    """the mean confidence is nearest to the accuracy"""
    accuracy = (logits.argmax(-1) == labels).double().mean()
    return min(grid, key=lambda t: float(((logits / t).softmax(-1).amax(-1).mean() - accuracy).abs()))
