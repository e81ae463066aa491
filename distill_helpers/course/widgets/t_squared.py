"""Widget of notebook 03: the gradient and the KL of one pair of logits at every temperature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from torch import Tensor

from distill_helpers.course.figures import COLOURS, figure, figure_html, html_table
from distill_helpers.losses.divergences import forward_kl
from distill_helpers.losses.soft_targets import check_temperature

__all__ = ["PAIRS", "SoftTargetNumbers", "render_t_squared", "soft_target_numbers"]

#: Student's and teacher's logits of one input with five classes, by the name that the widget's menu shows.
PAIRS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "the table's pair": ((2.0, 1.0, 0.5, -1.0, -0.5), (5.0, 3.5, 1.0, 0.0, -2.0)),
    "the table's pair, divided by ten": ((0.2, 0.1, 0.05, -0.1, -0.05), (0.5, 0.35, 0.1, 0.0, -0.2)),
    "student before training": ((0.2, -0.1, 0.1, 0.0, -0.2), (9.0, 4.0, 1.0, 0.0, -2.0)),
    "both sure of one class": ((10.0, 0.0, 0.0, -1.0, -2.0), (10.0, 5.0, 2.0, -3.0, -4.0)),
}

_LOWEST, _HIGHEST = 0.25, 64.0
_GRID = [2 ** (k / 4) for k in range(-8, 25)]


@dataclass(frozen=True)
class SoftTargetNumbers:
    """Gradient and KL of one pair of logits at one temperature.

    Args:
        gradient: norm of ∂KL/∂z, exact at this temperature.
        gradient_limit: the limit of T²·`gradient` at high T, ‖(z − z̄) − (v − v̄)‖/N.
        kl: KL(teacher‖student) at this temperature, in nats.
        kl_limit: the high-temperature approximation of `kl`, ‖(z − z̄) − (v − v̄)‖²/(2·N·T²), in nats.
        kl_claimed: KL at T = 1, divided by T², in nats.
    """

    gradient: float
    gradient_limit: float
    kl: float
    kl_limit: float
    kl_claimed: float


def soft_target_numbers(z: Tensor, v: Tensor, temperature: float) -> SoftTargetNumbers:
    """Compute the exact values and the high-temperature limits in double precision.

    Args:
        z: the student's logits, (classes,).
        v: the teacher's logits, of the same shape.
        temperature: T > 0.

    Raises:
        ValueError: a temperature that is not positive and finite.
    """
    check_temperature(temperature)
    z, v = z.double(), v.double()
    apart = (z - z.mean()) - (v - v.mean())

    def kl(t: float) -> float:
        return float(forward_kl((z / t).log_softmax(-1), (v / t).log_softmax(-1)))

    gradient = ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / temperature
    return SoftTargetNumbers(
        gradient=float(gradient.norm()),
        gradient_limit=float(apart.norm()) / len(z),
        kl=kl(temperature),
        kl_limit=float(apart.square().sum()) / (2 * len(z) * temperature**2),
        kl_claimed=kl(1.0) / temperature**2,
    )


def render_t_squared(temperature: float, pair: str) -> str:
    """Draw gradient and KL over the temperature, with a mark at the chosen one, and print the numbers there.

    Args:
        temperature: T, from 1/4 to 64.
        pair: a key of `PAIRS`.

    Raises:
        ValueError: a temperature outside that range, or an unknown pair.
    """
    if not _LOWEST <= temperature <= _HIGHEST:
        raise ValueError(f"temperature must be from {_LOWEST:g} to {_HIGHEST:g}, got {temperature}")
    if pair not in PAIRS:
        raise ValueError(f"unknown pair {pair!r}; choose one of {list(PAIRS)}")
    z, v = (torch.tensor(logits, dtype=torch.float64) for logits in PAIRS[pair])
    here = soft_target_numbers(z, v, temperature)
    curve = [soft_target_numbers(z, v, t) for t in _GRID]
    share = temperature**2 * here.gradient / here.gradient_limit
    times = here.kl / here.kl_claimed
    lines = [
        ("student's logits z", ", ".join(f"{x:g}" for x in PAIRS[pair][0])),
        ("teacher's logits v", ", ".join(f"{x:g}" for x in PAIRS[pair][1])),
        ("‖g‖, exact", f"{here.gradient:.3g}"),
        ("T²·‖g‖", f"{temperature**2 * here.gradient:.3g}"),
        ("limit of T²·‖g‖", f"{here.gradient_limit:.3g}, of which T²·‖g‖ is {100 * share:.0f}%"),
        ("KL, exact", f"{here.kl:.3g} nats"),
        ("high-T limit of the KL", f"{here.kl_limit:.3g} nats"),
        ("KL(1)/T²", f"{here.kl_claimed:.3g} nats; the exact KL is {times:.3g} times as much"),
    ]
    pictures = _gradient_picture(curve, here, temperature) + _kl_picture(curve, here, temperature)
    return f"<div style='display:flex;flex-wrap:wrap'>{pictures}</div>{html_table((), lines)}"


def _gradient_picture(curve: list[SoftTargetNumbers], here: SoftTargetNumbers, temperature: float) -> str:
    share = temperature**2 * here.gradient / here.gradient_limit
    fig, axes = figure(f"T = {temperature:.3g}: {100 * share:.0f}% of the limit", width=4.6, height=3.0)
    scaled = [t**2 * numbers.gradient for t, numbers in zip(_GRID, curve, strict=True)]
    axes.plot(_GRID, scaled, color=COLOURS[0], label="T²·‖g‖, exact")
    axes.axhline(here.gradient_limit, color=COLOURS[1], linestyle="--", label="its limit")
    axes.plot(temperature, temperature**2 * here.gradient, "o", color=COLOURS[4])
    _finish(axes, "T²·‖g‖ (nats per unit of logit)")
    return figure_html(
        fig,
        f"T squared times the gradient's norm over the temperature, with its limit as a dashed line. At T ="
        f" {temperature:g} it is {100 * share:.0f} per cent of the limit.",
    )


def _kl_picture(curve: list[SoftTargetNumbers], here: SoftTargetNumbers, temperature: float) -> str:
    times = here.kl / here.kl_claimed
    fig, axes = figure(f"T = {temperature:.3g}: KL is {times:.3g} × KL(1)/T²", width=4.6, height=3.0)
    axes.plot(_GRID, [numbers.kl for numbers in curve], color=COLOURS[0], label="KL, exact")
    axes.plot(_GRID, [numbers.kl_limit for numbers in curve], "--", color=COLOURS[1], label="high-T limit")
    axes.plot(_GRID, [numbers.kl_claimed for numbers in curve], ":", color=COLOURS[2], label="KL(1)/T²")
    axes.plot(temperature, here.kl, "o", color=COLOURS[4])
    axes.set_yscale("log")
    _finish(axes, "KL (nats)")
    return figure_html(
        fig,
        f"KL over the temperature, exact, in its high-temperature limit, and KL at 1 divided by T squared, all on a"
        f" logarithmic scale. At T = {temperature:.3g} the exact value is {times:.3g} times KL(1)/T squared.",
    )


def _finish(axes: Axes, label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlabel("temperature T (no unit)")
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize=8)
