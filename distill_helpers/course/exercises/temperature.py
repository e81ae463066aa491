"""Checks of notebook 02's exercises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare, seeded_randn
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


def _temperature_of(attempt: Attempt) -> str:
    logits = 4 * seeded_randn(6, 5, seed=3).double() + torch.arange(6.0)[:, None]  # each message has its own constant
    p = (logits / 4).softmax(-1)
    log_p, centred = p.log(), logits - logits.mean(dim=-1, keepdim=True)
    compare(
        attempt(p.clone(), logits.clone()),
        4.0,
        {
            "this file is right, and was made at T = 4; yours refuses it. Allow for rounding in the last digits": 0.0,
            "that is 1/T: the logarithms of the file are the logits *divided* by T": 0.25,
            "log p is logits / T up to a constant that differs from message to message: take it off first, for instance"
            " each message's mean": (logits * logits).sum() / (logits * log_p).sum(),
            "the probabilities themselves are not proportional to the logits; their logarithms are": (centred**2).sum()
            / (centred * p).sum(),
        },
    )
    compare(attempt((logits / 1.5).softmax(-1), logits.clone()), 1.5, {"T = 4 fits the first file alone": 4.0})
    halves = torch.cat([(logits[:3] / 2).softmax(-1), (logits[3:] / 6).softmax(-1)])
    first_two = torch.cat([p[:, :2], p[:, 2:].flip(-1)], dim=-1)
    files = {
        "of this file the first three messages were made at T = 2, the others at T = 6. No one temperature makes it:"
        " compare every message": halves,
        "in this file two classes of each message are right and the other three stand in another order: compare every"
        " class": first_two,
        "this file was made at T = 4 and then a tenth of each label was spread over all classes. No temperature makes"
        " it: once you have a candidate, make the labels again and compare": 0.9 * p + 0.02,
        "in this file the *probabilities* were divided by T, not the logits. No temperature of the logits makes it:"
        " once you have a candidate, make the labels again and compare": (logits.softmax(-1) / 0.5).softmax(-1),
        "this file prefers the classes that the teacher finds least likely; a temperature is positive": (
            -logits / 4
        ).softmax(-1),
    }
    for fault, file in files.items():
        got = attempt(file.clone(), logits.clone())
        if not isinstance(got, Tensor | int | float) or float(got) != 0.0:
            raise Wrong(f"{fault}. Expected 0.0, got {got}")
    return (
        "log p equals the logits divided by T, up to a constant for each message. One number has to explain every class"
        " of every message, so that a file made in any other way is found out"
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
    "2": _temperature_of,
    "3": _grid_temperature,
}
