"""Checks of notebook 05's exercises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare, needs_gradient
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss


def _check_best_epoch(attempt: Attempt) -> str:
    """05.1: the epoch that validation accuracy chooses."""
    history = pd.DataFrame(
        {
            "epoch": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
            "loss": [1.40, 0.90, 0.70, 0.50, 0.40, 0.30, 0.35],
            "eval_loss": [1.20, 0.80, 0.85, 0.90, 1.00, 1.10, 1.30],
            "eval_accuracy": [0.61, 0.70, 0.71, 0.74, 0.74, 0.72, 0.73],
            "test_accuracy": [0.75, 0.69, 0.70, 0.72, 0.73, 0.71, 0.72],
        }
    )
    mistakes = {
        "that is the row, counted from 0; return the number in the column epoch": 3,
        "two epochs share the highest accuracy; take the earliest": 5,
        "that is the last epoch, which need not be the best": 7,
        "that epoch is best on the test messages, which choose nothing": 1,
        "that epoch has the lowest training loss, which falls even while a student learns by heart": 6,
        "that epoch has the lowest validation loss; here the validation accuracy chooses": 2,
        "that is an accuracy; return the epoch": 0.74,
    }
    compare(_plain(attempt(history)), 4, mistakes)
    return (
        "the highest validation accuracy, and the earliest epoch among equals. If the test accuracy took part in the"
        " choice, the test messages would become a second validation set"
    )


def _check_fair_difference(attempt: Attempt) -> str:
    """05.2: the gain at the longest budget, each arm with the learning rate that its own validation figures choose."""
    runs = _two_arms()
    longest = runs[runs["epochs"] == 240]
    mean = runs.groupby(["arm", "epochs", "learning_rate"])[["validation", "test"]].mean()

    def gain(soft: tuple[int, float], hard: tuple[int, float]) -> float:
        return 100 * float(mean["test"]["soft", *soft] - mean["test"]["hard", *hard])

    best_test = longest.groupby(["arm", "learning_rate"])["test"].mean().groupby("arm").max()
    over_all = runs.groupby("arm")["test"].mean()
    of_longest = longest.groupby("arm")["test"].mean()
    expected = gain((240, 1e-2), (240, 1e-3))
    mistakes = {
        "that is the gain at the short budget; a conclusion has to hold at the longest": gain((60, 1e-2), (60, 1e-2)),
        "both arms have the learning rate that the hard labels chose; the soft labels choose for themselves": gain(
            (240, 1e-3), (240, 1e-3)
        ),
        "both arms have the learning rate that the soft labels chose; the hard labels choose for themselves": gain(
            (240, 1e-2), (240, 1e-2)
        ),
        "the test accuracy chose the learning rates; validation chooses": 100
        * float(best_test["soft"] - best_test["hard"]),
        "that is a mean over all budgets and learning rates": 100 * float(over_all["soft"] - over_all["hard"]),
        "that is a mean over all learning rates; each arm uses the one that it chose": 100
        * float(of_longest["soft"] - of_longest["hard"]),
        "that is the gain on the validation messages; validation chooses, the test reports": 100
        * float(mean["validation"]["soft", 240, 1e-2] - mean["validation"]["hard", 240, 1e-3]),
        "each arm has its own best budget; compare them at the longest": gain((240, 1e-2), (60, 1e-2)),
        "the sign is wrong: soft minus hard": -expected,
        "that is in shares; a point is a hundredth": expected / 100,
    }
    compare(_plain(attempt(runs)), expected, mistakes)
    return (
        "at the short budget hard labels win by 1.5 points, and with the hard labels' learning rate for both they win"
        " at the long one, too. Given what each arm needs, soft labels are 4 points ahead"
    )


def _two_arms() -> pd.DataFrame:
    """Invented trainings of two arms, two budgets, two learning rates and two seeds."""
    accuracies = {  # validation and test, of two seeds each
        ("hard", 60, 1e-3): ((0.70, 0.72), (0.66, 0.70)),
        ("hard", 60, 1e-2): ((0.74, 0.75), (0.74, 0.71)),
        ("hard", 60, 3e-2): ((0.71, 0.72), (0.70, 0.69)),
        ("hard", 240, 1e-3): ((0.76, 0.74), (0.70, 0.71)),
        ("hard", 240, 1e-2): ((0.73, 0.74), (0.71, 0.73)),
        ("hard", 240, 3e-2): ((0.70, 0.71), (0.72, 0.74)),
        ("soft", 60, 1e-3): ((0.65, 0.66), (0.61, 0.65)),
        ("soft", 60, 1e-2): ((0.73, 0.75), (0.70, 0.72)),
        ("soft", 60, 3e-2): ((0.70, 0.71), (0.69, 0.70)),
        ("soft", 240, 1e-3): ((0.72, 0.73), (0.69, 0.68)),
        ("soft", 240, 1e-2): ((0.78, 0.79), (0.74, 0.75)),
        ("soft", 240, 3e-2): ((0.70, 0.71), (0.70, 0.69)),
    }
    rows = [
        {"arm": arm, "epochs": epochs, "learning_rate": rate, "seed": seed, "validation": val, "test": test}
        for (arm, epochs, rate), parts in accuracies.items()
        for seed, (val, test) in enumerate(zip(*parts, strict=True))
    ]
    return pd.DataFrame(rows).sample(frac=1.0, random_state=0, ignore_index=True)


def _check_loss_with_gaps(attempt: Attempt) -> str:
    """05.3: the weighted loss of a batch in which some rows have no hard label."""
    torch.manual_seed(0)
    z, v = torch.randn(6, 4, requires_grad=True), 3 * torch.randn(6, 4)
    labels = torch.tensor([2, IGNORE_INDEX, 0, IGNORE_INDEX, IGNORE_INDEX, 3])
    t, alpha = 3.0, 0.6
    expected = DistillationLoss(DistillationConfig(temperature=t, alpha=alpha))(z, v, labels)["total_loss"]
    with torch.no_grad():
        log_p, log_q = (v / t).log_softmax(-1), (z / t).log_softmax(-1)
        forward = (log_p.exp() * (log_p - log_q)).sum(-1)
        reverse = (log_q.exp() * (log_q - log_p)).sum(-1)
        hard = F.cross_entropy(z, labels, reduction="none")
        hot = F.cross_entropy(z / t, labels, reduction="none")
        soft, labelled = t**2 * forward.mean(), labels != IGNORE_INDEX
        per_label = hard.sum() / labelled.sum()
        mistakes: dict[str, Tensor | float] = {
            "cross_entropy's own mean divides by the labelled rows; divide by all rows": alpha * soft
            + (1 - alpha) * per_label,
            "T² is missing from the soft term": alpha * forward.mean() + (1 - alpha) * hard.mean(),
            "T² belongs to the soft term alone": t**2 * (alpha * forward.mean() + (1 - alpha) * hard.mean()),
            "the weights are exchanged: alpha belongs to the teacher": (1 - alpha) * soft + alpha * hard.mean(),
            "the divergence is the wrong way round: KL(teacher‖student) is asked for": alpha * t**2 * reverse.mean()
            + (1 - alpha) * hard.mean(),
            "the hard term is taken at T; it is a plain cross-entropy, at T = 1": alpha * soft
            + (1 - alpha) * hot.mean(),
            "the soft term is a mean over the labelled rows; the unlabelled rows learn from the teacher too": alpha
            * t**2
            * forward[labelled].mean()
            + (1 - alpha) * hard.mean(),
            "only the labelled rows are used; the unlabelled rows learn from the teacher too": alpha
            * t**2
            * forward[labelled].mean()
            + (1 - alpha) * per_label,
            "that is a mean over classes as well as rows: sum over the classes (kl_div's 'batchmean')": alpha * soft / 4
            + (1 - alpha) * hard.mean(),
            "that is a sum over the rows; divide by their number": 6 * (alpha * soft + (1 - alpha) * hard.mean()),
        }
    got = attempt(z, v, labels, t, alpha)
    compare(got.detach() if isinstance(got, Tensor) else got, expected.detach(), mistakes)
    needs_gradient(got, z)

    nobody = torch.full((6,), IGNORE_INDEX)
    got = attempt(z, v, nobody, t, alpha)
    if isinstance(got, Tensor) and got.isnan().any():
        raise Wrong("NaN for a batch without any hard label: its mean divides by 0 labelled rows")
    compare(got.detach() if isinstance(got, Tensor) else got, alpha * soft)
    return (
        "both terms divide by the rows of the batch, as in the package. So the weight of a hard label does not depend"
        " on how many other rows have one, and a batch without any hard label is no special case"
    )


def _check_gain_over_seeds(attempt: Attempt) -> str:
    """05.4: mean gain and its standard deviation, seed by seed."""
    new, old = torch.tensor([0.608, 0.668, 0.613, 0.624]), torch.tensor([0.562, 0.616, 0.568, 0.615])
    gain = 100 * (new - old)
    spreads = {
        "yours divides by n: divide by n − 1, since the mean is estimated too": gain.std(correction=0),
        "that is the standard error of the mean, sd / √n; the standard deviation is asked for": gain.std() / 2,
        "that is the variance; take its root": gain.var(),
        "take the standard deviation of the gains, not the difference of two standard deviations": 100
        * (new.std() - old.std()),
        "the seeds are not paired: take the difference for each seed first, then its spread": 100
        * (new.var() + old.var()).sqrt(),
        "that is the spread of the new students, not that of the gain": 100 * new.std(),
        "that is the range; the standard deviation is asked for": gain.max() - gain.min(),
    }
    mistakes = {words: torch.stack([gain.mean(), spread]) for words, spread in spreads.items()}
    mistakes["the sign is wrong: new minus old"] = torch.stack([-gain.mean(), gain.std()])
    mistakes["that is in shares; a point is a hundredth"] = torch.stack([gain.mean(), gain.std()]) / 100
    mistakes["that is relative to the old accuracy; points are a difference"] = torch.stack(
        [100 * (new / old - 1).mean(), 100 * (new / old - 1).std()]
    )
    mistakes["that is the best seed's gain; the mean is asked for"] = torch.stack([gain.max(), gain.std()])
    got = attempt(new, old)
    if isinstance(got, tuple | list):
        if len(got) != 2:
            raise Wrong(f"two numbers are asked for, mean and standard deviation; got {len(got)}")
        got = torch.stack([torch.as_tensor(_plain(x)).double() for x in got])
    compare(got, torch.stack([gain.mean(), gain.std()]), mistakes)
    return (
        "a seed sets the start and the order of both students, so the gain is taken seed by seed. A single seed would"
        " give a mean and no standard deviation"
    )


def _plain(value: Any) -> Any:
    """Turn a number of NumPy or pandas into a Python number."""
    return value.item() if isinstance(value, np.generic) else value


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_best_epoch,
    "2": _check_fair_difference,
    "3": _check_loss_with_gaps,
    "4": _check_gain_over_seeds,
}
