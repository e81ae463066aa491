"""Checks of notebook 02's exercises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare
from distill_helpers.evaluation.measures import classification_metrics

__all__ = ["CHECKS"]


def _tensor(got: object) -> Tensor:
    if not isinstance(got, Tensor):
        raise Wrong(f"a tensor is needed, got {type(got).__name__}")
    return got


def _stable_softmax(attempt: Attempt) -> str:
    small = torch.tensor([[2.0, 1.0, -1.0], [0.5, 3.0, 0.0]], dtype=torch.float64)
    expected = (small / 2).softmax(dim=-1)
    each_row = "each row must sum to 1: sum over the classes with keepdim=True"
    shifted = small - small.amax(dim=-1, keepdim=True)
    compare(
        _tensor(attempt(small.clone(), 2.0)),
        expected,
        {
            "the logits were multiplied by T; divide them": (small * 2).softmax(dim=-1),
            "T was left out: this is the softmax at T = 1": small.softmax(dim=-1),
            "each row must sum to 1; this normalises over the rows": (small / 2).softmax(dim=0),
            f"the sum was taken over all rows together; {each_row}": (small / 2).exp() / (small / 2).exp().sum(),
            f"this sums over all messages; {each_row}": (shifted / 2).exp() / (shifted / 2).exp().sum(),
            "the row's maximum was subtracted from the numerator only": (shifted / 2).exp()
            / (small / 2).exp().sum(dim=-1, keepdim=True),
        },
    )
    large = torch.tensor([[1e4, 1e4 - 0.01, 1e4 - 0.05, 0.0]], dtype=torch.float64)
    got = _tensor(attempt(large.clone(), 0.01))
    if not got.isfinite().all():
        raise Wrong("logits of 1e4 at T = 0.01 give NaN: exp overflows; subtract something from every logit of the row")
    expected = (large / 0.01).softmax(dim=-1)
    clamped = (large / 0.01).clamp(max=700).softmax(dim=-1)
    compare(got, expected, {"classes above a ceiling all became equal; clamping changes the answer": clamped})
    rows = torch.cat([large, torch.tensor([[3.0, 1.0, 2.995, 0.0]], dtype=torch.float64)])
    got = _tensor(attempt(rows.clone(), 0.01))
    if not got.isfinite().all() or (got.sum(dim=-1) < 0.5).any():
        raise Wrong("you subtract one maximum from all rows, and a row far below it vanishes; each row needs its own")
    compare(got, (rows / 0.01).softmax(dim=-1))
    return (
        "subtracting a constant from every logit of a row does not change the softmax. If the constant is the row's"
        " maximum, the largest exponent is 0, so nothing overflows; the sum is at least 1, so nothing is divided by 0"
    )


def _other_temperature(attempt: Attempt) -> str:
    cases = (([0.7, 0.2, 0.06, 0.04], 3.0, 2.0), ([0.62, 0.21, 0.09, 0.05, 0.03], 4.0, 1.5))
    for values, before, after in cases:
        p = torch.tensor(values, dtype=torch.float64)
        power = p ** (before / after)
        compare(
            _tensor(attempt(p.clone(), before, after)),
            power / power.sum(),
            {
                "the ratios are right, but the probabilities do not sum to 1; normalise": power,
                "the exponent is upside down: from a high T to a low one the distribution gets sharper": (
                    p.log() * after / before
                ).softmax(-1),
                "these are logits of probabilities: take the logarithm before the softmax": (
                    p * before / after
                ).softmax(-1),
                "this goes to T = 1 whatever the second temperature is": (p.log() * before).softmax(-1),
                "this starts from T = 1 whatever the first temperature is": (p.log() / after).softmax(-1),
                "this is the distribution that was given; it has to be at another temperature": p,
            },
        )
    return (
        "log p equals the logits divided by T, up to a constant that the softmax ignores. So a distribution at a known"
        " T determines the distribution at every other T"
    )


def _grid_temperature(attempt: Attempt) -> str:
    # The model is overconfident: right on four messages of five, at a mean confidence of 0.86. A tenth of the labels is
    # noise, so the NLL asks for a higher T than the mean confidence does. The grid is not sorted.
    generator = torch.Generator().manual_seed(2)
    logits = 5 * torch.randn(400, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    labels[:40] = torch.randint(4, (40,), generator=generator)
    grid = [3.0, 0.25, 0.45, 1.0, 1.5, 2.0, 2.5, 6.0]

    def scores(scaled: Callable[[float], Tensor], figure: str) -> list[float]:
        return [classification_metrics(scaled(t), labels.tolist())[figure] for t in grid]

    nll = scores(lambda t: logits / t, "nll")
    best = nll.index(min(nll))
    multiplied = scores(lambda t: logits * t, "nll")
    accuracy = (logits.argmax(-1) == labels).double().mean()
    gaps = [float(((logits / t).softmax(-1).amax(-1).mean() - accuracy).abs()) for t in grid]
    got = attempt(logits.clone(), labels.clone(), list(grid))
    compare(
        float(got) if isinstance(got, Tensor) and got.numel() == 1 else got,
        grid[best],
        {
            "that is the place in the grid; return the temperature": float(best),
            "that is the NLL; return the temperature that leads to it": nll[best],
            "at that temperature the model is surest of its answers, right or wrong, and the NLL is highest; use the"
            " probability of the label": grid[nll.index(max(nll))],
            "that is the first of the grid: accuracy is the same at every T, so it cannot choose": grid[0],
            "at that temperature the mean confidence is nearest to the accuracy. This comparison ignores how probable"
            " each label is: use the NLL": grid[gaps.index(min(gaps))],
            "the logits were multiplied by T; divide them": grid[multiplied.index(min(multiplied))],
            "T = 1 leaves the model as it was, which here is too sure": 1.0,
        },
    )
    return (
        "the NLL looks at the probability of each label, so it punishes a model that is too sure and a model that is"
        " not sure enough. Accuracy sees neither fault"
    )


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _stable_softmax,
    "2": _other_temperature,
    "3": _grid_temperature,
}
