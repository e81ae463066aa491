"""What the quick experiments share: scikit-learn's digits, a teacher, students of any width, one training loop.

A network of fully connected layers learns the digits in about a second, so that an experiment can afford ten seeds.
Each seed splits the images anew: the spread over seeds contains the effects of data, teacher and student together.

Everything here runs on one thread, whatever the caller has set. Networks this small gain nothing from a second thread,
and on a busy machine they wait for it: a teacher took 88 s instead of 7. Besides, sums in another order move a result
by a few errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from distill_helpers.data.corpora import ImageSplits, load_digits
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss

__all__ = ["OPTIMIZERS", "error_count", "make_mlp", "predict", "teacher_for", "train_mlp", "train_teacher"]

N_PIXELS, N_CLASSES = 64, 10

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": torch.optim.AdamW,
    "SGD": torch.optim.SGD,
}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread inside, and the caller's number of threads again afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def make_mlp(widths: Sequence[int], *, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """Make a network of fully connected layers with ReLU, from 64 pixels to 10 logits.

    Args:
        widths: units of each hidden layer; may be empty.
        dropout: after each hidden layer.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    n_inputs = N_PIXELS
    for width in widths:
        layers += [nn.Linear(n_inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        n_inputs = width
    return nn.Sequential(*layers, nn.Linear(n_inputs, N_CLASSES))


@_one_thread()
def train_mlp(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    teacher_logits: Tensor | None = None,
    config: DistillationConfig | None = None,
    *,
    epochs: int = 60,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    optimizer: str = "AdamW",
    loss_scale: float = 1.0,
    jitter: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Train a network of `make_mlp` in place, on one thread, and return it in evaluation mode.

    Args:
        model: the student, or a teacher.
        images: (n, 64) in [0, 1].
        labels: (n,), needed if `config.alpha` is below 1.
        teacher_logits: (n, 10), needed if `config.alpha` is above 0.
        config: default hard labels alone.
        epochs: passes over the images, in an order that depends on the seed.
        batch_size: images in a batch.
        learning_rate: at the start; it falls to zero along a half cosine.
        optimizer: a key of `OPTIMIZERS`.
        loss_scale: a factor of the whole loss; for the experiment that leaves T² out.
        jitter: move each image by up to a pixel in each direction whenever the network sees it.
        seed: of order, dropout and jitter.
    """
    config = config or DistillationConfig(alpha=0.0)
    loss = DistillationLoss(config)
    torch.manual_seed(seed)
    step = OPTIMIZERS[optimizer](model.parameters(), lr=learning_rate)
    n_steps = epochs * -(-len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, n_steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(batch_size):
            logits = model(_shift(images[rows]) if jitter else images[rows])
            terms = loss(
                logits,
                None if teacher_logits is None else teacher_logits[rows],
                None if labels is None else labels[rows],
            )
            step.zero_grad()
            (loss_scale * terms["total_loss"]).backward()
            step.step()
            schedule.step()
    return model.eval()


@_one_thread()
@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return a network's logits, (n, 10)."""
    return model.eval()(images)


def error_count(logits: Tensor, labels: Tensor, digit: int | None = None) -> int:
    """Count the wrong answers, on all images or on the images that show one digit."""
    wrong = logits.argmax(dim=-1) != labels
    return int(wrong[labels == digit].sum() if digit is not None else wrong.sum())


@cache
def teacher_for(seed: int) -> tuple[ImageSplits, nn.Module]:
    """Split the images by a seed, and train a teacher on them: 2 × 400 units, dropout, jitter (2–3 s)."""
    data = load_digits(seed=seed)
    return data, train_teacher(data.train_images, data.train_labels, seed)


def train_teacher(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Train a teacher of the kind of `teacher_for` on images, (n, 64), and labels, (n,)."""
    teacher = make_mlp((400, 400), dropout=0.3, seed=seed)
    return train_mlp(teacher, images, labels, epochs=60, jitter=True, learning_rate=2e-3, seed=seed)


def _shift(images: Tensor) -> Tensor:
    """Move each image by −1, 0 or 1 pixel down and to the right. Pixels that leave are lost; blank ones enter."""
    padded = nn.functional.pad(images.view(-1, 8, 8), (1, 1, 1, 1))
    down, right = (torch.randint(0, 3, (len(images), 1, 1)) for _ in range(2))
    row, column = torch.arange(8).view(1, 8, 1), torch.arange(8).view(1, 1, 8)
    return padded[torch.arange(len(images)).view(-1, 1, 1), row + down, column + right].flatten(1)
