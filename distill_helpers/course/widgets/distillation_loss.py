"""Widget of notebook 04: a student with one peak, fitted to a teacher with two by different divergences."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from distill_helpers.course.figures import COLOURS, figure, figure_html, html_table
from distill_helpers.losses.divergences import named_divergence

__all__ = ["GRID", "bell", "fit_bell", "mean_and_sd", "render_modes", "two_peaks"]

#: The classes: 161 points from −8 to 8.
GRID = torch.linspace(-8, 8, 161)
_PEAK_SD = 0.7
_STEPS, _LEARNING_RATE = 150, 0.1


def bell(mean: Tensor | float, log_sd: Tensor | float) -> Tensor:
    """Compute log-probabilities over `GRID` with the shape of a Gaussian: (161,), or (n, 161) for means of (n, 1)."""
    sd = torch.as_tensor(log_sd).exp()
    return torch.log_softmax(-0.5 * ((GRID - mean) / sd) ** 2, dim=-1)


def two_peaks(distance: float, right_weight: float) -> Tensor:
    """Compute the teacher's log-probabilities over `GRID`: two bells of standard deviation 0.7 at ±distance/2.

    Args:
        distance: between the peaks, in [0, 6].
        right_weight: of the right peak, in (0, 1).

    Raises:
        ValueError: a value outside its range.
    """
    if not 0 <= distance <= 6:
        raise ValueError(f"distance must lie in [0, 6], got {distance!r}")
    if not 0 < right_weight < 1:
        raise ValueError(f"right_weight must lie in (0, 1), got {right_weight!r}")
    left, right = (bell(side * distance / 2, math.log(_PEAK_SD)) for side in (-1, 1))
    return torch.logaddexp(left + math.log1p(-right_weight), right + math.log(right_weight))


def fit_bell(log_p_teacher: Tensor, divergence: str, **options: float) -> Tensor:
    """Fit the bell that is closest to the teacher, by 150 steps of Adam from three starts.

    A divergence that seeks modes has a local minimum at each peak. So one start is the teacher's mean, and the others
    lie a standard deviation to its left and to its right. The best of the three bells wins; of equal ones, the
    leftmost.

    Args:
        log_p_teacher: (161,).
        divergence: a key of `losses.divergences.DIVERGENCES`.
        **options: further arguments of the divergence, such as `beta`.

    Returns:
        The bell's log-probabilities over `GRID`, (161,).

    Raises:
        ValueError, TypeError: a divergence or option that does not exist.
    """
    distance = named_divergence(divergence, **options)
    centre, sd = mean_and_sd(log_p_teacher)
    mean = torch.tensor([[centre - sd], [centre], [centre + sd]], requires_grad=True)
    log_sd = torch.tensor([[sd / 2], [sd], [sd / 2]]).log().requires_grad_()
    optimizer = torch.optim.Adam([mean, log_sd], lr=_LEARNING_RATE)
    target = log_p_teacher.expand(3, -1)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        distance(bell(mean, log_sd), target).sum().backward()
        optimizer.step()
    with torch.no_grad():
        students = bell(mean, log_sd)
        values = distance(students, target)
    best = (values < values.min() + 1e-3).nonzero()[0, 0]
    return students[best]


def mean_and_sd(log_p: Tensor) -> tuple[float, float]:
    """Compute mean and standard deviation of a distribution over `GRID`."""
    p = log_p.exp().double()
    mean = (p * GRID).sum()
    return float(mean), float((p * (GRID - mean) ** 2).sum().sqrt())


def render_modes(distance: float, right_weight: float, beta: float) -> str:
    """Show a teacher with two peaks, and its students by forward KL, generalised JSD and reverse KL (0.5 s).

    Args:
        distance: between the peaks, in [0, 6].
        right_weight: of the right peak, in (0, 1).
        beta: of the JSD, in [0, 1]: 0 is the forward KL, 1 the reverse.

    Raises:
        ValueError: a value outside its range.
    """
    teacher = two_peaks(distance, right_weight)
    rows = {"teacher": teacher}
    for name, divergence, options in (
        ("forward KL", "forward_kl", ()),
        (f"JSD, β = {beta:g}", "generalized_jsd", (("beta", float(beta)),)),
        ("reverse KL", "reverse_kl", ()),
    ):
        rows[name] = _fitted(float(distance), float(right_weight), divergence, options)
    held = {name: _peaks_held(log_p, teacher) for name, log_p in rows.items()}
    forward, reverse = held["forward KL"], held["reverse KL"]
    title = (
        f"Both directions hold {forward}" if forward == reverse else f"Forward KL holds {forward}, reverse KL {reverse}"
    )
    lines = [
        (
            name,
            *(f"{round(value, 1) + 0.0:.1f}" for value in (*mean_and_sd(log_p), _entropy(log_p))),
            f"{100 * _right_share(log_p):.0f}%",
            held[name],
        )
        for name, log_p in rows.items()
    ]
    columns = ("", "mean", "sd", "entropy, nats", "right of 0", "holds")
    return _picture(rows, title) + html_table(columns, lines)


@lru_cache(maxsize=512)
def _fitted(distance: float, right_weight: float, divergence: str, options: tuple[tuple[str, float], ...]) -> Tensor:
    return fit_bell(two_peaks(distance, right_weight), divergence, **dict(options))


def _picture(rows: dict[str, Tensor], title: str) -> str:
    fig, axes = figure(title)
    for number, (name, log_p) in enumerate(rows.items()):
        if name == "teacher":
            axes.fill_between(GRID, log_p.exp(), color="#BBBBBB", label=name)
        else:
            style = ("-", "--", "-.")[number - 1]
            axes.plot(GRID, log_p.exp(), style, color=COLOURS[(0, 2, 4)[number - 1]], linewidth=2, label=name)
    axes.set_xlabel("answer (arbitrary units)")
    axes.set_ylabel("probability of each of 161 answers")
    axes.legend(frameon=False)
    said = "; ".join(
        f"{name}: mean {round(mean, 1) + 0.0:.1f}, standard deviation {sd:.1f}"
        for name, (mean, sd) in ((name, mean_and_sd(log_p)) for name, log_p in rows.items())
    )
    return figure_html(fig, f"A teacher with two peaks and three students with one peak. {said}.")


def _right_share(log_p: Tensor) -> float:
    p = log_p.exp()
    return float(p[GRID > 1e-6].sum() + 0.5 * p[GRID.abs() <= 1e-6].sum())


def _entropy(log_p: Tensor) -> float:
    return float(torch.special.entr(log_p.exp()).sum())


def _peaks_held(log_p: Tensor, teacher: Tensor) -> str:
    """Say whether a student gives both sides of 0 at least half of the probability that the teacher gives them."""
    right, wanted = _right_share(log_p), _right_share(teacher)
    return "both peaks" if right >= wanted / 2 and 1 - right >= (1 - wanted) / 2 else "one peak"
