"""What the quick experiments share: scikit-learn's digits, a teacher, students of any width, one training loop.

A network of fully connected layers learns the digits in about a second, and ten of them, each with its own seed, learn
side by side in two: most of a step's time does not depend on the size of the matrices. So an experiment can afford ten
seeds and long trainings. Each seed splits the images anew: the spread over seeds contains the effects of data, teacher
and student together.

Everything here runs on one thread, whatever the caller has set. Networks this small gain nothing from a second thread,
and on a busy machine they wait for it: a teacher took 88 s instead of 7. Besides, sums in another order move a result
by a few errors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from distill_helpers.data.corpora import ImageSplits, load_digits
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss

__all__ = [
    "OPTIMIZERS",
    "SideBySide",
    "error_count",
    "make_mlp",
    "predict",
    "side_by_side",
    "smoothed_label_logits",
    "teacher_for",
    "train_mlp",
    "train_teacher",
]

N_PIXELS, N_CLASSES = 64, 10

#: Fused, AdamW updates all weights in one call: a step of ten networks takes 1.7 ms instead of 2.7.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": partial(torch.optim.AdamW, fused=True),
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


class SideBySide(nn.Module):
    """Linear layers of one shape that do not know of each other: inputs (k, n, in) become outputs (k, n, out).

    Args:
        layers: the k layers, whose weights are copied.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)


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


def side_by_side(networks: Sequence[nn.Sequential]) -> nn.Sequential:
    """Put networks of one shape side by side: images (k, n, 64) become logits (k, n, 10), each network reading its own.

    Args:
        networks: of `make_mlp`, with the same widths and dropout; their weights are copied.
    """
    columns = zip(*networks, strict=True)
    return nn.Sequential(
        *(SideBySide(layers) if isinstance(layers[0], nn.Linear) else copy.deepcopy(layers[0]) for layers in columns)
    )


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
    max_grad_norm: float | None = None,
    jitter: bool = False,
    seed: int | Sequence[int] = 0,
    after_epoch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train a network of `make_mlp` in place, on one thread, and return it in evaluation mode.

    Args:
        model: the student, or a teacher; or k of them from `side_by_side`.
        images: (n, 64) in [0, 1]; or (k, n, 64).
        labels: (n,) or (k, n), needed if `config.alpha` is below 1.
        teacher_logits: (n, 10) or (k, n, 10), needed if `config.alpha` is above 0.
        config: default hard labels alone.
        epochs: passes over the images, in an order that depends on the seed.
        batch_size: images in a batch.
        learning_rate: at the start; it falls to zero along a half cosine.
        optimizer: a key of `OPTIMIZERS`.
        loss_scale: a factor of the whole loss; for the experiment that leaves T² out.
        max_grad_norm: clip the gradient of each network to this norm; None does not clip.
        jitter: move each image by up to a pixel in each direction whenever the network sees it.
        seed: of order, dropout and jitter; of networks side by side a seed each, which decide their orders.
        after_epoch: called with the number of epochs so far, the model being in evaluation mode.
    """
    config = config or DistillationConfig(alpha=0.0)
    loss = DistillationLoss(config)
    seeds = (seed,) if isinstance(seed, int) else tuple(seed)
    alone = images.dim() == 2
    if alone:
        images = images[None]
        labels, teacher_logits = (None if part is None else part[None] for part in (labels, teacher_logits))
    torch.manual_seed(seeds[0])
    orders = [torch.default_generator] if alone else [torch.Generator().manual_seed(number) for number in seeds]
    which = torch.arange(len(seeds))[:, None]
    step = OPTIMIZERS[optimizer](model.parameters(), lr=learning_rate)
    n_images = images.shape[1]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, epochs * -(-n_images // batch_size))
    for epoch in range(1, epochs + 1):
        model.train()
        order = torch.stack([torch.randperm(n_images, generator=generator) for generator in orders])
        for rows in order.split(batch_size, dim=1):
            batch = images[which, rows]
            logits = model(_shift(batch) if jitter else batch)
            terms = loss(
                logits.flatten(0, 1),
                None if teacher_logits is None else teacher_logits[which, rows].flatten(0, 1),
                None if labels is None else labels[which, rows].flatten(),
            )
            step.zero_grad()
            # The mean is over all networks; each needs the gradient of its own mean.
            (len(seeds) * loss_scale * terms["total_loss"]).backward()
            if max_grad_norm is not None:
                _clip(model, max_grad_norm, alone)
            step.step()
            schedule.step()
        if after_epoch is not None:
            model.eval()
            after_epoch(epoch)
    return model.eval()


def _clip(model: nn.Module, max_norm: float, alone: bool) -> None:
    """Clip the gradient of each network to a norm, as `torch.nn.utils.clip_grad_norm_` does for one."""
    if alone:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norms = torch.stack([gradient.square().sum(dim=(1, 2)) for gradient in gradients]).sum(dim=0).sqrt()
    factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)[:, None, None]
    for gradient in gradients:
        gradient.mul_(factors)


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


def train_teacher(
    images: Tensor,
    labels: Tensor,
    seed: int,
    *,
    soft_labels: Tensor | None = None,
    learning_rate: float = 2e-3,
) -> nn.Module:
    """Train a teacher of the kind of `teacher_for` on images, (n, 64), and labels, (n,).

    Args:
        images, labels, seed, learning_rate: see `train_mlp`.
        soft_labels: logits (n, 10) of what it learns instead of the labels, such as `smoothed_label_logits`.
    """
    teacher = make_mlp((400, 400), dropout=0.3, seed=seed)
    config = DistillationConfig(temperature=1.0, alpha=float(soft_labels is not None))
    return train_mlp(
        teacher, images, labels, soft_labels, config, epochs=60, jitter=True, learning_rate=learning_rate, seed=seed
    )


def smoothed_label_logits(labels: Tensor, amount: float) -> Tensor:
    """Return logits whose softmax is the smoothed label: (n,) to (n, 10), or (k, n) to (k, n, 10).

    The label gets 1 − amount, and all ten classes share the rest. Given to `train_mlp` as a teacher's logits, with
    T = 1 and alpha = 1, they are PyTorch's `label_smoothing`, less a constant.

    Args:
        labels: class indices.
        amount: above 0 and below 1; 0.1 is usual.

    Raises:
        ValueError: an amount that is not between 0 and 1.
    """
    if not 0 < amount < 1:
        raise ValueError(f"amount must lie between 0 and 1, got {amount!r}")
    return ((1 - amount) * nn.functional.one_hot(labels, N_CLASSES) + amount / N_CLASSES).log()


def _shift(images: Tensor) -> Tensor:
    """Move each image by −1, 0 or 1 pixel down and to the right. Pixels that leave are lost; blank ones enter."""
    padded = nn.functional.pad(images.view(-1, 8, 8), (1, 1, 1, 1))
    down, right = (torch.randint(0, 3, (len(padded), 1, 1)) for _ in range(2))
    row, column = torch.arange(8).view(1, 8, 1), torch.arange(8).view(1, 1, 8)
    return padded[torch.arange(len(padded)).view(-1, 1, 1), row + down, column + right].view_as(images)
